"""The processor's state: one table of 64-bit slots, which every interpretation and every test reads.

Slot ``n`` lies at byte ``8 * n`` where the state is memory, and at index ``n`` where it is a list.

The arithmetic flags are kept as two numbers from which each is told when somebody asks. ``RES`` is the last result and
``COUT`` the carries out of each of its bits, both shifted so that the operand's top bit is bit 63; ``SHIFT`` says how
far. Then CF is bit 63 of COUT, OF bit 63 xor bit 62, SF bit 63 of RES, ZF whether RES is zero, PF the parity of the
operand's low byte and AF the carry out of its bit 3. Bits 0 and 1 of COUT, which say nothing of their own, turn SF and
PF round: so there is a pair of numbers for each of the 64 combinations.
"""

from __future__ import annotations

from typing import Final

#: General registers, in the order of their numbers.
REGISTERS: Final = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)

RIP: Final = 16
RES: Final = 17
COUT: Final = 18
SHIFT: Final = 19
#: The other flags, at their places in RFLAGS; the arithmetic ones are zero here.
SYSTEM_FLAGS: Final = 20
#: Bases of ES, CS, SS, DS, FS and GS, in this order.
SEGMENT_BASES: Final = 21
SLOTS: Final = 27

CF, PF, AF, ZF, SF, TF, IF, DF, OF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 11
ARITHMETIC: Final = CF | PF | AF | ZF | SF | OF
#: Bit 1 of RFLAGS is always set.
ALWAYS: Final = 2

_TOP: Final = 1 << 63
_NEGATE_SIGN, _NEGATE_PARITY = 1, 2


def new_state() -> list[int]:
    """Return a state in which everything is zero."""
    state = [0] * SLOTS
    set_rflags(state, ALWAYS)
    return state


def rflags(state: list[int]) -> int:
    """Return RFLAGS."""
    result, carries, shift = state[RES], state[COUT], state[SHIFT]
    flags = state[SYSTEM_FLAGS] | ALWAYS
    if carries & _TOP:
        flags |= CF
    if (carries ^ carries << 1) & _TOP:
        flags |= OF
    if not result:
        flags |= ZF
    if (result >> 63 ^ carries) & 1:
        flags |= SF
    if ((result >> shift & 0xFF).bit_count() ^ carries >> 1 ^ 1) & 1:
        flags |= PF
    if carries >> shift + 3 & 1:
        flags |= AF
    return flags


def set_rflags(state: list[int], flags: int) -> None:
    """Set RFLAGS; bits that are no flag are kept like the others."""
    state[SYSTEM_FLAGS] = flags & ~ARITHMETIC | ALWAYS
    state[RES], state[COUT] = pack_flags(flags)
    state[SHIFT] = 0


def pack_flags(flags: int) -> tuple[int, int]:
    """Return RES and COUT, with SHIFT 0, that stand for the arithmetic flags in ``flags``."""
    # A result of 0 has even parity and no sign; one of 1 is neither zero nor negative, with odd parity.
    result = 0 if flags & ZF else 1
    carries = _TOP if flags & CF else 0
    if bool(flags & OF) != bool(flags & CF):
        carries |= _TOP >> 1
    if flags & AF:
        carries |= 8
    if flags & SF:
        carries |= _NEGATE_SIGN
    if bool(flags & PF) != (result == 0):
        carries |= _NEGATE_PARITY
    return result, carries
