"""The firmware as a device: the port by which stubs in ROM ask for a service, and all services behind it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.firmware import board as at
from blockkit.emul.firmware import rom
from blockkit.emul.firmware.board import LOW_MEMORY, Board
from blockkit.emul.firmware.boot import Boot
from blockkit.emul.firmware.disks import Disks
from blockkit.emul.firmware.frame import Frame
from blockkit.emul.firmware.keyboard import Keyboard
from blockkit.emul.firmware.pcibios import PciBios
from blockkit.emul.firmware.system import System
from blockkit.emul.firmware.time import Time
from blockkit.emul.firmware.video import Video
from blockkit.emul.memory import GuestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.emul.disk import Disk
    from blockkit.emul.ide.atapi import AtapiDrive
    from blockkit.emul.pc import Pc

_PCI: Final = 0xB1
_SERIAL: Final = 0x3F8
_DATA_READY: Final = 0x01
#: Of the equipment: a coprocessor, colours in 80 columns, no mouse, one serial port.
_EQUIPMENT: Final = 0x0222
#: The 8259s: vectors 8 and 70h on; timer, keyboard, cascade and clock are let through.
_CONTROLLERS: Final = (
    *((0x20, 0x11), (0x21, 0x08), (0x21, 0x04), (0x21, 0x01), (0x21, 0xB8)),
    *((0xA0, 0x11), (0xA1, 0x70), (0xA1, 0x02), (0xA1, 0x01), (0xA1, 0x8E)),
)
#: Counter 0 of the 8254 goes round in 65536 counts.
_COUNTER: Final = ((0x43, 0x34), (0x40, 0x00), (0x40, 0x00))
_DIVISOR_LATCH: Final = ((0x3FB, 0x83), (0x3F8, 0x01), (0x3F9, 0x00), (0x3FB, 0x03), (0x3FA, 0x07), (0x3FC, 0x03))
_EBDA_KIB: Final = 1


class Firmware:
    """The built-in firmware.

    Args:
        pc: The machine, whose ROM is that of :mod:`.rom`.
        disks: Those behind virtio and IDE.
        cds: CD-ROM drives.
        order: The numbers of drives in the order they are tried.
    """

    def __init__(self, pc: Pc, disks: Sequence[Disk], cds: Sequence[AtapiDrive], order: Sequence[int]) -> None:
        self._pc, self._rom = pc, rom.Rom()
        board = self._board = Board(pc.memory, pc.bus, pc.clock)
        self._has_screen = pc.vga is not None
        self._video = Video(board, has_screen=self._has_screen)
        self._disks = Disks(board, disks, cds)
        self._boot = Boot(board, self._disks, self._video, order)
        self._keyboard = Keyboard(board, self._poll_serial, pc.reset_by_guest)
        self._time, self._pci = Time(board), PciBios(board)
        self._system = System(board, self._rom.configuration)
        self._services: dict[int, Callable[[Frame], None]] = {
            rom.KEY: self._take_key,
            0x10: self._video.call,
            0x11: self._system.tell_equipment,
            0x12: self._system.tell_size,
            0x13: self._disks.call,
            0x15: self._system.call,
            0x16: self._keyboard.call,
            rom.NOTHING: self._boot.fail,
            0x19: self._boot.call,
            0x1A: self._call_time,
            rom.CLOCK: self._tick,
            rom.POWER_ON: self._power_on,
        }
        self.reset()

    def reset(self) -> None:
        """Forget what was under way."""
        self._segment = self._next = 0
        self._disks.reset()
        self._boot.reset()
        self._system.reset()

    # -- the port ------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Return what the stub is to do."""
        return self._next

    def write(self, offset: int, size: int, value: int) -> None:
        """Take the segment of a stack (0), or the pointer (2), and do the service."""
        if offset == 0:
            self._segment = value & 0xFFFF
        elif offset == 2:
            self._next = self._serve(value & 0xFFFF)

    def _serve(self, pointer: int) -> int:
        try:
            frame = Frame(self._pc.memory, self._segment, pointer)
        except GuestError:
            return 0
        service = self._services.get(frame.vector)
        if service is not None:
            service(frame)
        self._pc.memory.wrote((self._segment << 4) + pointer, len(frame.bytes))
        return frame.next

    # -- services ------------------------------------------------------------------------------------------

    def _call_time(self, frame: Frame) -> None:
        if frame.ah == _PCI:
            self._pci.call(frame)
        else:
            self._time.call(frame)

    def _take_key(self, frame: Frame) -> None:
        """The keyboard interrupts."""
        if self._board.input(0x64) & _DATA_READY:
            self._keyboard.press(self._board.input(0x60))
        self._board.output(0x20, 0x20)

    def _tick(self, frame: Frame) -> None:
        """The clock interrupts: reading register C lets it do so again."""
        self._board.cmos(0x0C)
        self._board.output(0xA0, 0x20)
        self._board.output(0x20, 0x20)

    def _poll_serial(self) -> None:
        """Let what comes by the serial port be typed, where there is no screen to go with a keyboard."""
        if not self._has_screen and self._board.input(_SERIAL + 5) & _DATA_READY:
            self._keyboard.type(self._board.input(_SERIAL))

    def _power_on(self, frame: Frame) -> None:
        """Make of what comes out of reset what programs expect."""
        board, pc = self._board, self._pc
        board.store(rom.SEGMENT << 4, self._rom.data)
        pc.prepare()
        vectors = [
            struct.pack("<HH", self._rom.vectors[number], rom.SEGMENT) if number in self._rom.vectors else bytes(4)
            for number in range(0x100)
        ]
        board.store(0, b"".join(vectors))
        board.store(0x400, bytes(0x100))
        board.poke(at.SERIAL_PORTS, 2, _SERIAL)
        board.poke(at.EBDA, 2, LOW_MEMORY >> 4)
        board.poke(at.MEMORY_SIZE, 2, LOW_MEMORY >> 10)
        board.poke(at.EQUIPMENT, 2, _EQUIPMENT)
        board.store(LOW_MEMORY, bytes((_EBDA_KIB,)).ljust(_EBDA_KIB << 10, b"\0"))
        for port, value in (*_CONTROLLERS, *_COUNTER, *_DIVISOR_LATCH):
            board.output(port, value)
        self._keyboard.set_up()
        self._time.set_up()
        self._disks.set_up()
        self._video.set_up()

    # -- saving --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return what is to be saved."""
        return {
            "segment": self._segment,
            "next": self._next,
            "tried": self._boot.tried,
            "phase": self._boot.phase,
            "waits_until": self._system.waits_until,
            "disks": self._disks.save(),
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self._segment, self._next = int(saved["segment"]) & 0xFFFF, int(saved["next"]) & 3
        self._boot.tried, self._boot.phase = int(saved["tried"]) & 0xFF, int(saved["phase"]) % 3
        self._system.waits_until = int(saved["waits_until"]) & (1 << 63) - 1
        self._disks.load(saved["disks"])
