"""Numbers of 128 bits for the functions of the x87: fractions below 1, as an upper and a lower half.

Results are left in WIDE_HIGH and WIDE_LOW; they are at most a few units of the last bit too small.
"""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, high_product, leading_zeros, wide_quotient, wide_remainder
from blockkit.cpu.state import OWN

#: Slots of results; a normalized number has a biased exponent beside it.
WIDE_HIGH, WIDE_LOW, WIDE_EXPONENT = OWN + 12, OWN + 13, OWN + 14

_ONES: Final = (1 << 64) - 1


def wide_set(high: int, low: int) -> None:
    """Set the result."""
    S[WIDE_HIGH] = high
    S[WIDE_LOW] = low


def wide_multiply(first_high: int, first_low: int, second_high: int, second_low: int) -> None:
    """Give the product of two fractions."""
    high = high_product(first_high, second_high)
    low = first_high * second_high
    cross = high_product(first_high, second_low)
    low += cross
    if low < cross:
        high += 1
    cross = high_product(first_low, second_high)
    low += cross
    if low < cross:
        high += 1
    wide_set(high, low)


def wide_subtract(first_high: int, first_low: int, second_high: int, second_low: int) -> None:
    """Give the difference."""
    wide_set(first_high - second_high - (1 if first_low < second_low else 0), first_low - second_low)


def wide_add(first_high: int, first_low: int, second_high: int, second_low: int) -> None:
    """Give the sum, which must be below 1."""
    low = first_low + second_low
    wide_set(first_high + second_high + (1 if low < first_low else 0), low)


def wide_shift_right(high: int, low: int, count: int) -> None:
    """Give the fraction divided by a power of two; ``count`` is any number of 63 bits."""
    if count == 0:
        wide_set(high, low)
    elif count < 64:
        wide_set(high >> count, high << (64 - count) | low >> count)
    elif count < 128:
        wide_set(0, high >> (count - 64))
    else:
        wide_set(0, 0)


def wide_normalize(high: int, low: int, exponent: int) -> None:
    """Give a number other than zero so that its highest bit is set, and the exponent that belongs to it."""
    if high == 0:
        high = low
        low = 0
        exponent -= 64
    shift = leading_zeros(high)
    if shift:
        high = high << shift | low >> (64 - shift)
        low <<= shift
    wide_set(high, low)
    S[WIDE_EXPONENT] = exponent - shift


def wide_divide(high: int, low: int, divisor_high: int, divisor_low: int) -> None:
    """Give half the quotient of two fractions whose highest bits are set."""
    low = high << 63 | low >> 1
    high >>= 1
    # Both digits have 64 bits; the first is at most two too large before it is put right.
    digit = wide_quotient(high, low, divisor_high)
    rest = wide_remainder(high, low, divisor_high)
    missing = high_product(digit, divisor_low)
    missing_low = digit * divisor_low
    rest_low = 0 - missing_low
    borrow = 1 if missing_low else 0
    negative = 1 if rest < missing or (rest == missing and borrow) else 0
    rest = rest - missing - borrow
    while negative:
        digit -= 1
        rest_low += divisor_low
        carry = 1 if rest_low < divisor_low else 0
        before = rest
        rest = rest + divisor_high + carry
        if rest < before or (rest == before and carry):
            negative = 0
    wide_set(digit, _ONES if rest >= divisor_high else wide_quotient(rest, rest_low, divisor_high))


def wide_divide_small(high: int, low: int, divisor: int) -> None:
    """Give the fraction divided by a number."""
    wide_set(high // divisor, wide_quotient(high % divisor, low, divisor))


def wide_sum_factorials(high: int, low: int, first: int, step: int, alternate: int) -> None:
    """Give the sum of a fraction's powers, divided by products of integers.

    Args:
        high: The fraction.
        low: Its lower half.
        first: The first of the integers.
        step: How many of them each power has more than the one before: 1 or 2.
        alternate: Every second power is subtracted.
    """
    term_high = high
    term_low = low
    sum_high = 0
    sum_low = 0
    sign = 0
    while True:
        wide_divide_small(term_high, term_low, first * (first + 1) if step == 2 else first)
        term_high = S[WIDE_HIGH]
        term_low = S[WIDE_LOW]
        if (term_high | term_low) == 0:
            break
        if sign:
            wide_subtract(sum_high, sum_low, term_high, term_low)
        else:
            wide_add(sum_high, sum_low, term_high, term_low)
        sum_high = S[WIDE_HIGH]
        sum_low = S[WIDE_LOW]
        sign ^= alternate
        first += step
        wide_multiply(term_high, term_low, high, low)
        term_high = S[WIDE_HIGH]
        term_low = S[WIDE_LOW]
    wide_set(sum_high, sum_low)


def wide_sum_odd(high: int, low: int, alternate: int) -> None:
    """Give the sum of a fraction's powers, divided by 3, 5, 7 and so on; ``alternate`` as above."""
    power_high = high
    power_low = low
    sum_high = 0
    sum_low = 0
    divisor = 3
    sign = 0
    while power_high | power_low:
        wide_divide_small(power_high, power_low, divisor)
        if sign:
            wide_subtract(sum_high, sum_low, S[WIDE_HIGH], S[WIDE_LOW])
        else:
            wide_add(sum_high, sum_low, S[WIDE_HIGH], S[WIDE_LOW])
        sum_high = S[WIDE_HIGH]
        sum_low = S[WIDE_LOW]
        sign ^= alternate
        divisor += 2
        wide_multiply(power_high, power_low, high, low)
        power_high = S[WIDE_HIGH]
        power_low = S[WIDE_LOW]
    wide_set(sum_high, sum_low)


def wide_scale(high: int, low: int, by_high: int, by_low: int, subtract: int) -> None:
    """Give a normalized fraction times 1 plus another, halved; or times 1 minus it, not halved."""
    if subtract:
        wide_multiply(high, low, by_high, by_low)
        wide_add(S[WIDE_HIGH], S[WIDE_LOW], 0, 1)
        wide_subtract(high, low, S[WIDE_HIGH], S[WIDE_LOW])
        return
    low = high << 63 | low >> 1
    high >>= 1
    wide_multiply(high, low, by_high, by_low)
    wide_add(high, low, S[WIDE_HIGH], S[WIDE_LOW])
