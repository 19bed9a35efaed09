"""binary32 as SSE computes it: exceptions are noted in FLOAT_FLAGS, nothing faults.

Native code asks the host first. Its result counts if MXCSR is as at reset and already says that something was inexact,
and nothing is denormal, infinite or NaN: then there is nothing else to note.
"""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import (
    NATIVE,
    S,
    host_float_add,
    host_float_div,
    host_float_mul,
    host_float_sqrt,
    host_float_sub,
)
from blockkit.cpu.state import MXCSR
from blockkit.cpu.system.softfloat_arithmetic import float_add, float_divide, float_multiply, float_root
from blockkit.cpu.system.softfloat_compare import (
    GREATER,
    LESS,
    float_compare,
    float_extreme,
    float_round_integer,
)

#: The bits of MXCSR that matter to the fast ways, and what they must be: all exceptions masked, to nearest, no zeros
#: for denormal numbers, and PE set.
_CONTROL_32: Final = 0xFFE0
_PLAIN_32: Final = 0x1FA0
_MAGNITUDE_32: Final = 0x7FFFFFFF
_ONE_STEP_32: Final = 1 << 23
#: How many exponents there are that are neither 0, 1, nor that of infinity.
_ORDINARY_32: Final = 0xFD << 23


def _is_plain_32(value: int) -> int:
    """Whether it is a normal number above the smallest power of two, found by one comparison."""
    return (value & _MAGNITUDE_32) - 2 * _ONE_STEP_32 < _ORDINARY_32


def _is_usual_32(first: int, second: int) -> int:
    """Whether both operands are plain or zero."""
    if _is_plain_32(first) or (first & _MAGNITUDE_32) == 0:
        return 1 if _is_plain_32(second) or (second & _MAGNITUDE_32) == 0 else 0
    return 0


def f32_add(first: int, second: int) -> int:
    """Return the sum."""
    if NATIVE and S[MXCSR] & _CONTROL_32 == _PLAIN_32 and _is_usual_32(first, second):
        result = host_float_add(first, second, 32)
        # A sum that is zero is exact.
        if _is_plain_32(result) or (result & _MAGNITUDE_32) == 0:
            return result
    return float_add(first, second, 0, 23)


def f32_sub(first: int, second: int) -> int:
    """Return the difference."""
    if NATIVE and S[MXCSR] & _CONTROL_32 == _PLAIN_32 and _is_usual_32(first, second):
        result = host_float_sub(first, second, 32)
        if _is_plain_32(result) or (result & _MAGNITUDE_32) == 0:
            return result
    return float_add(first, second, 1, 23)


def f32_mul(first: int, second: int) -> int:
    """Return the product."""
    if NATIVE and S[MXCSR] & _CONTROL_32 == _PLAIN_32 and _is_usual_32(first, second):
        result = host_float_mul(first, second, 32)
        if _is_plain_32(result):
            return result
    return float_multiply(first, second, 23)


def f32_div(first: int, second: int) -> int:
    """Return the quotient."""
    if NATIVE and S[MXCSR] & _CONTROL_32 == _PLAIN_32 and _is_plain_32(first) and _is_plain_32(second):
        result = host_float_div(first, second, 32)
        if _is_plain_32(result):
            return result
    return float_divide(first, second, 23)


def f32_sqrt(value: int) -> int:
    """Return the square root."""
    if NATIVE and S[MXCSR] & _CONTROL_32 == _PLAIN_32 and _is_plain_32(value) and value <= _MAGNITUDE_32:
        return host_float_sqrt(value, 32)
    return float_root(value, 23)


def f32_min(first: int, second: int) -> int:
    """Return the first if it is less, else the second: also if both are zeros or one is a NaN."""
    return float_extreme(first, second, LESS, 23)


def f32_max(first: int, second: int) -> int:
    """Return the first if it is greater, else the second."""
    return float_extreme(first, second, GREATER, 23)


def f32_compare(first: int, second: int, signaling: int) -> int:
    """Return 0 for less, 1 for equal, 2 for greater, 3 for unordered; ``signaling``: any NaN is invalid."""
    return float_compare(first, second, signaling, 23)


def f32_round_int(value: int, mode: int, inexact_wanted: int) -> int:
    """Return the nearest integer: mode 0 to nearest, 1 down, 2 up, 3 toward zero; note if it is inexact if wanted."""
    return float_round_integer(value, mode, inexact_wanted, 23)
