"""RFLAGS as a number (SDM volume 1, 3.4.3)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, count_ones
from blockkit.cpu.state import AF, ALWAYS, ARITHMETIC, CF, COUT, OF, PF, RES, SF, SHIFT, SYSTEM_FLAGS, ZF

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
