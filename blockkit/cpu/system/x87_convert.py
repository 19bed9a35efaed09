"""Numbers of 80 bits from and to floats of 32 and 64 bits, integers, and decimal digits."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, leading_zeros
from blockkit.cpu.state import FCW
from blockkit.cpu.system.softfloat_round import TOWARD_ZERO, rounds_up
from blockkit.cpu.system.x87_round import (
    INFINITE,
    NOTED,
    RESULT_WORD,
    SIGNALING,
    UNSUPPORTED,
    X87_BIAS,
    X87_C1,
    X87_DENORMAL,
    X87_EXPONENTS,
    X87_INEXACT,
    X87_INVALID,
    X87_OVERFLOW,
    X87_SIGN,
    X87_UNDERFLOW,
    ZERO,
    high_after_shift,
    low_after_shift,
    x87_exponent,
    x87_give,
    x87_kind,
    x87_mode,
    x87_normal,
)

_TOP_BIT: Final = 1 << 63
_QUIET_BIT: Final = 1 << 62
_TEN_TO_18: Final = 10**18
#: The low eight bytes of what FBSTP stores if it is invalid.
_INDEFINITE: Final = 0xC0 << 56


def x87_give_float(value: int, fraction: int) -> None:
    """Give a float, as it is: a NaN stays signaling; a denormal one is normalized and noted."""
    width = fraction + (8 if fraction == 23 else 11)
    sign = value >> width << 15
    largest = (1 << (width - fraction)) - 1
    exponent = value >> fraction & largest
    mantissa = value << (63 - fraction) & (_TOP_BIT - 1)
    if exponent == largest:
        x87_give(sign | X87_EXPONENTS, mantissa | _TOP_BIT)
    elif exponent:
        x87_give(sign | exponent + X87_BIAS - (largest >> 1), mantissa | _TOP_BIT)
    elif mantissa:
        S[NOTED] |= X87_DENORMAL
        shift = leading_zeros(mantissa)
        x87_give(sign | X87_BIAS - (largest >> 1) + 1 - shift, mantissa << shift)
    else:
        x87_give(sign, 0)


def x87_give_integer(value: int) -> None:
    """Give a signed number of 64 bits."""
    if value == 0:
        x87_give(0, 0)
        return
    sign = 0
    if value >> 63:
        sign = X87_SIGN
        value = 0 - value
    shift = leading_zeros(value)
    x87_give(sign | X87_BIAS + 63 - shift, value << shift)


def x87_to_float(word: int, mantissa: int, fraction: int) -> int:
    """Return a float, rounded, and note what happened."""
    kind = x87_kind(word, mantissa)
    width = fraction + (8 if fraction == 23 else 11)
    largest = (1 << (width - fraction)) - 1
    sign = word >> 15 << width
    infinity = largest << fraction
    if kind == ZERO:
        return sign
    if kind == INFINITE:
        return sign | infinity
    if kind == UNSUPPORTED:
        S[NOTED] |= X87_INVALID
        return 1 << width | infinity | 1 << (fraction - 1)
    if kind > INFINITE:
        if kind == SIGNALING:
            S[NOTED] |= X87_INVALID
        return sign | infinity | ((mantissa | _QUIET_BIT) & (_TOP_BIT - 1)) >> (63 - fraction)
    exponent = x87_exponent(word, mantissa) - X87_BIAS + (largest >> 1)
    mantissa = x87_normal(mantissa)
    dropped = 63 - fraction
    mode = x87_mode()
    kept = mantissa >> dropped
    rest = mantissa << (64 - dropped)
    up = rounds_up(mode, sign, kept & 1, rest)
    carry = 1 if kept + up == 2 << fraction else 0
    if exponent + carry - 1 >= _TOP_BIT:
        # The exponent is below 1.
        low = low_after_shift(mantissa, 0, 1 - exponent)
        mantissa = high_after_shift(mantissa, 1 - exponent)
        kept = mantissa >> dropped
        rest = mantissa << (64 - dropped) | (1 if low else 0)
        up = rounds_up(mode, sign, kept & 1, rest)
        exponent = 1
        if (S[FCW] & X87_UNDERFLOW) == 0:
            # Nothing is stored.
            S[NOTED] |= X87_UNDERFLOW
            rest = 0
        elif rest:
            S[NOTED] |= X87_UNDERFLOW
    elif exponent + carry >= largest:
        up = rounds_up(mode, sign, 1, _TOP_BIT)
        S[NOTED] |= X87_OVERFLOW
        if S[FCW] & X87_OVERFLOW:
            S[NOTED] |= X87_INEXACT | (X87_C1 if up else 0)
        return sign | infinity - 1 + up
    if rest:
        S[NOTED] |= X87_INEXACT | (X87_C1 if up else 0)
    return sign | ((exponent - 1) << fraction) + kept + up


def x87_magnitude(word: int, mantissa: int, mode: int, largest: int) -> int:
    """Return the magnitude of a number rounded to an integer, or what is above ``largest`` if it does not fit."""
    kind = x87_kind(word, mantissa)
    if kind == ZERO:
        return 0
    shift = X87_BIAS + 63 - (word & X87_EXPONENTS)
    if kind >= INFINITE or (word & X87_EXPONENTS) > X87_BIAS + 63:
        S[NOTED] |= X87_INVALID
        return largest + 1
    low = low_after_shift(mantissa, 0, shift)
    kept = high_after_shift(mantissa, shift)
    up = rounds_up(mode, word & X87_SIGN, kept & 1, low)
    kept += up
    if kept > largest:
        S[NOTED] |= X87_INVALID
        return largest + 1
    if low:
        S[NOTED] |= X87_INEXACT | (X87_C1 if up else 0)
    return kept


def x87_to_integer(word: int, mantissa: int, bits: int, truncate: int) -> int:
    """Return a signed integer of 16, 32 or 64 bits; only its top bit is set if it is invalid."""
    negative = word & X87_SIGN
    top = 1 << (bits - 1)
    largest = top if negative else top - 1
    found = x87_magnitude(word, mantissa, TOWARD_ZERO if truncate else x87_mode(), largest)
    if found > largest:
        return top
    return (0 - found if negative else found) & (top << 1) - 1


def x87_to_decimal(word: int, mantissa: int) -> int:
    """Return the low 16 of 18 decimal digits; the two others, and the sign in bit 15, are the result word."""
    found = x87_magnitude(word, mantissa, x87_mode(), _TEN_TO_18 - 1)
    if found >= _TEN_TO_18:
        x87_give(0xFFFF, 0)
        return _INDEFINITE
    digits = 0
    count = 0
    while count < 16:
        digits |= found % 10 << 4 * count
        found //= 10
        count += 1
    x87_give(word & X87_SIGN | found // 10 << 4 | found % 10, 0)
    return digits


def x87_give_decimal(word: int, digits: int) -> None:
    """Give the number of 18 decimal digits: 16 of them, and two in a word with the sign in bit 15."""
    value = (word >> 4 & 15) * 10 + (word & 15)
    place = 64
    while place:
        place -= 4
        value = value * 10 + (digits >> place & 15)
    x87_give_integer(value)
    S[RESULT_WORD] |= word & X87_SIGN
