"""Walking one L2 table as a whole.

A disk of 100 GiB is described by two hundred tables; asking for one extent at a time costs several microseconds for
each. Here only entries that are not empty cost anything, and a run of clusters costs little more than one.
"""

from __future__ import annotations

from array import array
from functools import lru_cache, reduce
from itertools import compress
from operator import or_
from typing import TYPE_CHECKING

from blockkit.block.node import Extent, Kind
from blockkit.errors import CorruptImageError
from blockkit.formats.qcow2.schema import COMPRESSED, COPIED, OFFSET_MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.node import Node


def table_extents(
    entries: array[int],
    base: int,
    start: int,
    end: int,
    *,
    cluster_bits: int,
    special: int,
    data: Node,
    node: Node,
    table_offset: int,
) -> Iterator[Extent]:
    """Yield the extents that tile ``[start, end)``, neighbours of one kind joined.

    Args:
        entries: The table's standard entries, in host order.
        base: Offset on the disk of the table's first byte.
        start: Offset on the disk, mapped by this table.
        end: Likewise; greater than ``start``.
        cluster_bits: A cluster is ``1 << cluster_bits`` bytes.
        special: The bits that make an entry anything but plain data or nothing.
        data: What holds guest data.
        node: What decodes compressed clusters.
        table_offset: Where the table lies, for errors.

    Raises:
        CorruptImageError: an entry is neither empty nor the offset of a cluster.
    """
    size = 1 << cluster_bits
    mask = size - 1
    first, last = (start - base) >> cluster_bits, ((end - 1 - base) >> cluster_bits) + 1
    kind: Kind | None = None  # of the run being joined: [run, run_end), at `place` up to `place_end` of `data`
    run = run_end = start
    place = place_end = 0
    data_kind, zero_kind, encoded_kind, empty_kind = Kind.DATA, Kind.ZERO, Kind.ENCODED, Kind.UNALLOCATED
    for index in compress(range(first, last), entries[first:last]):
        entry = entries[index]
        at = base + (index << cluster_bits)
        target = entry & OFFSET_MASK
        if not entry & special:
            if entry == COPIED:
                continue  # nothing, which nobody shares
            if target & mask or not target:
                raise _bad(entry, index, table_offset).in_image(node.filename)
            if kind is data_kind and at == run_end and target == place_end:
                run_end += size
                place_end += size
                continue
            new = data_kind
        elif entry & COMPRESSED:
            if kind is encoded_kind and at == run_end:
                run_end += size
                continue
            new, target = encoded_kind, 0
        else:
            if target & mask:
                raise _bad(entry, index, table_offset).in_image(node.filename)
            if kind is zero_kind and at == run_end and (target == place_end if target else not place_end):
                run_end += size
                place_end += size if target else 0
                continue
            new = zero_kind
        if kind is not None:
            yield _extent(kind, run, run_end, place, data, node)
        if at > run_end:
            yield Extent(run_end, at - run_end, empty_kind)
        kind, run, run_end = new, at, at + size
        place = target
        place_end = target + size if target else 0
        if at < start:
            # Only the first cluster can begin before the range.
            run = start
            if target:
                place += start - at
    if kind is not None:
        yield _extent(kind, run, min(run_end, end), place, data, node)
    if run_end < end:
        yield Extent(run_end, end - run_end, empty_kind)


def table_columns(
    entries: array[int],
    base: int,
    start: int,
    end: int,
    *,
    cluster_bits: int,
    special: int,
    native: NativeColumns | None = None,
) -> tuple[array[int], array[int], array[int]] | None:
    """Return ``(starts, lengths, targets)`` of the runs of data in ``[start, end)``; the first arguments as above.

    ``native`` does it in no time. None if there is anything but data and nothing.
    """
    size = 1 << cluster_bits
    first, last = (start - base) >> cluster_bits, ((end - 1 - base) >> cluster_bits) + 1
    unusual = special | OFFSET_MASK & (size - 1)
    if first or last < len(entries):
        entries = entries[first:last]
    found = (_columns if native is None else native.columns)(entries, base + (first << cluster_bits), size, unusual)
    if found is None or not found[0]:
        return found
    starts, lengths, targets = found
    if starts[0] < start:
        # The first cluster was entered in its middle.
        lengths[0] -= start - starts[0]
        targets[0] += start - starts[0]
        starts[0] = start
    lengths[-1] = min(lengths[-1], end - starts[-1])
    return found


class NativeColumns:
    """Makes columns in no time; many threads may use it.

    Args:
        function: :func:`~blockkit.formats.qcow2.columns.l2_columns`.
    """

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function
        # Rooms nobody uses now: each is larger than what memory is had for without asking the system.
        self._rooms: list[array[int]] = []

    def columns(
        self, entries: array[int], begin: int, size: int, unusual: int
    ) -> tuple[array[int], array[int], array[int]] | None:
        """Return the columns of a whole table, or a part of one."""
        assert entries.itemsize == 8, "or they are no entries"
        count = len(entries)
        try:
            room = self._rooms.pop()
        except IndexError:
            room = array("Q")
        if len(room) < 3 * count:
            room = array("Q", bytes(3 * 8 * count))
        runs = self._function(entries.buffer_info()[0], count, begin, size, unusual, room.buffer_info()[0])
        found = None
        if runs <= count:
            found = room[:runs], room[count : count + runs], room[2 * count : 2 * count + runs]
        self._rooms.append(room)
        return found


def _columns(
    entries: array[int], begin: int, size: int, unusual: int
) -> tuple[array[int], array[int], array[int]] | None:
    """Do what the native function does; each step is one call or one comprehension for the whole table."""
    # A list is walked five times as fast as an array, whose every look makes an integer.
    part = entries.tolist()
    values = list(filter(None, part))
    if not values:
        return array("Q"), array("Q"), array("Q")
    if reduce(or_, values) & unusual:
        return None
    places = [begin + place for place in compress(_places(len(part), size), part)]
    targets = [value & OFFSET_MASK for value in values]
    if not all(targets):
        return None
    breaks = [
        index
        for index, (a, b, c, d) in enumerate(zip(places, places[1:], targets, targets[1:], strict=False), 1)
        if b - a != size or d - c != size
    ]
    starts = [places[0], *[places[index] for index in breaks]]
    ends = [*[places[index - 1] for index in breaks], places[-1]]
    lengths = [stop - start + size for start, stop in zip(starts, ends, strict=True)]
    return array("Q", starts), array("Q", lengths), array("Q", [targets[0], *[targets[index] for index in breaks]])


@lru_cache(maxsize=2)
def _places(entries: int, size: int) -> list[int]:
    """Return where each of so many clusters starts, from the start of the first."""
    return list(range(0, entries * size, size))


def _extent(kind: Kind, run: int, run_end: int, place: int, data: Node, node: Node) -> Extent:
    if kind is Kind.ENCODED:
        return Extent(run, run_end - run, kind, node, run)
    return Extent(run, run_end - run, kind, data if place else None, place)


def _bad(entry: int, index: int, table_offset: int) -> CorruptImageError:
    return CorruptImageError(
        f"entry {index} is {entry:#x}, not the offset of a cluster", where="qcow2 L2 table", offset=table_offset
    )
