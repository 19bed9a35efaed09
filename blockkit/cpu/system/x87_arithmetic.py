"""Sum, product, quotient, square root and comparison of 80 bits; see :mod:`blockkit.cpu.system.x87_round`."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, high_product, leading_zeros, wide_quotient, wide_remainder
from blockkit.cpu.system.softfloat_arithmetic import wide_root
from blockkit.cpu.system.softfloat_compare import EQUAL, GREATER, LESS, UNORDERED
from blockkit.cpu.system.softfloat_round import DOWNWARD
from blockkit.cpu.system.x87_round import (
    INFINITE,
    NOTED,
    QUIET,
    SIGNALING,
    X87_BIAS,
    X87_DENORMAL,
    X87_INVALID,
    X87_SIGN,
    X87_ZERO_DIVIDE,
    ZERO,
    high_after_shift,
    low_after_shift,
    x87_exponent,
    x87_give,
    x87_give_infinity,
    x87_give_invalid,
    x87_give_nan,
    x87_give_rounded,
    x87_kind,
    x87_mode,
    x87_normal,
    x87_note_denormals,
)

_TOP_BIT: Final = 1 << 63


def x87_give_number(sign: int, exponent: int, high: int, low: int, dropped: int) -> None:
    """Give a number of 128 bits that need not be normalized, rounded; zero if it is that.

    Args:
        sign: 0 or X87_SIGN.
        exponent: The biased exponent, if the highest bit were set.
        high: The upper half.
        low: The lower half.
        dropped: See :func:`x87_give_rounded`.
    """
    if high == 0:
        if low == 0:
            x87_give(sign, 0)
            return
        high = low
        low = 0
        exponent -= 64
    shift = leading_zeros(high)
    if shift:
        high = high << shift | low >> (64 - shift)
        low <<= shift
    x87_give_rounded(sign, exponent - shift, high, low, dropped)


def x87_add(first_word: int, first: int, second_word: int, second: int, dropped: int) -> None:
    """Give the sum."""
    kind = x87_kind(first_word, first)
    other = x87_kind(second_word, second)
    if kind >= QUIET or other >= QUIET:
        x87_give_nan(first_word, first, second_word, second)
        return
    sign = first_word & X87_SIGN
    other_sign = second_word & X87_SIGN
    if kind == INFINITE or other == INFINITE:
        if kind == other and sign != other_sign:
            x87_give_invalid()
            return
        x87_note_denormals(kind, other)
        x87_give_infinity(sign if kind == INFINITE else other_sign)
        return
    x87_note_denormals(kind, other)
    if kind == ZERO or other == ZERO:
        if kind == other:
            x87_give(sign if sign == other_sign else X87_SIGN if x87_mode() == DOWNWARD else 0, 0)
        elif kind == ZERO:
            x87_give_rounded(other_sign, x87_exponent(second_word, second), x87_normal(second), 0, dropped)
        else:
            x87_give_rounded(sign, x87_exponent(first_word, first), x87_normal(first), 0, dropped)
        return
    exponent = x87_exponent(first_word, first)
    other_exponent = x87_exponent(second_word, second)
    large = x87_normal(first)
    small = x87_normal(second)
    # Signs of exponents do not matter if both are moved up.
    if exponent + 64 < other_exponent + 64 or (exponent == other_exponent and large < small):
        swapped = exponent
        exponent = other_exponent
        other_exponent = swapped
        swapped = large
        large = small
        small = swapped
        swapped = sign
        sign = other_sign
        other_sign = swapped
    shift = exponent - other_exponent
    low = low_after_shift(small, 0, shift)
    high = high_after_shift(small, shift)
    if sign != other_sign:
        high = large - high - (1 if low else 0)
        low = 0 - low
        if high | low:
            x87_give_number(sign, exponent, high, low, dropped)
        else:
            x87_give(X87_SIGN if x87_mode() == DOWNWARD else 0, 0)
        return
    high += large
    if high < large:
        low = low_after_shift(high, low, 1)
        high = high >> 1 | _TOP_BIT
        exponent += 1
    x87_give_rounded(sign, exponent, high, low, dropped)


def x87_multiply(first_word: int, first: int, second_word: int, second: int, dropped: int) -> None:
    """Give the product."""
    kind = x87_kind(first_word, first)
    other = x87_kind(second_word, second)
    if kind >= QUIET or other >= QUIET:
        x87_give_nan(first_word, first, second_word, second)
        return
    sign = (first_word ^ second_word) & X87_SIGN
    if kind == INFINITE or other == INFINITE:
        if kind == ZERO or other == ZERO:
            x87_give_invalid()
            return
        x87_note_denormals(kind, other)
        x87_give_infinity(sign)
        return
    x87_note_denormals(kind, other)
    if kind == ZERO or other == ZERO:
        x87_give(sign, 0)
        return
    exponent = x87_exponent(first_word, first) + x87_exponent(second_word, second) - X87_BIAS + 1
    first = x87_normal(first)
    second = x87_normal(second)
    x87_give_number(sign, exponent, high_product(first, second), first * second, dropped)


def x87_divide(first_word: int, first: int, second_word: int, second: int, dropped: int) -> None:
    """Give the first divided by the second."""
    kind = x87_kind(first_word, first)
    other = x87_kind(second_word, second)
    if kind >= QUIET or other >= QUIET:
        x87_give_nan(first_word, first, second_word, second)
        return
    sign = (first_word ^ second_word) & X87_SIGN
    if kind == other and (kind == INFINITE or kind == ZERO):
        x87_give_invalid()
        return
    if kind == INFINITE:
        x87_note_denormals(kind, other)
        x87_give_infinity(sign)
        return
    if other == ZERO:
        # It comes before what a denormal dividend in memory would be told for (SDM volume 1, 8.6).
        S[NOTED] = S[NOTED] & ~X87_DENORMAL | X87_ZERO_DIVIDE
        x87_give_infinity(sign)
        return
    x87_note_denormals(kind, other)
    if kind == ZERO or other == INFINITE:
        x87_give(sign, 0)
        return
    exponent = x87_exponent(first_word, first) - x87_exponent(second_word, second) + X87_BIAS
    first = x87_normal(first)
    second = x87_normal(second)
    high = first
    low = 0
    if first >= second:
        high = first >> 1
        low = first << 63
    else:
        exponent -= 1
    quotient = wide_quotient(high, low, second)
    rest = wide_remainder(high, low, second)
    low = wide_quotient(rest, 0, second) | (1 if wide_remainder(rest, 0, second) else 0)
    x87_give_rounded(sign, exponent, quotient, low, dropped)


def x87_root(word: int, mantissa: int, dropped: int) -> None:
    """Give the square root."""
    kind = x87_kind(word, mantissa)
    if kind >= QUIET:
        x87_give_nan(word, mantissa, word, mantissa)
        return
    if kind == ZERO:
        x87_give(word, mantissa)
        return
    if word & X87_SIGN:
        x87_give_invalid()
        return
    if kind == INFINITE:
        x87_give(word, mantissa)
        return
    x87_note_denormals(kind, kind)
    # From here on the bias is even, and too large for a negative exponent.
    exponent = x87_exponent(word, mantissa) - X87_BIAS + 0x8000
    high = x87_normal(mantissa)
    low = 0
    if (exponent & 1) == 0:
        low = high << 63
        high >>= 1
    root = wide_root(high, low)
    square = root * root
    high = high - high_product(root, root) - (1 if low < square else 0)
    low -= square
    # What is left is between nothing and twice the root; half a unit of the root leaves a bit more than the root.
    rest = 0
    if high or low > root:
        rest = 3 << 62
    elif low:
        rest = 1 << 62
    x87_give_rounded(0, (exponent >> 1) - 0x4000 + X87_BIAS, root, rest, dropped)


def x87_compare(first_word: int, first: int, second_word: int, second: int, signaling: int) -> int:
    """Compare: LESS, EQUAL, GREATER or UNORDERED; ``signaling``: any NaN is invalid."""
    kind = x87_kind(first_word, first)
    other = x87_kind(second_word, second)
    if kind >= QUIET or other >= QUIET:
        S[NOTED] &= X87_INVALID
        if signaling or kind >= SIGNALING or other >= SIGNALING:
            S[NOTED] |= X87_INVALID
        return UNORDERED
    x87_note_denormals(kind, other)
    if kind == ZERO and other == ZERO:
        return EQUAL
    if (first_word ^ second_word) & X87_SIGN:
        return LESS if first_word & X87_SIGN else GREATER
    # Both normalized, also the exponents of denormal numbers tell.
    exponent = x87_exponent(first_word, first) + 64
    other_exponent = x87_exponent(second_word, second) + 64
    if kind == ZERO:
        exponent = 0
    if other == ZERO:
        other_exponent = 0
    if exponent == other_exponent:
        large = x87_normal(first) if first else 0
        small = x87_normal(second) if second else 0
        if large == small:
            return EQUAL
        result = LESS if large < small else GREATER
    else:
        result = LESS if exponent < other_exponent else GREATER
    if first_word & X87_SIGN:
        return GREATER - result
    return result
