"""Reading a qcow2 image: where its bytes are.

No lock is taken (see :mod:`blockkit.formats.qcow2.mapping`), except to load a table that is not in memory.
"""

from __future__ import annotations

import threading
from array import array
from functools import cached_property
from typing import TYPE_CHECKING

from blockkit.block.bases import FormatNode
from blockkit.block.node import Cap, Extent, Kind, Limits
from blockkit.block.ranges import RangeLock
from blockkit.errors import CorruptImageError, ImageError
from blockkit.formats.qcow2.extents import NativeColumns, table_columns, table_extents
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.metadata import Metadata
from blockkit.formats.qcow2.schema import COMPRESSED, COPIED, MAX_HOST_OFFSET, OFFSET_MASK, ZERO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.facets import Columns
    from blockkit.block.facts import ImageFacts
    from blockkit.block.node import Node
    from blockkit.block.sizes import BitmapFacts
    from blockkit.formats.qcow2.codecs import Codec
    from blockkit.formats.qcow2.header import HeaderCluster
    from blockkit.formats.qcow2.mapping import L2Table
    from blockkit.formats.qcow2.quick import QuickReads

#: Decoded clusters kept, so that small sequential reads do not decode the same cluster again and again.
_MAX_DECODED = 8
#: Tables for which native code is worth being loaded, and being compiled.
_WORTH_LOADING, _WORTH_COMPILING = 16, 64
#: Small reads after which they are made native, and as good as no end of them.
_READS, _NEVER = 10_000, 1 << 60
#: L2 tables that a directory is made for at most: 8 MiB of it.
_MAX_DIRECTORY = 1 << 20


