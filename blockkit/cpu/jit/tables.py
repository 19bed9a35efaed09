"""The opcode map as numbers, for the native decoder."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from blockkit.cpu.isa.forms import by_opcode
from blockkit.cpu.isa.opcodes import CONDITIONS
from blockkit.cpu.isa.operands import MEMORY_OR_REGISTER, Where
from blockkit.cpu.sem.table import ends, is_string

if TYPE_CHECKING:
    from blockkit.cpu.isa.forms import Form

#: Bits of a form's word. Prefix: 0 any, 1 none, 2 to 4 for 66, F2, F3; ``reg`` and ``rm``: 8 any; memory: 0 either.
PREFIX, REG_FIELD, RM_FIELD, MEMORY_FIELD = 0, 3, 7, 11
NOT_64, ONLY_64, DEFAULT_64, ALWAYS_64, LOCKABLE = 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17
IMMEDIATE_FIELD: Final = 18
BYTE_REG, BYTE_RM, NOT_EXCHANGE, ENDS_BLOCK, RELATIVE = 1 << 23, 1 << 24, 1 << 25, 1 << 26, 1 << 27
#: It can only be done with the x87, MMX or SSE, whose absence Python tells.
FLOATING: Final = 1 << 28
#: Its handlers depend on the address size: JCXZ, LOOP.
COUNTS: Final = 1 << 29
#: Its address is in the instruction, without ModRM.
DIRECT: Final = 1 << 30
#: A string instruction: REP ends its block; its kinds are K_NONE, K_BASE with F3 and K_INDEX with F2, and with any
#: address size and segment K_ANY, and K_NARROW with F3.
STRING: Final = 1 << 31
#: Its operand in memory is implied: XLAT, MASKMOVDQU and MASKMOVQ.
IMPLIED: Final = 1 << 32
_IMPLIED: Final = frozenset(("XLATB", "MASKMOVDQU", "MASKMOVQ"))

#: Kinds of immediates: none; a byte; a byte extended to the operand size; two or four bytes, extended; two, four or
#: eight; two; an address; what only Python takes.
(I_NONE, I_BYTE, I_SIGNED, I_NARROW, I_FULL, I_WORD, I_ADDRESS, I_OTHER) = range(8)

_PREFIXES: Final = {None: 0, 0: 1, 0x66: 2, 0xF2: 3, 0xF3: 4}
_FLOATING: Final = frozenset((Where.XMM, Where.XMM_RM, Where.XMM_REGISTER, Where.MMX, Where.MMX_RM, Where.MMX_REGISTER))

#: Those of the x87, MMX and SSE that have no operand there.
_OF_THEIR_STATE: Final = frozenset(("EMMS", "FXSAVE", "FXRSTOR", "LDMXCSR", "STMXCSR"))
_IN_CODE: Final = frozenset((Where.IMMEDIATE, Where.RELATIVE, Where.OFFSET, Where.FAR))


def _immediate(form: Form) -> int:
    codes = [operand for operand in form.operands if operand.where in _IN_CODE]
    if not codes:
        return I_NONE
    if len(codes) > 1 or codes[0].where is Where.FAR:
        return I_OTHER
    operand = codes[0]
    if operand.where is Where.OFFSET:
        return I_ADDRESS
    if operand.where is Where.RELATIVE:
        return I_SIGNED if operand.size == "b" else I_NARROW
    return {"b": I_BYTE, "bs": I_SIGNED, "z": I_NARROW, "v": I_FULL, "w": I_WORD}[operand.size]


def word(form: Form) -> int:
    """Return a form as a number."""
    value = _PREFIXES[form.prefix] << PREFIX
    value |= (8 if form.reg is None else form.reg) << REG_FIELD
    value |= (8 if form.rm is None else form.rm) << RM_FIELD
    value |= {None: 0, True: 1, False: 2}[form.memory] << MEMORY_FIELD
    for flag, bit in (("i64", NOT_64), ("o64", ONLY_64), ("d64", DEFAULT_64), ("f64", ALWAYS_64)):
        value |= bit if flag in form.flags else 0
    if "lock" in form.flags and form.operands[0].where in MEMORY_OR_REGISTER | {Where.MEMORY}:
        value |= LOCKABLE
    value |= _immediate(form) << IMMEDIATE_FIELD
    for operand in form.operands:
        if operand.size in ("b", "b2") and operand.where is Where.REG:
            value |= BYTE_REG
        if operand.size == "b" and operand.where in (Where.RM, Where.OPCODE, Where.RM_REGISTER):
            value |= BYTE_RM
        if operand.where is Where.RELATIVE:
            value |= RELATIVE
        if operand.where is Where.OFFSET:
            value |= DIRECT
        if operand.where in _FLOATING:
            value |= FLOATING
    if 0xD8 <= form.opcode <= 0xDF or form.names[0] in _OF_THEIR_STATE:
        value |= FLOATING
    if 0xE0 <= form.opcode <= 0xE3:
        value |= COUNTS
    if form.opcode == 0x90 and not form.operands:
        value |= NOT_EXCHANGE
    if ends(form, repeated=False):
        value |= ENDS_BLOCK
    if is_string(form):
        value |= STRING
    if form.names[0] in _IMPLIED:
        value |= IMPLIED
    return value


#: The strings that have handlers for any address size and segment.
OF_ANY_ADDRESS: Final = frozenset(("MOVSB", "MOVSW", "STOSB", "STOSW", "LODSB", "LODSW"))


@cache
def all_forms() -> tuple[Form, ...]:
    """Return the forms in the order of FORMS."""
    return tuple(form for several in by_opcode().values() for form in several)


def _opcodes() -> tuple[int, ...]:
    """Return, for each opcode, whether it has ModRM, how many forms it has, and the first one."""
    entries, first = [0] * 1024, 0
    for opcode, several in by_opcode().items():
        page = {0x0F38: 2, 0x0F3A: 3}.get(opcode >> 8, 1 if opcode >> 8 == 0x0F else 0)
        entries[page << 8 | opcode & 0xFF] = int(several[0].modrm) << 31 | len(several) << 16 | first
        first += len(several)
    return tuple(entries)


OPCODES: Final = _opcodes()
HAS_MODRM: Final = 1 << 31
FORMS: Final = tuple(word(form) for form in all_forms())

#: Kinds of operands in memory, by how their addresses are made: none; in 64-bit mode a base and a displacement; those
#: and an index; 32 bits in flat segments; any other way.
(K_NONE, K_BASE, K_INDEX, K_NARROW, K_ANY, KINDS) = range(6)
#: Ways the processor can be in: 64 bits; flat segments and a stack pointer of 32 bits; that without; one of 16 bits.
(W_64, W_FLAT, W_32, W_16, WAYS) = range(5)
SIZES: Final = 3

#: Mnemonics that have handlers for each kind of operand in memory; all others take their addresses any way.
COMMON: Final = frozenset(
    (
        *("MOV", "MOVZX", "MOVSX", "MOVSXD", "LEA", "ADD", "SUB", "CMP", "AND", "OR", "XOR", "TEST", "INC", "DEC"),
        *("PUSH", "CALL", "JMP", "IMUL", "SHL", "SHR", "SAR", "NEG", "NOT", "ADC", "SBB", "XCHG", "CMPXCHG", "XADD"),
        *("NOP", "MUL", "DIV", *(f"{name}{cc}" for name in ("CMOV", "SET") for cc in CONDITIONS)),
    )
)
#: Those that have one for a base and a displacement, as locals have.
ALSO_LOCAL: Final = frozenset(
    (
        *("MOVUPS", "MOVAPS", "MOVDQU", "MOVDQA", "MOVSS", "MOVSD", "MOVQ", "MOVD", "MOVHPS", "MOVLPD", "MOVHPD"),
        *(f"{name}S{kind}" for name in ("ADD", "SUB", "MUL", "DIV", "UCOMI", "COMI") for kind in "SD"),
        *("CVTSI2SD", "CVTSI2SS", "BT", "FLD", "FST", "FSTP", "FILD", "FISTP"),
    )
)


def is_left_to_any(form: Form, kind: int) -> bool:
    """Whether an operand of a kind is treated as of any kind."""
    if kind not in (K_BASE, K_INDEX, K_NARROW) or is_string(form) or not COMMON.isdisjoint(form.names):
        return False
    return kind != K_BASE or ALSO_LOCAL.isdisjoint(form.names)


#: The handler of each form, operand size, kind and way, by ``((form * SIZES + size) * KINDS + kind) * WAYS + way``;
#: made by :mod:`blockkit.cpu.jit.generate`.
FORM_HANDLERS: Final[tuple[int, ...]] = ()
