"""Reference counts of an open image: finding free clusters, counting up at once, counting down after the tables.

On disk a count may be too high at any moment (a leak after a power cut) but never too low. So increments are applied
at once and may be written whenever it suits; decrements wait until the tables that dropped the reference are durable,
and until then the cluster cannot be handed out again. [qcow2, "Host cluster management"]
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from blockkit.block.node import Cap
from blockkit.block.tables import encode_u64, read_u64_table
from blockkit.errors import BlockkitError, CorruptImageError, NoSpaceError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.counts import decode_counts, encode_counts, typecode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.geometry import Geometry
    from blockkit.formats.qcow2.overlap import MetadataMap

#: Refcount blocks kept in memory, bytes. One 64 KiB block counts 2 GiB of clusters.
_CACHE_SIZE = 8 << 20


class _Block:
    """One refcount block: its counts, and which of them differ from the file."""

    __slots__ = ("counts", "dirty_end", "dirty_start", "offset", "used")

    def __init__(self, offset: int, counts: array[int]) -> None:
        self.offset, self.counts = offset, counts
        self.dirty_start, self.dirty_end = len(counts), 0
        self.used = True

    def touch(self, start: int, end: int) -> None:
        """Note that counts ``[start, end)`` changed."""
        self.dirty_start, self.dirty_end = min(self.dirty_start, start), max(self.dirty_end, end)


class Refcounts:
    """The refcount table and blocks of one image; every method is called with the node's lock held.

    Args:
        file: What holds the metadata.
        geometry: Of the image.
        table_offset: Of the refcount table, bytes.
        table_clusters: Its size.
        metadata: Kept up to date with where the table and its blocks lie.

    Attributes:
        moved: The table lies elsewhere than the header in the file says.

    Raises:
        CorruptImageError: the table or its blocks lie on other metadata, or behind the end of the file.
    """

    def __init__(
        self, file: Node, geometry: Geometry, table_offset: int, table_clusters: int, metadata: MetadataMap
    ) -> None:
        self.file, self.geometry = file, geometry
        self.table_offset, self.table_clusters = table_offset, table_clusters
        self._metadata = metadata
        self._order = geometry.refcount_order
        self._bits = geometry.refcount_block_bits
        self._mask = geometry.refcount_block_entries - 1
        entries = table_clusters * geometry.cluster_size // 8
        if table_offset >= file.size:
            raise CorruptImageError(
                "it lies behind the end of the file", where="qcow2 refcount table", offset=table_offset
            )
        self.table = read_u64_table(file, table_offset, entries, "big")
        self._blocks: dict[int, _Block] = {}
        self._cached = 0
        self._hint = 0
        self._dirty_table: set[int] = set()
        self.moved = False
        self._releases: list[tuple[int, int]] = []
        #: Clusters of a file that cannot grow.
        self._limit = None if Cap.GROW in file.caps else file.size >> geometry.cluster_bits
        self._note_all()

    def _note_all(self) -> None:
        """Note where the table and its blocks lie; each must be in the file, and alone in its place."""
        metadata, bits = self._metadata, self.geometry.cluster_bits
        if metadata.first_in(self.table_offset >> bits, self.table_clusters) is not None:
            raise CorruptImageError(
                "it overlaps other metadata", where="qcow2 refcount table", offset=self.table_offset
            )
        metadata.add(self.table_offset >> bits, self.table_clusters)
        end = self.file.size
        for index, entry in enumerate(self.table):
            if not entry:
                continue
            offset = self._block_offset(index)
            if offset >= end:
                raise CorruptImageError(
                    f"block {index} lies behind the end of the file", where="qcow2 refcount block", offset=offset
                )
            if offset >> bits in metadata:
                raise CorruptImageError(
                    f"block {index} overlaps other metadata", where="qcow2 refcount block", offset=offset
                )
            metadata.add(offset >> bits)

    # -- reading ---------------------------------------------------------------------------------------

    def get(self, cluster: int) -> int:
        """Return the count of a host cluster, as it will be once all releases are applied to it or not yet."""
        block = self._block(cluster >> self._bits)
        return block.counts[cluster & self._mask] if block is not None else 0

    def _block_offset(self, index: int) -> int:
        entry = self.table[index]
        offset = entry & ~schema.REFCOUNT_TABLE_RESERVED_MASK
        if offset & (self.geometry.cluster_size - 1) or offset > schema.MAX_HOST_OFFSET:
            raise CorruptImageError(
                f"entry {index} is {entry:#x}, not the offset of a cluster",
                where="qcow2 refcount table",
                offset=self.table_offset + index * 8,
            )
        return offset

    def _block(self, index: int) -> _Block | None:
        """Return a refcount block, loading it if need be; None where there is none."""
        block = self._blocks.get(index)
        if block is not None:
            block.used = True
            return block
        if not self._exists(index):
            return None
        offset = self._block_offset(index)
        counts = decode_counts(self.file.pull_bytes(offset, self.geometry.cluster_size), self._order)
        return self._keep(index, _Block(offset, counts))

    def _exists(self, index: int) -> bool:
        return index < len(self.table) and self.table[index] != 0

    def _keep(self, index: int, block: _Block) -> _Block:
        """Put a block into the cache, and others out; those that cannot be written stay."""
        size = len(block.counts) * block.counts.itemsize
        while self._cached + size > _CACHE_SIZE and self._blocks:
            oldest = next(iter(self._blocks))
            victim = self._blocks.pop(oldest)
            if victim.used:
                victim.used = False
                self._blocks[oldest] = victim
                continue
            # Counts in memory are never lower than what the file's tables refer to: any moment is right.
            try:
                self._write_block(victim)
            except BlockkitError:
                self._blocks[oldest] = victim
                break
            self._cached -= size
        self._blocks[index] = block
        self._cached += size
        return block

    # -- counting up -----------------------------------------------------------------------------------

    def allocate(self, count: int) -> tuple[int, int]:
        """Take free clusters: ``(first, n)`` with ``1 <= n <= count``, contiguous, their counts set to one.

        Raises:
            NoSpaceError: the image cannot grow.
            CorruptImageError: the counts call metadata free.
        """
        cluster = self._hint
        while True:
            block = self._block(cluster >> self._bits) or self._new_block(cluster >> self._bits)
            counts = block.counts
            try:
                start = counts.index(0, cluster & self._mask)
            except ValueError:
                cluster = (cluster >> self._bits) + 1 << self._bits
                self._hint = cluster
                continue
            break
        end = start + 1
        limit = min(start + count, len(counts))
        while end < limit and not counts[end]:
            end += 1
        first = (cluster & ~self._mask) + start
        if self._limit is not None:
            end = min(end, start + max(1, self._limit - first))
        self._must_be_free(first, end - start)
        self._take(block, start, end)
        self._hint = first + end - start
        return first, end - start

    def allocate_contiguous(self, count: int) -> int:
        """Take ``count`` contiguous free clusters, for a table; returns the first."""
        first, missing = self._find_run(self._hint, count)
        end = first + count + len(missing)
        if missing and missing[-1] >= len(self.table):
            self._grow_table(missing[-1] + 1)
            return self.allocate_contiguous(count)
        self._must_be_free(first, end - first)
        self._take_run(first, count, missing)
        return first

    def _find_run(self, first: int, count: int) -> tuple[int, list[int]]:
        """Find ``count`` contiguous free clusters from ``first`` on, and room behind them for blocks they need.

        Returns:
            Their first, and the blocks that are missing to count them and themselves.
        """
        while True:
            missing: list[int] = []
            while True:
                end = first + count + len(missing)
                blocks = range(first >> self._bits, (end - 1 >> self._bits) + 1)
                found = [index for index in blocks if not self._exists(index)]
                if len(found) == len(missing):
                    break
                missing = found
            last_used = None
            for cluster, block, start, stop in self._spans(first, end - first):
                if block is None:
                    continue
                used = len(block.counts[start:stop].tobytes().rstrip(b"\0"))
                if used:
                    last_used = cluster + (used - 1) // block.counts.itemsize
            if last_used is None:
                return first, missing
            first = last_used + 1

    def _take_run(self, first: int, count: int, missing: list[int]) -> None:
        """Take what :meth:`_find_run` found, making the ``missing`` blocks behind it."""
        for position, index in enumerate(missing, first + count):
            self._place_block(index, position)
        for _, block, start, end in self._spans(first, count + len(missing)):
            assert block is not None, "no block is missing any more"
            self._take(block, start, end)

    def _must_be_free(self, first: int, count: int) -> None:
        """Refuse clusters whose count says they are free, but which cannot be used."""
        taken = self._metadata.first_in(first, count)
        if taken is not None:
            raise CorruptImageError(
                f"cluster {taken:#x} holds metadata but its reference count is 0",
                where="qcow2 refcount block",
                offset=taken << self.geometry.cluster_bits,
            )
        highest = schema.MAX_HOST_OFFSET >> self.geometry.cluster_bits
        if first + count > (highest + 1 if self._limit is None else self._limit):
            raise NoSpaceError(f"{self.file}: no space left for {count} clusters at cluster {first:#x}")

    def increase(self, cluster: int) -> bool:
        """Add a reference to a cluster in use; False when its count cannot go higher."""
        block = self._block(cluster >> self._bits)
        index = cluster & self._mask
        if block is None or not 0 < block.counts[index] < self.geometry.refcount_max:
            return False
        block.counts[index] += 1
        block.touch(index, index + 1)
        return True

    def _take(self, block: _Block, start: int, end: int) -> None:
        block.counts[start:end] = array(typecode(self._order), [1]) * (end - start)
        block.touch(start, end)

    def _spans(self, first: int, count: int) -> Iterator[tuple[int, _Block | None, int, int]]:
        """Cut a run of clusters at block boundaries: ``(first cluster, block, start, end)``."""
        end = first + count
        while first < end:
            index, start = first >> self._bits, first & self._mask
            stop = min(start + end - first, self._mask + 1)
            yield first, self._block(index), start, stop
            first += stop - start

    # -- new blocks and a bigger table -------------------------------------------------------------------

    def _new_block(self, index: int) -> _Block:
        """Make the block that counts the clusters from ``index << bits``; it lies in, and counts, the first of them."""
        if index >= len(self.table):
            self._grow_table(index + 1)
            existing = self._block(index)
            if existing is not None:
                return existing
        cluster = index << self._bits
        self._must_be_free(cluster, 1)
        block = self._place_block(index, cluster)
        self._take(block, 0, 1)
        return block

    def _place_block(self, index: int, cluster: int) -> _Block:
        """Make a block of zeros in a free cluster, which the caller counts."""
        code = typecode(self._order)
        counts = array(code, bytes((self._mask + 1) * array(code).itemsize))
        block = _Block(cluster << self.geometry.cluster_bits, counts)
        # The whole block is new to the file.
        block.touch(0, len(counts))
        self.table[index] = block.offset
        self._dirty_table.add(index)
        self._metadata.add(cluster)
        return self._keep(index, block)

    def _grow_table(self, entries: int) -> None:
        """Move the table to a place with room for at least ``entries``; the old place is released."""
        per_cluster = self.geometry.cluster_size // 8
        # Half as much again, so that growing stays rare.
        clusters = -(-max(entries + 1, len(self.table) * 3 // 2) // per_cluster)
        while True:
            # Blocks that count the new table itself must have an entry in it.
            first, missing = self._find_run(len(self.table) << self._bits, clusters)
            needed = max(entries, missing[-1] + 1)
            if clusters * per_cluster >= needed:
                break
            clusters = -(-needed // per_cluster)
        if clusters * self.geometry.cluster_size > schema.MAX_REFCOUNT_TABLE_SIZE:
            raise NoSpaceError(
                f"{self.file}: the refcount table cannot grow past {schema.MAX_REFCOUNT_TABLE_SIZE} bytes; "
                "use larger clusters"
            )
        self._must_be_free(first, clusters + len(missing))
        old = self.table_offset >> self.geometry.cluster_bits, self.table_clusters
        self.table.extend(array("Q", [0]) * (clusters * per_cluster - len(self.table)))
        self._take_run(first, clusters, missing)
        self.table_offset, self.table_clusters = first << self.geometry.cluster_bits, clusters
        self._metadata.add(first, clusters)
        self.moved = True
        self.release(*old)
        self._metadata.remove(*old)

    # -- counting down -----------------------------------------------------------------------------------

    def release(self, first: int, count: int = 1) -> None:
        """Drop one reference of each of ``count`` clusters, once :meth:`apply_releases` says it is safe."""
        self._releases.append((first, count))

    def give_back(self, first: int, count: int) -> None:
        """Undo :meth:`allocate` of clusters that nothing on disk ever referred to."""
        self._subtract(first, count)

    @property
    def has_releases(self) -> bool:
        """Whether any release waits."""
        return bool(self._releases)

    def apply_releases(self) -> list[tuple[int, int]]:
        """Apply waiting releases: the tables that dropped the references are durable now.

        Returns:
            Runs ``(first cluster, count)`` that are free now.
        """
        freed: list[tuple[int, int]] = []
        while self._releases:
            # Forgotten first: one that fails half way leaks, but never counts down twice.
            freed += self._subtract(*self._releases.pop())
        return freed

    def _subtract(self, first: int, count: int) -> list[tuple[int, int]]:
        freed: list[tuple[int, int]] = []
        for cluster, block, start, end in self._spans(first, count):
            if block is None:
                continue  # counted nowhere: check reports it, and there is nothing to count down
            counts = block.counts
            for index in range(start, end):
                value = counts[index]
                if value:
                    counts[index] = value - 1
                if value == 1:
                    at = cluster + index - start
                    if freed and sum(freed[-1]) == at:
                        freed[-1] = (freed[-1][0], freed[-1][1] + 1)
                    else:
                        freed.append((at, 1))
            block.touch(start, end)
        if freed:
            self._hint = min(self._hint, freed[0][0])
        return freed

    # -- writing -----------------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether anything here differs from the file."""
        return self.table_dirty or any(block.dirty_end for block in self._blocks.values())

    def write_blocks(self) -> None:
        """Write changed blocks; no order is needed for these."""
        for block in self._blocks.values():
            if block.dirty_end:
                self._write_block(block)

    def write_table(self) -> None:
        """Write changed table entries, after the blocks they point to are durable.

        A table that has moved is whole at its new place then; the header must follow, and ``moved`` be reset.
        """
        if self.moved:
            self.file.push(self.table_offset, [memoryview(encode_u64(self.table, "big"))])
        elif self._dirty_table:
            # Whole sectors, so that a torn write cannot mix two entries.
            for sector in {index >> 6 for index in self._dirty_table}:
                part = self.table[sector << 6 : (sector + 1) << 6]
                self.file.push(self.table_offset + (sector << 9), [memoryview(encode_u64(part, "big"))])
        self._dirty_table.clear()

    @property
    def table_dirty(self) -> bool:
        """Whether :meth:`write_table` has something to do."""
        return bool(self._dirty_table) or self.moved

    def _write_block(self, block: _Block) -> None:
        if not block.dirty_end:
            return
        # Whole 512-byte sectors.
        per_sector = 4096 >> self._order
        start = block.dirty_start // per_sector * per_sector
        end = min(-(-block.dirty_end // per_sector) * per_sector, len(block.counts))
        data = encode_counts(block.counts[start:end], self._order)
        self.file.push(block.offset + (start << self._order >> 3), [memoryview(data)])
        block.dirty_start, block.dirty_end = len(block.counts), 0
