"""Transcendental functions are within a hair of half a unit of what they should be, and special where they have to be.

The values are those of decimal arithmetic with 60 digits; everything else is the processor of this machine's, whose own
values may differ by a unit of the last place.
"""

from __future__ import annotations

import random
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import pytest

from blockkit.cpu import state
from tests.cpu.host import available
from tests.cpu.stacks import HostStack, Stack
from tests.cpu.x87_cases import Ours, a_stack

if TYPE_CHECKING:
    from collections.abc import Callable

_CODES: Final = {
    "F2XM1": "d9f0",
    "FYL2X": "d9f1",
    "FPTAN": "d9f2",
    "FPATAN": "d9f3",
    "FYL2XP1": "d9f9",
    "FSINCOS": "d9fb",
    "FSIN": "d9fe",
    "FCOS": "d9ff",
}
_C1: Final = 1 << 9
_UNDERFLOW: Final = 1 << 4
#: The 66 bits of pi that angles are reduced with.
_PI: Final = Fraction(0xC90FDAA22168C234C, 1 << 66)
_ALL_MASKED: Final = 0x37F


def _value(number: tuple[int, int]) -> Fraction:
    word, mantissa = number
    magnitude = Fraction(mantissa) * Fraction(2) ** (max(word & 0x7FFF, 1) - 0x3FFF - 63)
    return -magnitude if word >> 15 else magnitude


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


def _series(x: Decimal, n: int) -> Decimal:
    """Add up x**n / n! - x**(n+2) / (n+2)! and so on."""
    term = x if n else Decimal(1)
    total = Decimal(0)
    while term and (not total or abs(term / total) > Decimal("1e-62")):
        total += term
        term = -term * x * x / ((n + 1) * (n + 2))
        n += 2
    return total


def _reduced(angle: Fraction) -> tuple[int, Decimal]:
    turns = round(angle / (_PI / 2))
    return turns % 4, _decimal(angle - turns * (_PI / 2))


def _sin(angle: Fraction) -> Decimal:
    turns, rest = _reduced(angle)
    value = _series(rest, 1 - turns % 2)
    return -value if turns >= 2 else value


def _cos(angle: Fraction) -> Decimal:
    turns, rest = _reduced(angle)
    value = _series(rest, turns % 2)
    return -value if turns in (1, 2) else value


def _arctangent(z: Decimal) -> Decimal:
    halvings = 0
    while abs(z) > Decimal("0.01"):
        z /= 1 + (1 + z * z).sqrt()
        halvings += 1
    total, power, n = Decimal(0), z, 1
    while power and (not total or abs(power / total) > Decimal("1e-62")):
        total += power / n
        power = -power * z * z
        n += 2
    return total * 2**halvings


def _atan2(up: Fraction, right: Fraction) -> Decimal:
    pi = 16 * _arctangent(Decimal(1) / 5) - 4 * _arctangent(Decimal(1) / 239)
    angle = _arctangent(abs(_decimal(up / right)))
    if right < 0:
        angle = pi - angle
    return -angle if up < 0 else angle


def _log2_plus_one(x: Decimal) -> Decimal:
    with localcontext() as more:
        # What is lost when 1 is added.
        more.prec = 100
        return (1 + x).ln() / Decimal(2).ln()


def _power(x: Decimal) -> Decimal:
    with localcontext() as more:
        more.prec = 100
        return (x * Decimal(2).ln()).exp() - 1


_EXACT: Final[dict[str, Callable[[Fraction, Fraction], Decimal]]] = {
    "FSIN": lambda x, y: _sin(x),
    "FCOS": lambda x, y: _cos(x),
    "FPTAN": lambda x, y: _sin(x) / _cos(x),
    "FPATAN": lambda x, y: _atan2(y, x),
    "FYL2X": lambda x, y: _decimal(y) * _log2_plus_one(_decimal(x) - 1),
    "FYL2XP1": lambda x, y: _decimal(y) * _log2_plus_one(_decimal(x)),
    "F2XM1": lambda x, y: _power(_decimal(x)),
}
#: The exponents of ST(0), and where the result is.
_RANGES: Final = {
    "FSIN": (-40, 62, 0),
    "FCOS": (-40, 62, 0),
    "FPTAN": (-40, 62, 1),
    "FPATAN": (-30, 30, 0),
    "FYL2X": (-3, 3, 0),
    "FYL2XP1": (-40, -3, 0),
    "F2XM1": (-40, -1, 0),
}


