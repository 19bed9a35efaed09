"""The dialect that system code is written in: that of :mod:`blockkit.native.dialect`, with a processor's state.

What an instruction does that is more than a few operations (a page walk, an interrupt, a far call, a string, a float)
is a function of this dialect. It is Python, so it is read, typed and linted as such, but nobody calls it as it stands:
:mod:`blockkit.cpu.dialect.plain` makes functions of it that run here, :mod:`blockkit.native.llvm` native ones.

- ``S[n]`` is a slot of the state; see :mod:`blockkit.cpu.state`.
- An exception of the processor is :func:`raise_fault`: it leaves every function up to the instruction. So whatever has
  to stay as it was is only changed when nothing can fault any more.

The functions below have no bodies: each interpretation supplies them.
"""

from __future__ import annotations

from typing import Final

from blockkit.native.dialect import (
    S,
    arithmetic_shift,
    callback,
    count_ones,
    high_product,
    host_float_add,
    host_float_div,
    host_float_mul,
    host_float_sqrt,
    host_float_sub,
    host_read,
    host_write,
    leading_zeros,
    sign_extend,
    signed_below,
    wide_quotient,
    wide_remainder,
)

__all__ = [
    "NATIVE",
    "S",
    "arithmetic_shift",
    "callback",
    "copy_elements",
    "count_ones",
    "fill_elements",
    "flush_page",
    "flush_tlb",
    "high_product",
    "host_float_add",
    "host_float_div",
    "host_float_mul",
    "host_float_sqrt",
    "host_float_sub",
    "host_read",
    "host_write",
    "leading_zeros",
    "load",
    "load_system",
    "port_in",
    "port_out",
    "probe_store",
    "raise_fault",
    "read_physical",
    "sign_extend",
    "signed_below",
    "store",
    "store_system",
    "wide_quotient",
    "wide_remainder",
    "write_physical",
]

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
