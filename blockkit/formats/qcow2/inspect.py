"""Listing an image's on-disk structures, field by field, for ``blockkit img inspect``.

Everything comes from the declarations in :mod:`~blockkit.formats.qcow2.schema`. A part that is broken becomes a
structure with a field named ``error``, and the rest follows.
"""

from __future__ import annotations

from itertools import compress, count, groupby
from typing import TYPE_CHECKING, Final

from blockkit.block.bases import FormatNode
from blockkit.block.node import Kind
from blockkit.block.tables import decode_u64
from blockkit.block.zeros import is_zero
from blockkit.errors import ImageError, UnsupportedOperationError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.bitmaps import FIXED_SIZE as BITMAP_SIZE
from blockkit.formats.qcow2.bitmaps import bitmaps_extension, read_bitmaps
from blockkit.formats.qcow2.counts import decode_counts
from blockkit.formats.qcow2.header import read_any_header
from blockkit.formats.qcow2.schema import (
    COMPRESSED,
    COPIED,
    L1_RESERVED_MASK,
    L2_RESERVED_MASK,
    OFFSET_MASK,
    REFCOUNT_TABLE_RESERVED_MASK,
    ZERO,
    ExtensionType,
    Incompatible,
)
from blockkit.formats.qcow2.snapshots import FIXED_SIZE as SNAPSHOT_SIZE
from blockkit.formats.qcow2.snapshots import read_snapshots
from blockkit.schema import FieldValue, Structure, name_of
from blockkit.units import align_up, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Extent, Node
    from blockkit.formats.qcow2.geometry import Geometry
    from blockkit.formats.qcow2.header import Extension, HeaderCluster

#: One structure shows at most this many bytes of a table; a longer table is shown in parts.
_PART: Final = 1 << 16

#: Runs of equal counts shown of one refcount block.
_MAX_RUNS: Final = 4096


class Qcow2Structures(FormatNode):
    """An image of which only the structures are there, whatever features it needs.

    Args:
        file: What holds the image; closed with this node.

    Raises:
        ImageError: the header cannot be decoded, or a field of it has a value no image may have.
    """

    driver = "qcow2"
    size: int = 0

    def __init__(self, file: Node) -> None:
        super().__init__(file)
        self.header = read_any_header(file)
        self.size = self.header.fixed.size

    def _map(self, offset: int, length: int) -> Extent:
        raise UnsupportedOperationError(f"{self}: it was opened for its structures alone (inspecting), not its data")

    def structures(self) -> Iterator[Structure]:
        """Yield every on-disk structure."""
        return structures(self.file, self.header)


def structures(file: Node, header: HeaderCluster) -> Iterator[Structure]:
    """Yield every on-disk structure, the header first; nothing is read before it is its turn.

    Args:
        file: What holds the image.
        header: As read from ``file``.

    Raises:
        NodeIOError: reading failed.
    """
    yield from _header(header)
    yield from _l1_tables("qcow2 L1 table", file, header.fixed.l1_table_offset, header.fixed.l1_size)
    yield from _l2_tables(file, header)
    yield from _refcounts(file, header)
    yield from _snapshots(file, header)
    yield from _bitmaps(file, header)


def _error(name: str, offset: int, error: ImageError) -> Structure:
    at = offset if error.offset is None else error.offset
    return Structure(name, offset, 0, [FieldValue(at, 0, "error", str(error), "cannot be decoded")])


# -- the header cluster --------------------------------------------------------------------------------------


def _header(header: HeaderCluster) -> Iterator[Structure]:
    fixed = header.fixed
    yield fixed.structure(0)
    if header.additional:
        additional = header.additional
        if len(additional) >= 8:
            yield schema.AdditionalFields.parse(additional, offset=schema.HEADER_V3_LENGTH).structure(
                schema.HEADER_V3_LENGTH
            )
    for extension in header.extensions:
        try:
            yield from _extension(extension)
        except ImageError as error:
            yield _error("qcow2 header extension", extension.offset, error)
    if header.backing_file is not None:
        name = header.backing_file.decode("utf-8", "replace")
        at, size = fixed.backing_file_offset, fixed.backing_file_size
        yield Structure("qcow2 backing file name", at, size, [FieldValue(at, size, "name", name, "as stored")])


