"""The three base classes a driver starts from: a format, a protocol, a filter."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from blockkit.block.node import Cap, Extent, Kind, Limits, Node, Place, Preallocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from blockkit.block.syscall import SystemCall


class FormatNode(Node):
    """An image format over a ``file`` node, perhaps with a ``backing``.

    A driver implements ``size`` and ``_map``; to be writable, ``_allocate`` too. It takes over ``file`` and
    ``backing``: closing the format closes them.

    Args:
        file: What holds the image.
        backing: What unallocated ranges are read from.
        read_only: Refuse writes.
    """

    def __init__(self, file: Node, *, backing: Node | None = None, read_only: bool = True) -> None:
        self.file = file
        self.backing = backing
        self.read_only = read_only
        self.filename = file.filename

    @property
    def children(self) -> Mapping[str, Node]:
        children: dict[str, Node] = {"file": self.file}
        if self.backing is not None:
            children["backing"] = self.backing
        return children

    def _flush(self) -> None:
        self.file.flush()


class ProtocolNode(Node):
    """Where bytes leave the graph: a host file, a block device, a connection.

    A driver implements ``size`` and ``_readv``; to be writable, ``_writev``. Its ``_map`` names itself as the node.
    """

    def _map(self, offset: int, length: int) -> Extent:
        return Extent(offset, length, Kind.DATA, self, offset)

    @abstractmethod
    def _readv(self, offset: int, buffers: list[memoryview]) -> None: ...

    def _read(self, offset: int, length: int) -> bytes:
        buf = bytearray(length)
        self._readv(offset, [memoryview(buf)])
        return bytes(buf)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        self._refuse_write()

    def watch_calls(self, told: Callable[[SystemCall], None]) -> Callable[[], None]:
        """Tell of each system call that this node makes for its bytes; a driver that makes none tells of none.

        Args:
            told: Takes them, in the thread that makes them.

        Returns:
            What is to be called to watch no more; also after the node is closed.
        """
        return lambda: None


class FilterNode(Node):
    """Something in the way of requests; by default it passes them all on to ``file`` unchanged.

    A filter that moves offsets implements ``_map`` itself, and ``_extents`` if that can be faster.

    Attributes:
        transparent: Whether consumers that move data by file descriptor may go round this filter. A filter that
            must see every request (tracing, faults, throttling) leaves it False.
    """

    driver = "filter"
    transparent: bool = False

    def __init__(self, file: Node) -> None:
        self.file = file
        self.filename = file.filename
        self.read_only = file.read_only

    @property
    def size(self) -> int:
        return self.file.size

    @property
    def limits(self) -> Limits:
        return self.file.limits

    @property
    def zero_when_made(self) -> bool:
        return self.file.zero_when_made

    @property
    def caps(self) -> Cap:
        return self.file.caps if not self.read_only else self.file.caps & ~(Cap.WRITE | Cap.RESIZE)

    @property
    def children(self) -> Mapping[str, Node]:
        return {"file": self.file}

    @property
    def unmoved(self) -> Node | None:
        """``file`` if its bytes are here at the same offsets; None where a ``_map`` of its own may move them."""
        return self.file if type(self)._map is FilterNode._map else None

    def _map(self, offset: int, length: int) -> Extent:
        return next(self._runs(offset, length))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        return super()._extents(offset, length) if self.unmoved is None else self._runs(offset, length)

    def _runs(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield what the stack below stores as data of this node, so that it is read through here; the rest is ZERO."""
        from blockkit.block.chain import locate

        if self.transparent:
            if length:
                yield Extent(offset, length, Kind.DATA, self.file, offset)
            return
        for run in locate(self.file, offset, length):
            if run.kind is Kind.DATA or run.kind is Kind.ENCODED:
                yield Extent(run.offset, run.length, Kind.DATA, self, run.offset)
            else:
                yield Extent(run.offset, run.length, Kind.ZERO)

    def _allocate(self, offset: int, length: int) -> Place:
        return Place(length, self.file, offset)

    def _read(self, offset: int, length: int) -> bytes:
        buf = bytearray(length)
        self._readv(offset, [memoryview(buf)])
        return bytes(buf)

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        self.file.pull(offset, buffers)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        self.file.push(offset, buffers, fua)

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        self.file.zero(offset, length, unmap=unmap, fast=fast)

    def _discard(self, offset: int, length: int) -> None:
        self.file.discard(offset, length)

    def _flush(self) -> None:
        self.file.flush()

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        self.file.resize(size, preallocate=preallocate)
