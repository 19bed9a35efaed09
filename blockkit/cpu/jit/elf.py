"""Loading an object file into this process: x86-64, relocated where it comes to lie (System V psABI, 4.4)."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Final, NamedTuple

_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQq")
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")

_SYMBOLS, _RELOCATIONS, _NO_BITS = 2, 4, 8
_ALLOCATED: Final = 2
_ABSOLUTE_64, _RELATIVE_32, _CALL_32 = 1, 2, 4
_X86_64: Final = 62
_PAGE: Final = 4096
_READ_EXECUTE: Final = 1 | 4


class ObjectError(Exception):
    """The file is no object that can be loaded here."""


class Loaded(NamedTuple):
    """An object in memory.

    Attributes:
        memory: What it is in; it must not be freed.
        symbols: Addresses by name.
    """

    memory: mmap.mmap
    symbols: dict[str, int]


def load_object(data: bytes) -> Loaded:
    """Load an object; raises ObjectError."""
    try:
        return _load(data)
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise ObjectError(str(error)) from error


def _load(data: bytes) -> Loaded:
    (
        magic,
        _,
        machine,
        *_,
    ) = _HEADER.unpack_from(data)
    if magic[:5] != b"\x7fELF\x02" or machine != _X86_64:
        raise ObjectError("no x86-64 object")
    header = _HEADER.unpack_from(data)
    start, count = header[6], header[12]
    sections = [_SECTION.unpack_from(data, start + index * _SECTION.size) for index in range(count)]
    places: dict[int, int] = {}
    total = 0
    for index, (_, kind, flags, _, _, size, _, _, align, _) in enumerate(sections):
        if flags & _ALLOCATED and size and kind != _RELOCATIONS:
            total += -total % max(align, 16)
            places[index] = total
            total += size
    memory = mmap.mmap(-1, total + -total % _PAGE + _PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for index, place in places.items():
        _, kind, _, _, offset, size, *_ = sections[index]
        if kind != _NO_BITS:
            memory[place : place + size] = data[offset : offset + size]
    table = next(section for section in sections if section[1] == _SYMBOLS)
    names = sections[table[6]][4]
    symbols = [_SYMBOL.unpack_from(data, at) for at in range(table[4], table[4] + table[5], _SYMBOL.size)]
    for _, kind, _, _, offset, size, _, target, _, _ in sections:
        if kind == _RELOCATIONS and target in places:
            _relocate(data[offset : offset + size], memory, base, places, places[target], symbols)
    found = {
        data[names + name : data.index(b"\0", names + name)].decode(): base + places[section] + value
        for name, _, _, section, value, _ in symbols
        if name and section in places
    }
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(base), ctypes.c_size_t(len(memory)), _READ_EXECUTE):
        raise ObjectError("memory cannot be made executable")
    return Loaded(memory, found)


def _relocate(
    data: bytes,
    memory: mmap.mmap,
    base: int,
    places: dict[int, int],
    start: int,
    symbols: list[tuple[int, ...]],
) -> None:
    for offset, info, addend in _RELOCATION.iter_unpack(data):
        _, _, _, section, value, _ = symbols[info >> 32]
        target = places[section] + value + addend
        kind = info & 0xFFFFFFFF
        if kind in (_RELATIVE_32, _CALL_32):
            struct.pack_into("<i", memory, start + offset, target - start - offset)
        elif kind == _ABSOLUTE_64:
            struct.pack_into("<Q", memory, start + offset, base + target)
        else:
            raise ObjectError(f"relocation of type {kind}")
