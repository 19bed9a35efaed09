"""What all operations of the x87 have in common: kinds of numbers, rounding, and what is noted (SDM volume 1, 8.5).

A number of 80 bits is two: a word, with the sign in bit 15 and the biased exponent below, and the mantissa, whose bit
63 is its integer bit. Operations leave their result in RESULT_WORD and RESULT_MANTISSA, and note in NOTED what
happened: exceptions at their places in the status word, stack faults (bit 6), and C1 (bit 9).
"""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, leading_zeros, signed_below
from blockkit.cpu.state import FCW, OWN
from blockkit.cpu.system.softfloat_round import rounds_up

#: Slots of results, and of what happened.
RESULT_WORD, RESULT_MANTISSA, NOTED = OWN + 15, OWN + 16, OWN + 17

X87_INVALID, X87_DENORMAL, X87_ZERO_DIVIDE, X87_OVERFLOW, X87_UNDERFLOW, X87_INEXACT = 1, 2, 4, 8, 16, 32
X87_STACK_FAULT: Final = 64
X87_C1: Final = 1 << 9
#: Kinds of numbers. From QUIET on, there is nothing to compute with.
ZERO, NORMAL, DENORMAL, INFINITE, QUIET, SIGNALING, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 6

X87_SIGN: Final = 1 << 15
X87_EXPONENTS: Final = 0x7FFF
X87_BIAS: Final = 0x3FFF
_INTEGER: Final = 1 << 63
_QUIET_BIT: Final = 1 << 62
#: What is added to the exponent of a result that is too small, if the exception is unmasked.
_WRAP: Final = 24576


def x87_kind(word: int, mantissa: int) -> int:
    """Return the kind of a number; DENORMAL are those with a set integer bit, too."""
    exponent = word & X87_EXPONENTS
    if exponent == 0:
        return DENORMAL if mantissa else ZERO
    if mantissa < _INTEGER:
        return UNSUPPORTED
    if exponent < X87_EXPONENTS:
        return NORMAL
    if mantissa == _INTEGER:
        return INFINITE
    return QUIET if mantissa & _QUIET_BIT else SIGNALING


def x87_give(word: int, mantissa: int) -> None:
    """Set the result."""
    S[RESULT_WORD] = word
    S[RESULT_MANTISSA] = mantissa


def x87_note_denormals(first: int, second: int) -> None:
    """Note operands of the kind DENORMAL."""
    if first == DENORMAL or second == DENORMAL:
        S[NOTED] |= X87_DENORMAL


def x87_give_invalid() -> None:
    """Give what an invalid operation gives; nothing else is noted then."""
    S[NOTED] = S[NOTED] & X87_STACK_FAULT | X87_INVALID
    x87_give(0xFFFF, _INTEGER | _QUIET_BIT)


def x87_give_infinity(sign: int) -> None:
    """Give an infinity; ``sign`` is 0 or X87_SIGN."""
    x87_give(sign | X87_EXPONENTS, _INTEGER)


def x87_give_nan(first_word: int, first: int, second_word: int, second: int) -> None:
    """Give the result of an operation one of whose operands has no value (SDM volume 1, table 4-7)."""
    kind = x87_kind(first_word, first)
    other = x87_kind(second_word, second)
    if kind == UNSUPPORTED or other == UNSUPPORTED:
        x87_give_invalid()
        return
    S[NOTED] &= ~X87_DENORMAL
    if kind == SIGNALING or other == SIGNALING:
        S[NOTED] |= X87_INVALID
    if kind < QUIET:
        take_second = 1
    elif other < QUIET:
        take_second = 0
    elif kind != other:
        take_second = 1 if other == QUIET else 0
    elif first == second:
        take_second = 1 if first_word & X87_SIGN else 0
    else:
        take_second = 1 if first < second else 0
    if take_second:
        x87_give(second_word, second | _QUIET_BIT)
    else:
        x87_give(first_word, first | _QUIET_BIT)


