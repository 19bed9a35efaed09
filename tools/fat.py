#!/usr/bin/env python3
"""Make a FAT16 file system with files in it, with nothing but Python.

As a program: ``tools/fat.py IMAGE SIZE_MIB FILE...`` makes a new image; with ``--add`` the files go into one that
this program made. Only the root directory is used, and names are reduced to 8.3.

Reference: Microsoft Extensible Firmware Initiative FAT32 File System Specification, version 1.03 (the sections named
below), which describes FAT16 too.
"""

from __future__ import annotations

import argparse
import struct
import sys
from array import array
from pathlib import Path

SECTOR = 512
SECTORS_PER_CLUSTER = 4
CLUSTER = SECTOR * SECTORS_PER_CLUSTER
RESERVED_SECTORS = 1
FATS = 2
ROOT_ENTRIES = 512
ROOT_SECTORS = ROOT_ENTRIES * 32 // SECTOR
#: With fewer clusters it is FAT12, with more FAT32: the number alone decides. Section "FAT Type Determination".
MIN_CLUSTERS, MAX_CLUSTERS = 4085, 65524
MEDIA = 0xF8
END_OF_CHAIN = 0xFFFF
SERIAL = 0xB10C0D15
#: 2024-01-01 00:00, so that the same files make the same image. Section "Date and Time Formats".
DATE = (2024 - 1980) << 9 | 1 << 5 | 1

#: Jump, OEM name, then the BIOS parameter block up to the file system type. Section "Boot Sector and BPB".
_BOOT = struct.Struct("<3s8sHBHBHHBHHHIIBBBI11s8s")
#: Name, attributes, reserved, times, first cluster, size. Section "FAT Directory Structure".
_ENTRY = struct.Struct("<11sBBBHHHHHHHI")


