"""A part of a node as a node of its own: what raw images and windows share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.block.node import Cap, Extent, Kind, Node, Place, Preallocation
from blockkit.errors import FormatError, OutOfRangeError, UnsupportedOperationError

if TYPE_CHECKING:
    from collections.abc import Iterator


class ShiftedNode(Node):
    """Passes every request to ``file``, moved by a constant; a base beside FormatNode or FilterNode.

    Attributes:
        file: What holds the bytes.
        start: Where in ``file`` this node begins, bytes.
    """

    file: Node
    start: int
    _length: int | None

    def _set_window(self, start: int, length: int | None) -> None:
        """Show ``length`` bytes of ``file`` from ``start`` on; None shows all there are, however many that becomes."""
        if start < 0 or (length is not None and length < 0):
            raise OutOfRangeError(f"{self}: offset {start} and size {length} must not be negative")
        end = start if length is None else start + length
        if end > self.file.size:
            raise FormatError(
                f"offset {start} and size {end - start} reach past its {self.file.size} bytes", where=str(self)
            )
        self.start, self._length = start, length

    @property
    def size(self) -> int:
        if self._length is not None:
            return self._length
        return max(0, self.file.size - self.start)

    @property
    def caps(self) -> Cap:
        # A disk ends where it ends, though the file it is in could grow.
        caps = self.file.caps & ~Cap.GROW
        if self._length is not None:
            caps &= ~Cap.RESIZE
        if self.start % self.file.limits.zero_granularity:
            # What is aligned here is not aligned there, so some of it will have to be written.
            caps &= ~Cap.FAST_ZERO
        return caps & ~(Cap.WRITE | Cap.RESIZE) if self.read_only else caps

    @property
    def zero_when_made(self) -> bool:
        return self.file.zero_when_made

    def shifted_to(self) -> tuple[Node, int] | None:
        """Return where requests go; see Shifts."""
        return self.file, self.start

    def _map(self, offset: int, length: int) -> Extent:
        return self._shift(self.file.map(offset + self.start, length))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        return map(self._shift, self.file.extents(offset + self.start, length))

    def _shift(self, extent: Extent) -> Extent:
        start = extent.offset - self.start
        if extent.kind is Kind.ZERO:
            return extent._replace(offset=start)  # its place, if any, is where the file says
        # Whatever else it is to the file (compressed, in its backing), to this node it is data of the file.
        return Extent(start, extent.length, Kind.DATA, self.file, extent.offset)

    def _allocate(self, offset: int, length: int) -> Place:
        return Place(length, self.file, offset + self.start)

    def _read(self, offset: int, length: int) -> bytes:
        return self.file.pull_bytes(offset + self.start, length)

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        self.file.pull(offset + self.start, buffers)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        self.file.push(offset + self.start, buffers, fua)

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        self.file.zero(offset + self.start, length, unmap=unmap, fast=fast)

    def _discard(self, offset: int, length: int) -> None:
        self.file.discard(offset + self.start, length)

    def _flush(self) -> None:
        self.file.flush()

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        if self._length is not None:
            raise UnsupportedOperationError(f"{self}: its size is fixed at {self._length} bytes by an option")
        self.file.resize(size + self.start, preallocate=preallocate)