def x87_exponent(word: int, mantissa: int) -> int:
    """Return the biased exponent of a finite number that is not zero, once its mantissa is normalized."""
    exponent = word & X87_EXPONENTS
    return (exponent if exponent else 1) - leading_zeros(mantissa)


def x87_normal(mantissa: int) -> int:
    """Return its mantissa, normalized."""
    return mantissa << leading_zeros(mantissa)


def x87_mode() -> int:
    """Return the rounding mode."""
    return S[FCW] >> 10 & 3


def x87_precision() -> int:
    """Return how many bits of a mantissa are dropped as the control word says."""
    control = S[FCW] >> 8 & 3
    return 40 if control == 0 else 11 if control == 2 else 0


def low_after_shift(high: int, low: int, count: int) -> int:
    """Return the lower half of a number of 128 bits shifted right; its lowest bit stays set if anything was lost."""
    if count == 0:
        return low
    if count < 64:
        return high << (64 - count) | low >> count | (1 if low << (64 - count) else 0)
    if count == 64:
        return high | (1 if low else 0)
    if count < 128:
        return high >> (count - 64) | (1 if low | high << (128 - count) else 0)
    return 1 if high | low else 0


def high_after_shift(high: int, count: int) -> int:
    """Return the upper half."""
    return high >> count if count < 64 else 0


def _note_inexact(up: int) -> None:
    """Note that a result was rounded, and whether away from zero."""
    S[NOTED] |= X87_INEXACT | (X87_C1 if up else 0)


def x87_give_rounded(sign: int, exponent: int, mantissa: int, low: int, dropped: int) -> None:
    """Give a number, rounded, and note what happened.

    Args:
        sign: 0 or X87_SIGN.
        exponent: Biased; may be far outside of what fits.
        mantissa: Its integer bit is set.
        low: What is below the mantissa.
        dropped: How many bits of the mantissa are rounded off: 0, 11 or 40.
    """
    mode = x87_mode()
    kept = mantissa
    rest = low
    if dropped:
        kept = mantissa >> dropped
        rest = mantissa << (64 - dropped) | (1 if low else 0)
    up = rounds_up(mode, sign, kept & 1, rest)
    carry = 1 if kept + up == (1 << (64 - dropped) if dropped else 0) else 0
    if signed_below(exponent + carry, 1):
        if S[FCW] & X87_UNDERFLOW:
            shift = 1 - exponent
            rest = low_after_shift(mantissa, low, shift)
            kept = high_after_shift(mantissa, shift)
            if dropped:
                rest = kept << (64 - dropped) | (1 if rest else 0)
                kept >>= dropped
            up = rounds_up(mode, sign, kept & 1, rest)
            if rest:
                S[NOTED] |= X87_UNDERFLOW
                _note_inexact(up)
            kept = (kept + up) << dropped
            x87_give(sign | kept >> 63, kept)
            return
        S[NOTED] |= X87_UNDERFLOW
        exponent += _WRAP
        if signed_below(exponent + carry, 1):
            # FSCALE goes that far.
            _note_inexact(0)
            x87_give(sign, 0)
            return
    elif exponent + carry >= X87_EXPONENTS:
        S[NOTED] |= X87_OVERFLOW
        if S[FCW] & X87_OVERFLOW:
            up = rounds_up(mode, sign, 1, _INTEGER)
            _note_inexact(up)
            if up:
                x87_give_infinity(sign)
            else:
                x87_give(sign | X87_EXPONENTS - 1, ~0 << dropped)
            return
        exponent -= _WRAP
        if exponent + carry >= X87_EXPONENTS:
            _note_inexact(1)
            x87_give_infinity(sign)
            return
    if rest:
        _note_inexact(up)
    if carry:
        x87_give(sign | exponent + 1, _INTEGER)
    else:
        x87_give(sign | exponent, (kept + up) << dropped)
