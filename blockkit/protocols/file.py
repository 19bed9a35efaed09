"""Opening what lies on the host by name: a regular file or a block device, whichever it is."""

from __future__ import annotations

import os
import stat
from typing import Literal

from blockkit.block.node import Preallocation
from blockkit.frozen import Frozen
from blockkit.protocols.device import HostDevice
from blockkit.protocols.hostfile import HostFile

__all__ = ["FileOptions", "HostDevice", "HostFile", "create_file", "open_path"]


class FileOptions(Frozen):
    """Options of the drivers ``file`` and ``host_device``.

    Attributes:
        filename: Any file name.
        locking: ``off`` ignores the image locks of others and takes none. ``on`` and ``auto`` are alike: locks are
            taken wherever the file system has them.
        cache: ``writeback``, ``none``, ``directsync``, ``writethrough`` or ``unsafe``.
        discard: ``unmap`` gives space back, ``ignore`` keeps it.
    """

    filename: str = ""
    locking: Literal["on", "off", "auto"] = "auto"
    cache: Literal["writeback", "none", "directsync", "writethrough", "unsafe"] = "writeback"
    discard: Literal["unmap", "on", "ignore", "off"] = "unmap"


def open_path(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    *,
    read_only: bool = True,
    cache: str = "writeback",
    share: bool = False,
    lock: bool = True,
    create: bool = False,
    exclusive: bool = False,
    discard: str = "unmap",
) -> HostFile:
    """Open a regular file or a block device; see :meth:`HostFile.open` for the arguments.

    Raises:
        LockedError: another program uses the image in a way that does not go with this one.
        NodeIOError: the operating system refuses, or it is neither of the two.
    """
    try:
        # Only a guess: the class that is chosen looks again at what it opened.
        driver = HostDevice if stat.S_ISBLK(os.stat(path).st_mode) else HostFile
    except (OSError, ValueError):
        driver = HostFile
    return driver.open(
        path,
        read_only=read_only,
        cache=cache,
        share=share,
        lock=lock,
        create=create,
        exclusive=exclusive,
        discard=discard,
    )


def create_file(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    size: int = 0,
    *,
    preallocation: Preallocation = Preallocation.OFF,
    cache: str = "writeback",
    lock: bool = True,
    exclusive: bool = False,
    discard: str = "unmap",
) -> HostFile:
    """Open ``path`` for writing as a new image of ``size`` zero bytes, making the file if it is missing.

    What was there is lost, but only once the lock is held. A block device keeps its size; its first bytes are zeroed
    so that no old header is found in them.

    Args:
        path: Any file name.
        size: Bytes.
        preallocation: How much of it is reserved at once.
        cache: As for :func:`open_path`.
        lock: As for :func:`open_path`.
        exclusive: Fail if the file exists.
        discard: As for :func:`open_path`.

    Raises:
        LockedError: another program uses the file.
        NoSpaceError: the file system, or the device, is too small.
    """
    node = open_path(path, read_only=False, cache=cache, lock=lock, create=True, exclusive=exclusive, discard=discard)
    try:
        node.start_anew(size, preallocation)
    except BaseException:
        node.close()
        raise
    return node
