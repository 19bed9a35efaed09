"""The dialect that system code is written in: a small part of Python, with numbers of 64 bits.

What an instruction does that is more than a few operations (a page walk, an interrupt, a far call, a string, a float)
is a function of this dialect. It is Python, so it is read, typed and linted as such, but nobody calls it as it stands:
:mod:`blockkit.cpu.dialect.plain` makes functions of it that run here, :mod:`blockkit.cpu.dialect.llvm` native ones.

- Every value is an unsigned number of 64 bits, and all arithmetic wraps round. Comparisons are unsigned.
- ``+ - * & | ^ << >> // % ~``, ``a if b else c``, and comparisons, which give 0 or 1; ``and``, ``or`` and ``not`` only
  in conditions. A shift's count must be below 64, a divisor must not be zero.
- ``if``, ``while``, ``break``, ``continue``, ``return``, assignment to one name or to ``S[...]``, also augmented.
- Calls of functions of the dialect and of those below; arguments by position. A function returns one number or None.
- Module constants are numbers, or tuples of numbers (``TABLE[i]``). All names of functions are unique, across modules.
- ``S[n]`` is a slot of the state.
- An exception of the processor is :func:`raise_fault`: it leaves every function up to the instruction. So whatever has
  to stay as it was is only changed when nothing can fault any more.

The functions below have no bodies: each interpretation supplies them.
"""

from __future__ import annotations

from typing import Final

#: The state; see :mod:`blockkit.cpu.state`.
S: list[int] = []

#: 1 where the code is native, 0 where it runs as Python; a constant for the compiler.
NATIVE: Final[int] = 0


def load(address: int, size: int) -> int:
    """Read ``size`` (1, 2, 4 or 8) bytes at a linear address, with the rights of CPL; raises #PF."""
    raise NotImplementedError


def store(address: int, size: int, value: int) -> None:
    """Write them; of an access that faults on its second page nothing is written."""
    raise NotImplementedError


def load_system(address: int, size: int) -> int:
    """Read as the processor does for itself (descriptor tables, TSS): with the rights of the supervisor."""
    raise NotImplementedError


def store_system(address: int, size: int, value: int) -> None:
    """Write likewise."""
    raise NotImplementedError


def copy_elements(source: int, target: int, size: int, count: int) -> int:
    """Copy elements between linear addresses, upwards, as loads and stores one after the other would, if that is easy.

    Returns:
        How many were copied: at most ``count``, and perhaps none.
    """
    raise NotImplementedError


def fill_elements(target: int, size: int, count: int, value: int) -> int:
    """Store ``value`` again and again, likewise; return how often."""
    raise NotImplementedError


def probe_store(address: int, size: int) -> None:
    """Fault as :func:`store` would, and do nothing else."""
    raise NotImplementedError


def read_physical(address: int, size: int) -> int:
    """Read ``size`` bytes, which lie in one page, at a physical address; all ones where there is nothing."""
    raise NotImplementedError


def write_physical(address: int, size: int, value: int) -> None:
    """Write them; nothing where there is nothing or only ROM."""
    raise NotImplementedError


def port_in(port: int, size: int) -> int:
    """Read an I/O port, 1, 2 or 4 bytes wide."""
    raise NotImplementedError


def port_out(port: int, size: int, value: int) -> None:
    """Write one."""
    raise NotImplementedError


def flush_tlb(everything: int) -> None:
    """Forget translations: those that are not global, or everything."""
    raise NotImplementedError


def flush_page(address: int) -> None:
    """Forget the translation of a linear address, global or not."""
    raise NotImplementedError


def raise_fault(vector: int, error: int) -> None:
    """Raise an exception of the processor; ``error`` is 0 for those without an error code. Does not return."""
    raise NotImplementedError


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


# -- only where the code is native ------------------------------------------------------------------------------


def host_read(address: int, size: int) -> int:
    """Read ``size`` (a constant: 1, 2, 4 or 8) bytes of this process's memory."""
    raise NotImplementedError


def host_write(address: int, size: int, value: int) -> None:
    """Write them."""
    raise NotImplementedError


def callback(function: int, first: int, second: int, third: int) -> int:
    """Call a function at an address of this process."""
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
