"""The tables of ACPI as files for firmware that puts them where it likes, and what it has to do to them then.

The commands are those of the table loader that firmware for virtual machines has: 128 bytes each, little-endian.
"""

from __future__ import annotations

import struct
from typing import Final

from blockkit.emul.acpi.tables import build

TABLES, POINTER, COMMANDS = "etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"
_ALLOCATE, _ADD_POINTER, _ADD_CHECKSUM = 1, 2, 3
_HIGH, _LOW_MEGABYTE = 1, 2
_SIZE: Final = 128
#: Checksums of the RSDP: of the first version's bytes, and of all.
_RSDP_SUMS: Final = ((8, 0, 20), (32, 0, 36))
_CHECKSUM: Final = 9


def _command(code: int, body: bytes) -> bytes:
    return (struct.pack("<I", code) + body).ljust(_SIZE, b"\0")


def _name(text: str) -> bytes:
    return text.encode().ljust(56, b"\0")


def _allocate(file: str, alignment: int, zone: int) -> bytes:
    return _command(_ALLOCATE, _name(file) + struct.pack("<IB", alignment, zone))


def _point(file: str, offset: int, size: int) -> bytes:
    """Add the address of the tables to a pointer in a file."""
    return _command(_ADD_POINTER, _name(file) + _name(TABLES) + struct.pack("<IB", offset, size))


def _sum(file: str, at: int, start: int, length: int) -> bytes:
    return _command(_ADD_CHECKSUM, _name(file) + struct.pack("<III", at, start, length))


def files(*, has_hpet: bool = False) -> dict[str, bytes]:
    """Return the files, by name: in the tables, addresses are offsets until the commands are done."""
    tables = build(0, has_hpet=has_hpet)
    commands = [_allocate(TABLES, 64, _HIGH), _allocate(POINTER, 16, _LOW_MEGABYTE)]
    commands += [_point(TABLES, offset, size) for offset, size in tables.pointers]
    commands += [_sum(TABLES, start + _CHECKSUM, start, length) for start, length in tables.headers]
    commands += [_point(POINTER, 16, 4), _point(POINTER, 24, 8)]
    commands += [_sum(POINTER, *each) for each in _RSDP_SUMS]
    return {TABLES: tables.data, POINTER: tables.pointer, COMMANDS: b"".join(commands)}
