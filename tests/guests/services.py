"""A boot sector that calls firmware, and sends what it answers to the first serial port."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

TABLE, BUFFER, BUFFER_SIZE = 0x100, 0x9000, 32
#: Entries of the table are the number of an interrupt, which is not 0, then eax, ebx, ecx, edx and edi.
_ENTRY: Final = struct.Struct("<B5I")
_ANSWER: Final = struct.Struct(f"<9I{BUFFER_SIZE}s")
_CARRY, _ZERO = 0x01, 0x40
CODE: Final = bytes.fromhex(
    "fa 31c0 8ed8 8ec0 8ed0 bc007c fb fc"  # cli; ax = ds = es = ss = 0; sp = 7c00h; sti; cld
    "be007d 8936007e"  # si = 7d00h; again: [7e00h] = si
    "8a04 84c0 7445 a2367c"  # al = [si]; jz end; put it into the instruction below
    "668b4401 668b5c05 668b4c09 668b540d 668b7c11"  # eax, ebx, ecx, edx, edi
    "be0090 cd00 669c 6660"  # si = 9000h; int; pushfd; pushad
    "31c0 8ed8 8ec0 89e6 b92400 baf803 fc f36e"  # ds = es = 0; si = sp; cx = 36; dx = 3f8h; rep outsb
    "be0090 b92000 f36e"  # si = 9000h; cx = 32; rep outsb
    "bc007c 8b36007e 83c615 ebb1"  # sp = 7c00h; si = [7e00h] + 21; jmp again
    "31c0 ba0105 ee fa f4"  # end: al = 0; dx = 501h; out %al, %dx; cli; hlt
)


class Call(NamedTuple):
    """What is called, and with what."""

    number: int
    eax: int
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    edi: int = BUFFER


class Answer(NamedTuple):
    """What came back."""

    edi: int
    esi: int
    ebp: int
    esp: int
    ebx: int
    edx: int
    ecx: int
    eax: int
    flags: int
    buffer: bytes

    @property
    def ax(self) -> int:
        return self.eax & 0xFFFF

    @property
    def ah(self) -> int:
        return self.eax >> 8 & 0xFF

    @property
    def al(self) -> int:
        return self.eax & 0xFF

    @property
    def bx(self) -> int:
        return self.ebx & 0xFFFF

    @property
    def cx(self) -> int:
        return self.ecx & 0xFFFF

    @property
    def dx(self) -> int:
        return self.edx & 0xFFFF

    @property
    def carry(self) -> bool:
        return bool(self.flags & _CARRY)

    @property
    def zero(self) -> bool:
        return bool(self.flags & _ZERO)


def boot_sector(*calls: Call) -> bytes:
    """Return the sector that makes some calls; eleven at most."""
    table = b"".join(_ENTRY.pack(*call) for call in calls) + b"\0"
    sector = CODE.ljust(TABLE, b"\0") + table
    assert len(sector) <= 510
    return sector.ljust(510, b"\0") + b"\x55\xaa"


def answers(data: bytes) -> list[Answer]:
    """Return what the sector sent."""
    return [Answer._make(each) for each in _ANSWER.iter_unpack(data)]
