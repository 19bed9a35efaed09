"""One request at a time, for nodes that cannot take more."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING, Final

from blockkit.block.filters.intercept import InterceptNode, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.node import Extent, Node

#: Extents of one walk under the lock.
_BATCH: Final = 1024


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
            return super()._map(offset, length)

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            # The lock cannot be held while somebody else's code runs, so the walk is begun anew for each batch.
            with self._lock:
                batch = list(islice(self._runs(offset, end - offset), _BATCH))
            yield from batch
            offset = batch[-1].offset + batch[-1].length

    def _intercept(self, request: Request, go: Callable[[], None]) -> None:
        with self._lock:
            go()
