"""Comparison, minimum and maximum, and rounding to integers within binary32 and binary64."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S
from blockkit.cpu.system.softfloat_round import (
    FLOAT_FLAGS,
    FLOAT_INEXACT,
    FLOAT_INVALID,
    float_bias,
    float_choose_nan,
    float_infinity,
    float_operand,
    float_sign,
    is_float_nan,
    is_float_signaling,
    note_denormals,
    rounds_up,
)

#: What comparisons return.
LESS, EQUAL, GREATER, UNORDERED = 0, 1, 2, 3

_HALF: Final = 1 << 63


def _order(value: int, fraction: int) -> int:
    """Return a number that is larger for larger ones, as a number without sign; -0 is below 0."""
    sign = float_sign(fraction)
    return (sign << 1) - 1 - value if value & sign else value | sign


def float_compare(first: int, second: int, signaling: int, fraction: int) -> int:
    """Compare: LESS, EQUAL, GREATER or UNORDERED; ``signaling``: any NaN is invalid."""
    first = float_operand(first, fraction)
    second = float_operand(second, fraction)
    if is_float_nan(first, fraction) or is_float_nan(second, fraction):
        if signaling or is_float_signaling(first, fraction) or is_float_signaling(second, fraction):
            S[FLOAT_FLAGS] |= FLOAT_INVALID
        return UNORDERED
    note_denormals(first, second, fraction)
    if first == second or ((first | second) & ~float_sign(fraction)) == 0:
        return EQUAL
    return LESS if _order(first, fraction) < _order(second, fraction) else GREATER


def float_extreme(first: int, second: int, wanted: int, fraction: int) -> int:
    """Return the first operand if it compares as ``wanted`` (LESS or GREATER), else the second."""
    result = float_compare(first, second, 1, fraction)
    return float_operand(first if result == wanted else second, fraction)


def float_round_integer(value: int, mode: int, inexact_wanted: int, fraction: int) -> int:
    """Return the nearest integer; ``inexact_wanted``: note if it is another number."""
    value = float_operand(value, fraction)
    if is_float_nan(value, fraction):
        return float_choose_nan(value, value, fraction)
    sign = value & float_sign(fraction)
    magnitude = value ^ sign
    exponent = (value & float_infinity(fraction)) >> fraction
    bias = float_bias(fraction)
    if magnitude == 0 or exponent >= bias + fraction:
        return value
    if exponent < bias:
        # Below 1: only what it is to a half counts.
        rest = _HALF - 1
        if exponent == bias - 1:
            rest = _HALF if magnitude & (1 << fraction) - 1 == 0 else _HALF + 1
        result = bias << fraction if rounds_up(mode, sign, 0, rest) else 0
    else:
        below = bias + fraction - exponent
        rest = magnitude << (64 - below)
        # With a bit of an even exponent as the lowest of the integer 1, the bit that is looked at is still odd.
        odd = 1 if below == fraction else magnitude >> below & 1
        result = (magnitude >> below) + rounds_up(mode, sign, odd, rest) << below
    if inexact_wanted and rest:
        S[FLOAT_FLAGS] |= FLOAT_INEXACT
    return sign | result
