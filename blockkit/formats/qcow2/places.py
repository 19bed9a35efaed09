"""Where the bytes of one write go, and what happens to the tables once they are there."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from blockkit.block.node import Place
from blockkit.formats.qcow2.schema import COPIED

if TYPE_CHECKING:
    from blockkit.block.node import Node
    from blockkit.block.ranges import RangeLock
    from blockkit.formats.qcow2.metadata import Metadata


class InPlace(Place):
    """Clusters that are ours alone already: nothing to link, but nobody may free them meanwhile."""

    __slots__ = ("_ranges", "_token")

    def __init__(self, length: int, node: Node, target: int, ranges: RangeLock, token: int) -> None:
        self.length, self.node, self.target = length, node, target
        self.before = self.after = b""
        self._ranges, self._token = ranges, token

    def link(self) -> None:
        ranges = self._ranges
        with ranges.lock:
            ranges.release(self._token)

    abandon = link


class Fresh(Place):
    """Newly allocated clusters, or reserved ones that read as zeros until they are linked.

    Attributes:
        cluster: The first guest cluster.
        count: How many.
        host: Where the first of them lies, bytes.
        allocated: Whether they were taken for this write.
    """

    __slots__ = ("_metadata", "_ranges", "_token", "allocated", "cluster", "count", "host")

    def __init__(
        self,
        node: Node,
        cluster: int,
        count: int,
        host: int,
        metadata: Metadata,
        ranges: RangeLock,
        token: int,
        *,
        allocated: bool,
    ) -> None:
        super().__init__(0, node, 0)
        self.cluster, self.count, self.host = cluster, count, host
        self._metadata, self._ranges, self._token, self.allocated = metadata, ranges, token, allocated

    def link(self) -> None:
        metadata, geometry = self._metadata, self._metadata.geometry
        step, first = geometry.cluster_size, self.host | COPIED
        entries = array("Q", range(first, first + self.count * step, step))
        with metadata.lock:
            try:
                l1_index, index = divmod(self.cluster, geometry.l2_entries)
                metadata.set_entries(l1_index, index, entries)
                metadata.commit_if_large()
            finally:
                self._ranges.release(self._token)

    def abandon(self) -> None:
        with self._metadata.lock:
            if self.allocated:
                self._metadata.refcounts.give_back(self.host >> self._metadata.geometry.cluster_bits, self.count)
            self._ranges.release(self._token)
