"""One request at a time, for nodes that cannot take more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from blockkit.block.filters.intercept import InterceptNode, Request
from blockkit.block.node import Extent, Kind, Node

if TYPE_CHECKING:
    from collections.abc import Callable


class SerialNode(InterceptNode):
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
        # Data is said to be here, not below: whoever went to its place would go round the lock.
        if extent.kind is Kind.ZERO:
            return Extent(offset, extent.length, Kind.ZERO)
        return Extent(offset, extent.length, Kind.DATA, self, offset)

    def _intercept(self, request: Request, go: Callable[[], None]) -> None:
        with self._lock:
            go()
