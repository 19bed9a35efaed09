"""Persistent bitmaps: their directory, their tables, and marking them stale [qcow2, "Bitmaps"].

::

    bitmaps extension -> directory: entry, entry, ... -> bitmap table -> clusters of bits
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blockkit.errors import CorruptImageError, FormatError, UnsupportedFeatureError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.schema import Autoclear, BitmapFlag, BitmapHeader, BitmapsExtension, ExtensionType
from blockkit.units import GiB, align_up, format_size

if TYPE_CHECKING:
    from collections.abc import Collection

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.header import HeaderCluster

_WHERE: Final = "qcow2 bitmap directory"

#: Bytes of the fixed part of a directory entry.
FIXED_SIZE: Final = 24

#: Where ``bitmap_table_size`` and ``flags`` lie in a directory entry, bytes.
_TABLE_SIZE_AT: Final = 8
_FLAGS_AT: Final = 12

#: Bytes of bits one bitmap may have on disk, as QEMU limits them.
MAX_STORED: Final = GiB // 2

#: A bitmap table entry: offset, or (without one) bit 0: all bits are ones.
TABLE_RESERVED_MASK: Final = 0xFF00_0000_0000_01FE
ALL_ONES: Final = 1


@dataclass(frozen=True, slots=True)
class Bitmap:
    """One persistent bitmap.

    Attributes:
        name: Unique in the image.
        flags: Its state.
        granularity_bits: One bit stands for ``1 << granularity_bits`` bytes.
        table_offset: Of its bitmap table, bytes.
        table_size: Entries of its bitmap table.
        entry_offset: Where its directory entry starts, bytes.
        entry_size: Bytes of the directory entry, with padding.
    """

    name: str
    flags: BitmapFlag
    granularity_bits: int
    table_offset: int
    table_size: int
    entry_offset: int
    entry_size: int

    @property
    def granularity(self) -> int:
        """Bytes one bit stands for."""
        return 1 << self.granularity_bits

    @property
    def in_use(self) -> bool:
        """Whether its contents may be stale: it was not saved."""
        return bool(self.flags & BitmapFlag.IN_USE)

    @property
    def enabled(self) -> bool:
        """Whether every change of the disk is to be recorded in it."""
        return bool(self.flags & BitmapFlag.AUTO)

    def bits(self, size: int) -> int:
        """Return how many bits stand for a disk of ``size`` bytes."""
        return size + self.granularity - 1 >> self.granularity_bits

    # Each of these changes one field in place, which lies in one sector; two fields need not.

    def write_table_offset(self, file: Node, offset: int) -> None:
        """Name another place of the table in the directory, bytes."""
        file.push(self.entry_offset, [memoryview(offset.to_bytes(8, "big"))])

    def write_table_size(self, file: Node, entries: int) -> None:
        """Change the size of the table in the directory."""
        file.push(self.entry_offset + _TABLE_SIZE_AT, [memoryview(entries.to_bytes(4, "big"))])

    def write_flags(self, file: Node, flags: BitmapFlag) -> None:
        """Change the flags in the directory."""
        file.push(self.entry_offset + _FLAGS_AT, [memoryview(int(flags).to_bytes(4, "big"))])


def bitmaps_extension(header: HeaderCluster) -> BitmapsExtension | None:
    """Return the bitmaps extension; None if there is none, or the image was changed without minding it.

    Raises:
        FormatError: a field of the extension has a value no image may have.
    """
    found = header.extension(ExtensionType.BITMAPS)
    if found is None or not header.autoclear & Autoclear.BITMAPS:
        return None
    extension = BitmapsExtension.parse(found.data, offset=found.offset + 8)

    def refuse(name: str, value: int, expected: str) -> None:
        raise FormatError(
            f"{name} is {value:#x}, not {expected}", where="qcow2 bitmaps extension", offset=found.offset + 8
        )

    size, cluster_size = extension.bitmap_directory_size, header.geometry.cluster_size
    if not 1 <= extension.nb_bitmaps <= schema.MAX_BITMAPS:
        refuse("nb_bitmaps", extension.nb_bitmaps, f"from 1 to {schema.MAX_BITMAPS:#x}")
    if extension.reserved:
        refuse("the reserved field", extension.reserved, "0")
    if not FIXED_SIZE <= size <= schema.MAX_BITMAP_DIRECTORY_SIZE:
        refuse("bitmap_directory_size", size, f"from {FIXED_SIZE:#x} to {schema.MAX_BITMAP_DIRECTORY_SIZE:#x}")
    offset = extension.bitmap_directory_offset
    if not offset or offset % cluster_size or offset > schema.MAX_HOST_OFFSET:
        refuse("bitmap_directory_offset", offset, f"a multiple of the cluster size {cluster_size:#x} below 2**56")
    return extension


def read_bitmaps(file: Node, header: HeaderCluster) -> list[Bitmap]:
    """Read the bitmap directory; memory and time are bounded by its limits and by the file.

    Returns:
        All bitmaps, those in use too; nothing when the extension is not to be trusted.

    Raises:
        CorruptImageError: the directory contradicts itself, or the extension.
        FormatError: a field has a value no image may have.
        UnsupportedFeatureError: a bitmap needs extra data that nobody has defined yet.
    """
    extension = bitmaps_extension(header)
    if extension is None:
        return []
    start, size = extension.bitmap_directory_offset, extension.bitmap_directory_size
    if start + size > file.size:
        raise CorruptImageError(
            f"it takes {size} bytes, but the file ends at {file.size:#x}", where=_WHERE, offset=start
        )
    directory = file.pull_bytes(start, size)
    found: list[Bitmap] = []
    position = 0
    while position < size:
        if len(found) == extension.nb_bitmaps:
            raise CorruptImageError(
                f"it goes on after {len(found)} bitmaps, all that nb_bitmaps announces",
                where=_WHERE,
                offset=start + position,
            )
        bitmap = _parse_entry(directory, position, start, header)
        found.append(bitmap)
        position += bitmap.entry_size
    if len(found) != extension.nb_bitmaps:
        raise CorruptImageError(
            f"it has {len(found)} bitmaps, but nb_bitmaps is {extension.nb_bitmaps}", where=_WHERE, offset=start
        )
    return found


def _parse_entry(directory: bytes, position: int, start: int, header: HeaderCluster) -> Bitmap:
    """Decode and judge the entry at ``position`` of the directory, which starts at ``start`` of the file."""
    at = start + position

    def fail(kind: type[FormatError | CorruptImageError | UnsupportedFeatureError], problem: str) -> None:
        raise kind(problem, where=_WHERE, offset=at)

    entry = BitmapHeader.parse(directory[position : position + FIXED_SIZE], offset=at)
    size = align_up(FIXED_SIZE + entry.extra_data_size + entry.name_size, 8)
    if position + size > len(directory):
        fail(CorruptImageError, f"an entry of {size} bytes reaches past the end of the directory")
    name_at = position + FIXED_SIZE + entry.extra_data_size
    name = directory[name_at : name_at + entry.name_size].decode("utf-8", "replace")
    if entry.extra_data_size:
        fail(UnsupportedFeatureError, f"bitmap {name!r} has {entry.extra_data_size} bytes of extra data, not 0")
    if entry.name_size > schema.MAX_BITMAP_NAME_SIZE:
        fail(FormatError, f"name_size is {entry.name_size}, not at most {schema.MAX_BITMAP_NAME_SIZE}")
    if entry.type != 1:
        fail(FormatError, f"type of bitmap {name!r} is {entry.type}, not 1")
    if entry.granularity_bits not in schema.BITMAP_GRANULARITY_BITS:
        fail(FormatError, f"granularity_bits of bitmap {name!r} is {entry.granularity_bits}, not from 9 to 31")
    flags = BitmapFlag(entry.flags)
    if entry.flags & ~int(BitmapFlag.IN_USE | BitmapFlag.AUTO | BitmapFlag.EXTRA_DATA_COMPATIBLE):
        fail(FormatError, f"flags of bitmap {name!r} are {entry.flags:#x}, with reserved bits set")
    cluster_size = header.geometry.cluster_size
    if not entry.bitmap_table_offset or entry.bitmap_table_offset % cluster_size:
        fail(
            FormatError,
            f"bitmap_table_offset of bitmap {name!r} is {entry.bitmap_table_offset:#x}, "
            f"not a multiple of the cluster size {cluster_size:#x}",
        )
    stored = entry.bitmap_table_size * cluster_size
    if not 1 <= entry.bitmap_table_size <= schema.MAX_BITMAP_TABLE_ENTRIES or stored > MAX_STORED:
        fail(
            FormatError,
            f"bitmap_table_size of bitmap {name!r} is {entry.bitmap_table_size}, "
            f"not from 1 to what holds {format_size(MAX_STORED)} of bits",
        )
    needed = table_entries(header.fixed.size, entry.granularity_bits, header.fixed.cluster_bits)
    # One that was not saved may have missed that the disk was resized.
    if not flags & BitmapFlag.IN_USE and entry.bitmap_table_size != needed:
        fail(
            CorruptImageError,
            f"bitmap_table_size of bitmap {name!r} is {entry.bitmap_table_size}, "
            f"but a disk of {header.fixed.size} bytes needs {needed}",
        )
    return Bitmap(
        name=name,
        flags=flags,
        granularity_bits=entry.granularity_bits,
        table_offset=entry.bitmap_table_offset,
        table_size=entry.bitmap_table_size,
        entry_offset=at,
        entry_size=size,
    )


def stored_size(size: int, granularity_bits: int) -> int:
    """Return the bytes that the bits for a disk of ``size`` bytes take: whole words of 64 bits."""
    bits = size + (1 << granularity_bits) - 1 >> granularity_bits
    return align_up(bits, 64) // 8


def table_entries(size: int, granularity_bits: int, cluster_bits: int) -> int:
    """Return the entries that the bitmap table for a disk of ``size`` bytes has: one for each cluster of bits."""
    return stored_size(size, granularity_bits) + (1 << cluster_bits) - 1 >> cluster_bits


def mark_in_use(file: Node, header: HeaderCluster, marked: set[str] | None = None) -> None:
    """Declare every enabled bitmap stale, in place and durably; to be done before the disk is first changed.

    Nothing here records changes, so a bitmap that promised to know them all must not be trusted any more.

    Args:
        file: What holds the image.
        header: Of the image.
        marked: Gets the names of those that were not stale before, even if that fails half way.
    """
    enabled = [bitmap for bitmap in read_bitmaps(file, header) if bitmap.enabled]
    if marked is not None:
        marked.update(bitmap.name for bitmap in enabled if not bitmap.in_use)
    # Those that are stale already too: that may not be durable, if this failed before.
    mark(file, enabled)


def mark(file: Node, bitmaps: Collection[Bitmap]) -> None:
    """Declare ``bitmaps`` stale, in place and durably."""
    for bitmap in bitmaps:
        if not bitmap.in_use:
            bitmap.write_flags(file, bitmap.flags | BitmapFlag.IN_USE)
    if bitmaps:
        file.flush()
