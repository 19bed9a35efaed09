"""fallocate(2), which the standard library lacks except in its plainest form."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Do not change the size of the file.
KEEP_SIZE: Final = 0x01
#: Give the space back; the range reads as zeros. Needs KEEP_SIZE.
PUNCH_HOLE: Final = 0x02
#: The range reads as zeros and stays reserved.
ZERO_RANGE: Final = 0x10

#: What the kernel answers when a file system or device cannot do it at all.
UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV})


@functools.cache
def _function() -> tuple[Callable[[int, int, int, int], int], Callable[[], int]] | None:
    """Return fallocate and what reads its errno; ctypes is loaded only when somebody zeroes or discards."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    function = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    return function, ctypes.get_errno


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Change how a range of a file is reserved.

    Args:
        fd: Open for writing.
        mode: Flags above; 0 reserves.
        offset: Bytes.
        length: Bytes, positive.

    Raises:
        OSError: with an errno of :data:`UNSUPPORTED` where this is not possible at all.
    """
    found = _function()
    if found is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    function, last_error = found
    while function(fd, mode, offset, length):
        number = last_error()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def try_fallocate(fd: int, mode: int, offset: int, length: int) -> bool:
    """Like :func:`fallocate`, but tell by False that it is not possible here."""
    try:
        fallocate(fd, mode, offset, length)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        raise
    return True


class Clearing:
    """Zeroing without writing, in the ways that the file system of one file has; what it lacks is asked for once."""

    __slots__ = ("_punches", "_zeroes")

    def __init__(self) -> None:
        self._punches = self._zeroes = True

    def zero(self, fd: int, offset: int, length: int, *, unmap: bool) -> bool:
        """Make a range read as zeros; False where only writing them does it.

        Args:
            fd: Of the file, always the same.
            offset: Bytes.
            length: Bytes, positive.
            unmap: Give the space back if that is possible; otherwise it stays reserved.

        Raises:
            OSError: the range may be zero in part.
        """
        if unmap and self.punch(fd, offset, length):
            return True
        if self._zeroes:
            self._zeroes = try_fallocate(fd, ZERO_RANGE | KEEP_SIZE, offset, length)
        if self._zeroes or unmap:
            return self._zeroes
        # A hole with space behind it, where this is how the file system spells it (tmpfs).
        if not self.punch(fd, offset, length):
            return False
        try_fallocate(fd, KEEP_SIZE, offset, length)
        return True

    def punch(self, fd: int, offset: int, length: int) -> bool:
        """Give the space of a range back, which then reads as zeros; False where there are no holes."""
        if self._punches:
            self._punches = try_fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
        return self._punches


#: fallocate(KEEP_SIZE) as a request to the descriptor (FS_IOC_RESVSP64), and its ``struct space_resv``.
_RESERVE: Final = 0x4030582A
_SPACE: Final = struct.Struct("hhqqiI4i")


def reserve(fd: int, offset: int, length: int) -> None:
    """Reserve a range of a file, which may lie behind its end, without changing the size.

    It is what ``fallocate(fd, KEEP_SIZE, offset, length)`` does, for those who cannot wait until ctypes is loaded.

    Raises:
        OSError: also where the file system or the machine does not know the request.
    """
    fcntl.ioctl(fd, _RESERVE, _SPACE.pack(0, os.SEEK_SET, offset, length, 0, 0, 0, 0, 0, 0))
