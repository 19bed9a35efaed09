"""Loading an object file into this process: x86-64, relocated where it comes to lie (System V psABI, 4.4)."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQq")
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")

_SYMBOLS, _RELOCATIONS, _NO_BITS = 2, 4, 8
_ALLOCATED, _EXECUTABLE = 2, 4
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


def join_objects(objects: Sequence[bytes]) -> bytes:
    """Return several objects as one sequence of bytes, which :func:`split_objects` takes apart."""
    return struct.pack("<Q", len(objects)) + b"".join(struct.pack("<Q", len(each)) + each for each in objects)


def load_objects(objects: Sequence[bytes]) -> Loaded:
    """Load objects that refer to each other; raises ObjectError."""
    try:
        return _link([_read(each) for each in objects])
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise ObjectError(str(error)) from error


def split_objects(data: bytes) -> Iterator[bytes]:
    """Yield what :func:`join_objects` joined; raises ObjectError."""
    (count,) = struct.unpack_from("<Q", data)
    at = 8
    for _ in range(count):
        (size,) = struct.unpack_from("<Q", data, at)
        if size > len(data) - at - 8:
            raise ObjectError(f"{size} bytes, expected {len(data) - at - 8} at most")
        yield data[at + 8 : at + 8 + size]
        at += 8 + size


def read_functions(data: bytes) -> Iterator[tuple[str, bytes, list[tuple[int, int, str, int]]]]:
    """Yield the functions of an object file that is not linked: name, code, and relocations.

    Of a relocation: where it is in the function, its type, the symbol it is for, and the addend. Raises ObjectError.
    """
    try:
        found = _read(data)
        for _, kind, _, _, offset, size, _, target, _, _ in found.sections:
            if kind != _RELOCATIONS or not found.sections[target][2] & _EXECUTABLE:
                continue
            start, length = found.sections[target][4], found.sections[target][5]
            functions = sorted((value, name) for name, section, value in found.symbols if section == target and name)
            ends = [value for value, _ in functions[1:]] + [length]
            relocations = sorted(_RELOCATION.iter_unpack(data[offset : offset + size]))
            at = 0
            for (begin, name), end in zip(functions, ends, strict=True):
                own = []
                while at < len(relocations) and relocations[at][0] < end:
                    where, info, addend = relocations[at]
                    own.append((where - begin, info & 0xFFFFFFFF, found.symbols[info >> 32][0], addend))
                    at += 1
                yield name, data[start + begin : start + end], own
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise ObjectError(str(error)) from error


class _Object:
    """One object file.

    Attributes:
        data: Its bytes.
        sections: Its section headers.
        places: Where those that are loaded lie in memory.
        symbols: Its symbols: name, section and value.
    """

    def __init__(self, data: bytes, sections: list[tuple[int, ...]], symbols: list[tuple[str, int, int]]) -> None:
        self.data, self.sections, self.symbols = data, sections, symbols
        self.places: dict[int, int] = {}


def _read(data: bytes) -> _Object:
    header = _HEADER.unpack_from(data)
    if header[0][:5] != b"\x7fELF\x02" or header[2] != _X86_64:
        raise ObjectError("no x86-64 object")
    start, count = header[6], header[12]
    sections = [_SECTION.unpack_from(data, start + index * _SECTION.size) for index in range(count)]
    table = next(section for section in sections if section[1] == _SYMBOLS)
    names = sections[table[6]][4]
    symbols = []
    for at in range(table[4], table[4] + table[5], _SYMBOL.size):
        name, _, _, section, value, _ = _SYMBOL.unpack_from(data, at)
        symbols.append((data[names + name : data.index(b"\0", names + name)].decode(), section, value))
    return _Object(data, sections, symbols)


def _link(objects: list[_Object]) -> Loaded:
    """Lay all sections out, relocate them, and make them executable."""
    total = 0
    for each in objects:
        for index, (_, kind, flags, _, _, size, _, _, align, _) in enumerate(each.sections):
            if flags & _ALLOCATED and size and kind != _RELOCATIONS:
                total += -total % max(align, 16)
                each.places[index] = total
                total += size
    memory = mmap.mmap(-1, total + -total % _PAGE + _PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    found: dict[str, int] = {}
    for each in objects:
        for index, place in each.places.items():
            _, kind, _, _, offset, size, *_ = each.sections[index]
            if kind != _NO_BITS:
                memory[place : place + size] = each.data[offset : offset + size]
        found |= {name: each.places[section] + value for name, section, value in each.symbols if section in each.places}
    for each in objects:
        for _, kind, _, _, offset, size, _, target, _, _ in each.sections:
            if kind == _RELOCATIONS and target in each.places:
                _relocate(each, each.data[offset : offset + size], memory, base, each.places[target], found)
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(base), ctypes.c_size_t(len(memory)), _READ_EXECUTE):
        raise ObjectError("memory cannot be made executable")
    return Loaded(memory, {name: base + place for name, place in found.items() if name})


def _relocate(each: _Object, data: bytes, memory: mmap.mmap, base: int, start: int, found: dict[str, int]) -> None:
    for offset, info, addend in _RELOCATION.iter_unpack(data):
        name, section, value = each.symbols[info >> 32]
        target = (each.places[section] + value if section in each.places else found[name]) + addend
        kind = info & 0xFFFFFFFF
        if kind in (_RELATIVE_32, _CALL_32):
            struct.pack_into("<i", memory, start + offset, target - start - offset)
        elif kind == _ABSOLUTE_64:
            struct.pack_into("<Q", memory, start + offset, base + target)
        else:
            raise ObjectError(f"relocation of type {kind}")
