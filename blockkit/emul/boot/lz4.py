"""LZ4 as Linux compresses itself with it: the legacy frame (lz4_Frame_format and lz4_Block_format of LZ4)."""

from __future__ import annotations

import struct
from typing import Final

MAGIC: Final = b"\x02\x21\x4c\x18"
#: A block gives so many bytes at most; all but the last give them all.
_BLOCK: Final = 8 << 20
#: What a block that does not compress may be longer, at most.
_MOST_PACKED: Final = _BLOCK + _BLOCK // 255 + 16
_MIN_MATCH: Final = 4
_LONG: Final = 15


def decompress(data: bytes, most: int) -> bytes:
    """Return what a legacy frame holds, behind which there are four bytes, as Linux puts them: the length of all of it.

    Args:
        data: It.
        most: Bytes that come out at most.

    Raises:
        ValueError: it is damaged, or too long.
    """
    out = bytearray()
    at, end = len(MAGIC), len(data)
    while at + 4 < end:
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if data[at - 4 : at] == MAGIC:
            continue
        if size > min(_MOST_PACKED, end - at):
            raise ValueError(f"a block of {size} bytes at {at:#x} of {end:#x}")
        out += _block(data[at : at + size])
        at += size
        if len(out) > most:
            raise ValueError(f"more than {most} bytes")
    return bytes(out)


def _block(data: bytes) -> bytearray:
    """Return what a block holds."""
    out = bytearray()
    at, end = 0, len(data)
    try:
        while True:
            token = data[at]
            at += 1
            length = token >> 4
            if length == _LONG:
                while (more := data[at]) == 0xFF:
                    length += more
                    at += 1
                length += more
                at += 1
            if length:
                if length > end - at:
                    raise ValueError("literals end behind their block")
                out += data[at : at + length]
                at += length
            # The last sequence has no match.
            if at == end:
                return out
            offset = data[at] | data[at + 1] << 8
            at += 2
            length = (token & _LONG) + _MIN_MATCH
            if length == _LONG + _MIN_MATCH:
                while (more := data[at]) == 0xFF:
                    length += more
                    at += 1
                length += more
                at += 1
            start = len(out) - offset
            if start < 0 or not offset or len(out) + length > _BLOCK:
                raise ValueError("a match lies outside its block")
            if offset >= length:
                out += out[start : start + length]
            else:
                out += (out[start:] * (length // offset + 1))[:length]
    except IndexError as error:
        raise ValueError("a block ends within a sequence") from error
