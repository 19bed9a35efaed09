"""An open qcow2 image: where its bytes are, and where new ones go.

Reading takes no lock (see :mod:`blockkit.formats.qcow2.mapping`). A write takes the metadata lock to find its place and
again to link it; data moves in between, without the lock. Writes that allocate the same cluster wait for each other,
and so do writes in place and whatever frees their clusters.

A flush that finds changed tables holds the lock while it writes them.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from blockkit.block.bases import FormatNode
from blockkit.block.node import Cap, Extent, Kind, Limits, Place, Preallocation
from blockkit.block.ranges import RangeLock
from blockkit.block.zeros import zeros
from blockkit.errors import CorruptImageError, ImageError, UnsupportedOperationError, UsageError
from blockkit.formats.qcow2.codecs import Codec, codec_for
from blockkit.formats.qcow2.extents import table_columns, table_extents
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.metadata import Metadata
from blockkit.formats.qcow2.places import Fresh, InPlace
from blockkit.formats.qcow2.schema import COMPRESSED, COPIED, MAX_HOST_OFFSET, OFFSET_MASK, ZERO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.facts import ImageFacts
    from blockkit.block.node import Buffer, Node
    from blockkit.block.report import CheckReport, Repair
    from blockkit.formats.qcow2.header import HeaderCluster
    from blockkit.formats.qcow2.mapping import L2Table
    from blockkit.schema import Structure

#: Decoded clusters kept, so that small sequential reads do not decode the same cluster again and again.
_MAX_DECODED = 8


class Qcow2Node(FormatNode):
    """A qcow2 image.

    Args:
        file: What holds the image; closed with this node.
        header: What :func:`~blockkit.formats.qcow2.header.read_header` gave; read from ``file`` if None.
        backing: The backing node; opened by the caller, as the policy allows.
        read_only: Refuse writes.
        cache_size: Bytes of L2 tables to keep in memory.
        compression_level: For clusters written compressed; None is the fast default.
    """

    driver = "qcow2"
    size: int = 0

    def __init__(
        self,
        file: Node,
        header: HeaderCluster | None = None,
        *,
        backing: Node | None = None,
        read_only: bool = True,
        cache_size: int = 32 << 20,
        compression_level: int | None = None,
    ) -> None:
        super().__init__(file, backing=backing, read_only=read_only)
        self.header = header if header is not None else read_header(file)
        self.data: Node = file
        geometry = self.header.geometry
        self.size = self.header.fixed.size
        # How far clusters may be mapped: the size, except while that is about to change.
        self._reach = self.size
        self._resizing = threading.Lock()
        self._bits = geometry.cluster_bits
        self._cluster_size = geometry.cluster_size
        self._cluster_mask = geometry.cluster_size - 1
        self._l2_bits = geometry.l2_bits
        self._l2_mask = geometry.l2_entries - 1
        # Bits that make an entry anything but plain data or nothing. Version 2 has no zero clusters.
        self._special = COMPRESSED | (ZERO if self.header.fixed.version >= 3 else 0)
        self._cache_size, self._compression_level = cache_size, compression_level
        self._grows = Cap.GROW in self.data.caps
        self._codec: Codec | None = None
        self._decoded: dict[tuple[int, int], bytes] = {}
        self._arena = (0, 0)
        self._load()

    def _load(self) -> None:
        """Set up, from the header, everything that is read from the file."""
        self.metadata = Metadata(
            self.file,
            self.data,
            self.header,
            writable=not self.read_only,
            cache_size=self._cache_size,
            released=self._bump_generation,
        )
        self._mapping = self.metadata.mapping
        self._tables = self._mapping.tables
        self._lock = self.metadata.lock
        self._ranges = RangeLock(self._lock)

    def _bump_generation(self) -> None:
        self._generation += 1
        self._decoded.clear()
        # What is left of it may lie in a cluster that is free now.
        self._arena = (0, 0)

    # -- what it is ----------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        size = self._cluster_size
        return Limits(zero_granularity=size, discard_granularity=size, optimal_transfer=size)

    @property
    def caps(self) -> Cap:
        if self.read_only:
            return Cap(0)
        caps = Cap.WRITE | Cap.DISCARD | Cap.RESIZE | Cap.ZERO
        return caps | Cap.FAST_ZERO if self.header.fixed.version >= 3 else caps

    @property
    def children(self) -> dict[str, Node]:
        children = dict(super().children)
        if self.data is not self.file:
            children["data_file"] = self.data
        return children

    def describe(self) -> dict[str, object]:
        from blockkit.formats.qcow2.facts import describe

        return describe(self.file, self.header)

    def facts(self) -> ImageFacts:
        """Return what the metadata says about the image."""
        from blockkit.formats.qcow2.facts import facts

        return facts(self.file, self.header)

    def mostly_holes(self) -> bool:
        """Tell whether the metadata is preallocated, so that looking for holes in the file is worth it."""
        from blockkit.formats.qcow2.facts import mostly_holes

        return mostly_holes(self.file, self.header)

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return self._cluster_size

    # -- where bytes are -----------------------------------------------------------------------------------

    def _map(self, offset: int, length: int) -> Extent:
        cluster = offset >> self._bits
        l1_index = cluster >> self._l2_bits
        table = self._tables.get(l1_index) or self._load_table(l1_index)
        if table is None:
            span = ((l1_index + 1) << self._l2_bits + self._bits) - offset
            return Extent(offset, min(length, span), Kind.UNALLOCATED)
        table.used = True
        entries = table.entries
        index = cluster & self._l2_mask
        entry = entries[index]
        within = offset & self._cluster_mask
        room = self._cluster_size - within
        if not entry & self._special:
            host = entry & OFFSET_MASK
            if host:
                if host & self._cluster_mask:
                    raise self._bad_entry(table, index, "not the offset of a cluster")
                if room < length:
                    # Join neighbours that follow in the file too.
                    step, last = self._cluster_size, self._l2_mask
                    while room < length and index < last and entries[index + 1] == entry + step:
                        entry += step
                        index += 1
                        room += step
                return Extent(offset, room if room < length else length, Kind.DATA, self.data, host + within)
            if entry:
                raise self._bad_entry(table, index, "neither data nor empty")
            return Extent(offset, min(length, self._run(entries, index, room, length)), Kind.UNALLOCATED)
        if entry & COMPRESSED:
            return Extent(offset, min(length, room), Kind.ENCODED, self, offset)
        host = entry & OFFSET_MASK
        if not host:
            return Extent(offset, min(length, self._run(entries, index, room, length)), Kind.ZERO)
        if host & self._cluster_mask:
            raise self._bad_entry(table, index, "not the offset of a cluster")
        return Extent(offset, min(length, room), Kind.ZERO, self.data, host + within)

    def _read(self, offset: int, length: int) -> bytes:
        # The way of small requests: one plain cluster, without an Extent in between.
        cluster = offset >> self._bits
        generation = self._generation
        table = self._tables.get(cluster >> self._l2_bits)
        within = offset & self._cluster_mask
        if table is not None and within + length <= self._cluster_size:
            entry = table.entries[cluster & self._l2_mask]
            host = entry & OFFSET_MASK
            if host and not entry & self._special and not host & self._cluster_mask:
                table.used = True
                data = self.data.pull_bytes(host + within, length)
                if self._generation == generation:
                    return data
        return super()._read(offset, length)

    def _run(self, entries: array[int], index: int, room: int, length: int) -> int:
        """Extend ``room`` bytes from ``index`` over entries equal to that one."""
        entry, step, last = entries[index], self._cluster_size, self._l2_mask
        while room < length and index < last and entries[index + 1] == entry:
            index += 1
            room += step
        return room

    def _load_table(self, l1_index: int) -> L2Table | None:
        if not self._mapping.l1[l1_index]:
            return None
        try:
            with self._lock:
                return self._mapping.load(l1_index)
        except ImageError as error:
            raise error.in_image(self.filename)  # noqa: B904 - it is the same error

    def _bad_entry(self, table: L2Table, index: int, problem: str) -> CorruptImageError:
        return CorruptImageError(
            f"entry {index} is {table.entries[index]:#x}, {problem}", where="qcow2 L2 table", offset=table.offset
        ).in_image(self.filename)

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        l1, span_bits = self._mapping.l1, self._bits + self._l2_bits
        while offset < end:
            l1_index = offset >> span_bits
            table = self._tables.get(l1_index) or self._load_table(l1_index)
            stop = min(end, (l1_index + 1) << span_bits)
            if table is None:
                # Whole runs of empty L1 entries at once.
                while stop < end and not l1[stop >> span_bits]:
                    stop = min(end, stop + (1 << span_bits))
                yield Extent(offset, stop - offset, Kind.UNALLOCATED)
            else:
                yield from table_extents(
                    table.entries,
                    l1_index << span_bits,
                    offset,
                    stop,
                    cluster_bits=self._bits,
                    special=self._special,
                    data=self.data,
                    node=self,
                    table_offset=table.offset,
                )
            offset = stop

    def data_columns(self, offset: int, end: int) -> tuple[int, list[int], list[int], list[int]] | None:
        """Return the runs of plain data that the table of ``offset`` maps; see MapsInBulk."""
        span_bits = self._bits + self._l2_bits
        l1_index = offset >> span_bits
        table = self._tables.get(l1_index) or self._load_table(l1_index)
        stop = min(end, (l1_index + 1) << span_bits)
        if table is None:
            return stop, [], [], []
        base = l1_index << span_bits
        columns = table_columns(table.entries, base, offset, stop, cluster_bits=self._bits, special=self._special)
        return None if columns is None or self.backing is not None else (stop, *columns)

    # -- compressed clusters -------------------------------------------------------------------------------

    def _get_codec(self) -> Codec:
        if self._codec is None:
            self._codec = codec_for(self.header.compression_type, self._compression_level)
        return self._codec

    def _read_encoded(self, extent: Extent, buffers: list[memoryview]) -> None:
        offset = extent.offset
        data = memoryview(self._decoded_cluster(offset >> self._bits))[offset & self._cluster_mask :]
        for buf in buffers:
            buf[:] = data[: len(buf)]
            data = data[len(buf) :]

    def _decoded_cluster(self, cluster: int) -> bytes:
        generation = self._generation
        table = self._tables.get(cluster >> self._l2_bits) or self._load_table(cluster >> self._l2_bits)
        entry = table.entries[cluster & self._l2_mask] if table is not None else 0
        if not entry & COMPRESSED:
            # Rewritten since it was mapped: an overlapping request won.
            buf = bytearray(self._cluster_size)
            inside = min(len(buf), self.size - (cluster << self._bits))
            self._readv(cluster << self._bits, [memoryview(buf)[:inside]])
            return bytes(buf)
        key = (generation, entry)
        data = self._decoded.get(key)
        if data is None:
            host, available = self.header.geometry.compressed_range(entry)
            if host > MAX_HOST_OFFSET or host >= self.data.size:
                raise CorruptImageError(
                    f"compressed data of guest cluster {cluster:#x} lies at {host:#x}, behind the end of the file",
                    where="qcow2 L2 table",
                    offset=table.offset if table is not None else None,
                ).in_image(self.filename)
            try:
                data = self._get_codec().decode(self.data.pull_bytes(host, available), self._cluster_size)
            except CorruptImageError as error:
                if self._generation == generation:
                    raise error.in_image(self.filename)  # noqa: B904 - it is the same error
                # It was freed and used for something else meanwhile; whoever asked sees that too and asks again.
                return bytes(self._cluster_size)
            decoded = self._decoded
            if len(decoded) >= _MAX_DECODED:
                decoded.clear()
            decoded[key] = data
        return data

    @property
    def compressed_cluster_size(self) -> int:
        """Bytes of guest data one compressed cluster holds."""
        return self._cluster_size

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
        metadata = self.metadata
        with self._lock:
            metadata.arm()
            while not (token := self._ranges.try_exclusive(cluster, cluster + 1)):
                self._ranges.wait()
            try:
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

    # -- writing -------------------------------------------------------------------------------------------

    def _write(self, offset: int, data: bytes, length: int) -> None:
        # The way of small requests: one cluster that is ours already, without a Place in between.
        cluster = offset >> self._bits
        within = offset & self._cluster_mask
        if within + length <= self._cluster_size:
            with self._lock:
                table = self._tables.get(cluster >> self._l2_bits)
                entry = table.entries[cluster & self._l2_mask] if table is not None else 0
                host = entry & OFFSET_MASK
                token = 0
                if (
                    self.metadata.armed
                    and entry & COPIED
                    and not entry & self._special
                    and host
                    and not host & self._cluster_mask
                    and self._mapping.l1[cluster >> self._l2_bits] & COPIED
                    and host >> self._bits not in self.metadata.overlap
                ):
                    token = self._ranges.try_shared(cluster, cluster + 1)
            if token:
                try:
                    self.data.push_bytes(host + within, data, length)
                finally:
                    with self._lock:
                        self._ranges.release(token)
                return
        self._writev(offset, [memoryview(data)], False)

    def _allocate(self, offset: int, length: int) -> Place:
        cluster = offset >> self._bits
        within = offset & self._cluster_mask
        with self._lock:
            self.metadata.arm()
            while True:
                if offset + length > self._reach:
                    self._out_of_range(offset, length)
                l1_index, index = cluster >> self._l2_bits, cluster & self._l2_mask
                table = self._tables.get(l1_index) or self._mapping.load(l1_index)
                if table is not None and self._mapping.l1[l1_index] & COPIED:
                    entry = table.entries[index]
                    if entry & COPIED and not entry & self._special:
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

    # -- zeroing and discarding ----------------------------------------------------------------------------

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
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
        last = min(last, self.header.geometry.clusters(self._reach))
        flag = ZERO if self.header.fixed.version >= 3 and (zero or self.backing is not None) else 0
        while first < last:
            l1_index, index = first >> self._l2_bits, first & self._l2_mask
            stop = min(last, (l1_index + 1) << self._l2_bits)
            with self._lock:
                self.metadata.arm()
                if not self._mapping.l1[l1_index] and self.backing is None:
                    first = stop
                    continue
                while not (token := self._ranges.try_exclusive(first, stop)):
                    self._ranges.wait()
                try:
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

    # -- flushing, resizing, closing -----------------------------------------------------------------------

    def _flush(self) -> None:
        if not self.read_only:
            with self._lock:
                if self.metadata.dirty:
                    self.metadata.commit()
        self.metadata.barrier()

    def _close(self) -> None:
        if not self.read_only:
            with self._lock:
                self.metadata.close()
        self._decoded.clear()

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        from blockkit.formats.qcow2.resize import resize

        with self._resizing:
            try:
                resize(self, size, preallocate)
            finally:
                self._reach = self.size

    def set_reach(self, first: int, last: int, reach: int) -> None:
        """Let clusters be mapped up to ``reach`` bytes; wait for whoever works on clusters ``[first, last)``."""
        with self._lock:
            self._reach = reach
            while not (token := self._ranges.try_exclusive(first, last)):
                self._ranges.wait()
            self._ranges.release(token)

    def set_size(self, size: int) -> None:
        """Change the virtual size in the header, after everything it depends on; the tables reach that far already."""
        self._flush()
        with self._lock:
            self.size = size
            self.header.fixed = replace(self.header.fixed, size=size)
            self.metadata.write_header()

    def empty_clusters(self, first: int, last: int) -> None:
        """Make clusters ``[first, last)`` read as zeros, whatever the backing holds."""
        if self.header.fixed.version >= 3:
            self._empty_clusters(first, last, keep=False, zero=True)
        else:
            super()._zero(first << self._bits, (last - first) << self._bits, False, False)

    def write_tail(self, offset: int, data: Buffer) -> None:
        """Store bytes behind the end of the disk that are about to become part of it."""
        self._writev(offset, [memoryview(data)], False)

    def preallocate(self, offset: int, length: int, mode: Preallocation) -> None:
        """Reserve clusters for a range that is not allocated, as ``mode`` says."""
        from blockkit.formats.qcow2.resize import preallocate

        preallocate(self, offset, length, mode)

    # -- looking closer ------------------------------------------------------------------------------------

    def check(self, repair: Repair) -> CheckReport:
        """Check all metadata, and mend it as ``repair`` says."""
        from blockkit.block.report import Repair
        from blockkit.formats.qcow2.check import check_image

        if repair is not Repair.NONE and self.read_only:
            self._refuse_write()
        if not self.read_only:
            with self._lock:
                self.metadata.close()
        report = check_image(self.file, self.header, repair)
        if repair is not Repair.NONE:
            self.header = read_header(self.file)
            self._load()
            self._bump_generation()
        return report

    def structures(self) -> Iterator[Structure]:
        """Yield every on-disk structure."""
        from blockkit.formats.qcow2.inspect import structures

        return structures(self.file, self.header)
