"""A kernel as an ELF file: what is loaded where, and its notes (System V ABI, Object Files and Program Loading)."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"\x7fELF"
_32, _64, _LITTLE = 1, 2, 1
#: Machines by class.
_MACHINES: Final = {_32: 3, _64: 62}
_EXECUTABLE, _SHARED = 2, 3
_LOAD, _NOTE = 1, 4
_MOST_HEADERS: Final = 0xFFFE
#: Bytes of notes that are looked at.
_MOST_NOTES: Final = 1 << 20
#: From e_type to e_phnum, behind e_ident.
_FILE_HEADER: Final = {_32: struct.Struct("<HHIIIIIHHH"), _64: struct.Struct("<HHIQQQIHHH")}
_IDENT: Final = 16
_SEGMENT: Final = {_32: struct.Struct("<8I"), _64: struct.Struct("<IIQQQQQQ")}
_NOTE_HEADER: Final = struct.Struct("<III")


class Segment(NamedTuple):
    """Something to be loaded.

    Attributes:
        address: Where to, in physical memory.
        data: It.
        size: Bytes in memory; zeros behind ``data``.
    """

    address: int
    data: memoryview
    size: int


class Note(NamedTuple):
    """A note.

    Attributes:
        name: Whose it is.
        kind: Which one of theirs.
        data: What it says.
    """

    name: bytes
    kind: int
    data: bytes


class Elf(NamedTuple):
    """An executable for x86.

    Attributes:
        is_64: It is one of 64 bits.
        entry: Where it begins.
        segments: What is loaded, by address; none overlap.
        notes: What it says of itself.
    """

    is_64: bool
    entry: int
    segments: list[Segment]
    notes: list[Note]


def read_elf(data: bytes) -> Elf:
    """Read an executable.

    Raises:
        EmulationError: it is none for x86, is damaged, or its segments overlap.
    """
    kind = data[4] if data.startswith(MAGIC) and len(data) > _IDENT else 0
    if kind not in _FILE_HEADER or data[5] != _LITTLE:
        raise EmulationError("kernel: no little-endian ELF of 32 or 64 bits")
    header, entry_of = _FILE_HEADER[kind], _SEGMENT[kind]
    if len(data) < _IDENT + header.size:
        raise EmulationError(f"kernel: {len(data)} bytes: the ELF ends within its header")
    file_type, machine, _, entry, table, _, _, _, size, count = header.unpack_from(data, _IDENT)
    if machine != _MACHINES[kind] or file_type not in (_EXECUTABLE, _SHARED):
        raise EmulationError(f"kernel: an ELF of type {file_type} for machine {machine}, expected one to run on x86")
    if size != entry_of.size or count > _MOST_HEADERS or table + size * count > len(data):
        raise EmulationError(f"kernel: {count} program headers of {size} bytes at {table:#x} are damaged")
    segments: list[Segment] = []
    notes: list[Note] = []
    view = memoryview(data)
    notes_left = _MOST_NOTES
    for number in range(count):
        values = entry_of.unpack_from(data, table + number * size)
        if kind == _32:
            what, offset, _, address, in_file, in_memory, _, align = values
        else:
            what, _, offset, _, address, in_file, in_memory, align = values
        if what not in (_LOAD, _NOTE) or not in_file | in_memory:
            continue
        if offset + in_file > len(data):
            raise EmulationError(f"kernel: segment {number} of {in_file} bytes at {offset:#x} ends behind the file")
        contents = view[offset : offset + in_file]
        if what == _NOTE:
            # Of all of them, since many headers may tell of the same ones.
            notes += _notes(contents[:notes_left], 8 if align == 8 else 4)
            notes_left -= min(in_file, notes_left)
        elif in_file > in_memory:
            raise EmulationError(f"kernel: segment {number} has {in_file} bytes, but {in_memory} in memory")
        else:
            segments.append(Segment(address, contents, in_memory))
    segments.sort(key=lambda segment: segment.address)
    for one, other in pairwise(segments):
        if one.address + one.size > other.address:
            raise EmulationError(f"kernel: segments at {one.address:#x} and {other.address:#x} overlap")
    if not segments:
        raise EmulationError("kernel: the ELF has nothing to load")
    return Elf(kind == _64, entry, segments, notes)


def _notes(data: memoryview, align: int) -> Iterator[Note]:
    """Yield notes, up to the first that is damaged."""
    at = 0
    while at + _NOTE_HEADER.size <= len(data):
        name_size, size, kind = _NOTE_HEADER.unpack_from(data, at)
        name_at = at + _NOTE_HEADER.size
        data_at = name_at + name_size + -name_size % align
        if data_at + size > len(data):
            return
        yield Note(
            bytes(data[name_at : name_at + name_size]).rstrip(b"\0"), kind, bytes(data[data_at : data_at + size])
        )
        at = data_at + size + -size % align