def _operands(chance: random.Random, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    low, high, _ = _RANGES[name]
    word = 0x3FFF + chance.randint(low, high) if chance.randrange(3) else 0x3FFF + min(high, chance.randint(-4, 4))
    mantissa = chance.getrandbits(64) | 1 << 63
    if name == "FYL2X":
        if chance.randrange(2):
            # Near 1, where the logarithm is small.
            word, mantissa = 0x3FFF, 1 << 63 | 1 | chance.getrandbits(chance.randint(1, 62))
    elif chance.randrange(2):
        word |= 0x8000
    return (word, mantissa), (
        0x3FFF + chance.randint(-20, 20) | chance.choice((0, 0x8000)),
        chance.getrandbits(64) | 1 << 63,
    )


@pytest.mark.parametrize("name", _EXACT)
def test_a_value_is_the_nearest_or_almost(name: str) -> None:
    chance, ours = random.Random(name), Ours(_CODES[name])
    with localcontext() as context:
        context.prec = 60
        for _ in range(60):
            first, second = _operands(chance, name)
            registers = (first, second, *[(0, 0)] * 6)
            found = ours.run(Stack(_ALL_MASKED, 0x2000, 0xF8 & ~(3 << 4) | 7, registers))
            word, mantissa = found.registers[_RANGES[name][2]]
            exact = _EXACT[name](_value(first), _value(second))
            unit = _decimal(Fraction(2) ** ((word & 0x7FFF) - 0x3FFF - 63))
            error = abs(_decimal(_value((word, mantissa))) - exact) / unit
            assert error <= Decimal("0.50001"), f"{name} of {first} and {second}: {error} units"
            assert found.status & 0x20
            # C1 says whether the magnitude was rounded up.
            assert bool(found.status & _C1) == (abs(_decimal(_value((word, mantissa)))) > abs(exact))
    assert getcontext().prec < 60


def _distance(first: tuple[int, int], second: tuple[int, int]) -> int:
    """Return how many numbers lie between two."""
    a, b = ((word & 0x7FFF) << 63 | mantissa & (1 << 63) - 1 for word, mantissa in (first, second))
    return abs(a - b) if (first[0] ^ second[0]) >> 15 == 0 else a + b


@pytest.mark.skipif(not available(), reason="the oracle is an x86-64 processor")
@pytest.mark.parametrize("name", _CODES)
def test_special_values_and_exceptions_are_those_of_the_processor(name: str) -> None:
    chance, ours = random.Random(name), Ours(_CODES[name])
    largest = {"F2XM1": 0x3FFE, "FYL2XP1": 0x3FFC}.get(name, 0x7FFF)
    stacks = [each for each in (a_stack(chance) for _ in range(500)) if each.registers[0][0] & 0x7FFF <= largest]
    for given, theirs in zip(stacks, HostStack().run(bytes.fromhex(_CODES[name]), stacks), strict=True):
        found = ours.run(given)
        assert (found.empty, found.control) == (theirs.empty, theirs.control), given
        assert max(map(_distance, found.registers, theirs.registers)) <= 1, given
        # Which way it was rounded depends on that unit, or on what both are too small for; so does whether it is tiny.
        free = _C1 if found.status & 0x20 else 0
        free |= _UNDERFLOW if found.registers != theirs.registers else 0
        assert found.status & ~free == theirs.status & ~free, given


def test_an_angle_that_is_too_large_stays_and_c2_says_so() -> None:
    for name in ("FSIN", "FCOS", "FSINCOS", "FPTAN"):
        registers = ((0x3FFF + 63, 1 << 63), *[(0, 0)] * 7)
        found = Ours(_CODES[name]).run(Stack(_ALL_MASKED, 0x3800, 0x7F, registers))
        assert found.registers == registers
        assert found.status == 0x3C00
        registers = ((0x3FFF + 62, (1 << 64) - 1), *[(0, 0)] * 7)
        found = Ours(_CODES[name]).run(Stack(_ALL_MASKED, 0x3C00, 0x7F, registers))
        assert found.status & 0x0400 == 0
        assert found.registers != registers


def test_state_slots_are_apart() -> None:
    from blockkit.cpu.system.x87_round import NOTED, RESULT_MANTISSA, RESULT_WORD
    from blockkit.cpu.system.x87_wide import WIDE_EXPONENT, WIDE_HIGH, WIDE_LOW

    slots = (NOTED, RESULT_MANTISSA, RESULT_WORD, WIDE_EXPONENT, WIDE_HIGH, WIDE_LOW)
    assert len(set(slots)) == len(slots)
    assert all(state.OWN < slot < state.NMI_BLOCKED for slot in slots)
