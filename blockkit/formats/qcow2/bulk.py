"""Writing many scattered clusters at once.

A conversion meets disks whose data lies in thousands of single clusters. New clusters can lie anywhere in the file, so
those of a whole batch are taken in one piece, written by one system call, and linked under one lock. A long stretch is
taken in one piece too, and linked together when all of it is written.
"""

from __future__ import annotations

from array import array
from itertools import groupby
from typing import TYPE_CHECKING

from blockkit.errors import UsageError
from blockkit.formats.qcow2.schema import COPIED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.writing import Qcow2Writer

#: Buffers one system call takes.
_MAX_PIECES = 512


def write_pieces(node: Qcow2Writer, pieces: Sequence[tuple[int, memoryview]]) -> None:
    """Store ``pieces``, each ``(offset, data)``, in ascending order of offset and not overlapping.

    Whole clusters that nothing is allocated for go together; the rest goes the way of any write.
    """
    while pieces:
        taken = _write_some(node, pieces[:_MAX_PIECES])
        if not taken:
            offset, data = pieces[0]
            node.write(offset, data)
            taken = 1
        pieces = pieces[taken:]


def _write_some(node: Qcow2Writer, pieces: Sequence[tuple[int, memoryview]]) -> int:
    """Write as many pieces as can go together from the first on; return how many."""
    bits = node.metadata.geometry.cluster_bits
    with node.lock:
        if not node.may_begin():
            return 0
        metadata = node.metadata
        runs = _eligible(node, pieces)
        if not runs:
            return 0
        first, end = runs[0][0], sum(runs[-1])
        token = node.ranges.try_exclusive(first, end)
        if not token:
            return 0
        try:
            host, taken = metadata.refcounts.allocate(sum(count for _, count in runs))
        except BaseException:
            node.ranges.release(token)
            raise
        total = fitting = 0
        for _, count in runs:
            if total + count > taken:
                break
            total, fitting = total + count, fitting + 1
        if total < taken:
            metadata.refcounts.give_back(host + total, taken - total)
        if not fitting:
            node.ranges.release(token)
            return 0
    runs = runs[:fitting]
    try:
        node.data.push(host << bits, [data for _, data in pieces[:fitting]])
    except BaseException:
        with node.lock:
            metadata.refcounts.give_back(host, total)
            node.ranges.release(token)
        raise
    with node.lock:
        try:
            _link(node, runs, host << bits)
            metadata.commit_if_large()
        finally:
            node.ranges.release(token)
    return fitting


def take_room(node: Qcow2Writer, offset: int, length: int) -> Stretch | None:
    """Take clusters for ``[offset, offset + length)`` of the disk; None unless that is simple."""
    geometry = node.metadata.geometry
    first, count = offset >> geometry.cluster_bits, length >> geometry.cluster_bits
    index = first & geometry.l2_entries - 1
    if (offset | length) & geometry.cluster_size - 1 or not 0 < count <= geometry.l2_entries - index:
        return None
    with node.lock:
        if not node.may_begin() or offset + length > node.reach:
            return None
        if any(node.metadata.writable_table(first >> geometry.l2_bits).entries[index : index + count]):
            return None
        token = node.ranges.try_exclusive(first, first + count)
        if not token:
            return None
        refcounts, places = node.metadata.refcounts, []
        try:
            while count:
                places.append(refcounts.allocate(count))
                count -= places[-1][1]
        except BaseException:
            for place in places:
                refcounts.give_back(*place)
            node.ranges.release(token)
            raise
    return Stretch(node, token, places)


