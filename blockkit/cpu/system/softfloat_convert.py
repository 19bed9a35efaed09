"""Conversions between binary32, binary64 and integers (SDM volume 1, 11.4.1.6 and table E-16 ff.)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, leading_zeros, sign_extend
from blockkit.cpu.state import MXCSR
from blockkit.cpu.system.softfloat_round import (
    FLOAT_FLAGS,
    FLOAT_INEXACT,
    FLOAT_INVALID,
    TOWARD_ZERO,
    float_bias,
    float_choose_nan,
    float_exponent,
    float_infinity,
    float_mantissa,
    float_operand,
    float_round,
    float_sign,
    is_float_nan,
    note_denormals,
    rounds_up,
)

#: By how much the biases differ.
_BIASES: Final = 1023 - 127
_SIGN_64: Final = 1 << 63
_INFINITY_64: Final = 0x7FF << 52
_INFINITY_32: Final = 0xFF << 23


def f32_to_f64(value: int) -> int:
    """Return the same number, which is always exact."""
    value = float_operand(value, 23)
    sign = (value >> 31) << 63
    if is_float_nan(value, 23):
        value = float_choose_nan(value, value, 23)
        return sign | _INFINITY_64 | (value & (1 << 23) - 1) << 29
    value &= _SIGN_64 - 1 >> 32
    if value == _INFINITY_32:
        return sign | _INFINITY_64
    if value == 0:
        return sign
    note_denormals(value, value, 23)
    return sign | ((float_exponent(value, 23) + _BIASES - 1) << 52) + (float_mantissa(value, 23) >> 11)


def f64_to_f32(value: int) -> int:
    """Return the number rounded."""
    value = float_operand(value, 52)
    sign = value >> 63 << 31
    if is_float_nan(value, 52):
        value = float_choose_nan(value, value, 52)
        return sign | _INFINITY_32 | (value & (1 << 52) - 1) >> 29
    value &= _SIGN_64 - 1
    if value == _INFINITY_64:
        return sign | _INFINITY_32
    if value == 0:
        return sign
    note_denormals(value, value, 52)
    return float_round(sign, float_exponent(value, 52) - _BIASES, float_mantissa(value, 52), 23)


def _from_integer(value: int, fraction: int) -> int:
    """Return a signed number of 64 bits as a float."""
    if value == 0:
        return 0
    sign = 0
    if value >> 63:
        sign = float_sign(fraction)
        value = 0 - value
    shift = leading_zeros(value)
    return float_round(sign, float_bias(fraction) + 63 - shift, value << shift, fraction)


def i32_to_f32(value: int) -> int:
    """Convert a signed number of 32 bits."""
    return _from_integer(sign_extend(value, 32), 23)


def i64_to_f32(value: int) -> int:
    """Convert a signed number of 64 bits."""
    return _from_integer(value, 23)


def i32_to_f64(value: int) -> int:
    """Convert a signed number of 32 bits."""
    return _from_integer(sign_extend(value, 32), 52)


def i64_to_f64(value: int) -> int:
    """Convert a signed number of 64 bits."""
    return _from_integer(value, 52)


def _to_integer(value: int, truncate: int, top: int, fraction: int) -> int:
    """Return a float as a signed integer, rounded as MXCSR says or cut off.

    Args:
        value: The float.
        truncate: Not zero: cut off.
        top: The highest bit of the integer; it alone is what an invalid conversion gives.
        fraction: The format.
    """
    value = float_operand(value, fraction)
    sign = value & float_sign(fraction)
    magnitude = value ^ sign
    if magnitude == 0:
        return 0
    exponent = (value & float_infinity(fraction)) >> fraction
    bias = float_bias(fraction)
    if exponent > bias + 63:
        S[FLOAT_FLAGS] |= FLOAT_INVALID
        return top
    mantissa = float_mantissa(value, fraction)
    shift = bias + 63 - exponent
    rest = 1
    kept = 0
    if shift < 64:
        kept = mantissa >> shift
        rest = mantissa << (64 - shift) if shift else 0
    elif shift == 64:
        rest = mantissa
    kept += rounds_up(TOWARD_ZERO if truncate else S[MXCSR] >> 13 & 3, sign, kept & 1, rest)
    if kept > top or (kept == top and sign == 0):
        S[FLOAT_FLAGS] |= FLOAT_INVALID
        return top
    if rest:
        S[FLOAT_FLAGS] |= FLOAT_INEXACT
    # Twice the top, less one, is all bits; of 64 bits, twice is none.
    return (0 - kept if sign else kept) & (top << 1) - 1


def f32_to_i32(value: int, truncate: int) -> int:
    """Return 32 bits; 0x80000000 if it does not fit."""
    return _to_integer(value, truncate, 1 << 31, 23)


def f32_to_i64(value: int, truncate: int) -> int:
    """Return 64 bits; 1 << 63 if it does not fit."""
    return _to_integer(value, truncate, _SIGN_64, 23)


def f64_to_i32(value: int, truncate: int) -> int:
    """Return 32 bits; 0x80000000 if it does not fit."""
    return _to_integer(value, truncate, 1 << 31, 52)


def f64_to_i64(value: int, truncate: int) -> int:
    """Return 64 bits; 1 << 63 if it does not fit."""
    return _to_integer(value, truncate, _SIGN_64, 52)
