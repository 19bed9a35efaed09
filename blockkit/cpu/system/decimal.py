"""Decimal adjustments (SDM volume 1, 7.3.4.3, and volume 2)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, count_ones, raise_fault
from blockkit.cpu.state import AF, ARITHMETIC, CF, DIVIDE_ERROR, PF, RAX, SF, ZF
from blockkit.cpu.system.flags import read_flags, write_arithmetic_flags

_LOW: Final = 0xFF
_WORD: Final = 0xFFFF


def _set_low(value: int) -> None:
    """Set AX."""
    S[RAX] = S[RAX] & ~_WORD | value & _WORD


def _result_flags(value: int) -> int:
    """Return SF, ZF and PF of a byte."""
    flags = value & SF
    if value == 0:
        flags |= ZF
    if (count_ones(value) & 1) == 0:
        flags |= PF
    return flags


def _needs_adjustment(value: int, flags: int) -> int:
    """Whether the lower digit is none, or carried."""
    return 1 if (value & 15) > 9 or flags & AF else 0


def adjust_unpacked(add: int) -> None:
    """AAA (``add`` is 1) and AAS (0)."""
    flags = read_flags() & ARITHMETIC & ~(AF | CF)
    value = S[RAX] & _WORD
    if _needs_adjustment(value, read_flags()):
        value = value + 0x106 if add else value - 0x106
        flags |= AF | CF
    _set_low(value & 0xFF0F)
    write_arithmetic_flags(flags)


def adjust_packed(add: int) -> None:
    """DAA (``add`` is 1) and DAS (0)."""
    before = read_flags()
    old = S[RAX] & _LOW
    value = old
    flags = 0
    if _needs_adjustment(old, before):
        value = value + 6 if add else value - 6
        flags |= AF
        # There is a carry, or a borrow, out of the byte.
        if before & CF or value > _LOW:
            flags |= CF
    if old > 0x99 or before & CF:
        value = value + 0x60 if add else value - 0x60
        flags |= CF
    value &= _LOW
    _set_low(S[RAX] & 0xFF00 | value)
    write_arithmetic_flags(flags | _result_flags(value))


def adjust_after_multiply(base: int) -> None:
    """AAM; raises #DE for base 0."""
    if base == 0:
        raise_fault(DIVIDE_ERROR, 0)
    value = S[RAX] & _LOW
    _set_low(value // base << 8 | value % base)
    write_arithmetic_flags(_result_flags(value % base))


def adjust_before_divide(base: int) -> None:
    """AAD."""
    value = (S[RAX] & _LOW) + (S[RAX] >> 8 & _LOW) * base & _LOW
    _set_low(value)
    write_arithmetic_flags(_result_flags(value))
