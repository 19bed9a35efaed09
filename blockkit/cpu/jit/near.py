"""Memory that code may run in, near other code: jumps and references of 32 bits reach two gigabytes."""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Final

_READ_WRITE, _EXECUTE = 1 | 2, 4
_PRIVATE, _ANONYMOUS, _FIXED_NOREPLACE, _NORESERVE = 0x02, 0x20, 0x100000, 0x4000
_KIND: Final = _PRIVATE | _ANONYMOUS | _NORESERVE
_FAILED: Final = ctypes.c_void_p(-1).value
#: How far away it may be, and how far apart the places are that are tried.
_REACH: Final = 1 << 30
_STEP: Final = 32 << 20
_PAGE: Final = 4096


def _map_near(libc: ctypes.CDLL, size: int, near: int) -> int | None:
    """Return the address of new memory that is near; None where is none."""
    base = near & -_PAGE
    for distance in range(_STEP, _REACH, _STEP):
        for wanted in (base - distance - size, base + distance):
            found: int | None = libc.mmap(wanted, size, _READ_WRITE | _EXECUTE, _KIND | _FIXED_NOREPLACE, -1, 0)
            if found == wanted:
                return found
            if found not in (None, _FAILED):
                # An old system that takes the address for advice.
                libc.munmap(ctypes.c_void_p(found), ctypes.c_size_t(size))
    return None


class NearMemory:
    """Zeros that can be written and, where the system allows it, executed.

    Args:
        size: Bytes.
        near: An address.

    Attributes:
        view: The memory.
        address: Where it begins.
        is_near: Whether all of it is near, and can be executed.
    """

    def __init__(self, size: int, near: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        found = _map_near(libc, size, near)
        if found is None:
            # Processors that nobody uses any more may still be in the way: they refer to themselves.
            gc.collect()
            found = _map_near(libc, size, near)
        if found is not None:
            self._take(libc, found, size, near=True)
            return
        found = libc.mmap(None, size, _READ_WRITE, _KIND, -1, 0)
        if found in (None, _FAILED):
            raise MemoryError(f"no {size} bytes of memory")
        self._take(libc, found, size, near=False)

    def _take(self, libc: ctypes.CDLL, address: int, size: int, *, near: bool) -> None:
        self.address, self.is_near = address, near
        array = (ctypes.c_char * size).from_address(address)
        self.view = memoryview(array).cast("B")
        # As long as anybody has a view, there is the array.
        weakref.finalize(array, libc.munmap, ctypes.c_void_p(address), ctypes.c_size_t(size))
