"""Sum, product, quotient and square root of binary32 and binary64; see :mod:`blockkit.cpu.system.softfloat_round`."""

from __future__ import annotations

from blockkit.cpu.dialect import S, high_product, leading_zeros, wide_quotient, wide_remainder
from blockkit.cpu.state import MXCSR
from blockkit.cpu.system.softfloat_round import (
    DOWNWARD,
    FLOAT_FLAGS,
    FLOAT_ZERO_DIVIDE,
    float_bias,
    float_choose_nan,
    float_default_nan,
    float_exponent,
    float_infinity,
    float_mantissa,
    float_operand,
    float_round,
    float_sign,
    is_float_nan,
    note_denormals,
    shift_sticky,
)


def _zero_sum(fraction: int) -> int:
    """Return the zero that is the sum of a number and its opposite."""
    return float_sign(fraction) if S[MXCSR] >> 13 & 3 == DOWNWARD else 0


def float_add(first: int, second: int, negate: int, fraction: int) -> int:
    """Return the sum; ``negate``: the difference."""
    first = float_operand(first, fraction)
    second = float_operand(second, fraction)
    if is_float_nan(first, fraction) or is_float_nan(second, fraction):
        return float_choose_nan(first, second, fraction)
    sign = float_sign(fraction)
    if negate:
        second ^= sign
    infinity = float_infinity(fraction)
    larger = first & ~sign
    smaller = second & ~sign
    note_denormals(first, second, fraction)
    if larger == infinity or smaller == infinity:
        if larger == smaller and first != second:
            return float_default_nan(fraction)
        return first if larger == infinity else second
    if larger < smaller:
        swapped = larger
        larger = smaller
        smaller = swapped
        swapped = first
        first = second
        second = swapped
    if smaller == 0:
        if larger == 0:
            return first if first == second else _zero_sum(fraction)
        return float_round(first & sign, float_exponent(first, fraction), float_mantissa(first, fraction), fraction)
    exponent = float_exponent(larger, fraction)
    total = float_mantissa(larger, fraction) >> 1
    other = shift_sticky(float_mantissa(smaller, fraction) >> 1, exponent - float_exponent(smaller, fraction))
    if (first ^ second) & sign:
        total -= other
        if total == 0:
            return _zero_sum(fraction)
    else:
        total += other
    shift = leading_zeros(total)
    return float_round(first & sign, exponent + 1 - shift, total << shift, fraction)


def float_multiply(first: int, second: int, fraction: int) -> int:
    """Return the product."""
    first = float_operand(first, fraction)
    second = float_operand(second, fraction)
    if is_float_nan(first, fraction) or is_float_nan(second, fraction):
        return float_choose_nan(first, second, fraction)
    sign = (first ^ second) & float_sign(fraction)
    first &= ~float_sign(fraction)
    second &= ~float_sign(fraction)
    infinity = float_infinity(fraction)
    if first == infinity or second == infinity:
        if first == 0 or second == 0:
            return float_default_nan(fraction)
        note_denormals(first, second, fraction)
        return sign | infinity
    note_denormals(first, second, fraction)
    if first == 0 or second == 0:
        return sign
    exponent = float_exponent(first, fraction) + float_exponent(second, fraction) - float_bias(fraction) + 1
    mantissa = float_mantissa(first, fraction)
    other = float_mantissa(second, fraction)
    product = high_product(mantissa, other) | (1 if mantissa * other else 0)
    shift = leading_zeros(product)
    return float_round(sign, exponent - shift, product << shift, fraction)


def float_divide(first: int, second: int, fraction: int) -> int:
    """Return the quotient."""
    first = float_operand(first, fraction)
    second = float_operand(second, fraction)
    if is_float_nan(first, fraction) or is_float_nan(second, fraction):
        return float_choose_nan(first, second, fraction)
    sign = (first ^ second) & float_sign(fraction)
    first &= ~float_sign(fraction)
    second &= ~float_sign(fraction)
    infinity = float_infinity(fraction)
    if (first == infinity and second == infinity) or (first | second) == 0:
        return float_default_nan(fraction)
    if first == infinity or second == infinity:
        note_denormals(first, second, fraction)
        return sign | infinity if first == infinity else sign
    if second == 0:
        S[FLOAT_FLAGS] |= FLOAT_ZERO_DIVIDE
        return sign | infinity
    note_denormals(first, second, fraction)
    if first == 0:
        return sign
    exponent = float_exponent(first, fraction) - float_exponent(second, fraction) + float_bias(fraction)
    mantissa = float_mantissa(first, fraction) >> 1
    other = float_mantissa(second, fraction)
    quotient = wide_quotient(mantissa, 0, other) | (1 if wide_remainder(mantissa, 0, other) else 0)
    shift = leading_zeros(quotient)
    return float_round(sign, exponent - shift, quotient << shift, fraction)


def wide_root(high: int, low: int) -> int:
    """Return the square root of a number of 128 bits, rounded down, which must be at least 2 to the 126.

    By Newton's method from above, from a start that is at most 6 % too large.
    """
    if high == ~0:
        return high
    root = (high >> 1) + (1 << 63) + 1
    if root <= high:
        # The start is too close to the end for a quotient of 64 bits.
        root = ~0
    while root > high:
        quotient = wide_quotient(high, low, root)
        if quotient >= root:
            break
        root = (root & quotient) + ((root ^ quotient) >> 1)
    return root


def float_root(value: int, fraction: int) -> int:
    """Return the square root."""
    value = float_operand(value, fraction)
    if is_float_nan(value, fraction):
        return float_choose_nan(value, value, fraction)
    sign = float_sign(fraction)
    if (value & ~sign) == 0 or value == float_infinity(fraction):
        return value
    if value & sign:
        return float_default_nan(fraction)
    note_denormals(value, value, fraction)
    bias = float_bias(fraction)
    # Made even, the exponent is halved; so that it is not negative, 1024 halves are added and subtracted.
    exponent = float_exponent(value, fraction) - bias + 2048
    mantissa = float_mantissa(value, fraction)
    if (exponent & 1) == 0:
        mantissa >>= 1
    root = wide_root(mantissa, 0)
    exact = 1 if root * root == 0 and high_product(root, root) == mantissa else 0
    return float_round(0, (exponent >> 1) - 1024 + bias, root | 1 - exact, fraction)
