"""One request at a time, for nodes that cannot take more."""

from __future__ import annotations

import threading

from blockkit.block.bases import FilterNode
from blockkit.block.node import Extent, Kind, Node, Preallocation


class SerialNode(FilterNode):
    """Holds one lock over every request, so that the node below sees one at a time.

    The graph puts it on top of drivers that say ``concurrency = Concurrency.SERIAL``.
    """

    driver = "serial"

    def __init__(self, file: Node) -> None:
        super().__init__(file)
        self._lock = threading.RLock()

    @property
    def size(self) -> int:
        with self._lock:
            return self.file.size

    def describe(self) -> dict[str, object]:
        with self._lock:
            return self.file.describe()

    def _map(self, offset: int, length: int) -> Extent:
        with self._lock:
            extent = self.file.map(offset, length)
        # Only this node may be asked for the bytes: whoever went to the place itself would go round the lock.
        kind = Kind.ZERO if extent.kind is Kind.ZERO else Kind.DATA
        return Extent(offset, extent.length, kind, None if kind is Kind.ZERO else self, offset)

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        with self._lock:
            super()._readv(offset, buffers)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        with self._lock:
            super()._writev(offset, buffers, fua)

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        with self._lock:
            super()._zero(offset, length, unmap, fast)

    def _discard(self, offset: int, length: int) -> None:
        with self._lock:
            super()._discard(offset, length)

    def _flush(self) -> None:
        with self._lock:
            super()._flush()

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        with self._lock:
            super()._resize(size, preallocate)
