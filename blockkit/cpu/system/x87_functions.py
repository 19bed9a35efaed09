"""Instructions of the x87 that compute transcendental functions (SDM volume 1, 8.3.7)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S
from blockkit.cpu.state import FSW
from blockkit.cpu.system.x87_logarithms import x87_log, x87_log_plus_one, x87_power
from blockkit.cpu.system.x87_round import (
    NOTED,
    QUIET,
    X87_BIAS,
    X87_C1,
    X87_STACK_FAULT,
    x87_give,
    x87_kind,
)
from blockkit.cpu.system.x87_scale import X87_C2
from blockkit.cpu.system.x87_stack import (
    BEFORE_RESULT,
    x87_begin,
    x87_finish,
    x87_is_empty,
    x87_move_top,
    x87_pop,
    x87_register,
    x87_set,
    x87_settle,
    x87_underflow,
)
from blockkit.cpu.system.x87_trigonometry import COSINE, SINE, x87_arctangent, x87_circular, x87_is_far

#: What x87_of_two does.
ARCTANGENT, LOGARITHM, LOGARITHM_PLUS_ONE = 0, 1, 2
_ONE: Final = 1 << 63


def x87_raise_two() -> None:
    """F2XM1."""
    x87_begin()
    if x87_is_empty(0):
        x87_underflow()
    else:
        place = x87_register(0)
        x87_power(S[place + 1], S[place])
    x87_finish(0)


def x87_of_two(function: int) -> None:
    """FPATAN, FYL2X and FYL2XP1: the result replaces ST(1), then the top is popped."""
    x87_begin()
    place = x87_register(0)
    other = x87_register(1)
    if x87_is_empty(0) or x87_is_empty(1):
        x87_underflow()
    elif function == ARCTANGENT:
        x87_arctangent(S[other + 1], S[other], S[place + 1], S[place])
    elif function == LOGARITHM:
        x87_log(S[other + 1], S[other], S[place + 1], S[place])
    else:
        x87_log_plus_one(S[other + 1], S[other], S[place + 1], S[place])
    if x87_finish(1):
        x87_pop()


def _too_far(word: int, mantissa: int) -> int:
    """Say in C2 whether an angle is too large."""
    S[FSW] &= ~(X87_C1 | X87_C2)
    if x87_is_far(word, mantissa):
        S[FSW] |= X87_C2
        return 1
    return 0


def x87_of_angle(what: int) -> None:
    """FSIN and FCOS."""
    x87_begin()
    place = x87_register(0)
    if x87_is_empty(0):
        S[FSW] &= ~X87_C2
        x87_underflow()
    elif _too_far(S[place + 1], S[place]):
        return
    else:
        x87_circular(what, S[place + 1], S[place])
    x87_finish(0)


def x87_two_of_angle(what: int) -> None:
    """FSINCOS, if asked for SINE, and FPTAN, if asked for TANGENT: they push the cosine, and 1."""
    x87_begin()
    place = x87_register(0)
    word = S[place + 1]
    mantissa = S[place]
    if x87_is_empty(0):
        S[FSW] &= ~X87_C2
        x87_underflow()
    elif x87_is_empty(7) == 0:
        S[FSW] &= ~X87_C2
        x87_underflow()
        S[NOTED] |= X87_C1
    elif _too_far(word, mantissa):
        return
    else:
        x87_circular(what, word, mantissa)
    if x87_settle(BEFORE_RESULT):
        x87_set(0)
        if (S[NOTED] & X87_STACK_FAULT) == 0:
            _second(what, word, mantissa)
        x87_move_top(7)
        x87_set(0)


def _second(what: int, word: int, mantissa: int) -> None:
    """Give what is pushed; of its exceptions, those count that the first result cannot have had."""
    if what == SINE:
        S[NOTED] = 0
        x87_circular(COSINE, word, mantissa)
        x87_settle(0)
    elif x87_kind(word, mantissa) < QUIET - 1:
        x87_give(X87_BIAS, _ONE)
