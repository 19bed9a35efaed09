"""Sine, cosine, tangent and arctangent of 80 bits, with an error below one unit of the last place.

Angles are reduced by the 66 bits of pi that the manual names (SDM volume 1, 8.3.8), and exactly.
"""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S
from blockkit.cpu.system.x87_arithmetic import x87_give_number
from blockkit.cpu.system.x87_round import (
    INFINITE,
    NORMAL,
    QUIET,
    X87_BIAS,
    X87_EXPONENTS,
    X87_SIGN,
    ZERO,
    x87_exponent,
    x87_give,
    x87_give_invalid,
    x87_give_nan,
    x87_kind,
    x87_normal,
    x87_note_denormals,
)
from blockkit.cpu.system.x87_wide import (
    WIDE_EXPONENT,
    WIDE_HIGH,
    WIDE_LOW,
    wide_add,
    wide_divide,
    wide_multiply,
    wide_normalize,
    wide_scale,
    wide_set,
    wide_shift_right,
    wide_subtract,
    wide_sum_factorials,
    wide_sum_odd,
)

SINE, COSINE, TANGENT = 0, 1, 2

_TOP_BIT: Final = 1 << 63
#: Half of pi times two to the power of 65: 66 bits.
_HALF_PI_HIGH: Final = 3
_HALF_PI_LOW: Final = 0x243F6A8885A308D3
#: A quarter of it, 128 bits.
_QUARTER_HIGH: Final = 0xC90FDAA22168C234
_QUARTER_LOW: Final = 0xC4C6628B80DC1CD1
#: The arctangents of 0, 1/8, 2/8 and so on to 1.
_ANGLES_HIGH: Final = (
    0,
    0x1FD5BA9AAC2F6DC6,
    0x3EB6EBF25901BAC5,
    0x5BD86507937BC239,
    0x76B19C1586ED3DA2,
    0x8F005D5EF7F59F9B,
    0xA4BC7D1934F70924,
    0xB8053E2BC2319E73,
    0xC90FDAA22168C234,
)
_ANGLES_LOW: Final = (
    0,
    0x5912F313E7D111DE,
    0x5B71E7BD7DE885F9,
    0xC55190916E7F2241,
    0xB7F222F65E1D4681,
    0x5C835E1665C43747,
    0x19A87F2A457DAC9E,
    0xCB2DA55210A4443D,
    0xC4C6628B80DC1CD1,
)


def x87_is_far(word: int, mantissa: int) -> int:
    """Whether an angle is too large, but not infinite: then C2 says so, and nothing happens."""
    return 1 if x87_kind(word, mantissa) == NORMAL and word & X87_EXPONENTS >= X87_BIAS + 63 else 0


def _reduce(exponent: int, mantissa: int) -> int:
    """Give the distance of an angle to the nearest multiple of a right angle, normalized.

    Returns:
        How many right angles, two bits; in bit 2 whether the distance is negative.
    """
    if exponent < X87_BIAS - 1 or exponent >= _TOP_BIT:
        wide_set(mantissa, 0)
        S[WIDE_EXPONENT] = exponent
        return 0
    high = 0
    low = mantissa
    quotient = 0
    count = exponent - X87_BIAS + 2
    while count:
        high = high << 1 | low >> 63
        low <<= 1
        quotient <<= 1
        if high > _HALF_PI_HIGH or (high == _HALF_PI_HIGH and low >= _HALF_PI_LOW):
            high = high - _HALF_PI_HIGH - (1 if low < _HALF_PI_LOW else 0)
            low -= _HALF_PI_LOW
            quotient += 1
        count -= 1
    double_high = high << 1 | low >> 63
    negative = 0
    if double_high > _HALF_PI_HIGH or (double_high == _HALF_PI_HIGH and low << 1 > _HALF_PI_LOW):
        high = _HALF_PI_HIGH - high - (1 if low > _HALF_PI_LOW else 0)
        low = _HALF_PI_LOW - low
        quotient += 1
        negative = 4
    wide_normalize(high, low, X87_BIAS + 62)
    return quotient & 3 | negative


def _square(high: int, low: int, exponent: int) -> None:
    """Give the square of a normalized number below 1 as a fraction."""
    wide_shift_right(high, low, X87_BIAS - 1 - exponent)
    wide_multiply(S[WIDE_HIGH], S[WIDE_LOW], S[WIDE_HIGH], S[WIDE_LOW])


