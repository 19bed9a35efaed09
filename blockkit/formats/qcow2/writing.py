"""Writing a qcow2 image: where new bytes go, and what becomes of the old ones.

A write takes the metadata lock to find its place and again to link it; data moves in between, without the lock. Writes
that allocate the same cluster wait for each other, and so do writes in place and whatever frees their clusters.
"""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING

from blockkit.block.facets import ExpectsGrowth
from blockkit.block.node import Kind, Place
from blockkit.block.zeros import zeros
from blockkit.errors import CorruptImageError, UnsupportedOperationError, UsageError
from blockkit.formats.qcow2.places import Fresh, InPlace
from blockkit.formats.qcow2.reading import Qcow2Reader
from blockkit.formats.qcow2.schema import COMPRESSED, COPIED, OFFSET_MASK, ZERO

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from blockkit.block.buffers import Buffer
    from blockkit.block.facets import Room
    from blockkit.block.ranges import RangeLock
    from blockkit.formats.qcow2.mapping import L2Table


class Qcow2Writer(Qcow2Reader):
    """The part of an open qcow2 image that finds places for bytes, and empties clusters."""

    #: Somebody waits for, or has, the whole disk: no request begins. Guarded by the lock.
    _paused: bool = False

    def _arm(self) -> None:
        """Prepare the metadata for a change; with the lock held, by a request that nobody can pause any more.

        Raises:
            UnsupportedOperationError: the backing file is not open, so what a write leaves as it was is not known.
        """
        if not self.metadata.armed:
            self.require_backing()
            self.metadata.arm()

    def require_backing(self) -> None:
        """Refuse when the image names a backing file, but was opened without it."""
        if self.backing is None and self.header.backing_file is not None:
            name = os.fsdecode(self.header.backing_file)
            raise UnsupportedOperationError(f"{self}: cannot be written while its backing file {name!r} is not open")

    # -- writing -------------------------------------------------------------------------------------------

    def _write(self, offset: int, data: bytes, length: int) -> None:
        # The way of small requests: one cluster that is ours already, without a Place in between and without the lock.
        cluster = offset >> self._bits
        within = offset & self._cluster_mask
        if within + length <= self._cluster_size and (token := self._ranges.announce(cluster, cluster + 1)):
            # From here on nobody takes the cluster away, or changes its entry.
            try:
                l1_index = cluster >> self._l2_bits
                l1 = self._mapping.l1
                # In this order: a table that is copied because it is shared is there before its L1 entry says so.
                ours = l1_index < len(l1) and l1[l1_index] & COPIED
                table = self._tables.get(l1_index)
                if ours and table is not None:
                    entry = table.entries[cluster & self._l2_mask]
                    metadata = self.metadata
                    if (
                        entry & (self._unusual | COPIED) == COPIED
                        and (host := entry & OFFSET_MASK)
                        and metadata.armed
                        and offset + length <= self._reach
                        and host >> self._bits not in metadata.overlap
                    ):
                        self.data.push_bytes(host + within, data, length)
                        return
            finally:
                self._ranges.withdraw(token)
        self._writev(offset, [memoryview(data)], False)

    def _allocate(self, offset: int, length: int) -> Place:
        cluster = offset >> self._bits
        within = offset & self._cluster_mask
        with self._lock:
            while True:
                while self._paused:
                    self._ranges.wait()
                self._arm()
                if offset + length > self._reach:
                    self._out_of_range(offset, length)
                l1_index, index = cluster >> self._l2_bits, cluster & self._l2_mask
                table = self._tables.get(l1_index) or self._mapping.load(l1_index)
                if table is not None and self._mapping.l1[l1_index] & COPIED:
                    entry = table.entries[index]
                    if entry & COPIED and entry & OFFSET_MASK and not entry & self._special:
                        place = self._in_place(table, index, cluster, within, length)
                    else:
                        place = self._fresh(table, index, cluster, within, length)
                else:
                    place = self._fresh(self.metadata.writable_table(l1_index), index, cluster, within, length)
                if place is not None:
                    break
                self._ranges.wait()
        if isinstance(place, Fresh):
            self._copy_on_write(place, offset, length)
        return place

    def _in_place(self, table: L2Table, index: int, cluster: int, within: int, length: int) -> Place | None:
        """Find how far a write may go to clusters that are ours already; None if it must wait."""
        entries = table.entries
        entry = entries[index]
        host = entry & OFFSET_MASK
        if host & self._cluster_mask or not host:
            raise self._mark_bad_entry(table, index)
        count, room, step = 1, self._cluster_size - within, self._cluster_size
        while room < length and index < self._l2_mask and entries[index + 1] == entry + step:
            entry += step
            index += 1
            room += step
            count += 1
        self.metadata.guard(host, count)
        token = self._ranges.try_shared(cluster, cluster + count)
        if not token:
            return None
        return InPlace(min(room, length), self.data, host + within, self._ranges, token)

    def _mark_bad_entry(self, table: L2Table, index: int) -> CorruptImageError:
        return self.metadata.corrupt(
            f"entry {index} is {table.entries[index]:#x}, not the offset of a cluster",
            where="qcow2 L2 table",
            offset=table.offset,
        )

    def _fresh(self, table: L2Table, index: int, cluster: int, within: int, length: int) -> Fresh | None:
        """Allocate for the first clusters of a write that need it; None if it must wait."""
        entries, special = table.entries, self._special
        entry = entries[index]
        want = min((within + length + self._cluster_mask) >> self._bits, self._l2_mask + 1 - index)
        reserved = bool(entry & COPIED and entry & OFFSET_MASK and not entry & COMPRESSED)
        count = 1
        if not reserved:
            while count < want:
                following = entries[index + count]
                if following & COPIED and following & OFFSET_MASK and not following & COMPRESSED:
                    break
                count += 1
        token = self._ranges.try_exclusive(cluster, cluster + count)
        if not token:
            return None
        try:
            if reserved:
                assert entry & special, "plain data of our own is written in place"
                host = entry & OFFSET_MASK
                if host & self._cluster_mask:
                    raise self._mark_bad_entry(table, index)
                self.metadata.guard(host, 1)
            else:
                first, taken = self.metadata.refcounts.allocate(count)
                if taken < count:
                    count = taken
                    self._ranges.shrink(token, cluster + count)
                host = first << self._bits
        except BaseException:
            self._ranges.release(token)
            raise
        return Fresh(self.data, cluster, count, host, self.metadata, self._ranges, token, allocated=not reserved)

    def _copy_on_write(self, place: Fresh, offset: int, length: int) -> None:
        """Fill in what else goes into the clusters of ``place``: the old bytes around the new ones."""
        start = place.cluster << self._bits
        end = start + (place.count << self._bits)
        data_end = min(offset + length, end)
        place.length = data_end - offset
        place.target = place.host + offset - start
        try:
            # Behind the end of the file there are zeros already.
            clean = place.allocated and place.host >= self.data.size and self._grows
            place.before = self._old_bytes(start, offset, clean)
            place.after = self._old_bytes(data_end, end, clean)
        except BaseException:
            place.abandon()
            raise

    def _old_bytes(self, start: int, end: int, clean: bool) -> Buffer:
        """Return what ``[start, end)``, part of one cluster, reads as; empty if it need not be written."""
        if start == end:
            return b""
        inside = min(end, self.size)
        if start < inside:
            extent = self._map(start, inside - start)
            backing = self.backing
            if extent.length < inside - start or not (
                extent.kind is Kind.ZERO
                or (extent.kind is Kind.UNALLOCATED and (backing is None or start >= backing.size))
            ):
                buf = bytearray(end - start)
                self._readv(start, [memoryview(buf)[: inside - start]])
                return buf
        return b"" if clean else zeros(end - start)

    def write_pieces(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Store many pieces at once; see WritesPieces."""
        from blockkit.formats.qcow2.bulk import write_pieces

        if self.read_only:
            self._refuse_write()
        write_pieces(self, pieces)

    @property
    def room_reach(self) -> int:
        """Bytes that one L2 table maps: what is linked together."""
        return self._cluster_size * (self._l2_mask + 1)

    def room(self, offset: int, length: int) -> Room | None:
        """Take room for a long stretch; see GivesRoom."""
        from blockkit.formats.qcow2.bulk import take_room

        if self.read_only:
            self._refuse_write()
        return take_room(self, offset, length)

    def expect_growth(self) -> None:
        """Many clusters will be allocated; see ExpectsGrowth."""
        if isinstance(self.data, ExpectsGrowth):
            self.data.expect_growth()

    # For the modules of this format, with the lock held except to get it.

    @property
    def lock(self) -> threading.Lock:
        """The metadata lock."""
        return self._lock

    @property
    def ranges(self) -> RangeLock:
        """Guest clusters in use by writes."""
        return self._ranges

    @property
    def reach(self) -> int:
        """How far clusters may be mapped, bytes."""
        return self._reach

    def may_begin(self) -> bool:
        """Prepare for a change, unless somebody wants the whole disk and every request has to wait."""
        if self._paused:
            return False
        self._arm()
        return True

    def pin(self, offset: int, length: int) -> int:
        if self.read_only:
            return 0
        first, last = offset >> self._bits, (offset + length + self._cluster_mask) >> self._bits
        with self._lock:
            while not (token := self._ranges.try_shared(first, last)):
                self._ranges.wait()
        return token

    def unpin(self, token: int) -> None:
        with self._lock:
            self._ranges.release(token)

    # -- compressed clusters ---------------------------------------------------------------------------------------

    @property
    def compressed_cluster_size(self) -> int:
        """Bytes of guest data one compressed cluster holds."""
        return self._cluster_size

    @property
    def compression_memory(self) -> int:
        """Bytes that one thread takes while it compresses: the library's own, and what it makes of a cluster."""
        return self._get_codec().memory(self._cluster_size) + 2 * self._cluster_size

    def compress(self, data: Buffer) -> bytes | None:
        """Encode one cluster; None when that does not make it smaller."""
        encoded = self._get_codec().encode(data)
        return encoded if len(encoded) < self._cluster_size else None

    def write_compressed(self, offset: int, encoded: bytes) -> None:
        """Store what :meth:`compress` gave for the cluster at ``offset`` (cluster-aligned)."""
        if self.read_only:
            self._refuse_write()
        if offset & self._cluster_mask or not 0 <= offset < self.size:
            self._out_of_range(offset, self._cluster_size)
        if not 0 < len(encoded) <= self._cluster_size:
            raise UsageError(f"{self}: {len(encoded)} bytes are not one cluster of {self._cluster_size}, compressed")
        cluster = offset >> self._bits
        with self._lock:
            token = self._ranges.exclusive(cluster, cluster + 1)
            try:
                self._arm()
                metadata = self.metadata
                if offset >= self._reach:
                    self._out_of_range(offset, self._cluster_size)
                metadata.writable_table(cluster >> self._l2_bits)
                host = self._room_for(len(encoded))
            except BaseException:
                self._ranges.release(token)
                raise
        entry = COMPRESSED | self.header.geometry.compressed_entry(host, len(encoded))
        try:
            try:
                self.data.push(host, [memoryview(encoded)])
            except BaseException:
                with self._lock:
                    self._arena = (0, 0)
                    touched = self.header.geometry.compressed_clusters(entry)
                    metadata.refcounts.give_back(touched[0], len(touched))
                raise
            with self._lock:
                metadata.set_entries(cluster >> self._l2_bits, cluster & self._l2_mask, array("Q", [entry]))
                metadata.commit_if_large()
        finally:
            with self._lock:
                self._ranges.release(token)

    def _room_for(self, length: int) -> int:
        """Return a host offset for ``length`` bytes of compressed data, counting its references."""
        refcounts, bits, mask = self.metadata.refcounts, self._bits, self._cluster_mask
        start, end = self._arena
        if start < end:
            last_used = (start - 1) >> bits
            if length <= end - start:
                if refcounts.increase(last_used):
                    self._arena = start + length, end
                    return start
            else:
                cluster, _ = refcounts.allocate(1)
                if cluster << bits == end and refcounts.increase(last_used):
                    self._arena = start + length, end + self._cluster_size
                    return start
                self._arena = (cluster << bits) + length, (cluster + 1) << bits
                return cluster << bits
        cluster, _ = refcounts.allocate(1)
        host = cluster << bits
        self._arena = host + length, host + (mask + 1)
        return host

    # -- zeroing and discarding ----------------------------------------------------------------------------

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        self.require_backing()
        if self.header.fixed.version < 3 and (self.backing is not None or not unmap):
            super()._zero(offset, length, unmap, fast)
            return
        first, last = -(-offset >> self._bits), (offset + length) >> self._bits
        if offset + length == self.size:
            last = self.header.geometry.clusters(self.size)
        start, end = first << self._bits, min(last << self._bits, self.size)
        parts = [(offset, start), (end, offset + length)] if start < end else [(offset, offset + length)]
        if fast:
            for part in parts:
                for at, count in self._nonzero(*part):
                    raise UnsupportedOperationError(
                        f"{self}: {count} bytes at {at:#x} are part of a cluster and have to be written"
                    )
        for part in parts:
            for at, count in self._nonzero(*part):
                self._writev(at, [zeros(count)], False)
        if start < end:
            self._empty_clusters(first, last, keep=not unmap, zero=True)

    def _nonzero(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield ``(offset, length)`` of what the tables do not say reads as zeros."""
        while start < end:
            extent = self._map(start, end - start)
            if not (extent.kind is Kind.ZERO or (extent.kind is Kind.UNALLOCATED and self.backing is None)):
                yield start, extent.length
            start += extent.length

    def _discard(self, offset: int, length: int) -> None:
        self.require_backing()
        if self.header.fixed.version < 3 and self.backing is not None:
            return  # the backing would show again
        first, last = -(-offset >> self._bits), (offset + length) >> self._bits
        if offset + length == self.size:
            last = self.header.geometry.clusters(self.size)
        if first < last:
            self._empty_clusters(first, last, keep=False, zero=False)

    def _empty_clusters(self, first: int, last: int, *, keep: bool, zero: bool) -> None:
        """Make whole clusters read as zeros.

        Args:
            first: The first guest cluster.
            last: The one after the last.
            keep: Leave their space reserved.
            zero: Say so even where nothing is allocated (the difference shows only in ``map``).
        """
        flag = ZERO if self.header.fixed.version >= 3 and (zero or self.backing is not None) else 0
        while first < last:
            l1_index, index = first >> self._l2_bits, first & self._l2_mask
            stop = min(last, (l1_index + 1) << self._l2_bits)
            with self._lock:
                token = self._ranges.exclusive(first, stop)
                try:
                    self._arm()
                    # The disk may have become smaller meanwhile.
                    last = min(last, self.header.geometry.clusters(self._reach))
                    stop = min(stop, last)
                    if first >= stop or (not self._mapping.l1[l1_index] and self.backing is None):
                        first = stop
                        continue
                    table = self.metadata.writable_table(l1_index)
                    count = stop - first
                    if keep:
                        old = table.entries[index : index + count]
                        new = array(
                            "Q",
                            [
                                (e & (COPIED | OFFSET_MASK)) | ZERO
                                if e & OFFSET_MASK and e & COPIED and not e & COMPRESSED
                                else flag
                                for e in old
                            ],
                        )
                    else:
                        new = array("Q", [flag]) * count
                    self.metadata.set_entries(l1_index, index, new)
                    self.metadata.commit_if_large()
                finally:
                    self._ranges.release(token)
            first = stop
