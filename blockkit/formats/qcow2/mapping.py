"""The L1 table and a bounded cache of L2 tables, in host byte order.

Readers look tables up without a lock: dictionary and array accesses are atomic, tables are never changed once they
have left the cache, and the node's generation counter catches a mapping that went stale in between. Everything that
loads, changes or drops a table runs with the node's lock held.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from blockkit.block.tables import decode_u64, encode_u64, read_u64_table
from blockkit.errors import CorruptImageError
from blockkit.formats.qcow2.schema import COMPRESSED, COPIED, L1_RESERVED_MASK, OFFSET_MASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.geometry import Geometry
    from blockkit.formats.qcow2.overlap import MetadataMap
    from blockkit.formats.qcow2.refcounts import Refcounts

#: What one cached table costs beyond its entries, bytes.
_OVERHEAD = 256
#: Tables change on disk in whole sectors of this many words.
_SECTOR_WORDS = 64


class L2Table:
    """One L2 table in memory.

    Attributes:
        entries: Its words, in host order (two for each entry with extended L2).
        offset: Where it lies, bytes.
        dirty_start, dirty_end: The words that differ from the file.
        fresh: No L1 table on disk refers to it yet, so it may be written at any time.
        used: Looked at since the cache last searched for a victim.
    """

    __slots__ = ("dirty_end", "dirty_start", "entries", "fresh", "offset", "used")

    def __init__(self, entries: array[int], offset: int, *, fresh: bool = False) -> None:
        self.entries, self.offset, self.fresh = entries, offset, fresh
        self.dirty_start, self.dirty_end = len(entries), 0
        self.used = True

    def touch(self, start: int, end: int) -> None:
        """Note that words ``[start, end)`` changed."""
        if start < self.dirty_start:
            self.dirty_start = start
        if end > self.dirty_end:
            self.dirty_end = end


class Directory:
    """Where the entries of the tables in memory are, for native code, by L1 index; changed with the node's lock held.

    Attributes:
        addresses: Of their first entries; 0 for a table that is not in memory.
        used: Set there when a table is looked at, beside :attr:`L2Table.used`.
    """

    def __init__(self, size: int, tables: dict[int, L2Table]) -> None:
        self.addresses, self.used = array("Q", bytes(8 * size)), array("B", bytes(size))
        for l1_index, table in tables.items():
            self.put(l1_index, table)

    def put(self, l1_index: int, table: L2Table) -> None:
        """Show a table: its array keeps its place in memory as long as it lives."""
        if l1_index < len(self.addresses):
            self.addresses[l1_index] = table.entries.buffer_info()[0]

    def drop(self, l1_index: int) -> None:
        """Hide a table before it is forgotten."""
        if l1_index < len(self.addresses):
            self.addresses[l1_index] = self.used[l1_index] = 0

    def was_used(self, l1_index: int) -> bool:
        """Whether a table was looked at since this was last asked."""
        if l1_index >= len(self.used) or not self.used[l1_index]:
            return False
        self.used[l1_index] = 0
        return True


class Mapping:
    """Where guest clusters are: the active L1 table, and L2 tables by L1 index.

    Args:
        file: What holds the metadata.
        geometry: Of the image.
        l1_offset: Of the active L1 table, bytes.
        l1_size: Its entries, already bounded.
        cache_size: Bytes of L2 tables to keep.
        make_room: Writes dirty tables out, in the right order; called when nothing clean is left to drop.
    """

    def __init__(
        self,
        file: Node,
        geometry: Geometry,
        l1_offset: int,
        l1_size: int,
        cache_size: int,
        make_room: Callable[[], None],
    ) -> None:
        self.file, self.geometry = file, geometry
        self.l1_offset = l1_offset
        if l1_size and l1_offset + l1_size * 8 > -(-file.size // geometry.cluster_size) * geometry.cluster_size:
            raise CorruptImageError("it reaches behind the end of the file", where="qcow2 L1 table", offset=l1_offset)
        self.l1 = read_u64_table(file, l1_offset, l1_size, "big")
        self.tables: dict[int, L2Table] = {}
        self.directory: Directory | None = None
        self.dirty_tables: set[int] = set()
        self._dirty_l1: set[int] = set()
        self._make_room = make_room
        self._words = geometry.cluster_size // 8
        # At least four, so that one request can hold the tables it works on.
        self._max_tables = max(4, cache_size // (geometry.cluster_size + _OVERHEAD))

    # -- looking up ------------------------------------------------------------------------------------

    def l2_offset(self, l1_index: int) -> int:
        """Return where the L2 table of an L1 entry lies, bytes; 0 without one.

        Raises:
            CorruptImageError: the entry is not the offset of a cluster.
        """
        entry = self.l1[l1_index]
        offset = entry & OFFSET_MASK
        if offset & (self.geometry.cluster_size - 1) or entry & L1_RESERVED_MASK:
            raise CorruptImageError(
                f"entry {l1_index} is {entry:#x}, not the offset of a cluster",
                where="qcow2 L1 table",
                offset=self.l1_offset + l1_index * 8,
            )
        return offset

    def load(self, l1_index: int) -> L2Table | None:
        """Return the L2 table of an L1 entry, from the cache or the file; None where there is none."""
        table = self.tables.get(l1_index)
        if table is not None:
            return table
        offset = self.l2_offset(l1_index)
        if not offset:
            return None
        if offset >= self.file.size:
            raise CorruptImageError(
                f"table {l1_index} lies behind the end of the file", where="qcow2 L2 table", offset=offset
            )
        entries = decode_u64(self.file.pull_bytes(offset, self.geometry.cluster_size), "big")
        return self._keep(l1_index, L2Table(entries, offset))

    def _keep(self, l1_index: int, table: L2Table) -> L2Table:
        tables, directory = self.tables, self.directory
        while len(tables) >= self._max_tables:
            oldest = next(iter(tables))
            victim = tables[oldest]
            used = (directory is not None and directory.was_used(oldest)) or victim.used
            self._forget(oldest)
            if used or victim.dirty_end:
                victim.used = False
                self._put(oldest, victim)
                if len(self.dirty_tables) >= len(tables):
                    self._make_room()
        self._put(l1_index, table)
        return table

    def _put(self, l1_index: int, table: L2Table) -> None:
        self.tables[l1_index] = table
        if self.directory is not None:
            self.directory.put(l1_index, table)

    def _forget(self, l1_index: int) -> None:
        if self.directory is not None:
            self.directory.drop(l1_index)
        self.tables.pop(l1_index, None)

    def open_directory(self) -> Directory:
        """Make and keep a directory of the tables; called with the node's lock held."""
        self.directory = Directory(len(self.l1), self.tables)
        return self.directory

    # -- changing --------------------------------------------------------------------------------------

    def for_writing(self, l1_index: int, refcounts: Refcounts, metadata: MetadataMap) -> L2Table:
        """Return an L2 table that may be changed, making or copying one if need be.

        A table shared with a snapshot (its L1 entry lacks COPIED) is copied first; the clusters it refers to are
        counted for the snapshot's table already.
        """
        entry = self.l1[l1_index]
        old = self.load(l1_index)
        if old is not None and entry & COPIED:
            return old
        cluster, _ = refcounts.allocate(1)
        offset = cluster << self.geometry.cluster_bits
        metadata.add(cluster)
        if old is None:
            entries = array("Q", bytes(self.geometry.cluster_size))
        else:
            # Whoever shares the table shares its clusters, whatever its entries say.
            entries, words = old.entries[:], self.geometry.l2_words
            entries[::words] = array("Q", [e if e & COMPRESSED else e & ~COPIED for e in entries[::words]])
        table = L2Table(entries, offset, fresh=True)
        table.touch(0, self._words)
        # Making room may commit: until that is over, nothing may say that the old table is not referred to.
        self._forget(l1_index)
        self._keep(l1_index, table)
        self.dirty_tables.add(l1_index)
        self._dirty_l1.add(l1_index)
        self.l1[l1_index] = offset | COPIED
        if old is not None:
            refcounts.release(old.offset >> self.geometry.cluster_bits)
            metadata.remove(old.offset >> self.geometry.cluster_bits)
        return table

    def drop(self, l1_index: int, refcounts: Refcounts, metadata: MetadataMap) -> None:
        """Forget an L2 table whose entries all went; its cluster is released."""
        offset = self.l2_offset(l1_index)
        if not offset:
            return
        self._forget(l1_index)
        self.dirty_tables.discard(l1_index)
        self.l1[l1_index] = 0
        self._dirty_l1.add(l1_index)
        refcounts.release(offset >> self.geometry.cluster_bits)
        metadata.remove(offset >> self.geometry.cluster_bits)

    def touched(self, l1_index: int, table: L2Table, start: int, end: int) -> None:
        """Note that words ``[start, end)`` of a table changed."""
        table.touch(start, end)
        self.dirty_tables.add(l1_index)

    # -- writing ---------------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether anything here differs from the file."""
        return bool(self.dirty_tables or self._dirty_l1)

    @property
    def dirty_size(self) -> int:
        """Bytes of tables that differ from the file."""
        return len(self.dirty_tables) * self._words * 8

    def write_fresh(self) -> None:
        """Write tables nothing on disk refers to yet; no order is needed."""
        for l1_index in list(self.dirty_tables):
            if self.tables[l1_index].fresh:
                self._write(l1_index)

    def write_tables(self) -> None:
        """Write all changed tables and L1 entries; data, counts and fresh tables are durable already."""
        for l1_index in sorted(self.dirty_tables):
            self._write(l1_index)
        for sector in sorted({index // _SECTOR_WORDS for index in self._dirty_l1}):
            part = self.l1[sector * _SECTOR_WORDS : (sector + 1) * _SECTOR_WORDS]
            self.file.push(self.l1_offset + sector * 512, [memoryview(encode_u64(part, "big"))])
        for l1_index in self._dirty_l1:
            table = self.tables.get(l1_index)
            if table is not None:
                table.fresh = False
        self._dirty_l1.clear()

    def _write(self, l1_index: int) -> None:
        table = self.tables[l1_index]
        start = table.dirty_start // _SECTOR_WORDS * _SECTOR_WORDS
        end = min(-(-table.dirty_end // _SECTOR_WORDS) * _SECTOR_WORDS, self._words)
        if end > start:
            self.file.push(table.offset + start * 8, [memoryview(encode_u64(table.entries[start:end], "big"))])
        table.dirty_start, table.dirty_end = self._words, 0
        self.dirty_tables.discard(l1_index)

    def move_l1(self, l1: array[int], offset: int) -> None:
        """Use a longer L1 table that is on disk already, at ``offset`` bytes."""
        self.l1, self.l1_offset = l1, offset
        self._dirty_l1.clear()