class Qcow2Reader(FormatNode):
    """The part of an open qcow2 image that finds bytes and decodes them.

    Args:
        file: What holds the image; closed with this node.
        header: What :func:`~blockkit.formats.qcow2.header.read_header` gave; read from ``file`` if None.
        backing: The backing node; opened by the caller, as the policy allows.
        read_only: Refuse writes.
        cache_size: Bytes of L2 tables to keep in memory.
        compression_level: For clusters written compressed; None is the fast default.
        repairing: Reference counts that cannot be used are no error; nothing is written until :meth:`check` has
            repaired them.
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
        repairing: bool = False,
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
        self._table_bits = geometry.cluster_bits + geometry.l2_bits
        self._cluster_size = geometry.cluster_size
        self._cluster_mask = geometry.cluster_size - 1
        self._l2_bits = geometry.l2_bits
        self._l2_mask = geometry.l2_entries - 1
        # Bits that make an entry anything but plain data or nothing. Version 2 has no zero clusters.
        self._special = COMPRESSED | (ZERO if self.header.fixed.version >= 3 else 0)
        # Those, and the bits of an offset that no cluster has.
        self._unusual = self._special | OFFSET_MASK & self._cluster_mask
        # Here, as every read looks at it, and Python 3.11 finds what only a class has four times more slowly.
        self._generation = 0
        self._cache_size, self._compression_level, self._repairing = cache_size, compression_level, repairing
        self._grows = Cap.GROW in self.data.caps
        self._codec: Codec | None = None
        self._decoded: dict[tuple[int, int], bytes] = {}
        self._arena = (0, 0)
        self._lock = threading.Lock()
        self._ranges = RangeLock(self._lock)
        self._quick: QuickReads | None = None
        self._until_quick = _READS
        self._load()

    def _load(self) -> None:
        """Set up, from the header, everything that is read from the file."""
        if self._quick is not None:
            self._stop_quick()
        self.metadata = Metadata(
            self.file,
            self.data,
            self.header,
            writable=not self.read_only,
            cache_size=self._cache_size,
            released=self._bump_generation,
            lock=self._lock,
            repairing=self._repairing,
        )
        self._mapping = self.metadata.mapping
        self._tables = self._mapping.tables

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

    def bitmaps(self) -> list[BitmapFacts] | None:
        """Return the bitmaps in the image; None for version 2, which has none."""
        from blockkit.formats.qcow2.facts import bitmaps

        return bitmaps(self.file, self.header)

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
            if entry & ~COPIED:
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

    def read(self, offset: int, length: int) -> bytes:
        # What stands in the way of this method is in the instance; here comes who has kept the method itself.
        quick = self._quick
        return self._read_plainly(offset, length) if quick is None else quick.read(offset, length)

    def _read_plainly(self, offset: int, length: int) -> bytes:
        # The way of small requests: one plain cluster, without an Extent in between. Whatever is looked at after the
        # generation was taken is stale only if that has changed at the end.
        generation = self._generation
        table = self._tables.get(offset >> self._table_bits)
        within = offset & self._cluster_mask
        if table is not None and 0 < length <= self._cluster_size - within and offset + length <= self.size:
            entry = table.entries[offset >> self._bits & self._l2_mask]
            if not entry & self._unusual and (host := entry & OFFSET_MASK):
                table.used = True
                data = self.data.pull_bytes(host + within, length)
                if self._generation == generation:
                    self._until_quick -= 1
                    if self._until_quick < 0:
                        self._quicken()
                    return data
        return super().read(offset, length)

    # Whoever passes wrong arguments has called that.
    _read_plainly.__qualname__ = "Qcow2Reader.read"

    def _quicken(self) -> None:
        """Read natively from now on, if that is possible; what is not simple is still left to Python."""
        self._until_quick = _NEVER
        if len(self._mapping.l1) > _MAX_DIRECTORY:
            return
        from blockkit.formats.qcow2.quick import prepare, quick_reads

        prepared = prepare(self.data)
        if prepared is None:
            self._until_quick = _READS
        if not prepared:
            return
        if not self._lock.acquire(blocking=False):
            # Whoever has it may be the one who reads.
            self._until_quick = _READS
            return
        try:
            if self._quick is not None or self._closed:
                return
            self._quick = quick_reads(
                self.data,
                self._mapping.open_directory(),
                self._read_plainly,
                table_bits=self._table_bits,
                cluster_bits=self._bits,
                unusual=self._unusual,
                size=self.size,
            )
            if self._quick is not None:
                self.__dict__["read"] = self._quick.read
        finally:
            if self._quick is None:
                self._mapping.directory = None
            self._lock.release()

    def _stop_quick(self) -> None:
        """Read in Python until it has been seen again that much is read; with the lock held."""
        if self._quick is not None:
            self._quick.stop()
            self._quick = None
            self.__dict__.pop("read", None)
            self._until_quick = _READS
        self._mapping.directory = None

    def pull_bytes(self, offset: int, length: int) -> bytes:
        if offset + length <= self.size:
            return self.read(offset, length)
        return super().pull_bytes(offset, length)

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

    def _table_of(self, offset: int, end: int) -> tuple[L2Table | None, int, int]:
        """Return the table of ``offset``, the first byte it maps, and up to where; without one, up to the next one."""
        bits, l1_index = self._table_bits, offset >> self._table_bits
        table = self._tables.get(l1_index) or self._load_table(l1_index)
        stop = min(end, (l1_index + 1) << bits)
        if table is None:
            # Whole runs of empty L1 entries at once.
            l1 = self._mapping.l1
            while stop < end and not l1[stop >> bits]:
                stop = min(end, stop + (1 << bits))
        return table, l1_index << bits, stop

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            table, base, stop = self._table_of(offset, end)
            if table is None:
                yield Extent(offset, stop - offset, Kind.UNALLOCATED)
            else:
                yield from table_extents(
                    table.entries,
                    base,
                    offset,
                    stop,
                    cluster_bits=self._bits,
                    special=self._special,
                    data=self.data,
                    node=self,
                    table_offset=table.offset,
                )
            offset = stop

    @property
    def zero_when_made(self) -> bool:
        """What is not allocated is the backing file's, or zero; what was allocated in advance is as what holds it."""
        return self.backing is None and (not any(self._mapping.l1) or self.data.zero_when_made)

    def data_columns(self, offset: int, end: int) -> Columns | None:
        """Return the runs of plain data that the table of ``offset`` maps; see MapsInBulk."""
        if self.backing is not None:
            return None  # what is not allocated here, a whole table of it too, may be there
        table, base, stop = self._table_of(offset, end)
        if table is None:
            return stop, array("Q"), array("Q"), array("Q")
        native, special = self._native_columns, self._special
        columns = table_columns(
            table.entries, base, offset, stop, cluster_bits=self._bits, special=special, native=native
        )
        return None if columns is None else (stop, *columns)

    @cached_property
    def _native_columns(self) -> NativeColumns | None:
        """What makes columns in no time; None where there are too few tables to wait for it, or it cannot be had."""
        tables = len(self._mapping.l1) - self._mapping.l1.count(0)
        if tables < _WORTH_LOADING:
            return None
        from blockkit.native.kernels import kernel

        found = kernel("blockkit.formats.qcow2.columns", "l2_columns", 6, compiled=tables >= _WORTH_COMPILING)
        return None if found is None else NativeColumns(found)

    # -- compressed clusters -------------------------------------------------------------------------------

    def _get_codec(self) -> Codec:
        if self._codec is None:
            from blockkit.formats.qcow2.codecs import codec_for

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
