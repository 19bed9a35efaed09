"""Which function says what an instruction does."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from blockkit.cpu.isa.opcodes import CONDITIONS
from blockkit.cpu.sem import arithmetic, bits, flow, moves, shifts, stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.isa.decode import Instruction
    from blockkit.cpu.sem.machine import Machine

_EQUAL, _NOT_EQUAL = CONDITIONS.index("E"), CONDITIONS.index("NE")

_BY_NAME: Final[dict[str, Callable[[Machine], None]]] = {
    **{name: getattr(arithmetic, name.lower()) for name in ("ADD", "ADC", "SUB", "SBB", "CMP", "XOR", "TEST", "NEG")},
    "AND": arithmetic.and_,
    "OR": arithmetic.or_,
    "NOT": arithmetic.not_,
    **{name: getattr(arithmetic, name.lower()) for name in ("INC", "DEC", "XADD", "CMPXCHG")},
    **{name: getattr(arithmetic, name.lower()) for name in ("MUL", "IMUL", "DIV", "IDIV")},
    **{name: getattr(shifts, name.lower()) for name in ("SHL", "SHR", "SAR", "SHLD", "SHRD")},
    **{name: getattr(shifts, name.lower()) for name in ("ROL", "ROR", "RCL", "RCR")},
    "SAL": shifts.shl,
    **{name: getattr(moves, name.lower()) for name in ("MOV", "MOVZX", "MOVSX", "LEA", "XCHG", "BSWAP", "MOVBE")},
    "MOVSXD": moves.movsx,
    **dict.fromkeys(("CBW", "CWDE", "CDQE"), moves.widen_accumulator),
    **dict.fromkeys(("CWD", "CDQ", "CQO"), moves.widen_into_rdx),
    "PUSH": stack.push,
    "POP": stack.pop,
    "LEAVE": stack.leave,
    **dict.fromkeys(("NOP", "PAUSE", "LFENCE", "MFENCE", "SFENCE"), moves.nop),
    "CLD": moves.clear_direction,
    "STD": moves.set_direction,
    "CLC": moves.clear_carry,
    "STC": moves.set_carry,
    "CMC": moves.complement_carry,
    "BSF": bits.bsf,
    "BSR": bits.bsr,
    "POPCNT": bits.popcnt,
    "BT": bits.bit_test(""),
    "BTS": bits.bit_test("set"),
    "BTR": bits.bit_test("reset"),
    "BTC": bits.bit_test("complement"),
    "JMP": flow.jmp,
    "CALL": flow.call,
    "RET": flow.ret,
    **dict.fromkeys(("JCXZ", "JECXZ", "JRCXZ"), flow.jump_if_counter_zero),
    "LOOP": flow.loop(None),
    "LOOPE": flow.loop(_EQUAL),
    "LOOPNE": flow.loop(_NOT_EQUAL),
    **{f"J{cc}": flow.jcc(code) for code, cc in enumerate(CONDITIONS)},
    **{f"SET{cc}": moves.setcc(code) for code, cc in enumerate(CONDITIONS)},
    **{f"CMOV{cc}": moves.cmov(code) for code, cc in enumerate(CONDITIONS)},
}

#: Operands that the functions above do not know yet.
_GENERAL: Final = frozenset("EGMRZIJO=")

#: What ends a block.
ENDS: Final = frozenset(("JMP", "CALL", "RET", "JCXZ", "JECXZ", "JRCXZ", "LOOP", "LOOPE", "LOOPNE")) | {
    f"J{cc}" for cc in CONDITIONS
}


@cache
def _known(name: str, operands: tuple[str, ...]) -> Callable[[Machine], None] | None:
    return _BY_NAME.get(name) if all(where in _GENERAL for where in operands) else None


def semantics(found: Instruction) -> Callable[[Machine], None] | None:
    """Return what ``found`` does; None for what is not described yet."""
    names = {operand.name for operand in found.form.operands}
    if names & {"ES", "CS", "SS", "DS", "FS", "GS"}:
        return None
    return _known(found.name, tuple(operand.where.value for operand in found.form.operands))
