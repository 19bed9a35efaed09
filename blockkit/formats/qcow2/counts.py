"""Refcount blocks in memory: arrays of counts for each of the seven widths an image may use.

A width below eight bits is unpacked to a byte for each count, the least significant bits of a byte first.
"""

from __future__ import annotations

import sys
from array import array
from typing import Final

_TYPECODES: Final = {3: "B", 4: "H", 5: "I", 6: "Q"}


def typecode(order: int) -> str:
    """Return the array typecode that holds counts of ``1 << order`` bits."""
    return _TYPECODES.get(order, "B")


def decode_counts(data: bytes, order: int) -> array[int]:
    """Unpack big-endian counts of ``1 << order`` bits each."""
    if order < 3:
        per_byte = 8 >> order
        width = 1 << order
        mask = (1 << width) - 1
        unpacked = bytearray(len(data) * per_byte)
        for slot in range(per_byte):
            table = bytes((byte >> slot * width) & mask for byte in range(256))
            unpacked[slot::per_byte] = data.translate(table)
        return array("B", bytes(unpacked))
    counts = array(_TYPECODES[order], data)
    if order > 3 and sys.byteorder == "little":
        counts.byteswap()
    return counts


def encode_counts(counts: array[int], order: int) -> bytes:
    """Pack ``counts``; the inverse of :func:`decode_counts`."""
    if order < 3:
        per_byte, width = 8 >> order, 1 << order
        raw = counts.tobytes()
        # Each plane has at most `width` bits in a byte, so shifting the whole plane carries nothing over.
        packed = 0
        for slot in range(per_byte):
            packed |= int.from_bytes(raw[slot::per_byte], "little") << slot * width
        return packed.to_bytes(len(raw) // per_byte, "little")
    if order > 3 and sys.byteorder == "little":
        counts = counts[:]
        counts.byteswap()
    return counts.tobytes()
