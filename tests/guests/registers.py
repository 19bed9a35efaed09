"""A program that gives an IDE disk any commands, and tells what is in its registers after each.

The commands are in the ROM, behind each other; the program does not know them, but takes and gives blocks as long as
the disk wants that, and sends a line for each command: the sum of what it took, how many blocks there were, and the
registers from the error register to the status.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.guests import modes
from tests.guests.drivers.driver import DIGITS, out

if TYPE_CHECKING:
    import random

#: Where the commands are in the ROM, which lies below 1 MiB.
_AT, _ROM = 0x4000, 0xF0000
_RECORD: Final = struct.Struct("<5B5BBBB3x")
_LEFT, _KEPT = 0x600, 0x604
_MOST_BLOCKS: Final = 64


class Command(NamedTuple):
    """A command with its registers.

    Attributes:
        code: Written last.
        first: Features, count, and the three bytes of the address, of a command of 48 bits: what is written first.
        second: The same, written second.
        device: The device register.
        gives: It takes data.
    """

    code: int
    second: tuple[int, int, int, int, int]
    first: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    device: int = 0xE0
    gives: bool = False


class Line(NamedTuple):
    """What the program tells of a command.

    Attributes:
        sum: Of what was taken.
        blocks: Of 512 bytes, taken or given.
        registers: From error to status.
    """

    sum: int
    blocks: int
    registers: tuple[int, ...]

    @property
    def status(self) -> int:
        return self.registers[-1]


def rom(commands: list[Command]) -> bytes:
    """Return a ROM that gives these commands, then leaves with 21h at port 501h."""
    records = b"".join(_RECORD.pack(*each.first, *each.second, each.device, each.code, each.gives) for each in commands)
    image = bytearray(modes.build(_program(len(commands)), 32))
    assert len(records) <= 0x9000
    image[_AT : _AT + len(records)] = records
    return bytes(image)


def read(said: str) -> list[Line]:
    """Return what the program told."""
    found = []
    for line in said.splitlines():
        total, blocks, *registers = (int(each, 16) for each in line.split())
        found.append(Line(total, blocks, tuple(registers)))
    return found


def _program(count: int) -> str:
    return f"""
        mov esi, {_ROM + _AT}
        mov dword [{_LEFT}], {count}
    command:
        mov edx, 0x1f6
        mov al, [esi + 10]
        out dx, al
        mov edx, 0x1f1
    register:
        mov al, [esi]
        out dx, al
        mov al, [esi + 5]
        out dx, al
        inc esi
        inc edx
        cmp edx, 0x1f6
        jne register
        sub esi, 5
        mov edx, 0x1f7
        mov al, [esi + 11]
        out dx, al
        mov ebx, 0                          ; the sum
        mov edi, 0                          ; the blocks
    block:
        call ready
        test al, 8
        je ended
        cmp edi, {_MOST_BLOCKS}
        je ended
        inc edi
        mov ecx, 256
        mov edx, 0x1f0
        mov al, [esi + 12]
        cmp al, 0
        jne give
    take:
        in ax, dx
        movzx eax, ax
        rol ebx, 1
        add ebx, eax
        dec ecx
        jne take
        jmp block
    give:
        mov eax, edi
        add eax, ecx
        imul eax, eax, 12345
        out dx, ax
        dec ecx
        jne give
        jmp block
    ended:
        mov ecx, 8
        call digits
        mov eax, edi
        call number
        mov ebx, 0x1f1
    show:
        mov edx, ebx
        in al, dx
        call number
        inc ebx
        cmp ebx, 0x1f8
        jne show
        mov al, 10
        call send
        add esi, {_RECORD.size}
        dec dword [{_LEFT}]
        jne command
        {out(0x501, 0x21)}
        hlt

    ready:                                  ; wait; AL = the status
        mov edx, 0x3f6
        in al, dx
        in al, dx
    wait:
        in al, dx
        test al, 0x80
        jne wait
        ret

    number:                                 ; send a space and AL
        mov [{_KEPT}], ebx
        shl eax, 24
        mov ebx, eax
        mov al, 0x20
        call send
        mov ecx, 2
        call digits
        mov ebx, [{_KEPT}]
        ret

        {DIGITS}

    send:
        mov edx, 0x3f8
        out dx, al
        ret
    """


#: Commands by what they do (ATA8-ACS, 7): sectors by the processor, of 28 and 48 bits.
READS_28, READS_48 = (0x20, 0x21, 0xC4), (0x24, 0x29)
WRITES_28, WRITES_48 = (0x30, 0x31, 0xC5), (0x34, 0x39)
IDENTIFY, SET_FEATURES, SET_MULTIPLE, SET_GEOMETRY, SMART = 0xEC, 0xEF, 0xC6, 0x91, 0xB0
POWER_MODE, DIAGNOSTIC, NATIVE_MAX, NATIVE_MAX_48 = 0xE5, 0x90, 0xF8, 0x27
_OTHERS: Final = (
    *(IDENTIFY, SET_FEATURES, SET_MULTIPLE, SET_GEOMETRY, SMART, POWER_MODE, DIAGNOSTIC, NATIVE_MAX, NATIVE_MAX_48),
    *(0xE7, 0xEA, 0x70, 0x10, 0xE0, 0xE1, 0xE2, 0xE3),  # flushing, seeking, calibrating, and power
    *(0x00, 0x08, 0xA0, 0xA1, 0xFF),  # what a disk does not do
)
_FEATURES: Final = ((3, 0x22), (3, 0x44), (3, 0x0C), (3, 0x80), (2, 0), (0x82, 0), (0xAA, 0), (0x55, 0), (0x77, 0))
_MULTIPLES: Final = (0, 1, 2, 4, 8, 16, 3, 32, 128)


def some(rng: random.Random, count: int, sectors: int, heads: int, per_track: int) -> list[Command]:
    """Return commands for a disk, whose addresses are on it, at its end, or behind it."""
    found = []
    for _ in range(count):
        code = rng.choice((*READS_28, *READS_48, *WRITES_28, *WRITES_48, *_OTHERS))
        gives = code in WRITES_28 or code in WRITES_48
        extended = code in READS_48 or code in WRITES_48 or code == NATIVE_MAX_48
        number = rng.choice((1, 1, 2, 3, 8, 16))
        limit = 1 << (48 if extended else 28)
        place = rng.choice((rng.randrange(sectors), sectors - 1, sectors - 2, sectors, rng.randrange(limit)))
        if gives and place < sectors < place + number:
            # Whether what fits is written is the disk's choice.
            place = sectors - number
        features, device = rng.randrange(256), 0xE0
        by_cylinder = not extended and rng.random() < 0.2 and place < sectors - 16
        if by_cylinder and code in (*READS_28, *WRITES_28):
            track, sector = divmod(place, per_track)
            cylinder, head = divmod(track, heads)
            low, high, device = (sector + 1 | cylinder << 8), 0, 0xA0 | head
        else:
            low, high = place & 0xFFFFFF, place >> 24
            device |= 0 if extended else high & 15
        if code == SET_FEATURES:
            features, number = rng.choice(_FEATURES)
        elif code == SET_MULTIPLE:
            number = rng.choice(_MULTIPLES)
        elif code == SET_GEOMETRY:
            device, number = 0xA0 | heads - 1, per_track
        elif code == SMART:
            features, low = rng.choice((0xD8, 0xDA, 0xD0, 0xD1, 0x99)), 0xC24F00
        second = (features, number, low & 0xFF, low >> 8 & 0xFF, low >> 16 & 0xFF)
        first = (0, 0, high & 0xFF, high >> 8 & 0xFF, high >> 16 & 0xFF) if extended else (0, 0, 0, 0, 0)
        found.append(Command(code, second, first, device, gives))
    return found
