"""Everything that changes an open image's metadata, and the order in which it reaches the file.

A power cut at any point may lose what was not flushed, but what is on disk must never refer to something that is not.
:meth:`Metadata.commit` therefore writes in this order, with a flush of the file (a *barrier*) between the steps:

1. reference counts that went up, and L2 tables that nothing refers to yet;
2. entries of the refcount table for new blocks, then the header if the table moved;
3. L2 tables and L1 entries: the data they point to, and its counts, are durable now;
4. reference counts that go down: nothing on disk refers to those clusters any more.

With lazy refcounts step 1 and 2 wait until the image is closed, and the dirty bit says so.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from blockkit.errors import BlockkitError, CorruptImageError
from blockkit.formats.qcow2.mapping import L2Table, Mapping
from blockkit.formats.qcow2.overlap import MetadataMap
from blockkit.formats.qcow2.refcounts import Refcounts
from blockkit.formats.qcow2.schema import (
    COMPRESSED,
    COPIED,
    MAX_L1_SIZE,
    OFFSET_MASK,
    Autoclear,
    Compatible,
    Incompatible,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.header import HeaderCluster

#: Autoclear bits we keep true ourselves.
_KNOWN_AUTOCLEAR = Autoclear.BITMAPS
#: Bytes of changed L2 tables that are written out without being asked for.
_MAX_DIRTY = 16 << 20


class Metadata:
    """The header, the tables and the counts of one open image.

    Attributes:
        lock: Held by whoever calls any method here.
        armed: Whether :meth:`arm` was called.
        marked_bitmaps: Names of the bitmaps that are stale for what was done since the image was opened.

    Args:
        file: What holds the metadata.
        data: What holds guest data; the same node unless the image has an external data file.
        header: Read and judged.
        writable: Load the reference counts too.
        cache_size: Bytes of L2 tables to keep.
        released: Called before freed clusters may be used for something else.
        lock: To use, where there is one already.
        repairing: Counts that cannot be used are no error: nothing can be changed until they are repaired.
    """

    def __init__(
        self,
        file: Node,
        data: Node,
        header: HeaderCluster,
        *,
        writable: bool,
        cache_size: int,
        released: Callable[[], None],
        lock: threading.Lock | None = None,
        repairing: bool = False,
    ) -> None:
        self.lock = lock if lock is not None else threading.Lock()
        self.file, self.data, self.header, self.geometry = file, data, header, header.geometry
        self._released = released
        self.armed = False
        self.marked_bitmaps: set[str] = set()
        self._lazy = False
        self._damaged = False
        # What is in memory is the truth; a header that could not be written is written again by the next commit.
        self._header_dirty = False
        fixed = header.fixed
        self.mapping = Mapping(file, self.geometry, fixed.l1_table_offset, fixed.l1_size, cache_size, self.commit)
        self.overlap = MetadataMap()
        self._refcounts: Refcounts | None = None
        self._repairing = repairing
        if writable:
            try:
                self._load_counts()
            except CorruptImageError:
                if not repairing:
                    raise
                self.overlap, self._refcounts, self._damaged = MetadataMap(), None, True

    @property
    def refcounts(self) -> Refcounts:
        """The reference counts of a writable image."""
        assert self._refcounts is not None, "a read-only image has no use for its counts"
        return self._refcounts

    def _load_counts(self) -> None:
        """Load the refcount table, and note where metadata lies."""
        fixed, bits = self.header.fixed, self.geometry.cluster_bits
        self.overlap.add(0)
        self._refcounts = Refcounts(
            self.file, self.geometry, fixed.refcount_table_offset, fixed.refcount_table_clusters, self.overlap
        )
        self._note("qcow2 L1 table", fixed.l1_table_offset, fixed.l1_size * 8)
        shared = MetadataMap()
        for index, entry in enumerate(self.mapping.l1):
            offset = self.mapping.l2_offset(index) if entry else 0
            if not offset:
                continue
            if offset >> bits in shared:
                if entry & COPIED:
                    raise self.corrupt(
                        f"two L1 entries share the table, and entry {index} calls it its own",
                        where="qcow2 L2 table",
                        offset=offset,
                    )
                continue
            self._note("qcow2 L2 table", offset, 1)
            if not entry & COPIED:
                shared.add(offset >> bits)
        if fixed.nb_snapshots:
            self._note_snapshots(shared)

    def _note_snapshots(self, shared: MetadataMap) -> None:
        """Note where the snapshot table and the L1 tables it names lie."""
        from blockkit.formats.qcow2.snapshots import read_snapshots, table_size

        snapshots = read_snapshots(self.file, self.header)
        self._note("qcow2 snapshot table", self.header.fixed.snapshots_offset, table_size(snapshots))
        for snapshot in snapshots:
            offset, size = snapshot.l1_table_offset, snapshot.l1_size * 8
            if size > MAX_L1_SIZE or offset & (self.geometry.cluster_size - 1):
                raise self.corrupt(
                    f"the L1 table of snapshot {snapshot.id!r} has {size} bytes at {offset:#x}, "
                    f"not at most {MAX_L1_SIZE} at the start of a cluster",
                    where="qcow2 snapshot table",
                    offset=snapshot.entry_offset,
                )
            self._note("qcow2 snapshot L1 table", offset, size)

    def _note(self, what: str, offset: int, length: int) -> None:
        """Note that ``length`` bytes at ``offset`` are metadata, which must lie in the file, and alone."""
        clusters, first = self.geometry.clusters(length), offset >> self.geometry.cluster_bits
        if not clusters:
            return
        if first + clusters > self.geometry.clusters(self.file.size):
            raise self.corrupt("it reaches behind the end of the file", where=what, offset=offset)
        if self.overlap.first_in(first, clusters) is not None:
            raise self.corrupt("it overlaps other metadata", where=what, offset=offset)
        self.overlap.add(first, clusters)

    # -- the header --------------------------------------------------------------------------------------

    def write_header(self) -> None:
        """Write the fixed fields of the header, which lie in one sector."""
        self._header_dirty = True
        self.file.push(0, [memoryview(self.header.fixed.build())])
        self._header_dirty = False

    def set_features(self, *, incompatible: int | None = None, autoclear: int | None = None) -> None:
        """Change feature bits and make them durable; version 2 has none."""
        fixed = self.header.fixed
        if fixed.version < 3:
            return
        if incompatible is not None:
            fixed = replace(fixed, incompatible_features=incompatible)
        if autoclear is not None:
            fixed = replace(fixed, autoclear_features=autoclear)
        if fixed != self.header.fixed or self._header_dirty:
            self.header.fixed = fixed
            self.write_header()
            self._header_dirty = True
            self.file.flush()
            self._header_dirty = False

    def arm(self) -> None:
        """Prepare the image for its first change since it was opened.

        Raises:
            CorruptImageError: it is known to be damaged, or to have counts that may be too low.
        """
        if self.armed:
            return
        header = self.header
        if self._damaged or header.incompatible & Incompatible.CORRUPT:
            raise CorruptImageError("it is marked corrupt; repair it before writing to it", where="qcow2 header")
        if header.incompatible & Incompatible.DIRTY and not self._lazy:
            raise CorruptImageError(
                "it was not closed and its reference counts may be wrong; repair it before writing to it",
                where="qcow2 header",
            )
        if header.autoclear & Autoclear.BITMAPS:
            from blockkit.formats.qcow2.bitmaps import mark_in_use

            mark_in_use(self.file, header, self.marked_bitmaps)
        known = header.autoclear & _KNOWN_AUTOCLEAR
        incompatible = header.incompatible
        if header.compatible & Compatible.LAZY_REFCOUNTS:
            incompatible |= Incompatible.DIRTY
            self._lazy = True
        self.set_features(incompatible=int(incompatible), autoclear=int(known))
        self.armed = True

    def retire(self) -> None:
        """Refuse changes from now on: the file is about to be changed behind this object's back."""
        self._damaged, self.armed = True, False

    def corrupt(self, problem: str, *, where: str, offset: int | None = None) -> CorruptImageError:
        """Mark a writable image corrupt, and return the error to raise; nothing is allocated in it any more."""
        if self._refcounts is not None and not self._repairing:
            self._damaged, self.armed = True, False
            try:
                self.set_features(incompatible=int(self.header.incompatible | Incompatible.CORRUPT))
            except BlockkitError:
                pass  # the damage found is what must be reported
        return CorruptImageError(problem, where=where, offset=offset)

    # -- clusters ------------------------------------------------------------------------------------------

    def guard(self, host: int, clusters: int) -> None:
        """Refuse to write guest data over metadata."""
        found = self.overlap.first_in(host >> self.geometry.cluster_bits, clusters)
        if found is not None:
            raise self.corrupt(
                "guest data is mapped onto metadata",
                where="qcow2 cluster",
                offset=found << self.geometry.cluster_bits,
            )

    def writable_table(self, l1_index: int) -> L2Table:
        """Return an L2 table that may be changed."""
        return self.mapping.for_writing(l1_index, self.refcounts, self.overlap)

    def set_entries(self, l1_index: int, index: int, new: array[int]) -> None:
        """Replace L2 entries from ``index`` on; clusters the old ones referred to are released."""
        table = self.writable_table(l1_index)
        words = self.geometry.l2_words
        start, end = index * words, index * words + len(new)
        old = table.entries[start:end]
        if old == new:
            return
        dropped = list(self._dropped(old[::words], new[::words]))
        for first, count in dropped:
            self.guard(first << self.geometry.cluster_bits, count)
        table.entries[start:end] = new
        self.mapping.touched(l1_index, table, start, end)
        for first, count in dropped:
            self.refcounts.release(first, count)

    def _dropped(self, old: array[int], new: array[int]) -> Iterator[tuple[int, int]]:
        """Yield the runs of clusters that ``old`` entries refer to, except where ``new`` keeps them."""
        bits = self.geometry.cluster_bits
        first, count = 0, 0
        for entry, replacement in zip(old, new, strict=True):
            if not entry:
                continue
            if entry & COMPRESSED:
                touched = self.geometry.compressed_clusters(entry)
                yield touched[0], len(touched)
                continue
            host = entry & OFFSET_MASK
            if not host or (host == replacement & OFFSET_MASK and not replacement & COMPRESSED):
                continue
            cluster = host >> bits
            if cluster == first + count:
                count += 1
                continue
            if count:
                yield first, count
            first, count = cluster, 1
        if count:
            yield first, count

    # -- writing it all, in order ----------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether the file lacks anything that is in memory and that a flush must write."""
        if self._refcounts is None:
            return False
        refcounts = self._refcounts
        return (
            self.mapping.dirty or refcounts.has_releases or self._header_dirty or (not self._lazy and refcounts.dirty)
        )

    def commit(self, *, closing: bool = False) -> None:
        """Write all changed metadata in order. The last writes are not flushed here.

        Args:
            closing: Write lazy refcounts too.
        """
        if self._refcounts is None:
            return
        refcounts, mapping = self._refcounts, self.mapping
        if self._header_dirty:
            self.write_header()
        # Even a lazy image must not lose its refcount table: the old one's clusters are about to be free.
        if not self._lazy or closing or refcounts.moved:
            self._write_counts(refcounts)
        mapping.write_fresh()
        if mapping.dirty:
            self.barrier()
            mapping.write_tables()
        if refcounts.has_releases:
            self.file.flush()
            self._released()
            self._give_back(refcounts.apply_releases())
            if closing:
                self._write_counts(refcounts)

    def commit_if_large(self) -> None:
        """Write changed tables out once there are many, so that memory and the next flush stay bounded."""
        if self.mapping.dirty_size > _MAX_DIRTY:
            self.commit()

    def barrier(self) -> None:
        """Make everything written so far durable, guest data included."""
        self.file.flush()
        if self.data is not self.file:
            self.data.flush()

    def _write_counts(self, refcounts: Refcounts) -> None:
        refcounts.write_blocks()
        if refcounts.table_dirty:
            self.file.flush()
            refcounts.write_table()
            if refcounts.moved:
                self.file.flush()
                self.header.fixed = replace(
                    self.header.fixed,
                    refcount_table_offset=refcounts.table_offset,
                    refcount_table_clusters=refcounts.table_clusters,
                )
                self.write_header()
                refcounts.moved = False

    def _give_back(self, freed: list[tuple[int, int]]) -> None:
        """Return the space of freed clusters to the file below; one that cannot take it back keeps it."""
        bits = self.geometry.cluster_bits
        for first, count in freed:
            start = first << bits
            length = min(count << bits, self.file.size - start)
            if length > 0:
                try:
                    self.file.discard(start, length)
                except BlockkitError:
                    return  # a hint that was not taken

    def close(self) -> None:
        """Write everything, and mark the image clean; a change after that makes it dirty again."""
        if self._refcounts is None:
            return
        self.commit(closing=True)
        self.file.flush()
        if self._lazy and not self._damaged:
            self.set_features(incompatible=int(self.header.incompatible & ~Incompatible.DIRTY))
            self.armed = self._lazy = False
