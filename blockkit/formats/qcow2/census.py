"""Counting how often each host cluster is referred to, straight from the tables.

The fast paths handle whole tables: entries that are as they should be never meet a Python function of their own.
Memory is one byte for each cluster of the file, touched only where something refers to it.
"""

from __future__ import annotations

import sys
from array import array
from functools import cached_property
from itertools import compress
from operator import ne, sub
from typing import TYPE_CHECKING, Final

from blockkit.block.report import CheckReport, Severity
from blockkit.block.tables import decode_u64, encode_u64
from blockkit.block.zeros import is_zero
from blockkit.errors import CorruptImageError, ImageError, NodeError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.bitmaps import ALL_ONES, TABLE_RESERVED_MASK, bitmaps_extension, read_bitmaps
from blockkit.formats.qcow2.schema import (
    COMPRESSED,
    COMPRESSED_SECTOR,
    COPIED,
    L1_RESERVED_MASK,
    L2_RESERVED_MASK,
    OFFSET_MASK,
    ZERO,
    Incompatible,
)
from blockkit.formats.qcow2.snapshots import V3_EXTRA_SIZE, Snapshot, read_snapshots, table_size
from blockkit.units import MiB, align_up, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.header import HeaderCluster

#: Clusters of a file that can be checked, a file of 64 TiB with 64 KiB clusters. Two bytes of memory each, at worst.
MAX_CLUSTERS: Final = 1 << 30

#: Bytes of tables read beyond twice the file size before an image is given up: only tables that overlap get there.
_SPARE_BUDGET: Final = 64 * MiB

#: Tables are read in pieces of this many bytes.
_PIECE: Final = 1 << 18

#: What a byte of :attr:`Census.refs` can hold; the rest is in :attr:`Census.spill`.
_FULL: Final = 255

_ALLOCATED_SUBCLUSTERS: Final = 0xFFFF_FFFF


