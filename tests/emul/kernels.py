"""Tiny kernels: ELFs and bzImages whose code is a few bytes, which ends the machine with what it found."""

from __future__ import annotations

import struct
from typing import NamedTuple

#: Where they are loaded.
BASE = 0x100000
#: SETE AL; MOV DX, 501h; OUT DX, AL; HLT, the same in 32 and in 64 bits.
_TELL = bytes.fromhex("0f94c0 66ba0105 ee f4")
#: CMP DWORD [EBX], PVH's magic number.
PVH_CODE = bytes.fromhex("813b78c56e33") + _TELL
#: CMP DWORD [ESI+202h], "HdrS".
LINUX_CODE = bytes.fromhex("81be02020000 48647253") + _TELL
#: MOV RAX, 100000001h; SHR RAX, 32; DEC EAX sets ZF in 64 bits; the rest looks whether the zero page is there, too.
LONG_CODE = bytes.fromhex("48b80100000001000000 48c1e820 ffc8 7402 f4f4") + LINUX_CODE


class Part(NamedTuple):
    """A program header and what it is of."""

    kind: int
    address: int
    data: bytes
    size: int | None = None
    align: int = 4


def note(name: bytes, kind: int, data: bytes) -> bytes:
    """Return a note."""
    name += b"\0"
    return (
        struct.pack("<III", len(name), len(data), kind)
        + name.ljust(-(-len(name) // 4) * 4, b"\0")
        + data.ljust(-(-len(data) // 4) * 4, b"\0")
    )


def pvh_note(entry: int, size: int = 4) -> Part:
    return Part(4, 0, note(b"GNU", 3, b"abc") + note(b"Xen", 18, entry.to_bytes(size, "little")))


def elf(*parts: Part, entry: int = BASE, bits: int = 32) -> bytes:
    """Return an ELF."""
    wide = bits == 64
    header, each = (64, 56) if wide else (52, 32)
    at = header + each * len(parts)
    headers, contents = b"", b""
    for part in parts:
        offset, size = at + len(contents), len(part.data)
        in_memory = size if part.size is None else part.size
        if wide:
            values = part.kind, 7, offset, part.address, part.address, size, in_memory, part.align
            headers += struct.pack("<IIQQQQQQ", *values)
        else:
            values = part.kind, offset, part.address, part.address, size, in_memory, 7, part.align
            headers += struct.pack("<8I", *values)
        contents += part.data
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    code = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    numbers = (2, 62 if wide else 3, 1, entry, header, 0, 0, header, each, len(parts), 0, 0, 0)
    return ident + struct.pack(code, *numbers) + headers + contents


def code_elf(code: bytes, *more: Part, bits: int = 32) -> bytes:
    """Return an ELF that begins with code."""
    return elf(Part(1, BASE, code, len(code) + 4096), *more, bits=bits)


def bzimage(payload: bytes, *, code: bytes = b"\xf4" * 16, version: int = 0x20F, characters: int = 2047) -> bytes:
    """Return a bzImage that has code at its start, and a payload behind it."""
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x201] = 0x66
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    setup[0x211] = 1
    struct.pack_into("<I", setup, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<I", setup, 0x238, characters)
    struct.pack_into("<II", setup, 0x248, len(code), len(payload))
    struct.pack_into("<QI", setup, 0x258, BASE, 0x10000)
    return bytes(setup) + code + payload


def lz4_sequence(literals: bytes, offset: int = 0, length: int = 0) -> bytes:
    """Return a sequence of LZ4; the last one of a block has no match."""
    fields = [len(literals), length - 4 if length else 0]
    token = min(fields[0], 15) << 4 | min(fields[1], 15)
    tails = [b"" if each < 15 else b"\xff" * ((each - 15) // 255) + bytes([(each - 15) % 255]) for each in fields]
    found = bytes([token]) + tails[0] + literals
    return found + struct.pack("<H", offset) + tails[1] if length else found


def lz4_frame(*blocks: bytes, length: int = 0) -> bytes:
    """Return a legacy frame, and the length behind it."""
    return (
        b"\x02\x21\x4c\x18"
        + b"".join(struct.pack("<I", len(block)) + block for block in blocks)
        + struct.pack("<I", length)
    )
