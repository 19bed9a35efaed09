"""Writing AML, the byte code of ACPI's definition blocks (ACPI 6.4, chapter 20)."""

from __future__ import annotations

import struct
from typing import Final

_ZERO, _ONE, _BYTE, _WORD, _DWORD = 0x00, 0x01, 0x0A, 0x0B, 0x0C
_NAME, _SCOPE, _BUFFER, _PACKAGE = 0x08, 0x10, 0x11, 0x12
_EXTENDED, _DEVICE = 0x5B, 0x82
_DUAL, _MULTI, _ROOT = 0x2E, 0x2F, 0x5C
_SEGMENT: Final = 4


def integer(value: int) -> bytes:
    """Return a constant."""
    if value in (_ZERO, _ONE):
        return bytes([value])
    for prefix, code in ((_BYTE, "<B"), (_WORD, "<H"), (_DWORD, "<I")):
        if value < 1 << 8 * struct.calcsize(code):
            return bytes([prefix]) + struct.pack(code, value)
    raise ValueError(f"{value:#x} has over 32 bits")


def path(text: str) -> bytes:
    r"""Return a name such as ``\_SB`` or ``PCI0``; segments are filled up with underscores."""
    root = bytes([_ROOT]) if text.startswith("\\") else b""
    segments = [each.ljust(_SEGMENT, "_").encode() for each in text.lstrip("\\").split(".")]
    prefix = {1: b"", 2: bytes([_DUAL])}.get(len(segments), bytes([_MULTI, len(segments)]))
    return root + prefix + b"".join(segments)


def _length(body: bytes) -> bytes:
    """Return the package length of what follows, which counts itself (20.2.4)."""
    size = len(body)
    if size + 1 < 0x40:
        return bytes([size + 1])
    for more in (1, 2, 3):
        whole = size + 1 + more
        if whole < 1 << 4 + 8 * more:
            return bytes([more << 6 | whole & 15]) + (whole >> 4).to_bytes(more, "little")
    raise ValueError(f"{size} bytes do not fit into a package")


def _packed(code: bytes, body: bytes) -> bytes:
    return code + _length(body) + body


def name(text: str, value: bytes) -> bytes:
    """Return ``Name (text, value)``."""
    return bytes([_NAME]) + path(text) + value


def scope(text: str, *terms: bytes) -> bytes:
    """Return ``Scope (text) {terms}``."""
    return _packed(bytes([_SCOPE]), path(text) + b"".join(terms))


def device(text: str, *terms: bytes) -> bytes:
    """Return ``Device (text) {terms}``."""
    return _packed(bytes([_EXTENDED, _DEVICE]), path(text) + b"".join(terms))


def package(*elements: bytes) -> bytes:
    """Return ``Package {elements}``."""
    return _packed(bytes([_PACKAGE]), bytes([len(elements)]) + b"".join(elements))


def buffer(data: bytes) -> bytes:
    """Return ``Buffer {data}``."""
    return _packed(bytes([_BUFFER]), integer(len(data)) + data)


def eisa_id(text: str) -> bytes:
    """Return an ID such as ``PNP0A03`` as a number of 32 bits, compressed (19.6.36)."""
    letters = [ord(each) - 0x40 for each in text[:3]]
    number = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return bytes([_DWORD]) + number.to_bytes(4, "big")


# -- resources (6.4) -------------------------------------------------------------------------------------------


def resources(*descriptors: bytes) -> bytes:
    """Return a resource template; its checksum is not used."""
    return buffer(b"".join(descriptors) + b"\x79\x00")


def io(base: int, count: int) -> bytes:
    """Return fixed ports, of which all 16 bits are decoded (6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 1, base, base, 1, count)


def irq(number: int) -> bytes:
    """Return an interrupt, edge-triggered (6.4.2.1)."""
    return struct.pack("<BH", 0x22, 1 << number)


def memory_fixed(base: int, size: int) -> bytes:
    """Return a fixed range of memory, which can be written (6.4.3.4)."""
    return struct.pack("<BHBII", 0x86, 9, 1, base, size)


def _address(kind: int, flags: int, code: str, low: int, high: int) -> bytes:
    """Return an address space descriptor of fixed bounds (6.4.3.5)."""
    tag, letter = {"word": (0x88, "H"), "dword": (0x87, "I")}[code]
    body = struct.pack(f"<BBB5{letter}", kind, 0x0C, flags, 0, low, high, 0, high - low + 1)
    return struct.pack("<BH", tag, len(body)) + body


def bus_numbers(low: int, high: int) -> bytes:
    """Return a range of bus numbers."""
    return _address(2, 0, "word", low, high)


def port_range(low: int, high: int) -> bytes:
    """Return a range of ports that a bridge passes on."""
    return _address(1, 3, "word", low, high)


def memory_range(low: int, high: int) -> bytes:
    """Return a range of memory that a bridge passes on, which can be written and is not cached."""
    return _address(0, 1, "dword", low, high)
