"""The ROM: what the processor begins with, and for each interrupt a stub that has Python do the work.

A stub pushes all registers, tells where they are by two writes to a port, and reads what to do: return (0), halt until
an interrupt and ask again (1), or ask again at once (2). Interrupts of the timer are machine code all through, since
programs hook INT 1Ch.
"""

from __future__ import annotations

import struct
from typing import Final

#: Where the ROM is.
SEGMENT, SIZE = 0xF000, 0x10000
#: Where stubs tell a stack's segment, and what they are to do; the pointer is told two ports on.
PORT, PORTS = 0x5E0, 4
#: Services that are no interrupt's: what is done at power-on; a key; the clock; and that nothing can be started.
POWER_ON, KEY, CLOCK, NOTHING = 0xF0, 0x09, 0x70, 0x18
#: Those that stubs ask Python for.
SERVICES: Final = (KEY, 0x10, 0x11, 0x12, 0x13, 0x15, 0x16, NOTHING, 0x19, 0x1A, CLOCK, POWER_ON)
#: Where machines of this kind have always begun, and what else has its place.
_BEGIN, _VECTOR, _DATE, _MODEL = 0xE05B, 0xFFF0, 0xFFF5, 0xFFFE
_CODE, _CONFIGURATION = 0xE100, 0xE6F5
_AT: Final = 0xFC

_COMMON: Final = bytes.fromhex(
    "66 60 1e 06"  # pushad; push ds; push es
    "8cd0 ba e005 ef"  # again: mov ax, ss; mov dx, PORT; out dx, ax
    "89e0 ba e205 ef"  # mov ax, sp; mov dx, PORT + 2; out dx, ax
    "ba e005 ec"  # mov dx, PORT; in al, dx
    "3c01 7207 77ea"  # cmp al, 1; jb done; ja again
    "fb f4 fa ebe5"  # sti; hlt; cli; jmp again
    "07 1f 66 61 83c402 cf"  # done: pop es; pop ds; popad; add sp, 2; iret
)
_TIMER: Final = bytes.fromhex(
    "1e 52 50 6a40 1f"  # push ds; push dx; push ax; push 40h; pop ds
    "66ff066c00"  # inc dword [6ch]
    "66813e6c00b0001800 720d"  # cmp dword [6ch], 1800b0h; jb 1f
    "66c7066c0000000000 fe067000"  # mov dword [6ch], 0; inc byte [70h]
    "cd1c b020 e620 58 5a 1f cf"  # 1: int 1ch; mov al, 20h; out 20h, al; pop ax; pop dx; pop ds; iret
)
_END_FIRST: Final = bytes.fromhex("50 b020 e620 58 cf")  # push ax; mov al, 20h; out 20h, al; pop ax; iret
_END_SECOND: Final = bytes.fromhex("50 b020 e6a0 e620 58 cf")  # the same, of both controllers
_RETURN: Final = bytes.fromhex("cf")
#: cli; cld; ss:sp = 0:7c00h; pushf; push cs; call POWER_ON; int 19h
_POST: Final = bytes.fromhex("fa fc 31c0 8ed0 bc007c 9c 0e e8 0000 cd19")
_POST_CALL: Final = 11
#: AT, of an unknown submodel; a second controller, a clock, INT 15h AH=4Fh, an extended data area.
_FEATURES: Final = struct.pack("<H8B", 8, _AT, 0, 0, 0x74, 0x40, 0, 0, 0)


class _Layout:
    """Code that is put one behind the other."""

    def __init__(self) -> None:
        self.rom = bytearray(SIZE)
        self._at = _CODE

    def add(self, code: bytes) -> int:
        at, self._at = self._at, self._at + len(code)
        self.rom[at : self._at] = code
        return at

    def jump(self, target: int, opcode: str, before: str = "") -> int:
        """Add a near jump or call, with bytes before it."""
        head = bytes.fromhex(before + opcode)
        return self.add(head + (target - (self._at + len(head) + 2) & 0xFFFF).to_bytes(2, "little"))


class Rom:
    """The ROM, and where it has what.

    Attributes:
        data: Its bytes.
        vectors: The entry of each interrupt, by number.
        configuration: Where the table is that INT 15h AH=C0h tells of.
    """

    def __init__(self) -> None:
        layout = _Layout()
        common = layout.add(_COMMON)
        stubs = {number: layout.jump(common, "e9", _push(number)) for number in SERVICES}
        empty, first, second = layout.add(_RETURN), layout.add(_END_FIRST), layout.add(_END_SECOND)
        timer = layout.add(_TIMER)
        self.vectors = {
            **dict.fromkeys(range(0x20), empty),
            **dict.fromkeys(range(0x08, 0x10), first),
            **dict.fromkeys(range(0x70, 0x78), second),
            **{number: at for number, at in stubs.items() if number != POWER_ON},
            0x08: timer,
        }
        self.configuration = _CONFIGURATION
        rom = layout.rom
        rom[_CONFIGURATION : _CONFIGURATION + len(_FEATURES)] = _FEATURES
        rom[_BEGIN : _BEGIN + len(_POST)] = _POST
        displacement = stubs[POWER_ON] - (_BEGIN + _POST_CALL + 3)
        struct.pack_into("<h", rom, _BEGIN + _POST_CALL + 1, displacement)
        rom[_VECTOR : _VECTOR + 5] = struct.pack("<BHH", 0xEA, _BEGIN, SEGMENT)
        rom[_DATE : _DATE + 8] = b"01/01/26"
        rom[_MODEL] = _AT
        self.data = bytes(rom)


def _push(number: int) -> str:
    """Return the code that pushes a word: a number of eight bits."""
    return f"68{number:02x}00"
