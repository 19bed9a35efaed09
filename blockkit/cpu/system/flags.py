"""RFLAGS as a number (SDM volume 1, 3.4.3)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, count_ones, raise_fault
from blockkit.cpu.state import (
    AC,
    AF,
    ALWAYS,
    ARITHMETIC,
    CF,
    COUT,
    CPL,
    DF,
    ID,
    IF,
    IOPL,
    MODE,
    MODE_TRAP,
    MODE_VIRTUAL,
    NT,
    OF,
    PF,
    PROTECTION,
    RES,
    RF,
    SF,
    SHADOW,
    SHIFT,
    SYSTEM_FLAGS,
    TF,
    VM,
    ZF,
)

_TOP: Final = 1 << 63
_BELOW_TOP: Final = 1 << 62


def read_flags() -> int:
    """Return RFLAGS."""
    carries = S[COUT]
    result = S[RES]
    shift = S[SHIFT]
    flags = S[SYSTEM_FLAGS] | ALWAYS
    if carries & _TOP:
        flags |= CF
    if (carries ^ carries << 1) & _TOP:
        flags |= OF
    if result == 0:
        flags |= ZF
    if ((result >> 63) ^ carries) & 1:
        flags |= SF
    if (count_ones(result >> shift & 0xFF) ^ carries >> 1 ^ 1) & 1:
        flags |= PF
    # With operands of 8 bits and more, bit 3 is never above bit 59.
    if carries >> (shift + 3) & 1:
        flags |= AF
    return flags


def write_flags(flags: int) -> None:
    """Set RFLAGS, every bit of it."""
    S[SYSTEM_FLAGS] = flags & ~ARITHMETIC | ALWAYS
    write_arithmetic_flags(flags)


def write_arithmetic_flags(flags: int) -> None:
    """Set CF, PF, AF, ZF, SF and OF."""
    result = 0 if flags & ZF else 1
    carries = _TOP if flags & CF else 0
    if (flags >> 11 ^ flags) & 1:
        carries |= _BELOW_TOP
    if flags & AF:
        carries |= 8
    if flags & SF:
        carries |= 1
    if (flags >> 2 & 1) == result:
        carries |= 2
    S[RES] = result
    S[COUT] = carries
    S[SHIFT] = 0


def set_zero_flag(zero: int) -> None:
    """Set ZF to 0 or 1, and no other flag."""
    write_arithmetic_flags(read_flags() & ~ZF | zero * ZF)


def load_low_flags(flags: int) -> None:
    """SAHF: set SF, ZF, AF, PF and CF."""
    write_arithmetic_flags(read_flags() & OF | flags & ARITHMETIC & ~OF)


def _may_change_interrupts() -> int:
    """Whether CPL is not above IOPL."""
    return 1 if S[CPL] <= (S[SYSTEM_FLAGS] & IOPL) >> 12 else 0


def flags_to_push() -> int:
    """Return what PUSHF pushes; raises #GP(0) in virtual-8086 mode if IOPL forbids it."""
    if S[MODE] & MODE_VIRTUAL and S[SYSTEM_FLAGS] & IOPL != IOPL:
        raise_fault(PROTECTION, 0)
    return read_flags() & ~(VM | RF)


def check_pop_flags() -> None:
    """Raise what POPF raises in virtual-8086 mode."""
    if S[MODE] & MODE_VIRTUAL and S[SYSTEM_FLAGS] & IOPL != IOPL:
        raise_fault(PROTECTION, 0)


def pop_flags(flags: int, size: int) -> None:
    """Set what POPF may set at this privilege level."""
    allowed = ARITHMETIC | TF | DF | NT
    if size > 2:
        allowed |= AC | ID
    if _may_change_interrupts():
        allowed |= IF
    if S[CPL] == 0:
        allowed |= IOPL
    cleared = RF if size > 2 else 0
    write_flags(read_flags() & ~(allowed | cleared) | flags & allowed)
    # TF is part of MODE.
    S[MODE] = S[MODE] & ~MODE_TRAP | (MODE_TRAP if S[SYSTEM_FLAGS] & TF else 0)


def clear_interrupts() -> None:
    """CLI."""
    if _may_change_interrupts() == 0:
        raise_fault(PROTECTION, 0)
    S[SYSTEM_FLAGS] &= ~IF


def set_interrupts() -> None:
    """STI: interrupts are taken after the next instruction."""
    if _may_change_interrupts() == 0:
        raise_fault(PROTECTION, 0)
    if (S[SYSTEM_FLAGS] & IF) == 0:
        S[SHADOW] = 1
    S[SYSTEM_FLAGS] |= IF
