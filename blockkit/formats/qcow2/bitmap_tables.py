"""Bitmap tables for a disk of another size [qcow2, "Bitmap table"].

A table that does not fit the disk makes the image unreadable, unless its bitmap is IN_USE. So a resize goes through
these steps, with a flush of the file between them:

1. new tables that nothing refers to yet, their counts, clusters for bits that they need; and the bitmaps they are for
   are IN_USE;
2. the size of the disk; and of each table its offset if it grows, its size if it shrinks, so that offset and size say
   in between what is there: the first entries of one table or the other;
3. the other of the two;
4. bitmaps that were not IN_USE are not any more.

A power cut between 1 and 4 costs these bitmaps, which are stale then, and what is not referred to leaks.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from blockkit.block.tables import encode_u64, read_u64_table
from blockkit.errors import CorruptImageError, NoSpaceError, UnsupportedOperationError
from blockkit.formats.qcow2.bitmaps import (
    ALL_ONES,
    MAX_STORED,
    TABLE_RESERVED_MASK,
    mark,
    read_bitmaps,
    table_entries,
)
from blockkit.formats.qcow2.schema import OFFSET_MASK
from blockkit.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blockkit.formats.qcow2.bitmaps import Bitmap
    from blockkit.formats.qcow2.node import Qcow2Node

_WHERE = "qcow2 bitmap table"

#: Runs of clusters: the first, and how many.
Runs: TypeAlias = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class NewTable:
    """A table that is whole in the file, and not referred to yet.

    Attributes:
        bitmap: Which is to have it, as the directory describes it now.
        offset: Where it lies, bytes.
        size: Its entries.
        taken: Clusters that it and new bits lie in.
        dropped: Clusters that the old table lies in, and those that only the old one refers to.
    """

    bitmap: Bitmap
    offset: int
    size: int
    taken: Runs
    dropped: Runs


def require_resizable(node: Qcow2Node, size: int) -> None:
    """Refuse to make ``node`` a disk of ``size`` bytes where a bitmap is in the way.

    Raises:
        UnsupportedOperationError: a bitmap was in use before the image was opened, or there would be no bits.
        NoSpaceError: a bitmap would have more bits than may be stored.
    """
    with node.metadata.lock:
        bitmaps, marked = read_bitmaps(node.file, node.header), node.metadata.marked_bitmaps
    for bitmap in bitmaps:
        if bitmap.in_use and bitmap.name not in marked:
            # As QEMU does: of what was not saved nobody knows for which size it was.
            raise UnsupportedOperationError(
                f"{node}: cannot be resized while bitmap {bitmap.name!r} is in use: it was not saved; remove it first"
            )
        if not size:
            raise UnsupportedOperationError(f"{node}: cannot have size 0 while it has bitmap {bitmap.name!r}")
        stored = table_entries(size, bitmap.granularity_bits, node.header.fixed.cluster_bits) * node.cluster_size
        if stored > MAX_STORED:
            raise NoSpaceError(
                f"{node}: for a disk of {size} bytes, bitmap {bitmap.name!r} takes {format_size(stored)}, "
                f"more than {format_size(MAX_STORED)}; remove it first"
            )


def write_tables(node: Qcow2Node, size: int) -> list[NewTable]:
    """Write tables for a disk of ``size`` bytes, not durably yet, for bitmaps whose old ones do not do.

    Either :func:`change_size` or :func:`give_back` must follow.

    Raises:
        CorruptImageError: an entry that is dropped has a value none may have, or refers to other metadata.
    """
    metadata, made = node.metadata, list[NewTable]()
    with metadata.lock:
        metadata.arm()
        try:
            for bitmap in read_bitmaps(node.file, node.header):
                _write_table(node, bitmap, size, made)
        except BaseException:
            _give_back(node, made)
            raise
    return made


def give_back(node: Qcow2Node, tables: Iterable[NewTable]) -> None:
    """Free what tables take that were not used after all."""
    with node.metadata.lock:
        _give_back(node, tables)


def _give_back(node: Qcow2Node, tables: Iterable[NewTable]) -> None:
    for table in tables:
        for run in table.taken:
            node.metadata.refcounts.give_back(*run)


def change_size(node: Qcow2Node, size: int, tables: Sequence[NewTable]) -> None:
    """Make ``size`` bytes the size in the header, and ``tables`` those of their bitmaps."""
    file, metadata = node.file, node.metadata
    unmarked = [table.bitmap for table in tables if not table.bitmap.in_use]
    try:
        with metadata.lock:
            metadata.marked_bitmaps.update(bitmap.name for bitmap in unmarked)
            mark(file, [table.bitmap for table in tables])
        # This makes durable what was counted and written so far, before it does anything.
        node.set_size(size)
    except BaseException:
        give_back(node, tables)
        raise
    if not tables:
        return
    # From here on a table may be referred to, whatever fails: what is not used leaks then.
    with metadata.lock:
        for offset_first in (True, False):
            for table in tables:
                if (table.size >= table.bitmap.table_size) is offset_first:
                    table.bitmap.write_table_offset(file, table.offset)
                else:
                    table.bitmap.write_table_size(file, table.size)
            file.flush()
        for bitmap in unmarked:
            bitmap.write_flags(file, bitmap.flags)
        metadata.marked_bitmaps.difference_update(bitmap.name for bitmap in unmarked)
        for table in tables:
            for run in table.dropped:
                metadata.refcounts.release(*run)


def _write_table(node: Qcow2Node, bitmap: Bitmap, size: int, made: list[NewTable]) -> None:
    """Write a table that ``bitmap`` needs for ``size`` bytes, and add it to ``made``; nothing if the old one does."""
    metadata, geometry = node.metadata, node.header.geometry
    old = read_u64_table(node.file, bitmap.table_offset, bitmap.table_size, "big")
    needed = table_entries(size, bitmap.granularity_bits, geometry.cluster_bits)
    table = old[:needed]
    table.extend(array("Q", bytes(8 * (needed - len(table)))))
    # Bits behind the end say nothing: those there were may not come back, nor be taken for those of a longer disk.
    last, used = divmod(bitmap.bits(min(size, node.size)), 8 * geometry.cluster_size)
    bits = b""
    if used and last < len(table) and table[last]:
        bits = _cut(node, _cluster(node, bitmap, last, table[last]), used)
        if bits:
            table[last] = 0
    if table == old:
        return
    dropped = [(bitmap.table_offset >> geometry.cluster_bits, geometry.clusters(bitmap.table_size * 8))]
    for index, entry in enumerate(old):
        is_kept = index < needed and entry == table[index]
        if entry and not is_kept and (offset := _cluster(node, bitmap, index, entry)):
            dropped.append((offset >> geometry.cluster_bits, 1))
    for first, count in dropped:
        if (found := metadata.overlap.first_in(first, count)) is not None:
            raise metadata.corrupt(
                f"bitmap {bitmap.name!r} overlaps other metadata", where=_WHERE, offset=found << geometry.cluster_bits
            )
    clusters = geometry.clusters(needed * 8)
    taken = [(metadata.refcounts.allocate_contiguous(clusters), clusters)]
    offset = taken[0][0] << geometry.cluster_bits
    made.append(NewTable(bitmap, offset, needed, taken, dropped))
    if any(bits):
        taken.append(metadata.refcounts.allocate(1))
        table[last] = taken[1][0] << geometry.cluster_bits
        node.file.push(table[last], [memoryview(bits)])
    node.file.push(offset, [memoryview(encode_u64(table, "big").ljust(clusters * geometry.cluster_size, b"\0"))])


def _cluster(node: Qcow2Node, bitmap: Bitmap, index: int, entry: int) -> int:
    """Return where the bits of a table entry that is not 0 lie, bytes; 0 where all are ones."""
    offset = entry & OFFSET_MASK
    if entry & TABLE_RESERVED_MASK or offset & (node.cluster_size - 1) or (offset and entry & ALL_ONES):
        raise CorruptImageError(
            f"entry {index} of bitmap {bitmap.name!r} is {entry:#x}, not the offset of a cluster, nor 0 or 1",
            where=_WHERE,
            offset=bitmap.table_offset + index * 8,
        )
    return offset


def _cut(node: Qcow2Node, offset: int, used: int) -> bytes:
    """Return the bits at ``offset``, ones if it is 0, with those from ``used`` on cleared; nothing if they are."""
    size = node.cluster_size
    bits = node.file.pull_bytes(offset, size) if offset else b"\xff" * size
    whole, rest = divmod(used, 8)
    cut = (bits[:whole] + bytes([bits[whole] & (1 << rest) - 1])).ljust(size, b"\0")
    return cut if cut != bits else b""
