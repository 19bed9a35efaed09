"""Opening host files: only what can be a disk is opened, and how it is cached is decided once."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Final, NamedTuple

from blockkit.errors import BlockkitError, NameSyntaxError, NodeIOError, OptionError, UsageError, from_os_error


class CacheMode(NamedTuple):
    """What a cache mode means for system calls.

    Attributes:
        name: As given on the command line.
        direct: The page cache is bypassed (O_DIRECT).
        sync: Every write is durable when it returns.
        flush: Flushes reach the disk; without, a crash of the host may lose anything.
    """

    name: str
    direct: bool
    sync: bool
    flush: bool


CACHE_MODES: Final = {
    mode.name: mode
    for mode in (
        CacheMode("writeback", direct=False, sync=False, flush=True),
        CacheMode("none", direct=True, sync=False, flush=True),
        CacheMode("directsync", direct=True, sync=True, flush=True),
        CacheMode("writethrough", direct=False, sync=True, flush=True),
        CacheMode("unsafe", direct=False, sync=False, flush=False),
    )
}


def cache_mode(name: str) -> CacheMode:
    """Return the mode called ``name``.

    Raises:
        OptionError: there is none.
    """
    mode = CACHE_MODES.get(name)
    if mode is None:
        raise OptionError(f"cache: unknown mode {name!r}, expected one of {', '.join(CACHE_MODES)}")
    return mode


def file_name(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    """Return ``path`` as text that the operating system accepts.

    Raises:
        NameSyntaxError: no file can have this name.
    """
    try:
        name = os.fsdecode(path)
        encoded = os.fsencode(name)
    except UnicodeError as error:
        raise NameSyntaxError(f"{path!r}: the file name cannot be encoded") from error
    if not encoded or b"\0" in encoded:
        raise NameSyntaxError(f"{name!r}: the file name {'contains a NUL byte' if encoded else 'is empty'}")
    return name


def open_descriptor(
    name: str, *, read_only: bool, mode: CacheMode, create: bool = False, exclusive: bool = False
) -> tuple[int, os.stat_result]:
    """Open a regular file or a block device, and nothing else, without ever blocking on the way.

    The kind is checked before the open, so that a tape is not rewound by looking at it, and again on the descriptor,
    so that what was checked is what is used.

    Args:
        name: From :func:`file_name`.
        read_only: Open for reading only.
        mode: Decides on O_DIRECT and O_DSYNC.
        create: Make the file if it is missing; an existing one is not truncated.
        exclusive: With ``create``: fail if it exists.

    Returns:
        The descriptor, which is the caller's, and its status.
    """
    if create and read_only:
        raise UsageError(f"{name}: cannot create a file that is open read-only")
    flags = os.O_RDONLY if read_only else os.O_RDWR
    flags |= os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    if mode.direct:
        flags |= os.O_DIRECT
    if mode.sync and not read_only:
        flags |= os.O_DSYNC
    if create:
        flags |= os.O_CREAT | (os.O_EXCL if exclusive else 0)
    try:
        _refuse_kind(name, os.stat(name))
    except OSError as error:
        if not (create and error.errno == errno.ENOENT):
            raise from_os_error(error, name) from error
    try:
        fd = os.open(name, flags, 0o644)
    except OSError as error:
        raise _open_error(error, name, read_only, mode, create) from error
    try:
        status = os.fstat(fd)
        _refuse_kind(name, status)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
    except OSError as error:
        os.close(fd)
        raise from_os_error(error, name) from error
    except BlockkitError:
        os.close(fd)
        raise
    return fd, status


def _open_error(error: OSError, name: str, read_only: bool, mode: CacheMode, create: bool) -> BlockkitError:
    if error.errno == errno.EINVAL and mode.direct:
        return NodeIOError(f"{name}: the file system has no direct I/O, which cache={mode.name} needs", errno.EINVAL)
    return from_os_error(error, name if read_only else f"{name}: cannot {'create' if create else 'open for writing'}")


def _refuse_kind(name: str, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFBLK):
        what = _KINDS.get(kind, "a special file")
        number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise NodeIOError(f"{name}: is {what}, expected a regular file or a block device", number)


_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
}
