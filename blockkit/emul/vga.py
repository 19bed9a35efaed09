"""A VGA that shows text: its registers, and what is on its screen (IBM PS/2 Hardware Interface TR, Video Subsystem).

Its memory is RAM from A0000h, without planes: text is right, and of graphics there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from blockkit.emul.memory import GuestMemory

#: The ports, and where its memory is.
BASE, PORTS = 0x3C0, 32
MEMORY, MEMORY_SIZE = 0xA0000, 0x20000
_ATTRIBUTE, _ATTRIBUTE_DATA, _MISC, _MASK, _DAC_READ, _DAC_WRITE, _DAC_DATA, _MISC_READ, _STATUS = (
    *(0x00, 0x01, 0x02, 0x06, 0x07, 0x08, 0x09, 0x0C, 0x1A),
)
#: Index ports of what has an index and a data port, and how many registers it has.
_FILES: Final = {0x04: 8, 0x0E: 16, 0x14: 32}
_GRAPHICS, _CRTC = 0x0E, 0x14
_ATTRIBUTES: Final = 32
_PALETTE: Final = 768
#: Ports at 3D4h and 3DAh, an enabled memory, upper 32 KiB for text.
_MISC_COLOUR: Final = 0x63
_WIDTH, _OVERFLOW, _SCAN_LINES, _START, _HEIGHT, _PITCH = 0x01, 0x07, 0x09, 0x0C, 0x12, 0x13
#: 80 times 25 characters of 16 lines, as after the firmware chose mode 3.
_MODE_3: Final = {_WIDTH: 79, _OVERFLOW: 0x1F, _SCAN_LINES: 0x4F, _HEIGHT: 0x8F, _PITCH: 40}
_GRAPHICS_MISC, _TEXT_AT_B8000 = 6, 0x0E
#: Where text is by bits 2 and 3 of the graphics controller's miscellaneous register.
_TEXT: Final = (0xA0000, 0xA0000, 0xB0000, 0xB8000)
_TEXT_SIZE: Final = 0x8000
#: In the status: not displaying, and vertical retrace.
_RETRACE: Final = 0x09
#: What the first 32 characters and the last of ASCII look like (IBM code page 437).
_LOW: Final = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
_GLYPHS: Final = _LOW + bytes(range(32, 127)).decode("cp437") + "⌂" + bytes(range(128, 256)).decode("cp437")


class Vga:
    """The card.

    Args:
        memory: RAM, of which 128 KiB are the card's.
    """

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory.ram[MEMORY : MEMORY + MEMORY_SIZE]
        self.reset()

    def reset(self) -> None:
        """Become as if the firmware had chosen mode 3; memory is what it was."""
        self._files = {port: bytearray(count) for port, count in _FILES.items()}
        self._indices = dict.fromkeys(_FILES, 0)
        self._attributes, self._palette = bytearray(_ATTRIBUTES), bytearray(_PALETTE)
        self._attribute = self._status = self._read_at = self._write_at = 0
        self._expects_data = False
        self._misc, self._mask = _MISC_COLOUR, 0xFF
        for index, value in _MODE_3.items():
            self._files[_CRTC][index] = value
        self._files[_GRAPHICS][_GRAPHICS_MISC] = _TEXT_AT_B8000

    def read(self, offset: int, size: int) -> int:
        """Read registers, a byte each."""
        return sum(self._read(offset + each) << 8 * each for each in range(size))

    def write(self, offset: int, size: int, value: int) -> None:
        """Write registers, a byte each."""
        for each in range(size):
            self._write(offset + each, value >> 8 * each & 0xFF)

    def _read(self, port: int) -> int:
        if port in _FILES:
            return self._indices[port]
        if port - 1 in _FILES:
            file = self._files[port - 1]
            return file[self._indices[port - 1] % len(file)]
        if port == _STATUS:
            # Nothing is ever drawn: whoever waits for a retrace, or for its end, need not wait.
            self._expects_data = False
            self._status ^= _RETRACE
            return self._status
        if port == _DAC_DATA:
            value = self._palette[self._read_at]
            self._read_at = (self._read_at + 1) % _PALETTE
            return value
        return {
            _ATTRIBUTE: self._attribute,
            _ATTRIBUTE_DATA: self._attributes[self._attribute & 0x1F],
            _MISC: 0x10,
            _MASK: self._mask,
            _DAC_READ: 0,
            _DAC_WRITE: self._write_at // 3,
            _MISC_READ: self._misc,
        }.get(port, 0xFF)

    def _write(self, port: int, value: int) -> None:
        if port in _FILES:
            self._indices[port] = value
        elif port - 1 in _FILES:
            file, index = self._files[port - 1], self._indices[port - 1]
            if index < len(file):
                file[index] = value
        elif port == _ATTRIBUTE:
            if self._expects_data:
                self._attributes[self._attribute & 0x1F] = value
            else:
                self._attribute = value & 0x3F
            self._expects_data = not self._expects_data
        elif port == _MISC:
            self._misc = value
        elif port == _MASK:
            self._mask = value
        elif port == _DAC_READ:
            self._read_at = value * 3
        elif port == _DAC_WRITE:
            self._write_at = value * 3
        elif port == _DAC_DATA:
            self._palette[self._write_at] = value & 0x3F
            self._write_at = (self._write_at + 1) % _PALETTE

    def text(self) -> list[str]:
        """Return the lines of the screen; none while it shows graphics."""
        crtc, misc = self._files[_CRTC], self._files[_GRAPHICS][_GRAPHICS_MISC]
        if misc & 1:
            return []
        base = _TEXT[misc >> 2 & 3] - MEMORY
        characters = bytes(self._memory[base : base + _TEXT_SIZE : 2])
        overflow = crtc[_OVERFLOW]
        height = crtc[_HEIGHT] + ((overflow >> 1 & 1) << 8) + ((overflow >> 6 & 1) << 9) + 1
        columns, rows = crtc[_WIDTH] + 1, height // ((crtc[_SCAN_LINES] & 0x1F) + 1)
        start = crtc[_START] << 8 | crtc[_START + 1]
        lines = []
        for row in range(rows):
            first = start + row * crtc[_PITCH] * 2
            cells = (characters[at % len(characters)] for at in range(first, first + columns))
            lines.append("".join(_GLYPHS[cell] for cell in cells))
        return lines

    def save(self) -> dict[str, Any]:
        """Return the registers; the memory is saved with RAM."""
        return {
            "files": {str(port): file.hex() for port, file in self._files.items()},
            "indices": {str(port): index for port, index in self._indices.items()},
            "attributes": self._attributes.hex(),
            "palette": self._palette.hex(),
            "numbers": [self._attribute, self._status, self._read_at, self._write_at, self._misc, self._mask],
            "expects_data": self._expects_data,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take them back."""
        for port, file in self._files.items():
            _fill(file, saved["files"][str(port)])
            self._indices[port] = int(saved["indices"][str(port)]) & 0xFF
        _fill(self._attributes, saved["attributes"])
        _fill(self._palette, saved["palette"])
        attribute, status, read_at, write_at, misc, mask = (int(each) for each in saved["numbers"])
        self._attribute, self._status = attribute & 0x3F, status & _RETRACE
        self._read_at, self._write_at = read_at % _PALETTE, write_at % _PALETTE
        self._misc, self._mask = misc & 0xFF, mask & 0xFF
        self._expects_data = bool(saved["expects_data"])


def _fill(place: bytearray, text: str) -> None:
    data = bytes.fromhex(text)
    if len(data) != len(place):
        raise ValueError(f"{len(data)} bytes of registers, expected {len(place)}")
    place[:] = data
