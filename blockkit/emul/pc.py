"""A PC: which device is where."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blockkit.cpu.accelerator import Region
from blockkit.emul.cmos import Cmos
from blockkit.emul.machine import Bus, End, Machine, new_memory
from blockkit.emul.pic import PicPair
from blockkit.emul.pit import Pit, Port61
from blockkit.emul.spaces import Ports
from blockkit.emul.uart import Uart

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.accelerator import Accelerator
    from blockkit.emul.saved.machine import Savable


class Pc(Machine):
    """A machine of the kind that Linux finds on most shelves.

    Args:
        accelerator: What runs its processor.
        memory: Bytes of RAM.
        serial: Takes the bytes of the first serial port.
        start: What time it is at the beginning.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        memory: int,
        serial: Callable[[int], None],
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    ) -> None:
        bus = Bus()
        self.ram = new_memory(memory)
        bus.add_memory(Region(0, self.ram[:0xA0000]))
        bus.add_memory(Region(0x100000, self.ram[0x100000:]))
        super().__init__(accelerator, bus)
        ports, clock = bus.ports, self.clock

        self.pic = PicPair(self.cpu.set_interrupt_line)
        bus.acknowledge = self.pic.acknowledge
        ports.map(0x20, 2, self.pic.first)
        ports.map(0xA0, 2, self.pic.second)
        ports.map(0x4D0, 2, self.pic)

        pit = Pit(clock, self.pic.line(0))
        ports.map(0x40, 4, pit)
        port61 = Port61(pit)
        ports.map(0x61, 1, port61)
        cmos = Cmos(clock, self.pic.line(8), start, memory)
        ports.map(0x70, 2, cmos)

        self.serial = Uart(self.pic.line(4), serial)
        ports.map(0x3F8, 8, self.serial)

        ports.map(0x80, 1, Ports())
        ports.map(0x501, 1, Ports(write=lambda _, __, value: self.stop(End.EXIT, value << 1 | 1)))
        ports.map(0xCF9, 1, Ports(write=lambda *_: self.stop(End.RESET)))

        # In the order in which they are brought back: what drives a line, before whoever listens.
        self._devices: dict[str, Savable] = {
            "pit": pit,
            "port61": port61,
            "cmos": cmos,
            "serial": self.serial,
            "pic": self.pic,
        }

    def devices(self) -> dict[str, Savable]:
        """Return what is to be saved beside the processor and RAM, by name."""
        return self._devices
