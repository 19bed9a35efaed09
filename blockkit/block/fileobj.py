"""A node as a Python file, for whatever reads or writes files: zipfile, tarfile, io.BufferedReader."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING, Any

from blockkit.errors import BlockkitError

if TYPE_CHECKING:
    from blockkit.block.node import Node


class NodeFile(io.RawIOBase):
    """An unbuffered binary file over a node; wrap it in ``io.BufferedReader`` or ``io.BufferedRandom``.

    It has one position, so one thread at a time. A write is cut at the end of the disk, as at the end of a device.
    Failures are OSErrors, as callers of files expect, with the blockkit error as their cause.

    Args:
        node: What to read and write.
        close_node: Close ``node`` with this file.

    Example:
        >>> import blockkit, io, tarfile
        >>> blockkit.create_image("tape.qcow2", "qcow2", 1 << 20)
        >>> with blockkit.open_image("tape.qcow2", read_only=False) as disk:
        ...     with tarfile.open(fileobj=NodeFile(disk), mode="w") as archive:
        ...         archive.addfile(tarfile.TarInfo("empty.txt"))
        >>> with NodeFile(blockkit.open_image("tape.qcow2"), close_node=True) as file:
        ...     tarfile.open(fileobj=io.BufferedReader(file)).getnames()
        ['empty.txt']
    """

    def __init__(self, node: Node, *, close_node: bool = False) -> None:
        self._node = node
        self._close_node = close_node
        self._position = 0

    @property
    def node(self) -> Node:
        """What is read and written."""
        return self._node

    @property
    def name(self) -> str:
        """The name of the node."""
        return str(self._node)

    @property
    def mode(self) -> str:
        """As of a file from ``open``."""
        return "r+b" if self.writable() else "rb"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return not self._node.read_only

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the position on and return the bytes read; 0 at the end."""
        self._checkClosed()
        with memoryview(buffer).cast("B") as view:
            count = min(len(view), max(0, self._node.size - self._position))
            if count:
                with view[:count] as part:
                    self._translated(self._node.read_into, self._position, part)
        self._position += count
        return count

    def write(self, data: Any) -> int:
        """Store ``data`` at the position, as far as the disk reaches, and return the bytes written."""
        self._checkClosed()
        if not self.writable():
            raise io.UnsupportedOperation("write")
        with memoryview(data).cast("B") as view:
            count = min(len(view), max(0, self._node.size - self._position))
            if len(view) and not count:
                raise OSError(errno.ENOSPC, "the disk ends here", self.name)
            if count:
                with view[:count] as part:
                    self._translated(self._node.write, self._position, part)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._checkClosed()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._node.size}
        if whence not in bases:
            raise ValueError(f"whence {whence} is not 0, 1 or 2")
        if bases[whence] + offset < 0:
            raise OSError(errno.EINVAL, "seek before the start", self.name)
        self._position = bases[whence] + offset
        return self._position

    def tell(self) -> int:
        self._checkClosed()
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self._checkClosed()
        if not self.writable():
            raise io.UnsupportedOperation("truncate")
        size = self._position if size is None else size
        self._translated(self._node.resize, size)
        return size

    def flush(self) -> None:
        super().flush()
        if self.writable():
            self._translated(self._node.flush)

    def close(self) -> None:
        if self.closed:
            return
        try:
            super().close()
        finally:
            if self._close_node:
                self._translated(self._node.close)

    def _translated(self, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except BlockkitError as error:
            raise OSError(error.errno, str(error), self.name) from error

    def _checkClosed(self) -> None:  # noqa: N802 -- the name io gives it
        if self.closed:
            raise ValueError("I/O operation on closed file")