class Fat16:
    """A FAT16 image in memory.

    Args:
        size: Bytes of the image; from 9 MiB to 127 MiB make a FAT16 with clusters of 2 KiB.
    """

    def __init__(self, size: int) -> None:
        self.sectors = size // SECTOR
        self.fat_sectors = self._fat_sectors()
        self.data_start = (RESERVED_SECTORS + FATS * self.fat_sectors + ROOT_SECTORS) * SECTOR
        self.clusters = (self.sectors * SECTOR - self.data_start) // CLUSTER
        if not MIN_CLUSTERS <= self.clusters <= MAX_CLUSTERS:
            raise SystemExit(
                f"fat.py: {size} bytes make {self.clusters} clusters; FAT16 has {MIN_CLUSTERS} to {MAX_CLUSTERS}"
            )
        self.table = array("H", bytes(2 * (self.clusters + 2)))
        self.table[0], self.table[1] = 0xFF00 | MEDIA, END_OF_CHAIN
        self.entries: list[bytes] = [_ENTRY.pack(b"BLOCKKIT   ", 0x08, 0, 0, 0, DATE, DATE, 0, 0, DATE, 0, 0)]
        self.chunks: list[tuple[int, bytes]] = []
        self.next_cluster = 2

    @classmethod
    def load(cls, image: bytes) -> Fat16:
        """Read back an image that :meth:`pieces` described."""
        disk = cls(len(image))
        start = RESERVED_SECTORS * SECTOR
        disk.table = _little_endian(array("H", image[start : start + len(disk.table) * 2]))
        root = disk.data_start - ROOT_SECTORS * SECTOR
        disk.entries = [image[at : at + 32] for at in range(root, disk.data_start, 32) if image[at]]
        disk.next_cluster = max((n for n, value in enumerate(disk.table) if value), default=1) + 1
        return disk

    def add(self, name: str, data: bytes) -> None:
        """Store a file in the root directory, in clusters that follow one another."""
        short = short_name(name)
        if any(entry[:11] == short for entry in self.entries):
            raise SystemExit(f"fat.py: two files are called {short.decode()!r} when names are cut to 8.3")
        count = -(-len(data) // CLUSTER)
        if len(self.entries) >= ROOT_ENTRIES or self.next_cluster + count > self.clusters + 2:
            raise SystemExit(f"fat.py: no room for {name}, {len(data)} bytes")
        first = self.next_cluster if count else 0
        for number in range(first, first + count):
            self.table[number] = number + 1 if number + 1 < first + count else END_OF_CHAIN
        if count:
            self.chunks.append((self.data_start + (first - 2) * CLUSTER, data))
        self.next_cluster += count
        self.entries.append(_ENTRY.pack(short, 0x20, 0, 0, 0, DATE, DATE, 0, 0, DATE, first, len(data)))

    def pieces(self) -> list[tuple[int, bytes]]:
        """Return what is to be written, as (offset in bytes, data); the rest of the image is zeros or as it was."""
        table = _little_endian(self.table).tobytes()
        fats = [((RESERVED_SECTORS + copy * self.fat_sectors) * SECTOR, table) for copy in range(FATS)]
        root = (self.data_start - ROOT_SECTORS * SECTOR, b"".join(self.entries))
        return [(0, self._boot_sector()), *fats, root, *self.chunks]

    def _fat_sectors(self) -> int:
        """Return the sectors of one FAT, enough for every cluster the rest of the image holds."""
        sectors = 1
        while True:
            rest = self.sectors - RESERVED_SECTORS - FATS * sectors - ROOT_SECTORS
            if (rest // SECTORS_PER_CLUSTER + 2) * 2 <= sectors * SECTOR:
                return sectors
            sectors += 1

    def _boot_sector(self) -> bytes:
        short, long = (self.sectors, 0) if self.sectors < 1 << 16 else (0, self.sectors)
        boot = _BOOT.pack(
            *(b"\xeb\x3c\x90", b"BLOCKKIT", SECTOR, SECTORS_PER_CLUSTER, RESERVED_SECTORS, FATS, ROOT_ENTRIES, short),
            *(MEDIA, self.fat_sectors, 32, 64, 0, long, 0x80, 0, 0x29, SERIAL, b"BLOCKKIT   ", b"FAT16   "),
        )
        return boot.ljust(510, b"\0") + b"\x55\xaa"


def _little_endian(table: array[int]) -> array[int]:
    """Turn a table between the host's order of bytes and the disk's."""
    if sys.byteorder == "big":
        table = table[:]
        table.byteswap()
    return table


def short_name(name: str) -> bytes:
    """Return ``name`` as the 11 bytes of an 8.3 entry: upper case, letters, digits, ``_`` and ``-``."""
    stem, _, suffix = name.upper().rpartition(".") if "." in name.lstrip(".") else (name.upper(), "", "")

    def clean(text: str, width: int) -> str:
        return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in text)[:width].ljust(width)

    return (clean(stem, 8) + clean(suffix, 3)).encode()


def main() -> None:
    """Write the image the command line asks for."""
    parser = argparse.ArgumentParser(description="make a FAT16 file system with files in it")
    parser.add_argument(
        "--add", action="store_true", help="add to the image instead of making it; SIZE_MIB is not given"
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("rest", nargs="*", metavar="[SIZE_MIB] FILE")
    words = parser.parse_args()
    if words.add:
        disk = Fat16.load(words.image.read_bytes())
        files = words.rest
    else:
        if not words.rest or not words.rest[0].isdigit():
            parser.error("SIZE_MIB, a number, comes after IMAGE")
        size = int(words.rest[0]) << 20
        disk = Fat16(size)
        files = words.rest[1:]
        with words.image.open("wb") as file:
            file.truncate(size)
    for name in files:
        disk.add(Path(name).name, Path(name).read_bytes())
    with words.image.open("r+b") as file:
        for offset, data in disk.pieces():
            file.seek(offset)
            file.write(data)


if __name__ == "__main__":
    main()
