"""The dialect that native code is written in: a small part of Python, with numbers of 64 bits.

It is Python, so it is read, typed and linted as such, but nobody calls it as it stands: :mod:`blockkit.native.llvm`
makes native functions of it.

- Every value is an unsigned number of 64 bits, and all arithmetic wraps round. Comparisons are unsigned.
- ``+ - * & | ^ << >> // % ~``, ``a if b else c``, and comparisons, which give 0 or 1; ``and``, ``or`` and ``not`` only
  in conditions. A shift's count must be below 64, a divisor must not be zero.
- ``if``, ``while``, ``break``, ``continue``, ``return``, assignment to one name or to ``S[...]``, also augmented.
- Calls of functions of the dialect and of those below; arguments by position. A function returns one number or None.
- Module constants are numbers, or tuples of numbers (``TABLE[i]``). All names of functions are unique, across modules.
- ``S[n]`` is word ``n`` of what every function gets beside its arguments: a processor's state, or nothing.

The functions below have no bodies: the compiler knows them. What the processor has beside them is in
:mod:`blockkit.cpu.dialect`.
"""

from __future__ import annotations

#: The words of what every function gets beside its arguments.
S: list[int] = []


def high_product(first: int, second: int) -> int:
    """Return the upper 64 bits of a product."""
    raise NotImplementedError


def wide_quotient(high: int, low: int, divisor: int) -> int:
    """Divide a number of 128 bits; ``high`` must be below ``divisor``."""
    raise NotImplementedError


def wide_remainder(high: int, low: int, divisor: int) -> int:
    """Return what :func:`wide_quotient` leaves."""
    raise NotImplementedError


def leading_zeros(value: int) -> int:
    """Return how many bits above the highest set one are clear; 64 for 0."""
    raise NotImplementedError


def count_ones(value: int) -> int:
    """Return how many bits are set."""
    raise NotImplementedError


def arithmetic_shift(value: int, count: int) -> int:
    """Shift right, filling with bit 63."""
    raise NotImplementedError


def signed_below(first: int, second: int) -> int:
    """Compare as signed numbers: 1 if ``first`` is less."""
    raise NotImplementedError


def sign_extend(value: int, bits: int) -> int:
    """Return the low ``bits`` (a constant: 8, 16 or 32) of a number, extended by their sign to 64."""
    raise NotImplementedError


def host_read(address: int, size: int) -> int:
    """Read ``size`` (a constant: 1, 2, 4 or 8) bytes of this process's memory."""
    raise NotImplementedError


def host_write(address: int, size: int, value: int) -> None:
    """Write them."""
    raise NotImplementedError


def callback(function: int, first: int, second: int, third: int) -> int:
    """Call a function at an address of this process."""
    raise NotImplementedError


def host_call(function: int, first: int, second: int, third: int, fourth: int, fifth: int) -> int:
    """Call a function of C at an address of this process; it may take fewer arguments."""
    raise NotImplementedError


def host_float_add(first: int, second: int, bits: int) -> int:
    """Add two floats of ``bits`` (a constant: 32 or 64) bits as this process does: to nearest, noting nothing."""
    raise NotImplementedError


def host_float_sub(first: int, second: int, bits: int) -> int:
    """Subtract likewise."""
    raise NotImplementedError


def host_float_mul(first: int, second: int, bits: int) -> int:
    """Multiply likewise."""
    raise NotImplementedError


def host_float_div(first: int, second: int, bits: int) -> int:
    """Divide likewise."""
    raise NotImplementedError


def host_float_sqrt(value: int, bits: int) -> int:
    """Return the square root likewise."""
    raise NotImplementedError
