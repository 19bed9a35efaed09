"""Image locks that QEMU understands, and that understand QEMU's.

A program that uses an image holds *permissions* on it and may refuse to *share* some with others. Each permission is
a bit; in the file itself, byte ``100 + bit`` is locked by those who hold it, and byte ``200 + bit`` by those who do
not share it. All locks are shared ones (F_RDLCK), so any number of programs can hold the same byte: what counts is
whether a byte is locked at all by somebody else. Who opens an image first locks its own bytes and then looks at the
opposite ones; two that come at the same time may thus both fail, but never both succeed.

The bytes need not exist. The locks belong to the open file description (F_OFD_SETLK), so that they neither vanish when
some other descriptor of the file is closed nor let two parts of one process past each other.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import struct
from typing import Final, NamedTuple

from blockkit.errors import LockedError, from_os_error


class Permission(enum.IntFlag):
    """What can be done to an image; the value is the mask, the lock byte is that of the bit's number."""

    CONSISTENT_READ = 1  #: read data that makes sense
    WRITE = 2  #: change what the guest sees
    RESIZE = 8  #: change the size


class Use(NamedTuple):
    """A way of using an image.

    Attributes:
        holds: What it does.
        refuses: What nobody else may do meanwhile.
    """

    holds: Permission
    refuses: Permission


_CHANGES: Final = Permission.WRITE | Permission.RESIZE

#: Reading an image nobody may change meanwhile.
READING: Final = Use(Permission.CONSISTENT_READ, _CHANGES)
#: Reading an image that somebody may be changing.
READING_SHARED: Final = Use(Permission.CONSISTENT_READ, Permission(0))
#: The only writer, and without readers that rely on what they read.
WRITING: Final = Use(Permission.CONSISTENT_READ | _CHANGES, _CHANGES)

_HOLDS_BASE: Final = 100
_REFUSES_BASE: Final = 200

#: struct flock: type, whence, start, length, pid; the last field pads as C does.
_FLOCK: Final = struct.Struct("@hhqqi0q")

#: Answers of kernels and file systems that have no such locks.
_NO_LOCKS: Final = frozenset({errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


def _bytes_of(base: int, permissions: Permission) -> list[int]:
    return [base + bit for bit in range(permissions.bit_length()) if permissions >> bit & 1]


def acquire(fd: int, use: Use, name: str) -> bool:
    """Lock the open file ``fd`` for ``use`` until :func:`release` or until it is closed everywhere.

    Args:
        fd: Open for reading at least.
        use: One of the constants above.
        name: For the error message.

    Returns:
        Whether it is locked; False where locks do not exist, as on some network file systems.

    Raises:
        LockedError: somebody else uses the image in a way that does not go with ``use``.
    """
    try:
        for byte in _bytes_of(_HOLDS_BASE, use.holds) + _bytes_of(_REFUSES_BASE, use.refuses):
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, 0, byte, 1, 0))
        refused = _held_by_others(fd, _REFUSES_BASE, use.holds)
        written = _held_by_others(fd, _HOLDS_BASE, use.refuses)
    except OSError as error:
        release(fd)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise LockedError(f"{name}: locked by another program") from error
        if error.errno in _NO_LOCKS:
            return False
        raise from_os_error(error, f"{name}: cannot lock") from error
    if refused or written:
        release(fd)
        raise LockedError(f"{name}: {_explain(use, written)}")
    return True


def release(fd: int) -> None:
    """Give up all image locks of ``fd``, also for copies of it that a forked child may hold."""
    for base in (_HOLDS_BASE, _REFUSES_BASE):
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, 0, base, 64, 0))
        except OSError:
            return


def _held_by_others(fd: int, base: int, permissions: Permission) -> bool:
    for byte in _bytes_of(base, permissions):
        # Asking for a write lock finds the read locks of others; it is only asked, never taken.
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, byte, 1, 0))
        if _FLOCK.unpack(answer)[0] != fcntl.F_UNLCK:
            return True
    return False


def _explain(use: Use, written: bool) -> str:
    if use.holds & Permission.WRITE:
        if written:
            return "in use for writing by somebody else, cannot be opened for writing"
        return "in use by somebody else who allows no writer, cannot be opened for writing"
    if written:
        return "in use for writing by somebody else, cannot be opened for reading; -U reads it all the same"
    return "in use by somebody else who allows no reader"
