"""Linux in one file with what decompresses it (Documentation/arch/x86/boot.rst of Linux, the setup header)."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from blockkit.emul.boot import layout
from blockkit.errors import EmulationError

#: Where the header begins, in the file and in the zero page, and its magic number.
HEADER: Final = 0x1F1
MAGIC_AT, MAGIC = 0x202, b"HdrS"
_LEAST: Final = 0x268
_SECTOR: Final = 512
#: Of a command line, where it does not say.
_CHARACTERS: Final = 255
#: Versions of the protocol from which a field is there.
_OLDEST, _HAS_PAYLOAD, _HAS_SIZE = 0x206, 0x208, 0x20A


class BzImage(NamedTuple):
    """A bzImage.

    Attributes:
        setup: Its header, and what comes before it.
        code: What is loaded at one megabyte.
        payload: The compressed kernel in it; empty where it does not say.
        top: The first address that it does not use while it starts.
        initrd_limit: The highest address an initrd may have.
        characters: Of its command line at most.
    """

    setup: bytes
    code: bytes
    payload: bytes
    top: int
    initrd_limit: int
    characters: int


def is_bzimage(data: bytes) -> bool:
    """Whether a file has the magic number."""
    return data[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC


def read_bzimage(data: bytes) -> BzImage:
    """Read a bzImage.

    Raises:
        EmulationError: it is none, is too old, or ends too early.
    """
    if not is_bzimage(data) or len(data) < _LEAST:
        raise EmulationError("kernel: neither a bzImage (there is no HdrS at offset 0x202) nor an ELF")
    (version,) = struct.unpack_from("<H", data, 0x206)
    if version < _OLDEST or not data[0x211] & 1:
        raise EmulationError(
            f"kernel: boot protocol {version:#x}, expected 0x206 or later, and one that is loaded high"
        )
    code = data[((data[HEADER] or 4) + 1) * _SECTOR :]
    if not code:
        raise EmulationError(f"kernel: {len(data)} bytes, all of them setup: the file ends too early")
    (limit,) = struct.unpack_from("<I", data, 0x22C)
    (characters,) = struct.unpack_from("<I", data, 0x238)
    payload, top = b"", layout.KERNEL + len(code)
    if version >= _HAS_PAYLOAD:
        offset, length = struct.unpack_from("<II", data, 0x248)
        payload = code[offset : offset + length]
        if len(payload) < length:
            raise EmulationError(
                f"kernel: {length} compressed bytes at {offset:#x} of {len(code)}: the file ends too early"
            )
    if version >= _HAS_SIZE:
        address, size = struct.unpack_from("<QI", data, 0x258)
        top = max(top, address + size)
    return BzImage(data[: MAGIC_AT + data[0x201]], code, payload, top, limit, characters or _CHARACTERS)
