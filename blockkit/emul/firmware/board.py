"""What services reach: memory, ports, time, and the BIOS data area (IBM PS/2 and PC BIOS Interface TR, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.emul.memory import GuestError

if TYPE_CHECKING:
    from blockkit.emul.clock import Clock
    from blockkit.emul.machine import Bus
    from blockkit.emul.memory import GuestMemory

SERIAL_PORTS, EBDA, EQUIPMENT, MEMORY_SIZE = 0x400, 0x40E, 0x410, 0x413
KEY_FLAGS, KEY_FLAGS_2, KEY_HEAD, KEY_TAIL, KEY_BUFFER = 0x417, 0x418, 0x41A, 0x41C, 0x41E
VIDEO_MODE, COLUMNS, PAGE_SIZE, PAGE_START, CURSORS = 0x449, 0x44A, 0x44C, 0x44E, 0x450
CURSOR_SHAPE, PAGE, CRTC_PORT = 0x460, 0x462, 0x463
TICKS, MIDNIGHT, BREAK, RESET_FLAG = 0x46C, 0x470, 0x471, 0x472
DISK_STATUS, DISK_COUNT = 0x474, 0x475
KEY_START, KEY_END = 0x480, 0x482
ROWS, CHARACTER_HEIGHT, VIDEO_CONTROL, VIDEO_SWITCHES, KEY_STATE = 0x484, 0x485, 0x487, 0x488, 0x496
#: What precedes the extended data area.
LOW_MEMORY: Final = 639 << 10
_CMOS_INDEX, _CMOS_DATA = 0x70, 0x71


def linear(segment: int, offset: int) -> int:
    """Return the address of ``segment:offset``."""
    return (segment << 4) + offset


class Board:
    """The machine from below.

    Args:
        memory: RAM.
        bus: Ports.
        clock: Virtual time.
    """

    def __init__(self, memory: GuestMemory, bus: Bus, clock: Clock) -> None:
        self.memory, self.clock, self._bus = memory, clock, bus

    def peek(self, address: int, size: int) -> int:
        """Return a number in memory; zero where is none."""
        return int.from_bytes(self.fetch(address, size), "little")

    def poke(self, address: int, size: int, value: int) -> None:
        """Store a number in memory."""
        self.store(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def fetch(self, address: int, length: int) -> bytes:
        """Return bytes of memory; zeros where is none."""
        try:
            return self.memory.read(address, length)
        except GuestError:
            return bytes(length)

    def store(self, address: int, data: bytes) -> bool:
        """Store bytes in memory; False where is none."""
        try:
            self.memory.write(address, data)
        except GuestError:
            return False
        return True

    def input(self, port: int, size: int = 1) -> int:
        """Read a port."""
        return self._bus.port_read(port, size)

    def output(self, port: int, value: int, size: int = 1) -> None:
        """Write one."""
        self._bus.port_write(port, size, value)

    def cmos(self, index: int) -> int:
        """Read a register of the clock."""
        self.output(_CMOS_INDEX, index)
        return self.input(_CMOS_DATA)

    def set_cmos(self, index: int, value: int) -> None:
        """Write one."""
        self.output(_CMOS_INDEX, index)
        self.output(_CMOS_DATA, value)
