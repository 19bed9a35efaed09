"""A node as a Python file, for whatever reads or writes files: zipfile, tarfile, io.BufferedReader."""

from __future__ import annotations

import errno
import io
import os
from operator import index
from typing import TYPE_CHECKING, Any, Final

from blockkit.errors import BlockkitError

if TYPE_CHECKING:
    from blockkit.block.node import Node

#: The largest position and size, bytes: what the system's own calls take.
_MAX_OFFSET: Final = (1 << 63) - 1


class NodeFile(io.RawIOBase):
    """An unbuffered binary file over a node; wrap it in ``io.BufferedReader`` or ``io.BufferedRandom``.

    It behaves as ``io.FileIO`` does with a device: a write is cut at the end of the disk. It has one position, so one
    thread at a time, and no descriptor. Failures are OSErrors, as callers of files expect, with the blockkit error as
    their cause.

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
        return "rb" if self._node.read_only else "rb+"

    def readable(self) -> bool:
        self._checkClosed()
        return True

    def seekable(self) -> bool:
        self._checkClosed()
        return True

    def writable(self) -> bool:
        self._checkClosed()
        return not self._node.read_only

    def read(self, size: int | None = -1) -> bytes | None:
        """Return at most ``size`` bytes from the position on, all that are left if it is negative or None."""
        # RawIOBase itself does not take None, as all other files do.
        return super().read(-1 if size is None else size)

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` from the position on and return the bytes read; 0 at the end."""
        with memoryview(buffer) as view:
            if view.readonly or not view.c_contiguous:
                kind = type(buffer).__name__
                raise TypeError(f"readinto() argument must be read-write bytes-like object, not {kind}")
            self._checkClosed()
            count = min(view.nbytes, max(0, self._size() - self._position))
            if count:
                self._read_into(view, count)
        self._position += count
        return count

    def _read_into(self, view: memoryview, count: int) -> None:
        """Fill the first ``count`` bytes of ``view``, whatever its items are."""
        try:
            flat = view.cast("B")
        except TypeError:
            # Items of another byte order, or structures: only the interpreter itself writes bytes into those.
            data = bytearray(count)
            self._translated(self._node.read_into, self._position, memoryview(data))
            io.BytesIO(data).readinto(view)
            return
        with flat, flat[:count] as part:
            self._translated(self._node.read_into, self._position, part)

    def write(self, data: Any) -> int:
        """Store ``data`` at the position, as far as the disk reaches, and return the bytes written."""
        with memoryview(data) as view:
            if not view.c_contiguous:
                raise BufferError("write() argument must be C-contiguous")
            if not self.writable():
                raise io.UnsupportedOperation("File not open for writing")
            length = view.nbytes
            count = min(length, max(0, self._size() - self._position))
            if length and not count:
                raise OSError(errno.ENOSPC, "the disk ends here", self.name)
            if count:
                self._write_from(view, count)
        self._position += count
        return count

    def _write_from(self, view: memoryview, count: int) -> None:
        """Store the first ``count`` bytes of ``view``, whatever its items are."""
        try:
            flat = view.cast("B")
        except TypeError:
            flat = memoryview(view.tobytes())
        with flat, flat[:count] as part:
            self._translated(self._node.write, self._position, part)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset`` bytes from the start, the position or the end (0, 1, 2), and return the new position."""
        self._checkClosed()
        whence, offset = index(whence), _system_size(offset)
        if whence == os.SEEK_SET:
            base = 0
        elif whence == os.SEEK_CUR:
            base = self._position
        elif whence == os.SEEK_END:
            base = self._size()
        else:
            # An OSError as of a file, and a ValueError as of what is in memory.
            raise io.UnsupportedOperation(errno.EINVAL, f"whence {whence} is not 0, 1 or 2", self.name)
        if not 0 <= base + offset <= _MAX_OFFSET:
            problem = "seek before the start" if base + offset < 0 else "seek past the largest offset"
            raise OSError(errno.EINVAL, problem, self.name)
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        self._checkClosed()
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Resize the disk to ``size`` bytes, or to the position, which stays where it is; return the new size."""
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        size = self._position if size is None else _system_size(size)
        if size < 0:
            raise OSError(errno.EINVAL, f"size {size} is negative", self.name)
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

    def _size(self) -> int:
        size: int = self._translated(getattr, self._node, "size")
        return size

    def _translated(self, call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except BlockkitError as error:
            raise OSError(error.errno, str(error), self.name) from error

    def _checkClosed(self) -> None:  # noqa: N802 -- the name io gives it
        if self.closed:
            raise ValueError("I/O operation on closed file")


def _system_size(value: int) -> int:
    """Return ``value`` as the system takes offsets and sizes: a whole number of 64 bits.

    Raises:
        TypeError: it is no whole number.
        OverflowError: it does not fit.
    """
    value = index(value)
    if not -_MAX_OFFSET - 1 <= value <= _MAX_OFFSET:
        raise OverflowError("Python int too large to convert to C long")
    return value
