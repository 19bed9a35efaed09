"""A PC: which device is where. The wiring diagram of the machine, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from blockkit.emul import hpet, ioapic, lapic, mp_table, vga
from blockkit.emul.acpi.loader import files as acpi_files
from blockkit.emul.acpi.tables import build as build_tables
from blockkit.emul.cmos import Cmos
from blockkit.emul.firmware import rom as firmware_rom
from blockkit.emul.fw_cfg import FirmwareConfig
from blockkit.emul.hpet import Hpet
from blockkit.emul.i8042 import KeyboardController
from blockkit.emul.ide.controller import PiixIde
from blockkit.emul.ioapic import IoApic
from blockkit.emul.lapic import LocalApic
from blockkit.emul.machine import Bus, End, Machine
from blockkit.emul.memory import GuestMemory
from blockkit.emul.pci.assign import assign
from blockkit.emul.pci.bus import PciBus
from blockkit.emul.pci.host import SHADOW, SHADOW_SIZE, HostBridge
from blockkit.emul.pci.isa import IsaBridge, Port92, ResetControl
from blockkit.emul.pci.power import BASE, PowerManagement
from blockkit.emul.pic import PicPair
from blockkit.emul.pit import Pit, Port61
from blockkit.emul.spaces import Ports
from blockkit.emul.uart import Uart
from blockkit.emul.vga import Vga

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.cpu.accelerator import Accelerator
    from blockkit.emul.firmware.firmware import Firmware
    from blockkit.emul.ide.drive import Drive as IdeDrive
    from blockkit.emul.pci.function import PciFunction
    from blockkit.emul.saved.machine import Savable

#: Lines of the interrupt controllers.
_TIMER, _KEYBOARD, _SERIAL, _CLOCK, _ACPI, _MOUSE = 0, 1, 4, 8, 9, 12
#: Slots of the PCI bus; disks and the like come behind them.
_HOST_SLOT, _ISA_SLOT, FIRST_FREE_SLOT = 0, 1, 3
_IDE_FUNCTION, _POWER_FUNCTION = 1, 3
_IDE: Final = (14, 15)
#: Drives that the IDE function has at most.
IDE_DRIVES: Final = 4
_TIMER_PIN: Final = 2
#: Bytes that are kept of what firmware says.
_MOST_LOG: Final = 1 << 20
#: Where the tables of ACPI are, and the pointer to them; and those of the MultiProcessor Specification.
_TABLES, TABLES_POINTER, _MP_TABLE = 0xE0000, 0xF0000, 0xF0040


class Pc(Machine):
    """A machine of the kind that Linux finds on most shelves: a 440FX with a PIIX3.

    Args:
        accelerator: What runs its processor.
        memory: Bytes of RAM.
        serial: Takes the bytes of the first serial port.
        start: What time it is at the beginning.
        rom: The firmware; may be empty.
        screen: It has a VGA.
        has_hpet: It has high precision event timers.

    Attributes:
        memory: RAM, as devices see it.
        pci: The bus, to which :meth:`add_pci` adds.
        fw_cfg: What firmware is told.
        debug_log: What firmware wrote to port 402h.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        memory: int,
        serial: Callable[[int], None],
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        rom: bytes = b"",
        screen: bool = False,
        has_hpet: bool = False,
    ) -> None:
        bus = Bus()
        self.memory = GuestMemory(memory)
        self.host = HostBridge(self.memory, rom, bus.set_memory, screen=screen)
        bus.set_memory(self.host.regions())
        super().__init__(accelerator, bus)
        self.memory.changed = self.cpu.memory_written
        ports, clock = bus.ports, self.clock
        reset = partial(self.stop, End.RESET)

        # Interrupts, time, and what came with the AT.
        self.pic = PicPair(self._set_external)
        self.local_apic = LocalApic(clock, self.cpu.set_interrupt_line, self.pic.acknowledge, self._end_interrupt)
        self.local_apic.priority_written = self.cpu.set_task_priority
        self.cpu.task_priority_changed = self.local_apic.set_task_priority
        self.io_apic = IoApic(self.local_apic)
        bus.acknowledge = self.local_apic.acknowledge
        bus.memory.map(SHADOW, SHADOW_SIZE, Ports(write=self.host.write_shadow))
        bus.memory.map(lapic.BASE, lapic.SIZE, self.local_apic)
        bus.memory.map(ioapic.BASE, ioapic.SIZE, self.io_apic)
        self.isa = IsaBridge([self._both(number) for number in range(16)])
        line = self.isa.line
        timer_line, clock_line = line(_TIMER), line(_CLOCK)
        #: The high precision event timers; None without.
        self.hpet: Hpet | None = None
        if has_hpet:
            self.hpet = Hpet(clock, (timer_line, clock_line), {pin: self.io_apic.line(pin) for pin in hpet.PINS})
            bus.memory.map(hpet.BASE, hpet.SIZE, self.hpet)
            for number, timer in enumerate(self.hpet.timers):
                bus.memory.map(hpet.BASE + hpet.SIZE + number * hpet.TIMER_SIZE, hpet.TIMER_SIZE, timer)
            timer_line, clock_line = self.hpet.displaced
        pit = Pit(clock, timer_line)
        port61 = Port61(pit)
        cmos = Cmos(clock, clock_line, start, memory)
        self.keyboard = KeyboardController(line(_KEYBOARD), line(_MOUSE), reset)
        self.serial = Uart(line(_SERIAL), serial)
        ports.map(0x20, 2, self.pic.first)
        ports.map(0x40, 4, pit)
        ports.map(0x60, 1, self.keyboard)
        ports.map(0x61, 1, port61)
        ports.map(
            0x64, 1, Ports(lambda _, size: self.keyboard.read(4, size), lambda _, *rest: self.keyboard.write(4, *rest))
        )
        ports.map(0x70, 2, cmos)
        ports.map(0x92, 1, Port92(reset))
        ports.map(0xA0, 2, self.pic.second)
        ports.map(0x3F8, 8, self.serial)
        ports.map(0x4D0, 2, self.pic)
        ports.map(0x501, 1, Ports(write=lambda _, __, value: self.stop(End.EXIT, value << 1 | 1)))

        # PCI.
        self.pci = PciBus(bus, self.isa.pirqs, self.local_apic.message)
        power_off = partial(self.stop, End.POWER_OFF)
        self.power = PowerManagement(bus, clock, line(_ACPI).set, power_off)
        ports.map(0xCF8, 1, Ports(self.pci.read, self.pci.write))
        ports.map(0xCF9, 1, ResetControl(reset))
        ports.map(
            0xCFA,
            6,
            Ports(lambda at, size: self.pci.read(at + 2, size), lambda at, *rest: self.pci.write(at + 2, *rest)),
        )
        ports.map(0xB2, 2, self.power.apm)

        # What firmware asks for, and what it says.
        self.debug_log = bytearray()
        self.fw_cfg = FirmwareConfig(self.memory, {"etc/e820": self.memory.e820(), **acpi_files(has_hpet=has_hpet)})
        ports.map(0x402, 1, Ports(lambda _, __: 0xE9, lambda _, __, value: self._log(value)))
        ports.map(0x510, 12, self.fw_cfg)

        # In the order in which they are brought back: what drives a line, before whoever listens.
        self._devices: dict[str, Savable] = {
            "pit": pit,
            "port61": port61,
            "cmos": cmos,
            "keyboard": self.keyboard,
            "serial": self.serial,
            "fw_cfg": self.fw_cfg,
        }
        #: What shows text; None without a screen.
        self.vga = Vga(self.memory) if screen else None
        if self.vga is not None:
            ports.map(vga.BASE, vga.PORTS, self.vga)
            self._devices["vga"] = self.vga
        if self.hpet is not None:
            self._devices["hpet"] = self.hpet
        self._last_devices: dict[str, Savable] = {
            "isa": self.isa,
            "pic": self.pic,
            "pci": self.pci,
            "io_apic": self.io_apic,
            "local_apic": self.local_apic,
        }
        self._slot = FIRST_FREE_SLOT
        self.pci.add(_HOST_SLOT, 0, self.host)
        self.pci.add(_ISA_SLOT, 0, self.isa)
        self.add_pci("power", self.power, _ISA_SLOT, _POWER_FUNCTION)

    # What is made first is told of what is made last.

    def _set_external(self, level: bool) -> None:
        self.local_apic.set_external(level)

    def _end_interrupt(self, vector: int) -> None:
        self.io_apic.end(vector)

    def _both(self, number: int) -> Callable[[bool], None]:
        """Return what drives an ISA line: the 8259s, and the I/O APIC, where the timer is at input 2."""
        to_pic = self.pic.line(number).set
        to_apic = self.io_apic.line(_TIMER_PIN if number == _TIMER else number)

        def drive(level: bool) -> None:
            to_pic(level)
            to_apic(level)

        return drive

    @property
    def ram(self) -> memoryview:
        """All RAM, in one piece."""
        return self.memory.ram

    def _log(self, value: int) -> None:
        if len(self.debug_log) < _MOST_LOG:
            self.debug_log.append(value & 0xFF)

    def add_pci(self, name: str, function: PciFunction, slot: int | None = None, number: int = 0) -> int:
        """Put a function of a device into a slot, the next one that is free without ``slot``; return the slot."""
        if slot is None:
            slot, self._slot = self._slot, self._slot + 1
        self.pci.add(slot, number, function)
        self._devices[name] = function
        return slot

    def add_firmware(self, firmware: Firmware) -> None:
        """Put the built-in firmware behind the ports that its ROM asks."""
        self.bus.ports.map(firmware_rom.PORT, firmware_rom.PORTS, firmware)
        self._devices["firmware"] = firmware

    def reset_by_guest(self) -> None:
        """Reset the machine, as the guest may by many a way."""
        self.stop(End.RESET)

    def add_ide(self, drives: Sequence[IdeDrive | None]) -> None:
        """Add the IDE function, with master and slave of its two channels."""
        lines = [self.isa.line(number) for number in _IDE]
        self.add_pci("ide", PiixIde(self.memory, self.bus, lines, drives), _ISA_SLOT, _IDE_FUNCTION)

    def press_power_button(self) -> None:
        """Ask the operating system to stop."""
        self.power.registers.press_power_button()

    def prepare(self) -> None:
        """Do what firmware does before it starts anything, for a kernel that is started without."""
        assign(self.pci)
        self.power.enable_at(BASE)
        self.host.open_shadow()
        tables = build_tables(_TABLES, has_hpet=self.hpet is not None)
        self.memory.write(tables.address, tables.data)
        self.memory.write(TABLES_POINTER, tables.pointer)
        self.memory.write(_MP_TABLE, mp_table.build(_MP_TABLE))

    def devices(self) -> dict[str, Savable]:
        """Return what is to be saved beside the processor and RAM, by name."""
        return {"host": self.host, **self._devices, **self._last_devices}

    def reset_devices(self) -> None:
        """Reset everything but the processor, as RESET# does."""
        self.pci.reset()
        for device in (*self._devices.values(), self.pic, self.io_apic, self.local_apic):
            reset = getattr(device, "reset", None)
            if reset is not None:
                reset()