class Stretch:
    """Clusters that are taken for a range of the disk and not linked yet; see Room.

    Args:
        node: The image.
        token: Of the range, which is ours alone.
        places: Runs of clusters in the file, ``(first, count)``.
    """

    def __init__(self, node: Qcow2Writer, token: int, places: list[tuple[int, int]]) -> None:
        self._node, self._token = node, token
        self._free = places[::-1]
        self._written: list[tuple[int, int, int]] = []  # first cluster of the disk, how many, and of the file

    def put(self, offset: int, data: memoryview) -> None:
        """Write ``data``, whole clusters that belong at ``offset`` of the disk, into the next of ours."""
        bits = self._node.metadata.geometry.cluster_bits
        cluster, left = offset >> bits, len(data) >> bits
        if (offset | len(data)) & (1 << bits) - 1:
            raise UsageError(f"{self._node}: {len(data)} bytes at {offset:#x} are not whole clusters")
        while left:
            host, free = self._free[-1]
            count = min(free, left)
            # Noted first: what is not written whole is given back like the rest.
            self._note(cluster, count)
            self._node.data.push(host << bits, [data[: count << bits]])
            cluster, left, data = cluster + count, left - count, data[count << bits :]

    def next(self) -> tuple[Node, int, int]:
        """Return where data is put next; see Room."""
        bits = self._node.metadata.geometry.cluster_bits
        host, free = self._free[-1]
        return self._node.data, host << bits, free << bits

    def took(self, offset: int, length: int) -> None:
        """Note what was put by other means; likewise."""
        bits = self._node.metadata.geometry.cluster_bits
        self._note(offset >> bits, length >> bits)

    def _note(self, cluster: int, count: int) -> None:
        host, free = self._free.pop()
        if count < free:
            self._free.append((host + count, free - count))
        self._written.append((cluster, count, host))

    def keep(self) -> None:
        """Link what was written, and give back the rest."""
        node, bits = self._node, self._node.metadata.geometry.cluster_bits
        with node.lock:
            try:
                self._give_back()
                for cluster, count, host in self._written:
                    _link(node, [(cluster, count)], host << bits)
                node.metadata.commit_if_large()
            finally:
                node.ranges.release(self._token)

    def abandon(self) -> None:
        """Give everything back."""
        with self._node.lock:
            try:
                self._free += [(host, count) for _, count, host in self._written]
                self._give_back()
            finally:
                self._node.ranges.release(self._token)

    def _give_back(self) -> None:
        for place in self._free:
            self._node.metadata.refcounts.give_back(*place)


def _eligible(node: Qcow2Writer, pieces: Sequence[tuple[int, memoryview]]) -> list[tuple[int, int]]:
    """Return ``(first cluster, count)`` of the leading pieces that are whole clusters with nothing allocated."""
    metadata, geometry = node.metadata, node.metadata.geometry
    bits, l2_bits, mask = geometry.cluster_bits, geometry.l2_bits, geometry.cluster_size - 1
    in_table, reach = geometry.l2_entries, node.reach
    runs: list[tuple[int, int]] = []
    known = -1
    entries = array("Q")
    for offset, data in pieces:
        length = len(data)
        first, count = offset >> bits, length >> bits
        if (offset | length) & mask or offset + length > reach or not count:
            break
        index = first & in_table - 1
        if index + count > in_table:
            break
        if first >> l2_bits != known:
            known = first >> l2_bits
            entries = metadata.writable_table(known).entries
        if entries[index] if count == 1 else any(entries[index : index + count]):
            break
        runs.append((first, count))
    return runs


def _link(node: Qcow2Writer, runs: Sequence[tuple[int, int]], host: int) -> None:
    """Point the entries of ``runs``, all empty, at clusters that follow each other from ``host`` bytes on."""
    metadata, geometry = node.metadata, node.metadata.geometry
    size, l2_bits, l2_mask = geometry.cluster_size, geometry.l2_bits, geometry.l2_entries - 1
    entry = host | COPIED
    for l1_index, group in groupby(runs, key=lambda run: run[0] >> l2_bits):
        table = metadata.writable_table(l1_index)
        entries = table.entries
        begin, end = geometry.l2_entries, 0
        for first, count in group:
            index = first & l2_mask
            if index < begin:
                begin = index
            end = index + count
            if count == 1:
                entries[index] = entry
            else:
                entries[index:end] = array("Q", range(entry, entry + count * size, size))
            entry += count * size
        metadata.mapping.touched(l1_index, table, begin, end)
