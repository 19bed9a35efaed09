"""What a drive tells of itself: the words of IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA8-ACS, 7.16 and 7.17)."""

from __future__ import annotations

import struct
from typing import Final

_WORDS: Final = 256
#: Multiword DMA 0 to 2, Ultra DMA 0 to 5, PIO 3 and 4.
_MULTIWORD, _ULTRA, _PIO = 0x07, 0x3F, 0x03
_CHECKSUM: Final = 0xA5
MULTIPLE_MOST: Final = 16


def _put_text(words: list[int], at: int, count: int, text: str) -> None:
    """Put text into words, whose first letter is the upper byte."""
    data = text.encode("ascii", "replace")[: 2 * count].ljust(2 * count)
    words[at : at + count] = struct.unpack(f">{count}H", data)


def _finished(words: list[int]) -> bytes:
    """Return words as bytes, with a checksum."""
    data = bytearray(struct.pack(f"<{_WORDS}H", *words))
    data[510] = _CHECKSUM
    data[511] = -sum(data[:511]) & 0xFF
    return bytes(data)


def _common(words: list[int], serial: str, model: str, firmware: str, mode: int) -> None:
    _put_text(words, 10, 10, serial)
    _put_text(words, 23, 4, firmware)
    _put_text(words, 27, 20, model)
    # Words 54 to 58, 64 to 70 and 88 say something.
    words[53] = 0x0007
    words[63] = _MULTIWORD | (mode & 7) << 8
    words[64] = _PIO
    words[65:69] = [120] * 4
    words[88] = _ULTRA | (mode >> 3 & 0x3F) << 8
    # A cable of 80 wires, and both drives have found each other.
    words[93] = 0x6001


def disk(
    sectors: int,
    *,
    serial: str,
    model: str,
    firmware: str,
    multiple: int,
    cached: bool,
    ahead: bool,
    mode: int,
    geometry: tuple[int, int],
) -> bytes:
    """Return what a hard disk says.

    Args:
        sectors: Of 512 bytes.
        serial: Serial number.
        model: Model number.
        firmware: Firmware revision.
        multiple: Sectors of a block of READ MULTIPLE; 0 for none yet.
        cached: The write cache is on.
        ahead: Look-ahead is on.
        mode: The transfer mode chosen: a bit of multiword DMA, or one of Ultra DMA three bits up.
        geometry: Heads and sectors per track.
    """
    words = [0] * _WORDS
    heads, per_track = geometry
    cylinders = min(sectors // (heads * per_track), 16383)
    words[0] = 0x0040
    words[1], words[3], words[6] = cylinders, heads, per_track
    _common(words, serial, model, firmware, mode)
    words[47] = 0x8000 | MULTIPLE_MOST
    # LBA, DMA, IORDY; a standby timer as the standard has it.
    words[49] = 0x0F00
    words[50] = 0x4000
    words[54], words[55], words[56] = cylinders, heads, per_track
    words[57], words[58] = _halves(cylinders * heads * per_track)
    words[59] = 0x0100 | multiple if multiple else 0
    words[60], words[61] = _halves(min(sectors, 0x0FFFFFFF))
    words[80] = 0x01F0
    # SMART, power management, write cache, look-ahead, NOP; flushes and LBA48; each with what is on.
    words[82], words[83], words[84] = 0x4069, 0x7400, 0x4000
    words[85] = 0x4009 | (0x20 if cached else 0) | (0x40 if ahead else 0)
    words[86], words[87] = 0x3400, 0x4000
    for index in range(4):
        words[100 + index] = sectors >> 16 * index & 0xFFFF
    # Logical sectors of 512 bytes, eight in a physical one.
    words[106] = 0x6003
    # TRIM, of which the sectors are told in blocks of 512 bytes.
    words[69], words[105], words[169] = 0, 8, 1
    # Nothing turns.
    words[217] = 1
    return _finished(words)


def packet(*, serial: str, model: str, firmware: str, mode: int) -> bytes:
    """Return what a CD-ROM says."""
    words = [0] * _WORDS
    # ATAPI, a CD-ROM, removable, packets of 12 bytes, DRQ within 50 microseconds.
    words[0] = 0x85C0
    _common(words, serial, model, firmware, mode)
    words[49] = 0x0F00
    words[71], words[72] = 30, 30
    words[80] = 0x01F0
    words[82], words[83], words[84] = 0x4210, 0x4000, 0x4000
    words[85], words[86], words[87] = 0x4210, 0, 0x4000
    return _finished(words)


def _halves(value: int) -> tuple[int, int]:
    return value & 0xFFFF, value >> 16 & 0xFFFF