def _extension(extension: Extension) -> Iterator[Structure]:
    data, at = extension.data, extension.offset
    yield schema.ExtensionHeader(type=extension.type, length=len(data)).structure(at)
    at += 8
    if extension.type == ExtensionType.FEATURE_NAMES:
        for start in range(0, len(data) - 47, 48):
            yield schema.FeatureName.parse(data[start : start + 48], offset=at + start).structure(at + start)
    elif extension.type in (ExtensionType.BACKING_FORMAT, ExtensionType.DATA_FILE_NAME):
        kind = name_of(extension.type, ExtensionType)
        text = data.decode("utf-8", "replace")
        yield Structure(schema.TextExtension.title, at, len(data), [FieldValue(at, len(data), "text", text, kind)])
    elif extension.type == ExtensionType.BITMAPS:
        yield schema.BitmapsExtension.parse(data, offset=at).structure(at)
    elif extension.type == ExtensionType.CRYPTO_HEADER:
        yield schema.CryptoHeaderExtension.parse(data, offset=at).structure(at)
    elif data:
        yield Structure("qcow2 extension data", at, len(data), [FieldValue(at, len(data), "data", data, "not known")])


# -- tables --------------------------------------------------------------------------------------------------


def _parts(file: Node, offset: int, size: int, unit: int = 8) -> Iterator[tuple[int, bytes]]:
    """Yield ``(offset, bytes)`` of the parts of a table that are in the file and not all zeros.

    Args:
        file: What holds the image.
        offset: Of the table, bytes.
        size: Of the table, bytes.
        unit: Bytes of an entry; parts hold whole ones, the last filled up with zeros.
    """
    start, end = offset, min(offset + size, file.size)
    while start < end:
        length = min(_PART, end - start)
        data = file.pull_bytes(start, align_up(length, unit))
        empty = is_zero(memoryview(data))
        if not empty:
            yield start, data
        start += length
        if empty and start < end:
            # The tables of a file that is all holes must not take as long as if all of them were there.
            hole = file.map(start, end - start)
            start += hole.length // _PART * _PART if hole.kind is Kind.ZERO else 0


def _l1_meaning(entry: int) -> str:
    words = [f"L2 table at {entry & OFFSET_MASK:#x}"]
    words += ["copied"] if entry & COPIED else []
    words += [f"reserved bits {entry & L1_RESERVED_MASK:#x}"] if entry & L1_RESERVED_MASK else []
    return ", ".join(words)


def _l1_tables(name: str, file: Node, offset: int, entries: int) -> Iterator[Structure]:
    for start, data in _parts(file, offset, min(entries * 8, schema.MAX_L1_SIZE)):
        first = (start - offset) // 8
        rows = [
            FieldValue(start + index * 8, 8, f"entry {first + index}", entry, _l1_meaning(entry))
            for index, entry in enumerate(decode_u64(data, "big"))
            if entry
        ]
        yield Structure(name, start, len(data), rows)


def _l2_meaning(header: HeaderCluster, entry: int) -> str:
    geometry, data_file = header.geometry, bool(header.incompatible & Incompatible.DATA_FILE)
    if entry & COMPRESSED:
        host, length = geometry.compressed_range(entry)
        words = [f"compressed at {host:#x}, {length} bytes at most"]
        words += ["copied, which it must not be"] if entry & COPIED else []
        return ", ".join(words)
    host = entry & OFFSET_MASK
    # With subclusters, what reads as zeros is said by their bitmap, and the bit is reserved.
    words = ["zero"] if entry & ZERO and not geometry.extended_l2 else []
    # Nothing of the image itself is at 0 but its header; a file of data alone begins there.
    if host or (data_file and entry & COPIED):
        words.append(f"reserved at {host:#x}" if words else f"data at {host:#x}")
        words[-1] += " of the data file" if data_file else ""
    elif not words:
        words.append("not allocated")
    words += ["copied"] if entry & COPIED else []
    wrong = entry & (L2_RESERVED_MASK | (ZERO if geometry.extended_l2 else 0))
    words += [f"reserved bits {wrong:#x}"] if wrong else []
    return ", ".join(words)


