"""Which function says what an instruction does."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.isa.opcodes import CONDITIONS
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem import (
    arithmetic,
    bits,
    control,
    decimal,
    exchange,
    flags,
    flow,
    moves,
    options,
    ports,
    segments,
    shifts,
    stack,
    strings,
    transfers,
    vector_floats,
    vector_moves,
    vector_table,
    x87,
)
from blockkit.cpu.system import delivery, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.isa.decode import Instruction
    from blockkit.cpu.isa.forms import Form
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
    **dict.fromkeys(("PUSHA", "PUSHAD"), stack.push_all),
    **dict.fromkeys(("POPA", "POPAD"), stack.pop_all),
    "ENTER": stack.enter,
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
    **dict.fromkeys(("PUSHF", "PUSHFD", "PUSHFQ"), flags.pushf),
    **dict.fromkeys(("POPF", "POPFD", "POPFQ"), flags.popf),
    "CLI": flags.cli,
    "STI": flags.sti,
    "RETF": transfers.ret,
    **dict.fromkeys(("IRET", "IRETD", "IRETQ"), transfers.iret),
    "INT": transfers.interrupt,
    "INT1": transfers.fixed_interrupt(state.DEBUG_EXCEPTION, delivery.SOFTWARE_ANY),
    "INT3": transfers.fixed_interrupt(state.BREAKPOINT, delivery.SOFTWARE),
    "INTO": transfers.into,
    "BOUND": transfers.bound,
    **{name: getattr(transfers, name.lower()) for name in ("SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT")},
    **{f"L{name}": segments.load_pointer(number) for name, number in segments.NUMBERS.items() if name != "CS"},
    "LGDT": segments.load_table(state.GDT_BASE),
    "LIDT": segments.load_table(state.IDT_BASE),
    "SGDT": segments.store_table(state.GDT_BASE),
    "SIDT": segments.store_table(state.IDT_BASE),
    "SLDT": segments.store_selector(tables.local_table),
    "STR": segments.store_selector(tables.task_register),
    "LLDT": segments.load_selector(tables.load_local_table),
    "LTR": segments.load_selector(tables.load_task_register),
    "LAR": segments.look(tables.FOR_RIGHTS),
    "LSL": segments.look(tables.FOR_LIMIT),
    "VERR": segments.verify(0),
    "VERW": segments.verify(1),
    "ARPL": segments.arpl,
    "EMMS": vector_moves.empty,
    "LDMXCSR": vector_floats.load_control,
    "STMXCSR": vector_floats.store_control,
    "MOVNTI": vector_moves.move_general,
    "IN": ports.in_,
    "OUT": ports.out,
    **{name: getattr(control, name.lower()) for name in ("LMSW", "SMSW", "CLTS", "HLT", "INVLPG", "CLFLUSH", "WRMSR")},
    **control.WITHOUT_OPERANDS,
    **dict.fromkeys(("INVD", "WBINVD"), control.privileged_nop),
    **dict.fromkeys(("PREFETCHNTA", "PREFETCHT0", "PREFETCHT1", "PREFETCHT2", "PREFETCHW"), moves.nop),
    "STAC": control.allow_user_pages(1),
    "CLAC": control.allow_user_pages(0),
    "RDFSBASE": control.read_base(state.FS),
    "RDGSBASE": control.read_base(state.GS),
    "WRFSBASE": control.write_base(state.FS),
    "WRGSBASE": control.write_base(state.GS),
    "RDRAND": control.rdrand,
    **options.BY_NAME,
    **{name: getattr(decimal, name.lower()) for name in ("AAA", "AAS", "AAM", "AAD", "DAA", "DAS")},
    **{name: getattr(flags, name.lower()) for name in ("LAHF", "SAHF", "SALC")},
    "XLATB": moves.xlat,
    **dict.fromkeys(("CMPXCHG8B", "CMPXCHG16B"), exchange.cmpxchg_pair),
    "CRC32": exchange.crc32,
    **x87.BY_NAME,
}
#: Those of strings, by what they are called without the size of an element, which other instructions are called, too.
_OF_STRINGS: Final = {
    "MOVS": strings.movs,
    "STOS": strings.stos,
    "LODS": strings.lods,
    "CMPS": strings.cmps,
    "SCAS": strings.scas,
    "INS": strings.ins,
    "OUTS": strings.outs,
}
#: Those whose operand is a segment register, and those that have a selector.
_OF_SEGMENTS: Final = {"MOV": segments.move, "PUSH": segments.push, "POP": segments.pop}
_FAR: Final = {"JMP": transfers.jump, "CALL": transfers.call}

#: Operands that the functions above know; control and debug registers have their own.
_GENERAL: Final = frozenset("EGMRZIJOAS=")

#: What ends a block, whatever its operands are.
ENDS: Final = frozenset(
    (
        *("JMP", "CALL", "RET", "RETF", "JCXZ", "JECXZ", "JRCXZ", "LOOP", "LOOPE", "LOOPNE"),
        *("INT", "INT1", "INT3", "INTO", "IRET", "IRETD", "IRETQ", "SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT"),
        *("POPF", "POPFD", "POPFQ", "STI", "LES", "LSS", "LDS", "LFS", "LGS"),
        *("IN", "OUT", "INSB", "INSW", "OUTSB", "OUTSW"),
        *("HLT", "LMSW", "CLTS", "INVLPG", "WRMSR", "CLAC", "STAC"),
    )
) | {f"J{cc}" for cc in CONDITIONS}
_WHERE_IT_ENDS: Final = frozenset((Where.SEGMENT, Where.CONTROL, Where.DEBUG))


@cache
def _known(name: str, operands: tuple[str, ...]) -> Callable[[Machine], None] | None:
    return _BY_NAME.get(name) if all(where in _GENERAL for where in operands) else None


def semantics(found: Instruction) -> Callable[[Machine], None] | None:
    """Return what ``found`` does; None for what is not described."""
    operands = found.form.operands
    if operands:
        if operands[0].name in segments.NUMBERS or any(operand.where is Where.SEGMENT for operand in operands):
            return _OF_SEGMENTS.get(found.name)
        if operands[0].size == "p" and found.name in _FAR:
            return _FAR[found.name]
        if any(operand.where in (Where.CONTROL, Where.DEBUG) for operand in operands):
            return control.move
        if any(operand.where in vector_table.VECTOR for operand in operands):
            return vector_table.BY_NAME[found.name]
        if is_string(found.form):
            return _OF_STRINGS[found.form.names[0][:-1]]
    return _known(found.name, tuple(operand.where.value for operand in operands))


def ends(form: Form, *, repeated: bool) -> bool:
    """Whether an instruction of a form ends its block.

    Args:
        form: The form.
        repeated: It has a REP prefix.
    """
    if any(name in ENDS for name in form.names):
        return True
    if form.operands and form.names[0] in ("MOV", "POP"):
        first = form.operands[0]
        return first.where in _WHERE_IT_ENDS or first.name in segments.NUMBERS
    return repeated and is_string(form)


def is_string(form: Form) -> bool:
    """Whether it is one of a string, which REP repeats."""
    return any(operand.where in (Where.SOURCE, Where.TARGET) for operand in form.operands)
