"""Remainders, powers of two, and rounding to integers within 80 bits."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, wide_quotient, wide_remainder
from blockkit.cpu.state import FSW
from blockkit.cpu.system.softfloat_round import rounds_up
from blockkit.cpu.system.x87_arithmetic import x87_give_number
from blockkit.cpu.system.x87_round import (
    DENORMAL,
    INFINITE,
    NOTED,
    QUIET,
    X87_BIAS,
    X87_C1,
    X87_EXPONENTS,
    X87_INEXACT,
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
#: Condition codes as bits of the status word.
X87_C0, X87_C2, X87_C3 = 1 << 8, 1 << 10, 1 << 14


def x87_remainder(first_word: int, first: int, second_word: int, second: int, nearest: int) -> int:
    """Give the remainder, or what is left for the next time; return the condition codes as in the status word.

    An operand without value leaves C3 and C0.

    Args:
        first_word: The dividend, like the next.
        first: Its mantissa.
        second_word: The divisor.
        second: Its mantissa.
        nearest: The quotient is rounded to the nearest integer, not cut off.
    """
    kind = x87_kind(first_word, first)
    other = x87_kind(second_word, second)
    if kind >= QUIET or other >= QUIET:
        x87_give_nan(first_word, first, second_word, second)
        return S[FSW] & (X87_C3 | X87_C0)
    if kind == INFINITE or other == ZERO:
        x87_give_invalid()
        return S[FSW] & (X87_C3 | X87_C0)
    x87_note_denormals(kind, other)
    sign = first_word & X87_SIGN
    if kind == ZERO:
        x87_give(sign, 0)
        return 0
    exponent = x87_exponent(first_word, first)
    rest = x87_normal(first)
    if other == INFINITE:
        x87_give_rounded(sign, exponent, rest, 0, 0)
        return 0
    other_exponent = x87_exponent(second_word, second)
    divisor = x87_normal(second)
    distance = exponent - other_exponent
    if distance + 1 >= _TOP_BIT or (distance >= _TOP_BIT and nearest == 0):
        # It is below the divisor, or even below half of it.
        x87_give_rounded(sign, exponent, rest, 0, 0)
        return 0
    if distance >= _TOP_BIT:
        # Between a quarter of the divisor and the whole.
        if rest <= divisor:
            x87_give_rounded(sign, exponent, rest, 0, 0)
            return 0
        x87_give_number(sign ^ X87_SIGN, exponent, divisor - (rest - divisor), 0, 0)
        return X87_C1
    quotient = 0
    if rest >= divisor:
        rest -= divisor
        quotient = 1
    if distance >= 64:
        # Only some bits of the quotient: then the rest goes on with a smaller exponent.
        bits = distance & 31 | 32
        rest = wide_remainder(rest >> (64 - bits), rest << bits, divisor)
        x87_give_number(sign, exponent - bits, rest, 0, 0)
        return X87_C2
    if distance:
        quotient <<= distance
        high = rest >> (64 - distance)
        low = rest << distance
        quotient += wide_quotient(high, low, divisor)
        rest = wide_remainder(high, low, divisor)
    if nearest and (rest > divisor - rest or (rest == divisor - rest and quotient & 1)):
        rest = divisor - rest
        sign ^= X87_SIGN
        quotient += 1
    # A zero has the sign of the dividend.
    x87_give_number(sign if rest else first_word & X87_SIGN, other_exponent, rest, 0, 0)
    return (X87_C0 if quotient & 4 else 0) | (X87_C3 if quotient & 2 else 0) | (X87_C1 if quotient & 1 else 0)


def x87_scale(first_word: int, first: int, second_word: int, second: int) -> None:
    """Give the first times two to the power of the second, cut off to an integer."""
    kind = x87_kind(first_word, first)
    other = x87_kind(second_word, second)
    if kind >= QUIET or other >= QUIET:
        x87_give_nan(first_word, first, second_word, second)
        return
    sign = first_word & X87_SIGN
    negative = second_word & X87_SIGN
    if other == INFINITE and (kind == INFINITE if negative else kind == ZERO):
        x87_give_invalid()
        return
    x87_note_denormals(kind, other)
    if kind == ZERO or kind == INFINITE:
        x87_give(first_word, first)
    elif other == INFINITE:
        if negative:
            x87_give(sign, 0)
        else:
            x87_give_infinity(sign)
    else:
        power = second_word & X87_EXPONENTS
        distance = 0
        if power >= X87_BIAS + 16:
            distance = 0x10000
        elif power >= X87_BIAS:
            distance = second >> (X87_BIAS + 63 - power)
        if negative:
            distance = 0 - distance
        x87_give_rounded(sign, x87_exponent(first_word, first) + distance, x87_normal(first), 0, 0)


def x87_give_exponent(word: int, mantissa: int) -> None:
    """Give the exponent of a number, as a number."""
    kind = x87_kind(word, mantissa)
    if kind >= QUIET:
        x87_give_nan(word, mantissa, word, mantissa)
    elif kind == INFINITE:
        x87_give_infinity(0)
    elif kind == ZERO:
        S[NOTED] |= X87_ZERO_DIVIDE
        x87_give_infinity(X87_SIGN)
    else:
        x87_note_denormals(kind, kind)
        distance = x87_exponent(word, mantissa) - X87_BIAS
        if distance == 0:
            x87_give(0, 0)
        elif distance < _TOP_BIT:
            x87_give_number(0, X87_BIAS + 63, distance, 0, 0)
        else:
            x87_give_number(X87_SIGN, X87_BIAS + 63, 0 - distance, 0, 0)


def x87_give_significand(word: int, mantissa: int) -> None:
    """Give the number with the exponent of 1; nothing is noted, since the exponent was asked for before."""
    kind = x87_kind(word, mantissa)
    if kind >= QUIET:
        noted = S[NOTED]
        x87_give_nan(word, mantissa, word, mantissa)
        S[NOTED] = noted
    elif kind == INFINITE or kind == ZERO:
        x87_give(word, mantissa)
    else:
        x87_give(word & X87_SIGN | X87_BIAS, x87_normal(mantissa))


def x87_round_integer(word: int, mantissa: int) -> None:
    """Give the nearest integer."""
    kind = x87_kind(word, mantissa)
    if kind >= QUIET:
        x87_give_nan(word, mantissa, word, mantissa)
        return
    exponent = word & X87_EXPONENTS
    if kind == ZERO or exponent >= X87_BIAS + 63:
        x87_give(word, mantissa)
        return
    if kind == DENORMAL:
        x87_note_denormals(kind, kind)
    shift = X87_BIAS + 63 - exponent
    low = low_after_shift(mantissa, 0, shift)
    kept = high_after_shift(mantissa, shift)
    up = rounds_up(x87_mode(), word & X87_SIGN, kept & 1, low)
    if low:
        S[NOTED] |= X87_INEXACT | (X87_C1 if up else 0)
    x87_give_number(word & X87_SIGN, X87_BIAS + 63, kept + up, 0, 0)