def _subclusters_meaning(bitmap: int) -> str:
    """Name the subclusters of a bitmap: bit x says that x is allocated, bit 32 + x that it reads as zeros."""
    kinds = ("", "allocated", "zero", "allocated and zero, which it must not be")
    words = []
    first = 0
    for kind, run in groupby((bitmap >> x & 1) | (bitmap >> 32 + x & 1) << 1 for x in range(32)):
        last = first + sum(1 for _ in run) - 1
        if kind:
            words.append(f"{first if first == last else f'{first} to {last}'} {kinds[kind]}")
        first = last + 1
    return "; ".join(words) or "none allocated"


def _l2_tables(file: Node, header: HeaderCluster) -> Iterator[Structure]:
    """Yield the L2 tables of the disk, each once."""
    fixed, geometry, seen = header.fixed, header.geometry, set[int]()
    for _, l1 in _parts(file, fixed.l1_table_offset, fixed.l1_size * 8):
        for entry in filter(None, decode_u64(l1, "big")):
            offset = entry & OFFSET_MASK
            if offset in seen:
                continue
            seen.add(offset)
            if problem := _misplaced(file, geometry, offset):
                text = f"qcow2 L2 table at {offset:#x}: {problem}"
                yield Structure("qcow2 L2 table", offset, 0, [FieldValue(offset, 0, "error", text, "cannot be read")])
                continue
            for start, data in _parts(file, offset, geometry.cluster_size, geometry.l2_words * 8):
                yield Structure("qcow2 L2 table", start, len(data), list(_l2_rows(header, offset, start, data)))


def _misplaced(file: Node, geometry: Geometry, offset: int) -> str:
    """Say why there can be no table of one cluster at ``offset``; empty if there can."""
    if offset % geometry.cluster_size:
        # Such tables could lie across each other, and take more time than the file has bytes.
        return f"its offset is not a multiple of the cluster size {geometry.cluster_size:#x}"
    return "it lies behind the end of the file" if offset + 8 > file.size else ""


def _l2_rows(header: HeaderCluster, offset: int, start: int, data: bytes) -> Iterator[FieldValue]:
    table, words = decode_u64(data, "big"), header.geometry.l2_words
    first = (start - offset) // 8
    for index in compress(count(), table):
        number, part = divmod(first + index, words)
        at = start + index * 8
        if part:
            yield FieldValue(at, 8, f"subclusters {number}", table[index], _subclusters_meaning(table[index]))
            continue
        yield FieldValue(at, 8, f"entry {number}", table[index], _l2_meaning(header, table[index]))
        if words > 1 and not table[index + 1]:
            meaning = "none, as it is compressed" if table[index] & COMPRESSED else _subclusters_meaning(0)
            yield FieldValue(at + 8, 8, f"subclusters {number}", 0, meaning)