def _sine(high: int, low: int, exponent: int) -> None:
    """Give the sine of a normalized number of at most half a right angle, normalized."""
    _square(high, low, exponent)
    wide_sum_factorials(S[WIDE_HIGH], S[WIDE_LOW], 2, 2, 1)
    wide_scale(high, low, S[WIDE_HIGH], S[WIDE_LOW], 1)
    wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], exponent)


def _cosine(high: int, low: int, exponent: int) -> None:
    """Give the cosine, normalized."""
    _square(high, low, exponent)
    wide_sum_factorials(S[WIDE_HIGH], S[WIDE_LOW], 1, 2, 1)
    wide_add(S[WIDE_HIGH], S[WIDE_LOW], 0, 1)
    wide_normalize(~S[WIDE_HIGH], ~S[WIDE_LOW], X87_BIAS - 1)


def _give_wide(sign: int) -> None:
    """Give the number in the wide slots, which is never exact."""
    x87_give_number(sign, S[WIDE_EXPONENT], S[WIDE_HIGH], S[WIDE_LOW] | 1, 0)


def x87_circular(what: int, word: int, mantissa: int) -> None:
    """Give the SINE, COSINE or TANGENT of a number that is not too far."""
    kind = x87_kind(word, mantissa)
    if kind >= QUIET:
        x87_give_nan(word, mantissa, word, mantissa)
        return
    if kind == INFINITE:
        x87_give_invalid()
        return
    if kind == ZERO:
        if what == COSINE:
            x87_give(X87_BIAS, _TOP_BIT)
        else:
            x87_give(word, mantissa)
        return
    x87_note_denormals(kind, kind)
    turns = _reduce(x87_exponent(word, mantissa), x87_normal(mantissa))
    high = S[WIDE_HIGH]
    low = S[WIDE_LOW]
    exponent = S[WIDE_EXPONENT]
    sign = word & X87_SIGN
    if what == TANGENT:
        _tangent(high, low, exponent, turns & 1)
        # The tangent is odd, and so is the cotangent, which it becomes with the other sign.
        _give_wide(sign ^ (X87_SIGN if (turns ^ turns >> 2) & 1 else 0))
        return
    if what == COSINE:
        sign = 0
        turns = (turns + 1 & 3) | turns & 4
    if turns & 2:
        sign ^= X87_SIGN
    if turns & 1:
        _cosine(high, low, exponent)
    else:
        _sine(high, low, exponent)
        if turns & 4:
            sign ^= X87_SIGN
    _give_wide(sign)


def _tangent(high: int, low: int, exponent: int, inverted: int) -> None:
    """Give the tangent of at most half a right angle, or 1 divided by it, normalized."""
    _sine(high, low, exponent)
    sine_high = S[WIDE_HIGH]
    sine_low = S[WIDE_LOW]
    sine_exponent = S[WIDE_EXPONENT]
    _cosine(high, low, exponent)
    distance = sine_exponent - S[WIDE_EXPONENT]
    if inverted:
        wide_divide(S[WIDE_HIGH], S[WIDE_LOW], sine_high, sine_low)
        distance = 0 - distance
    else:
        wide_divide(sine_high, sine_low, S[WIDE_HIGH], S[WIDE_LOW])
    wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], X87_BIAS + distance)


def _small_angle(high: int, low: int, exponent: int) -> None:
    """Give the arctangent of a normalized number below 1/8, normalized."""
    _square(high, low, exponent)
    wide_sum_odd(S[WIDE_HIGH], S[WIDE_LOW], 1)
    wide_scale(high, low, S[WIDE_HIGH], S[WIDE_LOW], 1)
    wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], exponent)