class Census:
    """The references to each host cluster that an image's tables make.

    Findings about the tables themselves go to ``report``; comparing with the stored counts is up to the caller.

    Args:
        file: What holds the image.
        header: Of the image.
        report: Takes findings, and the counts of allocated, fragmented and compressed clusters.
        mending: Entries that a repair will change count as changed.
        progress: Called with the L2 tables done and those there are.

    Attributes:
        refs: References to each cluster, up to 255.
        spill: Cluster -> references above 255; the place for clusters after the last, too.
        clusters: Clusters of the file, the last perhaps not whole.
        l2_tables: Offset of each L2 table -> L1 entries that point to it.
        uncopied: Whether an entry in use by the disk lacks the COPIED flag.
        misplaced: Offsets of L2 tables with unaligned entries that need no data, so can be mended.
        snapshots: The snapshot table.
        rewrite_snapshots: Whether the snapshot table has entries that must be written anew.
        failed: Something could not be counted: the stored counts cannot be judged.
    """

    def __init__(
        self,
        file: Node,
        header: HeaderCluster,
        report: CheckReport,
        *,
        mending: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.file, self.header, self.report = file, header, report
        self._mending, self._progress = mending, progress
        self.geometry = geometry = header.geometry
        self._bits, self._cluster_size = geometry.cluster_bits, geometry.cluster_size
        # A file ends with a whole sector, as far as its image is concerned.
        self.end = align_up(file.size, COMPRESSED_SECTOR)
        self.clusters = geometry.clusters(self.end)
        if self.clusters > MAX_CLUSTERS:
            raise CorruptImageError(
                f"the file has {self.clusters} clusters, more than the {MAX_CLUSTERS} that can be checked",
                where="qcow2 image",
            )
        self._budget = 2 * self.end + _SPARE_BUDGET
        self.refs = bytearray(self.clusters)
        self.spill: dict[int, int] = {}
        self.l2_tables: dict[int, int] = {}
        self._active_l2: dict[int, int] = {}
        self.uncopied = False
        self.misplaced: set[int] = set()
        self.snapshots: list[Snapshot] = []
        self.rewrite_snapshots = False
        self.failed = False
        self._data_file = bool(header.incompatible & Incompatible.DATA_FILE)
        unaligned = OFFSET_MASK & (self._cluster_size - 1)
        # Version 2 has no zero flag.
        self._reserved = L2_RESERVED_MASK | (ZERO if header.fixed.version < 3 else 0)
        #: Bits that make an entry a subject for :meth:`_walk_each`.
        self._flaws = self._reserved | unaligned
        #: Bits an entry must not have to be, apart from COPIED, nothing but the offset of a cluster.
        self._inexact = ((1 << 64) - 1) & ~(OFFSET_MASK & ~unaligned)

    # -- what refers to clusters -----------------------------------------------------------------------

    def run(self, *, refcounts: bool = True, snapshot_table: bool = True) -> None:
        """Count all references.

        Args:
            refcounts: Those to the refcount table, too. (Its blocks are the caller's to count.)
            snapshot_table: Those to the snapshot table, too.
        """
        fixed = self.header.fixed
        self.report.total_clusters = self.geometry.clusters(fixed.size // COMPRESSED_SECTOR * COMPRESSED_SECTOR)
        if not self._read_snapshots():
            return
        try:
            self.claim(0, self._cluster_size, "qcow2 header")
            self._walk_l1(fixed.l1_table_offset, fixed.l1_size, "active L1 table", active=True)
            self._walk_snapshots()
            if snapshot_table and self.snapshots:
                self.claim(fixed.snapshots_offset, table_size(self.snapshots), "snapshot table")
            if refcounts:
                size = fixed.refcount_table_clusters * self._cluster_size
                self.claim(fixed.refcount_table_offset, size, "refcount table")
            self._walk_bitmaps()
            self._walk_l2_tables()
        except CorruptImageError as error:
            self._fail(str(error))

    def count(self, cluster: int) -> int:
        """Return the references to ``cluster``."""
        return (self.refs[cluster] if cluster < self.clusters else 0) + self.spill.get(cluster, 0)

    def limit(self) -> int:
        """Return the number of clusters whose counts matter: one more than the file has, if something reaches there."""
        return self.clusters + (self.clusters in self.spill)

    def claim(self, offset: int, size: int, what: str, times: int = 1) -> bool:
        """Count a reference to every cluster that ``size`` bytes at ``offset`` touch; False if they are not there."""
        if size <= 0:
            return True
        # The last cluster of the file may be cut short.
        if offset + size - self.end >= self._cluster_size:
            self.add(
                Severity.CORRUPTION,
                what,
                f"{size} bytes reach past the end of the file",
                offset,
                count=times,
            )
            return False
        self._claim_clusters(offset >> self._bits, (offset + size - 1 >> self._bits) + 1, times)
        return True

    def add(self, severity: Severity, what: str, problem: str, offset: int | None = None, *, count: int = 1) -> None:
        """Record a finding ``count`` times."""
        if count:
            self.report.add(severity, what, problem, offset=offset, count=count)

    def _fail(self, problem: str, what: str = "qcow2 image") -> None:
        self.failed = True
        self.add(Severity.ERROR, what, problem)

    def _claim_clusters(self, first: int, last: int, times: int) -> None:
        """Count references to clusters ``[first, last)``, all in the file but perhaps one behind it."""
        refs = self.refs
        size = last - first
        if times < _FULL and last <= self.clusters and refs.count(0, first, last) == size:
            refs[first:last] = bytes((times,)) * size
            return
        for cluster in range(first, last):
            self._count(cluster, times)

    def _count(self, cluster: int, times: int) -> None:
        """Count references to one cluster, past what a byte can hold if need be."""
        if cluster < self.clusters:
            total = self.refs[cluster] + times
            if total <= _FULL:
                self.refs[cluster] = total
                return
            self.refs[cluster] = _FULL
            times = total - _FULL
        self.spill[cluster] = self.spill.get(cluster, 0) + times

    # -- tables of 64-bit words ------------------------------------------------------------------------

    def words(self, offset: int, entries: int) -> Iterator[tuple[int, int]]:
        """Yield ``(index, word)`` of the words that are not 0; those past the end of the file are."""
        entries = max(0, min(entries, (self.end - offset) // 8))
        self._spend(entries * 8)
        for start in range(0, entries, _PIECE // 8):
            data = self.file.pull_bytes(offset + start * 8, min(_PIECE, (entries - start) * 8))
            if not is_zero(memoryview(data)):
                for index, word in enumerate(decode_u64(data, "big"), start):
                    if word:
                        yield index, word

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise CorruptImageError(
                f"there are more tables than a file of {format_size(self.end)} can hold: they overlap",
                where="qcow2 image",
            )

    def _walk_l1(self, offset: int, entries: int, what: str, *, active: bool) -> None:
        """Count an L1 table and its L2 tables; the latter are walked later, each once."""
        self.claim(offset, entries * 8, what)
        for index, entry in self.words(offset, entries):
            at = offset + index * 8
            if entry & L1_RESERVED_MASK:
                self.add(Severity.CORRUPTION, what, f"entry {index} is {entry:#x}, with reserved bits set", at)
            l2 = entry & OFFSET_MASK
            there = self.claim(l2, self._cluster_size, f"L2 table of entry {index} of the {what}")
            if l2 & (self._cluster_size - 1):
                self.add(
                    Severity.CORRUPTION,
                    what,
                    f"entry {index} points to {l2:#x}, not a multiple of the cluster size {self._cluster_size:#x}",
                    at,
                )
            if active:
                self.uncopied |= not entry & COPIED
            if there:
                self.l2_tables[l2] = self.l2_tables.get(l2, 0) + 1
                if active:
                    self._active_l2[l2] = self._active_l2.get(l2, 0) + 1

    def _read_snapshots(self) -> bool:
        """Read and judge the snapshot table; False if it cannot be read."""
        try:
            self.snapshots = read_snapshots(self.file, self.header, any_extra=self._mending)
        except ImageError as error:
            self._fail(str(error), "snapshot table")
            return False
        low = V3_EXTRA_SIZE if self.header.fixed.version >= 3 else 0
        for snapshot in self.snapshots:
            if not low <= snapshot.extra_data_size <= schema.MAX_SNAPSHOT_EXTRA_SIZE:
                self.rewrite_snapshots = True
                self.add(
                    Severity.CORRUPTION,
                    "snapshot table",
                    f"extra_data_size of snapshot {snapshot} is {snapshot.extra_data_size}, "
                    f"not from {low} to {schema.MAX_SNAPSHOT_EXTRA_SIZE}",
                    snapshot.entry_offset,
                )
        return True

    def _walk_snapshots(self) -> None:
        if self._data_file and self.snapshots:
            self.add(Severity.CORRUPTION, "snapshot table", "there are snapshots, but guest data is in another file")
        for snapshot in self.snapshots:
            if snapshot.l1_table_offset & (self._cluster_size - 1):
                problem = (
                    f"l1_table_offset of snapshot {snapshot} is {snapshot.l1_table_offset:#x}, "
                    f"not a multiple of the cluster size {self._cluster_size:#x}"
                )
            elif snapshot.l1_size * 8 > schema.MAX_L1_SIZE:
                problem = f"l1_size of snapshot {snapshot} is {snapshot.l1_size}, not at most {schema.MAX_L1_SIZE // 8}"
            else:
                what = f"L1 table of snapshot {snapshot}"
                self._walk_l1(snapshot.l1_table_offset, snapshot.l1_size, what, active=False)
                continue
            self.add(Severity.CORRUPTION, "snapshot table", problem, snapshot.entry_offset)

    def _walk_bitmaps(self) -> None:
        try:
            extension = bitmaps_extension(self.header)
            if extension is None:
                return
            offset, size = extension.bitmap_directory_offset, extension.bitmap_directory_size
            self.claim(offset, size, "bitmap directory")
            bitmaps = read_bitmaps(self.file, self.header)
        except ImageError as error:
            self.failed = True
            self.add(Severity.CORRUPTION, "bitmap directory", str(error))
            return
        for bitmap in bitmaps:
            what = f"table of bitmap {bitmap.name!r}"
            self.claim(bitmap.table_offset, bitmap.table_size * 8, what)
            for index, entry in self.words(bitmap.table_offset, bitmap.table_size):
                offset = entry & OFFSET_MASK
                wrong = entry & TABLE_RESERVED_MASK
                if wrong or offset & (self._cluster_size - 1) or (offset and entry & ALL_ONES):
                    self.failed = True
                    self.add(
                        Severity.CORRUPTION,
                        what,
                        f"entry {index} is {entry:#x}, not the offset of a cluster, nor 0 or 1",
                        bitmap.table_offset + index * 8,
                    )
                elif offset:
                    self.claim(offset, self._cluster_size, f"cluster of bitmap {bitmap.name!r}")

    @cached_property
    def _stride(self) -> tuple[int, int] | None:
        """A table of offsets 0, 1, 2 ... clusters, and one of ones, as numbers; None where entries are not offsets."""
        if self.geometry.extended_l2 or self._data_file:
            return None
        entries, size = self.geometry.l2_entries, self._cluster_size
        steps = encode_u64(array("Q", range(0, entries * size, size)), "big")
        ones = encode_u64(array("Q", [1]) * entries, "big")
        return int.from_bytes(steps, "big"), int.from_bytes(ones, "big")

    # -- L2 tables -------------------------------------------------------------------------------------

    def _walk_l2_tables(self) -> None:
        """Count what the L2 tables refer to; a table with several owners is walked once."""
        total = len(self.l2_tables)
        for done, offset in enumerate(sorted(self.l2_tables)):
            if self._progress is not None:
                self._progress(done, total)
            self._spend(self._cluster_size)
            try:
                data = self.file.pull_bytes(offset, self._cluster_size)
            except NodeError as error:
                self._fail(f"cannot be read: {error}", f"L2 table at {offset:#x}")
                continue
            times, active = self.l2_tables[offset], self._active_l2.get(offset, 0)
            if not self._walk_contiguous(data, times, active):
                self._walk_l2(offset, decode_u64(data, "big"), times, active)
        if self._progress is not None:
            self._progress(total, total)

    def _walk_contiguous(self, data: bytes, times: int, active: int) -> bool:
        """Count what a table refers to if that is one run of clusters without a gap; else tell that it is not."""
        size = len(data) // 8
        first, last = int.from_bytes(data[:8], "big"), int.from_bytes(data[-8:], "big")
        if (first ^ COPIED) & self._inexact or last - first != (size - 1) << self._bits or self._stride is None:
            return False
        steps, ones = self._stride
        # One long addition makes all the words there should be.
        if (steps + first * ones).to_bytes(len(data), "big") != data:
            return False
        cluster = (first ^ COPIED) >> self._bits
        if not cluster or cluster + size > self.clusters:
            return False
        self.report.allocated_clusters += size * active
        self._claim_clusters(cluster, cluster + size, times)
        return True

    def _walk_l2(self, offset: int, table: array[int], times: int, active: int) -> None:
        """Count what a table refers to, on behalf of ``times`` owners, ``active`` of them the disk's."""
        if self.geometry.extended_l2 or self._data_file:
            self._walk_each(offset, table, times, active)
            return
        entries = list(filter(None, table))
        if not entries:
            return
        bits, inexact = self._bits, self._inexact
        if entries[0] & COMPRESSED and min(entries) >= COMPRESSED and max(entries) < COPIED:
            self._count_compressed(offset, entries, times, active)
            return
        if COPIED not in entries and not [e for e in entries if (e ^ COPIED) & inexact]:
            # All there is: clusters of data, owned by nobody else.
            clusters = [(e ^ COPIED) >> bits for e in entries]
        else:
            flaws, compressed = self._flaws, [e for e in entries if e & COMPRESSED]
            if compressed:
                if [e for e in compressed if e & COPIED]:
                    self._walk_each(offset, table, times, active)
                    return
                entries = [e for e in entries if not e & COMPRESSED]
            if [e for e in entries if e & flaws]:
                self._walk_each(offset, table, times, active)
                return
            entries = [e for e in entries if e & OFFSET_MASK]
            clusters = [(e & OFFSET_MASK) >> bits for e in entries]
            if active and not self.uncopied:
                self.uncopied = any(e < COPIED for e in entries)
            if compressed:
                self._count_compressed(offset, compressed, times, active)
        if clusters:
            self._count_standard(offset, clusters, times, active)

    def _count_standard(self, offset: int, clusters: list[int], times: int, active: int) -> None:
        """Count references to clusters of data, in the order of their table."""
        first, size = clusters[0], len(clusters)
        self.report.allocated_clusters += size * active
        contiguous = range(first, first + size)
        if clusters[-1] == contiguous[-1] and contiguous.stop <= self.clusters and clusters == list(contiguous):
            self._claim_clusters(first, contiguous.stop, times)
            return
        refs, follower, fragments, cluster = self.refs, first, 0, first
        rest = iter(clusters)
        while True:
            try:
                for cluster in rest:
                    if cluster != follower:
                        fragments += 1
                    follower = cluster + 1
                    refs[cluster] += times
                break
            except ValueError:
                self._count(cluster, times)
            except IndexError:
                self._beyond(offset, cluster << self._bits, times)
        self.report.fragmented_clusters += fragments * active

    def _count_compressed(self, offset: int, entries: list[int], times: int, active: int) -> None:
        """Count references to the clusters that hold compressed ones."""
        report, refs = self.report, self.refs
        report.allocated_clusters += len(entries) * active
        report.compressed_clusters += len(entries) * active
        # They share sectors, so reading one after the other is never contiguous.
        report.fragmented_clusters += len(entries) * active
        firsts, lasts = self._compressed_clusters(entries)
        seconds = list(compress(lasts, map(ne, firsts, lasts)))
        if max(lasts) >= self.clusters or max(map(sub, lasts, firsts)) > 1:
            for entry in entries:
                host, length = self.geometry.compressed_range(entry)
                self.claim(host, length, f"compressed cluster of the L2 table at {offset:#x}", times)
            return
        for clusters in (firsts, seconds):
            cluster, rest = 0, iter(clusters)
            while True:
                try:
                    for cluster in rest:
                        refs[cluster] += times
                    break
                except ValueError:
                    self._count(cluster, times)

    def _compressed_clusters(self, entries: list[int]) -> tuple[array[int], array[int]]:
        """Return the first and the last cluster that each of the entries refers to.

        All entries are taken for one long number: a shift or a mask of it is one for each of them.
        """
        size, bits = len(entries), self._bits
        shift = 62 - (bits - 8)
        number = int.from_bytes(array("Q", entries).tobytes(), sys.byteorder)
        ones = int.from_bytes((array("Q", [1]) * size).tobytes(), sys.byteorder)
        hosts = number & ones * ((1 << shift) - 1)
        sectors = number >> shift & ones * ((1 << 62 - shift) - 1)
        # The last byte of the first sector, and as many sectors more as the entry says.
        ends = (hosts | ones * (COMPRESSED_SECTOR - 1)) + sectors * COMPRESSED_SECTOR
        whole = ones * ((1 << 64 - bits) - 1)

        def split(offsets: int) -> array[int]:
            return array("Q", (offsets >> bits & whole).to_bytes(size * 8, sys.byteorder))

        return split(hosts), split(ends)

    def _beyond(self, offset: int, host: int, times: int) -> None:
        self.add(
            Severity.CORRUPTION,
            "L2 table",
            f"an entry points to {host:#x}, past the end of the file",
            offset,
            count=times,
        )

    def _walk_each(self, offset: int, table: array[int], times: int, active: int) -> None:
        """Do what :meth:`_walk_l2` does entry by entry: for tables that have something wrong, or two words an entry."""
        words = self.geometry.l2_words
        subclusters = table[1::2] if words == 2 else None
        follower = 0
        for index, entry in enumerate(table[::words]):
            bitmap = subclusters[index] if subclusters is not None else 0
            if not entry and not bitmap:
                continue
            at = offset + index * 8 * words
            if entry & COMPRESSED:
                if self._judge_compressed(index, at, entry, bitmap, times):
                    self._count_compressed(offset, [entry & ~COPIED], times, active)
                continue
            self._judge_standard(index, at, entry, bitmap, times)
            host = entry & OFFSET_MASK
            if not host and not (self._data_file and entry & COPIED and (words == 2 or not entry & ZERO)):
                continue
            if active and not entry & COPIED:
                self.uncopied = True
            if host & (self._cluster_size - 1) and self._judge_unaligned(index, at, offset, entry, bitmap, times):
                continue
            self.report.allocated_clusters += active
            if follower and host != follower:
                self.report.fragmented_clusters += active
            follower = host + self._cluster_size
            if not self._data_file:
                self.claim(host, self._cluster_size, f"cluster of entry {index} of the L2 table", times)

    def _judge_standard(self, index: int, at: int, entry: int, bitmap: int, times: int) -> None:
        def wrong(problem: str) -> None:
            self.add(Severity.CORRUPTION, "L2 table", f"entry {index} is {entry:#x}, {problem}", at, count=times)

        if entry & self._reserved:
            wrong("with reserved bits set")
        if bitmap >> 32 & bitmap and entry & OFFSET_MASK:
            wrong(f"with subclusters that are both allocated and zero: {bitmap:#x}")
        if bitmap & _ALLOCATED_SUBCLUSTERS and not entry & OFFSET_MASK and not self._data_file:
            wrong(f"without a cluster, but with subclusters: {bitmap:#x}")

    def _judge_compressed(self, index: int, at: int, entry: int, bitmap: int, times: int) -> bool:
        """Judge a compressed cluster's entry; tell whether what it refers to is to be counted."""

        def wrong(problem: str) -> None:
            self.add(Severity.CORRUPTION, "L2 table", f"entry {index} is {entry:#x}, {problem}", at, count=times)

        if entry & COPIED:
            wrong("a compressed cluster with the copied flag")
        if self._data_file:
            wrong("a compressed cluster, but guest data is in another file")
            return False
        if bitmap:
            wrong(f"a compressed cluster with subclusters: {bitmap:#x}")
            return False
        return True

    def _judge_unaligned(self, index: int, at: int, offset: int, entry: int, bitmap: int, times: int) -> bool:
        """Record an unaligned entry; tell whether a repair will make it one without a cluster."""
        if self.geometry.extended_l2:
            needed = bool(bitmap & _ALLOCATED_SUBCLUSTERS)
        else:
            needed = not entry & ZERO or self.header.fixed.version < 3
        # A table that is not where tables lie is no table: nothing is ever written there.
        mended = self._mending and not needed and not offset & (self._cluster_size - 1)
        self.add(
            Severity.CORRUPTION,
            "L2 table",
            f"entry {index} points to {entry & OFFSET_MASK:#x}, "
            f"not a multiple of the cluster size {self._cluster_size:#x}",
            at,
            count=1 if mended else times,
        )
        if mended:
            self.misplaced.add(offset)
        return mended