def _refcounts(file: Node, header: HeaderCluster) -> Iterator[Structure]:
    """Yield the refcount table, then its blocks."""
    fixed, geometry = header.fixed, header.geometry
    offset, size = fixed.refcount_table_offset, fixed.refcount_table_clusters * geometry.cluster_size
    for start, data in _parts(file, offset, size):
        rows = []
        for index, entry in enumerate(decode_u64(data, "big"), (start - offset) // 8):
            if entry:
                wrong = entry & REFCOUNT_TABLE_RESERVED_MASK
                meaning = f"refcount block at {entry & ~REFCOUNT_TABLE_RESERVED_MASK:#x}"
                meaning += f", reserved bits {wrong:#x}" if wrong else ""
                rows.append(FieldValue(offset + index * 8, 8, f"entry {index}", entry, meaning))
        yield Structure("qcow2 refcount table", start, len(data), rows)
    seen: set[int] = set()
    for start, data in _parts(file, offset, size):
        for number, entry in enumerate(decode_u64(data, "big"), (start - offset) // 8):
            place = entry & ~REFCOUNT_TABLE_RESERVED_MASK
            if not entry or place in seen:
                continue
            seen.add(place)
            if problem := _misplaced(file, geometry, place):
                text = f"qcow2 refcount block at {place:#x}: {problem}"
                rows = [FieldValue(place, 0, "error", text, "cannot be read")]
                yield Structure("qcow2 refcount block", place, 0, rows)
                continue
            yield _refcount_block(file, geometry, number, place)


def _refcount_block(file: Node, geometry: Geometry, number: int, place: int) -> Structure:
    """Return one refcount block, runs of equal counts as one field each, runs of zeros left out."""
    if not any(True for _ in _parts(file, place, geometry.cluster_size)):
        return Structure("qcow2 refcount block", place, geometry.cluster_size, [])
    counts = decode_counts(file.pull_bytes(place, geometry.cluster_size), geometry.refcount_order)
    first, width, rows = number << geometry.refcount_block_bits, geometry.refcount_bits, list[FieldValue]()
    position = 0
    for value, run in groupby(counts):
        length = sum(1 for _ in run)
        if value:
            start, end = position * width // 8, ((position + length) * width + 7) // 8
            cluster, last = first + position, first + position + length - 1
            name = f"cluster {cluster}" if length == 1 else f"clusters {cluster} to {last}"
            meaning = f"{length} with this count, from host offset {cluster << geometry.cluster_bits:#x}"
            rows.append(FieldValue(place + start, end - start, name, value, meaning))
            if len(rows) == _MAX_RUNS:
                rest = geometry.cluster_size - end
                rows.append(FieldValue(place + end, rest, "rest", None, f"{rest} bytes more, not shown"))
                break
        position += length
    return Structure("qcow2 refcount block", place, geometry.cluster_size, rows)


# -- snapshots and bitmaps -----------------------------------------------------------------------------------


def _snapshots(file: Node, header: HeaderCluster) -> Iterator[Structure]:
    try:
        found = read_snapshots(file, header, any_extra=True)
    except ImageError as error:
        yield _error("qcow2 snapshot table", header.fixed.snapshots_offset, error)
        return
    seen: set[int] = set()
    shown = 0
    for snapshot in found:
        at = snapshot.entry_offset
        fixed = schema.SnapshotHeader.parse(file.pull_bytes(at, SNAPSHOT_SIZE), offset=at)
        rows = fixed.structure(at).fields
        at += SNAPSHOT_SIZE
        if fixed.extra_data_size >= 16:
            rows += schema.SnapshotExtra.parse(file.pull_bytes(at, 16), offset=at).structure(at).fields
        known = 16 if fixed.extra_data_size >= 16 else 0
        if fixed.extra_data_size > known:
            size = fixed.extra_data_size - known
            data = file.pull_bytes(at + known, min(size, schema.MAX_SNAPSHOT_EXTRA_SIZE))
            rows.append(FieldValue(at + known, size, "extra_data", data, "not known"))
        at += fixed.extra_data_size
        rows.append(FieldValue(at, fixed.id_str_size, "id", snapshot.id, "unique in the image"))
        at += fixed.id_str_size
        rows.append(FieldValue(at, fixed.name_size, "name", snapshot.name, "for people"))
        yield Structure("qcow2 snapshot", snapshot.entry_offset, snapshot.entry_size, rows)
        table = snapshot.l1_table_offset
        if table not in seen:
            seen.add(table)
            name = f"qcow2 L1 table of snapshot {snapshot}"
            shown += min(snapshot.l1_size * 8, max(0, file.size - table))
            if shown > file.size:
                # As many tables as there may be snapshots, all over the same bytes, would not come to an end.
                text = f"{name} at {table:#x}: with those before it is larger than the file: they overlap"
                yield Structure(name, table, 0, [FieldValue(table, 0, "error", text, "not shown")])
                continue
            yield from _l1_tables(name, file, table, snapshot.l1_size)


def _bitmaps(file: Node, header: HeaderCluster) -> Iterator[Structure]:
    try:
        extension = bitmaps_extension(header)
        if extension is None:
            return
    except ImageError as error:
        yield _error("qcow2 bitmaps extension", 0, error)
        return
    try:
        found = read_bitmaps(file, header)
    except ImageError as error:
        yield _error("qcow2 bitmap directory", extension.bitmap_directory_offset, error)
        return
    for bitmap in found:
        at = bitmap.entry_offset
        entry = schema.BitmapHeader.parse(file.pull_bytes(at, BITMAP_SIZE), offset=at)
        rows = entry.structure(at).fields
        flags = name_of(entry.flags, schema.BitmapFlag)
        rows = [row._replace(meaning=f"{flags} ({row.meaning})") if row.name == "flags" else row for row in rows]
        meaning = f"one bit for each {format_size(bitmap.granularity)}"
        rows.append(FieldValue(at + BITMAP_SIZE, entry.name_size, "name", bitmap.name, meaning))
        yield Structure("qcow2 bitmap", at, bitmap.entry_size, rows)