def _angle(high: int, low: int, exponent: int) -> None:
    """Give the arctangent of a normalized number of at most 1, normalized."""
    if exponent < X87_BIAS - 4 or exponent >= _TOP_BIT:
        _small_angle(high, low, exponent)
        return
    # Half the number, and the nearest multiple of an eighth.
    wide_shift_right(high, low, X87_BIAS - exponent)
    half_high = S[WIDE_HIGH]
    half_low = S[WIDE_LOW]
    index = half_high + (1 << 59) >> 60
    below = 1 if half_high < index << 60 else 0
    if below:
        wide_subtract(index << 60, 0, half_high, half_low)
    else:
        wide_subtract(half_high, half_low, index << 60, 0)
    angle_high = _ANGLES_HIGH[index]
    angle_low = _ANGLES_LOW[index]
    if S[WIDE_HIGH] | S[WIDE_LOW]:
        wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], X87_BIAS)
        rest_high = S[WIDE_HIGH]
        rest_low = S[WIDE_LOW]
        rest_exponent = S[WIDE_EXPONENT]
        wide_shift_right(half_high, half_low, 3)
        eighth_low = S[WIDE_LOW] * index
        wide_set((S[WIDE_HIGH] * index + _carry(S[WIDE_LOW], index)) + _TOP_BIT, eighth_low)
        wide_divide(rest_high, rest_low, S[WIDE_HIGH], S[WIDE_LOW])
        wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], rest_exponent)
        _small_angle(S[WIDE_HIGH], S[WIDE_LOW], S[WIDE_EXPONENT])
        if index == 0:
            return
        wide_shift_right(S[WIDE_HIGH], S[WIDE_LOW], X87_BIAS - 1 - S[WIDE_EXPONENT])
        if below:
            wide_subtract(angle_high, angle_low, S[WIDE_HIGH], S[WIDE_LOW])
        else:
            wide_add(angle_high, angle_low, S[WIDE_HIGH], S[WIDE_LOW])
        angle_high = S[WIDE_HIGH]
        angle_low = S[WIDE_LOW]
    wide_normalize(angle_high, angle_low, X87_BIAS - 1)


def _carry(low: int, count: int) -> int:
    """Return what a product of the lower half with a small number carries to the upper."""
    return (low >> 32) * count + ((low & 0xFFFFFFFF) * count >> 32) >> 32


def _give_eighths(sign: int, count: int) -> None:
    """Give pi times ``count`` eighths: 2, 4, 6 or 8."""
    high = _QUARTER_HIGH
    low = _QUARTER_LOW
    if count == 6:
        wide_shift_right(high, low, 2)
        wide_subtract(high, low, S[WIDE_HIGH], S[WIDE_LOW])
        high = S[WIDE_HIGH]
        low = S[WIDE_LOW]
        count = 8
    exponent = X87_BIAS + 1
    if count == 4:
        exponent = X87_BIAS
    elif count == 2:
        exponent = X87_BIAS - 1
    x87_give_number(sign, exponent, high, low | 1, 0)


def x87_arctangent(first_word: int, first: int, second_word: int, second: int) -> None:
    """Give the angle of a point: first is what is up, second what is to the right."""
    kind = x87_kind(first_word, first)
    other = x87_kind(second_word, second)
    if kind >= QUIET or other >= QUIET:
        x87_give_nan(first_word, first, second_word, second)
        return
    sign = first_word & X87_SIGN
    left = second_word & X87_SIGN
    x87_note_denormals(kind, other)
    if kind == INFINITE and other == INFINITE:
        _give_eighths(sign, 6 if left else 2)
    elif kind == INFINITE or (other == ZERO and kind != ZERO):
        _give_eighths(sign, 4)
    elif kind == ZERO or other == INFINITE:
        if left:
            _give_eighths(sign, 8)
        else:
            x87_give(sign, 0)
    else:
        _give_angle(
            sign,
            left,
            x87_exponent(first_word, first),
            x87_normal(first),
            x87_exponent(second_word, second),
            x87_normal(second),
        )


def _give_angle(sign: int, left: int, up_exponent: int, up: int, right_exponent: int, right: int) -> None:
    """Give the angle of a point that is on no axis."""
    steep = 1 if up_exponent + 64 > right_exponent + 64 or (up_exponent == right_exponent and up > right) else 0
    if steep:
        wide_divide(right, 0, up, 0)
        wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], right_exponent - up_exponent + X87_BIAS)
    else:
        wide_divide(up, 0, right, 0)
        wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], up_exponent - right_exponent + X87_BIAS)
    _angle(S[WIDE_HIGH], S[WIDE_LOW], S[WIDE_EXPONENT])
    if steep == 0 and left == 0:
        _give_wide(sign)
        return
    # A quarter of it, subtracted from or added to pi or its half.
    wide_shift_right(S[WIDE_HIGH], S[WIDE_LOW], X87_BIAS + 1 - S[WIDE_EXPONENT])
    high = S[WIDE_HIGH]
    low = S[WIDE_LOW]
    wide_shift_right(_QUARTER_HIGH, _QUARTER_LOW, steep)
    if steep and left:
        wide_add(S[WIDE_HIGH], S[WIDE_LOW], high, low)
    else:
        wide_subtract(S[WIDE_HIGH], S[WIDE_LOW], high, low)
    x87_give_number(sign, X87_BIAS + 1, S[WIDE_HIGH], S[WIDE_LOW] | 1, 0)
