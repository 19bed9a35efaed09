"""What all operations of IEEE 754 in binary32 and binary64 have in common, as SSE does them (SDM volume 1, 11.5).

A format is told by the bits of its fraction, 23 or 52. Between its parts a number is a sign (at its place in the
format, or 0), a biased exponent that may be below 1, and a mantissa of 64 bits with its integer bit at the top, the
lowest of which is set if anything below it was not zero.

Nothing here faults. Exceptions are noted in FLOAT_FLAGS, at the places they have in MXCSR; whoever asked merges them.
If both a denormal operand and something that depends on the result are noted and the former is unmasked, the latter
did not happen.
"""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, leading_zeros, signed_below
from blockkit.cpu.state import MXCSR, OWN

#: The slot in which exceptions are noted.
FLOAT_FLAGS: Final = OWN + 1

FLOAT_INVALID, FLOAT_DENORMAL, FLOAT_ZERO_DIVIDE, FLOAT_OVERFLOW, FLOAT_UNDERFLOW, FLOAT_INEXACT = 1, 2, 4, 8, 16, 32
MXCSR_DAZ: Final = 1 << 6
MXCSR_UNDERFLOW_MASK: Final = 1 << 11
MXCSR_OVERFLOW_MASK: Final = 1 << 10
MXCSR_FZ: Final = 1 << 15

NEAREST, DOWNWARD, UPWARD, TOWARD_ZERO = 0, 1, 2, 3

_HALF: Final = 1 << 63


def float_sign(fraction: int) -> int:
    """Return the bit of the sign."""
    return 1 << 63 if fraction == 52 else 1 << 31


def float_infinity(fraction: int) -> int:
    """Return positive infinity."""
    return 0x7FF << 52 if fraction == 52 else 0xFF << 23


def float_bias(fraction: int) -> int:
    """Return the biased exponent of 1."""
    return 1023 if fraction == 52 else 127


def float_default_nan(fraction: int) -> int:
    """Return what an invalid operation gives; notes that it is one."""
    S[FLOAT_FLAGS] |= FLOAT_INVALID
    return 0xFFF8 << 48 if fraction == 52 else 0xFFC0 << 16


def float_operand(value: int, fraction: int) -> int:
    """Return an operand: zero for a denormal one if DAZ says so."""
    if S[MXCSR] & MXCSR_DAZ and (value & float_infinity(fraction)) == 0:
        return value & float_sign(fraction)
    return value


def is_float_nan(value: int, fraction: int) -> int:
    """Whether it is a NaN."""
    return (value & ~float_sign(fraction)) > float_infinity(fraction)


def is_float_signaling(value: int, fraction: int) -> int:
    """Whether it is a NaN that no operation takes."""
    return 1 if is_float_nan(value, fraction) and (value >> (fraction - 1) & 1) == 0 else 0


def note_denormals(first: int, second: int, fraction: int) -> None:
    """Note denormal operands."""
    infinity = float_infinity(fraction)
    rest = (1 << fraction) - 1
    if ((first & infinity) == 0 and first & rest) or ((second & infinity) == 0 and second & rest):
        S[FLOAT_FLAGS] |= FLOAT_DENORMAL


def float_choose_nan(first: int, second: int, fraction: int) -> int:
    """Return the result of an operation one of whose operands is a NaN: the first of them, made quiet."""
    if is_float_signaling(first, fraction) or is_float_signaling(second, fraction):
        S[FLOAT_FLAGS] |= FLOAT_INVALID
    return (first if is_float_nan(first, fraction) else second) | 1 << (fraction - 1)


def float_mantissa(value: int, fraction: int) -> int:
    """Return the mantissa of a number that is neither zero nor infinite, its highest bit at the top."""
    rest = value & (1 << fraction) - 1
    if value & float_infinity(fraction):
        return (rest | 1 << fraction) << (63 - fraction)
    return rest << leading_zeros(rest)


def float_exponent(value: int, fraction: int) -> int:
    """Return the biased exponent that belongs to it; zero or negative for a denormal number."""
    exponent = (value & float_infinity(fraction)) >> fraction
    if exponent:
        return exponent
    return 64 - fraction - leading_zeros(value & (1 << fraction) - 1)


def shift_sticky(value: int, count: int) -> int:
    """Shift right by any count; the lowest bit stays set if anything was lost."""
    if count == 0:
        return value
    if count > 63:
        return 1 if value else 0
    return value >> count | (1 if value << (64 - count) else 0)


def rounds_up(mode: int, sign: int, odd: int, rest: int) -> int:
    """Whether a magnitude is rounded away from zero.

    Args:
        mode: NEAREST and so on.
        sign: Not zero: the number is negative.
        odd: The lowest bit that is kept.
        rest: What is below it; 1 << 63 is a half.
    """
    if mode == NEAREST:
        return 1 if rest > _HALF or (rest == _HALF and odd) else 0
    if mode == TOWARD_ZERO or rest == 0:
        return 0
    if mode == DOWNWARD:
        return 1 if sign else 0
    return 0 if sign else 1


def float_round(sign: int, exponent: int, mantissa: int, fraction: int) -> int:
    """Return a number in its format, rounded as MXCSR says, and note what happened.

    Args:
        sign: As in the module's description, like the next two; the mantissa is not zero.
        exponent: Above -2000, below 4000.
        mantissa: See above.
        fraction: The format.
    """
    control = S[MXCSR]
    mode = control >> 13 & 3
    kept = mantissa >> (63 - fraction)
    rest = mantissa << (fraction + 1)
    up = rounds_up(mode, sign, kept & 1, rest)
    if signed_below(exponent, 1):
        # Tiny is what is so after rounding with an exponent that has no end.
        tiny = 0 if exponent == 0 and kept + up == 2 << fraction else 1
        if tiny and (control & MXCSR_UNDERFLOW_MASK) == 0:
            S[FLOAT_FLAGS] |= FLOAT_UNDERFLOW
        elif tiny and control & MXCSR_FZ:
            S[FLOAT_FLAGS] |= FLOAT_UNDERFLOW | FLOAT_INEXACT
            return sign
        mantissa = shift_sticky(mantissa, 1 - exponent)
        kept = mantissa >> (63 - fraction)
        rest = mantissa << (fraction + 1)
        if rest:
            S[FLOAT_FLAGS] |= FLOAT_INEXACT | (FLOAT_UNDERFLOW if tiny else 0)
        return sign | kept + rounds_up(mode, sign, kept & 1, rest)
    infinity = float_infinity(fraction)
    # The integer bit adds one to the exponent, and so does a carry into it.
    result = ((exponent - 1) << fraction) + kept + up
    if result >= infinity:
        S[FLOAT_FLAGS] |= FLOAT_OVERFLOW | (FLOAT_INEXACT if rest or control & MXCSR_OVERFLOW_MASK else 0)
        return sign | infinity - 1 + rounds_up(mode, sign, 1, _HALF)
    if rest:
        S[FLOAT_FLAGS] |= FLOAT_INEXACT
    return sign | result
