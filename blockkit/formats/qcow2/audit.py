"""Comparing the reference counts an image stores with the references it makes.

Whole refcount blocks are compared as bytes; only where they differ are counts looked at one by one.
"""

from __future__ import annotations

from array import array
from itertools import compress, count
from operator import gt, ne
from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.report import MAX_FINDINGS, CheckReport, Severity
from blockkit.block.tables import decode_u64, read_u64_table
from blockkit.formats.qcow2.census import Census
from blockkit.formats.qcow2.counts import decode_counts, encode_counts
from blockkit.formats.qcow2.schema import (
    COMPRESSED,
    COPIED,
    OFFSET_MASK,
    REFCOUNT_TABLE_RESERVED_MASK,
    ZERO,
    Incompatible,
)
from blockkit.units import MAX_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.header import HeaderCluster

#: What :meth:`Audit.owners` says of a cluster.
SHARED, OWNED, UNKNOWN = range(3)


class Flag(NamedTuple):
    """A COPIED flag that does not agree with the count of the cluster its entry points to.

    Attributes:
        at: Where the entry lies, bytes.
        entry: As it is.
        mended: As it should be.
        table: Where the L2 table of the entry starts, bytes; None for an L1 entry.
        times: L1 entries of the disk that point to that table.
    """

    at: int
    entry: int
    mended: int
    table: int | None
    times: int = 1


