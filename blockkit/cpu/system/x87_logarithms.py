"""Logarithms and powers of two of 80 bits, with an error below one unit of the last place."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, leading_zeros
from blockkit.cpu.system.x87_arithmetic import x87_add, x87_give_number, x87_multiply
from blockkit.cpu.system.x87_convert import x87_give_integer
from blockkit.cpu.system.x87_round import (
    INFINITE,
    NOTED,
    QUIET,
    RESULT_MANTISSA,
    RESULT_WORD,
    X87_BIAS,
    X87_EXPONENTS,
    X87_INEXACT,
    X87_SIGN,
    X87_UNDERFLOW,
    X87_ZERO_DIVIDE,
    ZERO,
    x87_exponent,
    x87_give,
    x87_give_infinity,
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
    wide_shift_right,
    wide_subtract,
    wide_sum_factorials,
    wide_sum_odd,
)

_TOP_BIT: Final = 1 << 63
#: The square root of 2, as a mantissa.
_ROOT: Final = 0xB504F333F9DE6484
#: The natural logarithm of 2; 2 divided by it, and by 4.
_LOG_HIGH: Final = 0xB17217F7D1CF79AB
_LOG_LOW: Final = 0xC9E3B39803F2F6AF
_FACTOR_HIGH: Final = 0xB8AA3B295C17F0BB
_FACTOR_LOW: Final = 0xBE87FED0691D3E88


def _log_above_one(sign: int, exponent: int, mantissa: int) -> None:
    """Give the logarithm to base 2 of 1 plus or minus a normalized number below a half, normalized."""
    wide_shift_right(mantissa, 0, X87_BIAS + 1 - exponent)
    if sign:
        wide_subtract(_TOP_BIT, 0, S[WIDE_HIGH], S[WIDE_LOW])
    else:
        wide_add(_TOP_BIT, 0, S[WIDE_HIGH], S[WIDE_LOW])
    # A quarter of 2 plus the number; the logarithm is a series of the quotient of both.
    wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], 0)
    divisor_exponent = S[WIDE_EXPONENT]
    wide_divide(mantissa, 0, S[WIDE_HIGH], S[WIDE_LOW])
    wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], exponent - 1 - divisor_exponent)
    high = S[WIDE_HIGH]
    low = S[WIDE_LOW]
    exponent = S[WIDE_EXPONENT]
    wide_shift_right(high, low, X87_BIAS - 1 - exponent)
    wide_multiply(S[WIDE_HIGH], S[WIDE_LOW], S[WIDE_HIGH], S[WIDE_LOW])
    wide_sum_odd(S[WIDE_HIGH], S[WIDE_LOW], 0)
    wide_scale(high, low, S[WIDE_HIGH], S[WIDE_LOW], 0)
    wide_multiply(S[WIDE_HIGH], S[WIDE_LOW], _FACTOR_HIGH, _FACTOR_LOW)
    wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], exponent + 3)


def _give_product(sign: int, word: int, mantissa: int) -> None:
    """Give the normalized number in the wide slots times one of 80 bits."""
    exponent = x87_exponent(word, mantissa) + S[WIDE_EXPONENT] - X87_BIAS + 1
    wide_multiply(S[WIDE_HIGH], S[WIDE_LOW], x87_normal(mantissa), 0)
    x87_give_number(sign ^ word & X87_SIGN, exponent, S[WIDE_HIGH], S[WIDE_LOW] | 1, 0)


def _give_log(factor_word: int, factor: int, exponent: int, mantissa: int) -> None:
    """Give a finite number other than zero times the logarithm to base 2 of a positive one, which is normalized."""
    power = exponent - X87_BIAS
    sign = 0
    rest = mantissa - _TOP_BIT
    rest_exponent = X87_BIAS
    if mantissa > _ROOT:
        power += 1
        sign = X87_SIGN
        rest = 0 - mantissa
        rest_exponent = X87_BIAS - 1
    if rest == 0:
        x87_give_integer(power)
        x87_multiply(factor_word, factor, S[RESULT_WORD], S[RESULT_MANTISSA], 0)
        # Processors say so of every logarithm but those of 1.
        S[NOTED] |= X87_INEXACT
        if S[RESULT_WORD] & X87_EXPONENTS == 0:
            S[NOTED] |= X87_UNDERFLOW
        return
    shift = leading_zeros(rest)
    _log_above_one(sign, rest_exponent - shift, rest << shift)
    if power:
        wide_shift_right(S[WIDE_HIGH], S[WIDE_LOW], X87_BIAS + 15 - S[WIDE_EXPONENT])
        power_sign = 0
        if power >= _TOP_BIT:
            power = 0 - power
            power_sign = X87_SIGN
        if power_sign == sign:
            wide_add(power << 48, 0, S[WIDE_HIGH], S[WIDE_LOW])
        else:
            wide_subtract(power << 48, 0, S[WIDE_HIGH], S[WIDE_LOW])
        sign = power_sign
        wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], X87_BIAS + 15)
    _give_product(sign, factor_word, factor)


def x87_log(factor_word: int, factor: int, word: int, mantissa: int) -> None:
    """Give the first times the logarithm to base 2 of the second: FYL2X."""
    kind = x87_kind(factor_word, factor)
    other = x87_kind(word, mantissa)
    if kind >= QUIET or other >= QUIET:
        x87_give_nan(factor_word, factor, word, mantissa)
        return
    sign = factor_word & X87_SIGN
    if other == ZERO:
        if kind == ZERO:
            x87_give_invalid()
        else:
            if kind != INFINITE:
                S[NOTED] |= X87_ZERO_DIVIDE
            x87_give_infinity(sign ^ X87_SIGN)
        return
    if word & X87_SIGN:
        x87_give_invalid()
        return
    exponent = x87_exponent(word, mantissa)
    normal = x87_normal(mantissa)
    is_one = 1 if exponent == X87_BIAS and normal == _TOP_BIT else 0
    negative = X87_SIGN if exponent < X87_BIAS or exponent >= _TOP_BIT else 0
    if (other == INFINITE and kind == ZERO) or (kind == INFINITE and is_one):
        x87_give_invalid()
        return
    x87_note_denormals(kind, other)
    if other == INFINITE or kind == INFINITE:
        x87_give_infinity(sign ^ negative)
    elif kind == ZERO or is_one:
        x87_give(sign ^ negative, 0)
    else:
        _give_log(factor_word, factor, exponent, normal)


def x87_log_plus_one(factor_word: int, factor: int, word: int, mantissa: int) -> None:
    """Give the first times the logarithm to base 2 of 1 plus the second: FYL2XP1."""
    kind = x87_kind(factor_word, factor)
    other = x87_kind(word, mantissa)
    if kind >= QUIET or other >= QUIET:
        x87_give_nan(factor_word, factor, word, mantissa)
        return
    sign = (factor_word ^ word) & X87_SIGN
    if (kind == INFINITE and other == ZERO) or (other == INFINITE and (kind == ZERO or word & X87_SIGN)):
        x87_give_invalid()
        return
    x87_note_denormals(kind, other)
    if kind == INFINITE or other == INFINITE:
        x87_give_infinity(sign)
        return
    if kind == ZERO or other == ZERO:
        x87_give(sign, 0)
        return
    exponent = x87_exponent(word, mantissa)
    if exponent >= _TOP_BIT or exponent < X87_BIAS - 1:
        _log_above_one(word & X87_SIGN, exponent, x87_normal(mantissa))
        _give_product(word & X87_SIGN, factor_word, factor)
        return
    # The manual leaves this undefined.
    noted = S[NOTED]
    x87_add(word, mantissa, X87_BIAS, _TOP_BIT, 0)
    S[NOTED] = noted
    x87_log(factor_word, factor, S[RESULT_WORD], S[RESULT_MANTISSA])


def x87_power(word: int, mantissa: int) -> None:
    """Give two to the power of a number between -1 and 1, minus 1: F2XM1."""
    kind = x87_kind(word, mantissa)
    if kind >= QUIET:
        x87_give_nan(word, mantissa, word, mantissa)
        return
    exponent = x87_exponent(word, mantissa) if mantissa else 0
    x87_note_denormals(kind, kind)
    sign = word & X87_SIGN
    if kind == ZERO or (exponent >= X87_BIAS and exponent < _TOP_BIT):
        if kind == INFINITE and sign:
            x87_give(X87_SIGN | X87_BIAS, _TOP_BIT)
        elif exponent == X87_BIAS and mantissa == _TOP_BIT and sign:
            x87_give(X87_SIGN | X87_BIAS - 1, _TOP_BIT)
        else:
            # 1 and 0 are what they are; what is larger is undefined.
            x87_give(word, mantissa)
        return
    wide_multiply(x87_normal(mantissa), 0, _LOG_HIGH, _LOG_LOW)
    wide_normalize(S[WIDE_HIGH], S[WIDE_LOW], exponent)
    high = S[WIDE_HIGH]
    low = S[WIDE_LOW]
    exponent = S[WIDE_EXPONENT]
    wide_shift_right(high, low, X87_BIAS - 1 - exponent)
    wide_sum_factorials(S[WIDE_HIGH], S[WIDE_LOW], 2, 1, 1 if sign else 0)
    wide_scale(high, low, S[WIDE_HIGH], S[WIDE_LOW], 1 if sign else 0)
    x87_give_number(sign, exponent if sign else exponent + 1, S[WIDE_HIGH], S[WIDE_LOW] | 1, 0)
