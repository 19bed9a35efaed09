"""CRC32 (SDM volume 2): the polynomial of Castagnoli, bits in reverse."""

from __future__ import annotations

from typing import Final

#: What four bits that are shifted out stand for.
_NIBBLES: Final = (
    *(0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D),
    *(0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75),
)


def crc32(total: int, data: int, bits: int) -> int:
    """Return the checksum after ``bits`` more bits of data.

    Args:
        total: Before them; only its lower 32 bits count.
        data: The bits, the first one lowest.
        bits: 8, 16, 32 or 64.
    """
    total = (total & 0xFFFFFFFF) ^ data
    while bits:
        total = total >> 4 ^ _NIBBLES[total & 15]
        bits -= 4
    return total
