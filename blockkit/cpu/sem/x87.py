"""The x87: each instruction is system code, which gets the registers and the places that the instruction names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.sem.operands import is_memory, offset, place, put, size_of
from blockkit.cpu.system import x87_environment as environment
from blockkit.cpu.system import x87_functions as functions
from blockkit.cpu.system import x87_operations as operations
from blockkit.cpu.system import x87_transfers as transfers
from blockkit.cpu.system import x87_trigonometry as trigonometry

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value

    Description = Callable[[Machine], None]

_FLOATS: Final = {32: operations.FLOAT_32, 64: operations.FLOAT_64}
_INTEGERS: Final = {16: operations.INTEGER_16, 32: operations.INTEGER_32, 64: operations.INTEGER_64}
#: Operations on two operands by what follows the F, or FI.
_OPERATIONS: Final = {
    "ADD": operations.ADD,
    "MUL": operations.MULTIPLY,
    "COM": operations.COMPARE,
    "COMP": operations.COMPARE_POP,
    "SUB": operations.SUBTRACT,
    "SUBR": operations.SUBTRACT_FROM,
    "DIV": operations.DIVIDE,
    "DIVR": operations.DIVIDE_INTO,
}


def _index(m: Machine) -> Value:
    """Return the number in ST(i)."""
    return m.field("rm") & 7


def _memory(m: Machine, *, write: bool = False) -> tuple[Value, Value, Value]:
    """Return the linear address of the operand in memory, its offset, and the number of its segment register."""
    where = place(m, size_of(m, 0), write=write)
    return where, offset(m), m.segment()


def _operate(name: str) -> Description:
    """FADD and so on, with an integer in memory, or a float, or a register."""
    integer = name.startswith("FI")
    operation = _OPERATIONS[name[2:] if integer else name[1:]]

    def operate(m: Machine) -> None:
        m.require("x87")
        if is_memory(m, 0):
            kind = (_INTEGERS if integer else _FLOATS)[size_of(m, 0)]
            m.call(operations.x87_operate_memory, operation, kind, *_memory(m))
        else:
            to_other = m.instruction.form.operands[0].name == "STi"
            pair = (_index(m), 0) if to_other else (0, _index(m))
            m.call(operations.x87_operate, operation, *pair, 0)

    return operate


def _operate_pop(name: str) -> Description:
    """FADDP and so on."""
    operation = _OPERATIONS[name[1:-1]]

    def operate(m: Machine) -> None:
        m.require("x87")
        m.call(operations.x87_operate, operation, _index(m), 0, 1)

    return operate


def _compare(name: str, *, signaling: int, pops: int) -> Description:
    """FCOM and FUCOM; that of two operands in memory is an operation."""
    in_memory = _operate(name) if name in ("FCOM", "FCOMP") else None

    def compare(m: Machine) -> None:
        if in_memory is not None and is_memory(m, 0):
            in_memory(m)
            return
        m.require("x87")
        # FCOMPP and FUCOMPP are of ST(1), which is their rm.
        m.call(operations.x87_compare_register, _index(m) if m.instruction.form.operands else 1, signaling, pops)

    return compare


def _compare_flags(*, signaling: int, pop: int) -> Description:
    """FCOMI and FUCOMI."""

    def compare(m: Machine) -> None:
        m.require("x87")
        m.call(operations.x87_compare_flags, _index(m), signaling, pop)

    return compare


def _move_if(mask: int, *, inverted: int) -> Description:
    """FCMOVcc."""

    def move(m: Machine) -> None:
        m.require("x87")
        m.call(operations.x87_move_if, _index(m), mask, inverted)

    return move


def _simple(function: Callable[..., int | None], *constants: int) -> Description:
    """What needs nothing of the instruction."""

    def run(m: Machine) -> None:
        m.require("x87")
        m.call(function, *constants)

    return run


def _of_register(function: Callable[..., int | None], *constants: int) -> Description:
    """What needs the number in ST(i)."""

    def run(m: Machine) -> None:
        m.require("x87")
        m.call(function, _index(m), *constants)

    return run


def load(m: Machine) -> None:
    """FLD."""
    m.require("x87")
    if not is_memory(m, 0):
        m.call(transfers.x87_push_register, _index(m))
    elif size_of(m, 0) == 80:
        m.call(transfers.x87_push_whole, *_memory(m))
    else:
        m.call(transfers.x87_push_operand, _FLOATS[size_of(m, 0)], *_memory(m))


def load_integer(m: Machine) -> None:
    """FILD."""
    m.require("x87")
    m.call(transfers.x87_push_operand, _INTEGERS[size_of(m, 0)], *_memory(m))


def load_decimal(m: Machine) -> None:
    """FBLD."""
    m.require("x87")
    m.call(transfers.x87_push_decimal, *_memory(m))


def _store(pop: int) -> Description:
    """FST and FSTP."""

    def store(m: Machine) -> None:
        m.require("x87")
        if not is_memory(m, 0):
            m.call(transfers.x87_store_register, _index(m), pop)
        elif size_of(m, 0) == 80:
            m.call(transfers.x87_store_whole, *_memory(m, write=True))
        else:
            m.call(transfers.x87_store_operand, _FLOATS[size_of(m, 0)], pop, 0, *_memory(m, write=True))

    return store


def _store_integer(pop: int, truncate: int) -> Description:
    """FIST, FISTP and FISTTP."""

    def store(m: Machine) -> None:
        m.require("x87")
        kind = _INTEGERS[size_of(m, 0)]
        m.call(transfers.x87_store_operand, kind, pop, truncate, *_memory(m, write=True))

    return store


def store_decimal(m: Machine) -> None:
    """FBSTP."""
    m.require("x87")
    m.call(transfers.x87_store_decimal, *_memory(m, write=True))


def load_control(m: Machine) -> None:
    """FLDCW."""
    m.require("x87")
    m.call(environment.x87_load_control, place(m, 16))


def _store_word(function: Callable[[], int]) -> Description:
    """FNSTCW and FNSTSW."""

    def store(m: Machine) -> None:
        m.require("x87")
        put(m, 0, m.name(m.call(function).truncated(16)))

    return store


def _area(function: Callable[[int, int], None], *, write: bool) -> Description:
    """FNSTENV, FLDENV, FNSAVE and FRSTOR."""

    def run(m: Machine) -> None:
        m.require("x87")
        words = 2 if m.instruction.operand_size == 2 else 4
        m.call(function, place(m, size_of(m, 0), write=write), words)

    return run


def _fx_area(function: Callable[[int, int], None], *, write: bool) -> Description:
    """FXSAVE and FXRSTOR."""

    def run(m: Machine) -> None:
        m.require("x87")
        where = place(m, size_of(m, 0), write=write)
        m.call(function, where, int(m.instruction.operand_size == 8))

    return run


def wait(m: Machine) -> None:
    """WAIT."""
    m.call(environment.x87_wait_instruction)


def nothing(m: Machine) -> None:
    """FNENI, FNDISI and FNSETPM of older processors."""
    m.require("x87")


#: All of them.
BY_NAME: Final[dict[str, Description]] = {
    **{f"F{name}": _operate(f"F{name}") for name in _OPERATIONS if not name.startswith("COM")},
    **{f"FI{name}": _operate(f"FI{name}") for name in _OPERATIONS},
    **{f"F{name}P": _operate_pop(f"F{name}P") for name in _OPERATIONS if not name.startswith("COM")},
    "FCOM": _compare("FCOM", signaling=1, pops=0),
    "FCOMP": _compare("FCOMP", signaling=1, pops=1),
    "FCOMPP": _compare("FCOMPP", signaling=1, pops=2),
    "FUCOM": _compare("FUCOM", signaling=0, pops=0),
    "FUCOMP": _compare("FUCOMP", signaling=0, pops=1),
    "FUCOMPP": _compare("FUCOMPP", signaling=0, pops=2),
    "FCOMI": _compare_flags(signaling=1, pop=0),
    "FCOMIP": _compare_flags(signaling=1, pop=1),
    "FUCOMI": _compare_flags(signaling=0, pop=0),
    "FUCOMIP": _compare_flags(signaling=0, pop=1),
    **{
        f"FCMOV{'N' if inverted else ''}{code}": _move_if(mask, inverted=inverted)
        for code, mask in (("B", state.CF), ("E", state.ZF), ("BE", state.CF | state.ZF), ("U", state.PF))
        for inverted in (0, 1)
    },
    "FTST": _simple(operations.x87_compare_zero),
    "FXAM": _simple(operations.x87_examine),
    "FCHS": _simple(operations.x87_change_sign, 0xFFFF, 0x8000),
    "FABS": _simple(operations.x87_change_sign, 0x7FFF, 0),
    "FSQRT": _simple(operations.x87_square_root),
    "FRNDINT": _simple(operations.x87_to_nearest),
    "FSCALE": _simple(operations.x87_scale_top),
    "FPREM": _simple(operations.x87_take_remainder, 0),
    "FPREM1": _simple(operations.x87_take_remainder, 1),
    "FXTRACT": _simple(operations.x87_extract),
    "F2XM1": _simple(functions.x87_raise_two),
    "FPATAN": _simple(functions.x87_of_two, functions.ARCTANGENT),
    "FYL2X": _simple(functions.x87_of_two, functions.LOGARITHM),
    "FYL2XP1": _simple(functions.x87_of_two, functions.LOGARITHM_PLUS_ONE),
    "FSIN": _simple(functions.x87_of_angle, trigonometry.SINE),
    "FCOS": _simple(functions.x87_of_angle, trigonometry.COSINE),
    "FSINCOS": _simple(functions.x87_two_of_angle, trigonometry.SINE),
    "FPTAN": _simple(functions.x87_two_of_angle, trigonometry.TANGENT),
    "FXCH": _of_register(operations.x87_exchange),
    "FFREE": _of_register(operations.x87_free, 0),
    "FFREEP": _of_register(operations.x87_free, 1),
    "FINCSTP": _simple(operations.x87_turn, 1),
    "FDECSTP": _simple(operations.x87_turn, 7),
    "FNOP": _simple(operations.x87_turn, 0),
    **{
        name: _simple(transfers.x87_push_constant, number)
        for number, name in enumerate(("FLD1", "FLDL2T", "FLDL2E", "FLDPI", "FLDLG2", "FLDLN2", "FLDZ"))
    },
    "FLD": load,
    "FILD": load_integer,
    "FBLD": load_decimal,
    "FST": _store(0),
    "FSTP": _store(1),
    "FSTPNCE": _of_register(transfers.x87_store_register_quietly),
    "FIST": _store_integer(0, 0),
    "FISTP": _store_integer(1, 0),
    "FISTTP": _store_integer(1, 1),
    "FBSTP": store_decimal,
    "FNINIT": _simple(environment.x87_initialize),
    "FNCLEX": _simple(environment.x87_clear),
    "FLDCW": load_control,
    "FNSTCW": _store_word(environment.x87_control),
    "FNSTSW": _store_word(environment.x87_status),
    "FNSTENV": _area(environment.x87_store_environment, write=True),
    "FLDENV": _area(environment.x87_load_environment, write=False),
    "FNSAVE": _area(environment.x87_save, write=True),
    "FRSTOR": _area(environment.x87_restore, write=False),
    **dict.fromkeys(("FXSAVE", "FXSAVE64"), _fx_area(environment.fx_save, write=True)),
    **dict.fromkeys(("FXRSTOR", "FXRSTOR64"), _fx_area(environment.fx_restore, write=False)),
    "WAIT": wait,
    **dict.fromkeys(("FNENI", "FNDISI", "FNSETPM"), nothing),
}