class Audit:
    """One look at all of an image's metadata. It changes nothing.

    Args:
        file: What holds the image.
        header: Of the image.
        mending: Count entries that a repair will change as changed.
        progress: Called with the L2 tables done and those there are.

    Attributes:
        report: What was found.
        census: The references.
        table: The refcount table.
        differing: Numbers of the refcount blocks, there or not, whose counts are wrong.
        unsound: The refcount table or its blocks cannot be mended where they are.
        uncounted: A cluster that is referred to has a count of 0, or may have one.
    """

    def __init__(
        self,
        file: Node,
        header: HeaderCluster,
        *,
        mending: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.file, self.header, self.geometry = file, header, header.geometry
        self.report = CheckReport()
        self.census = census = Census(file, header, self.report, mending=mending, progress=progress)
        self.table: array[int] = array("Q")
        self.differing: list[int] = []
        self.unsound = self.uncounted = False
        self._unreadable: set[int] = set()
        self._spilled: dict[int, list[int]] = {}
        self._last_stored = 0
        self._data_file = bool(header.incompatible & Incompatible.DATA_FILE)
        census.run()
        if not census.failed:
            self._read_table()
            for cluster in census.spill:
                self._spilled.setdefault(cluster >> self.geometry.refcount_block_bits, []).append(cluster)
            self._judge_overflows()
            self._compare()
            self.report.image_end_offset = (self._last_cluster() + 1) * self.geometry.cluster_size

    @property
    def failed(self) -> bool:
        """Whether the image could not be judged as a whole."""
        return self.census.failed

    # -- the refcount structure --------------------------------------------------------------------------

    def _add(self, severity: Severity, what: str, problem: str, offset: int | None, number: int = 1) -> None:
        self.report.add(severity, what, problem, offset=offset, count=number)

    def _read_table(self) -> None:
        """Read the refcount table, and count the references to its blocks."""
        fixed, census, geometry = self.header.fixed, self.census, self.geometry
        start, size = fixed.refcount_table_offset, geometry.cluster_size
        self.table = read_u64_table(self.file, start, fixed.refcount_table_clusters * size // 8, "big")
        first = start >> geometry.cluster_bits
        for cluster in range(first, first + fixed.refcount_table_clusters):
            self.unsound |= census.count(cluster) != 1
        for index in compress(count(), self.table):
            entry = self.table[index]
            outside = entry >> geometry.cluster_bits >= census.limit()
            if entry & REFCOUNT_TABLE_RESERVED_MASK:
                problem = f"entry {index} is {entry:#x}, with reserved bits set"
            elif entry & (size - 1):
                problem = f"entry {index} points to {entry:#x}, not a multiple of the cluster size {size:#x}"
            elif outside:
                problem = f"entry {index} points to {entry:#x}, past the end of the file"
            else:
                census.claim(entry, size, "refcount block")
                references = census.count(entry >> geometry.cluster_bits)
                self.unsound |= references != 1
                if min(references, geometry.refcount_max) == 1:
                    continue  # one that is shared is reported as more than its count can hold
                problem = f"block {index} has {references} references, not 1"
            self.unsound = True
            # A block past the end counts nothing; whether that matters shows when counts are compared.
            self.uncounted |= not outside or bool(entry & (size - 1))
            self._add(Severity.CORRUPTION, "refcount table", problem, start + index * 8)

    def _judge_overflows(self) -> None:
        """Report clusters with more references than a count can hold."""
        highest, census, bits = self.geometry.refcount_max, self.census, self.geometry.cluster_bits

        def judge(cluster: int) -> None:
            references = census.count(cluster)
            if references > highest:
                self._add(
                    Severity.CORRUPTION,
                    "host cluster",
                    f"it has {references} references, more than the {highest} that its count can hold",
                    cluster << bits,
                    references - highest,
                )

        if highest < 255 and census.refs.translate(None, bytes(range(highest + 1))):
            over = census.refs.translate(bytes(value > highest for value in range(256)))
            for cluster in compress(count(), over):
                judge(cluster)
            for cluster in census.spill:
                if cluster >= census.clusters:
                    judge(cluster)
        else:
            for cluster in census.spill:
                judge(cluster)

    # -- comparing ---------------------------------------------------------------------------------------

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield ``(number, clusters)`` of the refcount blocks, there or not, that count clusters of the file."""
        limit, bits, refs = self.census.limit(), self.geometry.refcount_block_bits, self.census.refs
        end = len(self.table) << bits
        if end < limit == len(refs) and refs.count(0, end) == limit - end:
            # Past the end of the table nothing is counted, and nothing is referred to.
            limit = end
        for number in range((limit + (1 << bits) - 1) >> bits):
            yield number, min(1 << bits, limit - (number << bits))

    def expected(self, number: int, clusters: int) -> bytes:
        """Return the first ``clusters`` counts of refcount block ``number`` as they should be stored."""
        first, highest, order = (
            number << self.geometry.refcount_block_bits,
            self.geometry.refcount_max,
            self.geometry.refcount_order,
        )
        counts = self.census.refs[first : first + clusters].ljust(clusters, b"\0")
        if order < 3:
            saturated = counts.translate(bytes(min(value, highest) for value in range(256)))
            return encode_counts(array("B", bytes(saturated.ljust(-(-clusters // 8) * 8, b"\0"))), order)
        width = 1 << (order - 3)
        if width > 1:
            low, counts = counts, bytearray(clusters * width)
            counts[width - 1 :: width] = low
        for cluster in self._spilled.get(number, ()):
            at = (cluster - first) * width
            counts[at : at + width] = min(self.census.count(cluster), highest).to_bytes(width, "big")
        return bytes(counts)

    def stored(self, number: int) -> bytes | None:
        """Return refcount block ``number`` as it is; None if there is none."""
        entry = self._block_offset(number)
        return self.file.pull_bytes(entry, self.geometry.cluster_size) if entry else None

    def _block_offset(self, number: int) -> int:
        return self.table[number] & ~REFCOUNT_TABLE_RESERVED_MASK if number < len(self.table) else 0

    def _is_readable(self, number: int) -> bool:
        """Tell whether refcount block ``number`` is where a block can be, or nowhere."""
        offset = self._block_offset(number)
        return not offset & (self.geometry.cluster_size - 1) and offset <= MAX_OFFSET - self.geometry.cluster_size

    def _compare(self) -> None:
        """Compare all stored counts with the references there are."""
        size = self.geometry.cluster_size
        for number, clusters in self.blocks():
            if not self._is_readable(number):
                self._unreadable.add(number)
                at = number << self.geometry.refcount_block_bits + self.geometry.cluster_bits
                place = self._block_offset(number)
                problem = f"the counts of {clusters} clusters cannot be read: block {number} is at {place:#x}"
                self._add(Severity.ERROR, "host clusters", problem, at, clusters)
                continue
            expected, stored = self.expected(number, clusters), self.stored(number)
            if stored is None:
                if expected.count(0) == len(expected):
                    continue
                stored = bytes(size)
            elif stored.startswith(expected):
                continue
            order = self.geometry.refcount_order
            have, want = decode_counts(stored, order)[:clusters], decode_counts(expected, order)[:clusters]
            self._judge_block(number, have, want)

    def _judge_block(self, number: int, have: array[int], want: array[int]) -> None:
        """Report the counts of a block that differ."""
        wrong = list(compress(count(), map(ne, have, want)))
        last = next((i for i in range(len(have) - 1, -1, -1) if have[i]), -1)
        base = number << self.geometry.refcount_block_bits
        self._last_stored = max(self._last_stored, base + last)
        if not wrong:
            return
        self.differing.append(number)
        if len(self.report.findings) >= MAX_FINDINGS:
            leaks = sum(map(gt, have, want))
            self.report.leaks += leaks
            self.report.corruptions += len(wrong) - leaks
            self.uncounted |= any(not have[i] for i in wrong)
            return
        start = previous = wrong[0]
        for index in [*wrong[1:], len(have) + 1]:
            pair = have[start], want[start]
            if index == previous + 1 and (have[index], want[index]) == pair:
                previous = index
                continue
            self._judge_run(base + start, previous + 1 - start, *pair)
            start = previous = index

    def _judge_run(self, cluster: int, clusters: int, have: int, want: int) -> None:
        """Report neighbouring clusters with one wrong count."""
        self.uncounted |= not have
        several = f" (so {clusters} clusters on end)" if clusters > 1 else ""
        self._add(
            Severity.LEAK if have > want else Severity.CORRUPTION,
            "host cluster",
            f"its reference count is {have}, but there are {want} references{several}",
            cluster << self.geometry.cluster_bits,
            clusters,
        )

    def _last_cluster(self) -> int:
        """Return the number of the last cluster that is counted or referred to."""
        refs, bits = self.census.refs, self.geometry.refcount_block_bits
        last, end, step = 0, len(refs), 1 << 20
        while end > 0:
            start = max(0, end - step)
            used = len(refs[start:end].rstrip(b"\0"))
            if not used:
                end = start
            elif (start + used - 1) >> bits in self._unreadable:
                end = (start + used - 1) >> bits << bits
            else:
                last = start + used - 1
                break
        if self.census.limit() > len(refs) and len(refs) >> bits not in self._unreadable:
            last = len(refs)
        return max(last, self._last_stored)

    # -- COPIED flags --------------------------------------------------------------------------------------

    def check_flags(self) -> None:
        """Report every COPIED flag that is wrong."""
        if self.failed:
            return
        for flag in self.flags():
            table = "active L1 table" if flag.table is None else "L2 table"
            problem = f"entry {flag.entry:#x} {'has' if flag.entry & COPIED else 'lacks'} the copied flag, "
            problem += (
                "but its cluster is shared or not counted" if flag.entry & COPIED else "but its cluster has one owner"
            )
            self._add(Severity.CORRUPTION, table, problem, flag.at, flag.times)

    def flags(self) -> Iterator[Flag]:
        """Yield every COPIED flag of the disk that is wrong, going by the stored counts, table by table."""
        census = self.census
        if (
            not (self.report.corruptions or self.report.leaks or self.report.check_errors or census.uncopied)
            and not census.misplaced
            and not census.refs.translate(None, b"\0\1")
        ):
            return  # every cluster in use has one owner, and no entry says otherwise
        fixed = self.header.fixed
        owners = self._owners()
        tables: dict[int, int] = {}
        for index, entry in census.words(fixed.l1_table_offset, fixed.l1_size):
            offset = entry & OFFSET_MASK
            if not offset:
                continue
            owner = self._owner(owners, offset >> self.geometry.cluster_bits)
            if owner not in (UNKNOWN, entry >> 63):
                yield Flag(fixed.l1_table_offset + index * 8, entry, entry ^ COPIED, None)
            if owner != UNKNOWN and offset < census.end:
                tables[offset] = tables.get(offset, 0) + 1
        for offset, times in tables.items():
            table = decode_u64(self.file.pull_bytes(offset, self.geometry.cluster_size), "big")
            yield from self._table_flags(owners, offset, times, table[:: self.geometry.l2_words])

    def _table_flags(self, owners: bytearray, offset: int, times: int, entries: array[int]) -> Iterator[Flag]:
        """Yield the wrong flags of one L2 table."""
        bits = self.geometry.cluster_bits
        used = list(filter(None, entries))
        if not used or (min(used) >= COMPRESSED and max(used) < COPIED):
            return  # all compressed
        try:
            if not self._data_file and not [
                entry
                for entry in used
                if not entry & COMPRESSED
                and entry & OFFSET_MASK
                and owners[(entry & OFFSET_MASK) >> bits] != entry >> 63
            ]:
                return
        except IndexError:
            pass
        for index in compress(count(), entries):
            entry = entries[index]
            if entry & COMPRESSED:
                continue
            if not entry & OFFSET_MASK and not (
                self._data_file and entry & COPIED and (self.geometry.extended_l2 or not entry & ZERO)
            ):
                continue
            owner = OWNED if self._data_file else self._owner(owners, (entry & OFFSET_MASK) >> bits)
            if owner not in (UNKNOWN, entry >> 63):
                yield Flag(offset + index * 8 * self.geometry.l2_words, entry, entry ^ COPIED, offset, times)

    def _owners(self) -> bytearray:
        """Return for each cluster whether it is SHARED or OWNED, going by its stored count."""
        highest, bits = self.geometry.refcount_max, self.geometry.refcount_block_bits
        owners = self.census.refs.translate(bytes(min(value, highest) == 1 for value in range(256)))
        for number in self.differing:
            first, stored = number << bits, self.stored(number)
            length = min(1 << bits, len(owners) - first)
            counts = (
                decode_counts(stored, self.geometry.refcount_order)[:length] if stored else array("B", bytes(length))
            )
            owners[first : first + length] = bytes(value == 1 for value in counts)
        for number in self._unreadable:
            first = number << bits
            length = min(1 << bits, len(owners) - first)
            owners[first : first + length] = bytes((UNKNOWN,)) * length
        return owners

    def _owner(self, owners: bytearray, cluster: int) -> int:
        """Tell the same of one cluster, past the end of the file too."""
        if cluster < len(owners):
            return owners[cluster]
        number = cluster >> self.geometry.refcount_block_bits
        if not self._is_readable(number):
            return UNKNOWN
        stored = self.stored(number)
        if stored is None:
            return SHARED
        index = cluster & (self.geometry.refcount_block_entries - 1)
        width = self.geometry.refcount_bits
        at = index * width // 8
        if width >= 8:
            value = int.from_bytes(stored[at : at + width // 8], "big")
        else:
            value = stored[at] >> (index * width % 8) & self.geometry.refcount_max
        return OWNED if value == 1 else SHARED
