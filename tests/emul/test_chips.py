"""The chip set: APICs, the host bridge's shadow RAM, the keyboard controller, power management and resets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit.cpu import state
from blockkit.cpu.portable import PythonAccelerator
from blockkit.emul.clock import Clock
from blockkit.emul.fw_cfg import FirmwareConfig
from blockkit.emul.i8042 import KeyboardController
from blockkit.emul.ioapic import IoApic
from blockkit.emul.lapic import LocalApic
from blockkit.emul.lines import Line
from blockkit.emul.machine import Bus
from blockkit.emul.memory import GuestError, GuestMemory
from blockkit.emul.pc import Pc
from blockkit.emul.pci.host import HostBridge
from blockkit.emul.pci.isa import IsaBridge, ResetControl
from blockkit.emul.pci.power import PowerManagement

if TYPE_CHECKING:
    from blockkit.cpu.accelerator import Region


class Time:
    def __init__(self) -> None:
        self.at = 0
        self.clock = Clock(lambda: self.at, lambda: None)

    def pass_to(self, at: int) -> None:
        while (due := self.clock.deadline()) is not None and due <= at:
            self.at = due
            self.clock.fire()
        self.at = at


class Apics:
    def __init__(self) -> None:
        self.time, self.level = Time(), False
        self.local = LocalApic(self.time.clock, self.drive, lambda: 0x08, lambda vector: self.io.end(vector))
        self.io = IoApic(self.local)
        self.local.write(0xF0, 4, 0x1FF)

    def drive(self, level: bool) -> None:
        self.level = level

    def redirect(self, pin: int, low: int) -> None:
        self.io.write(0, 4, 0x10 + 2 * pin)
        self.io.write(0x10, 4, low)

    def entry(self, pin: int) -> int:
        self.io.write(0, 4, 0x10 + 2 * pin)
        return self.io.read(0x10, 4)


def test_the_highest_vector_is_served_first_and_none_of_its_class_meanwhile() -> None:
    # SDM volume 3, 11.8.3
    apics = Apics()
    for vector in (0x31, 0x52, 0x55):
        apics.local.accept(vector)
    assert apics.level
    assert apics.local.acknowledge() == 0x55
    assert apics.local.read(0xA0, 4) == 0x50
    assert not apics.level
    apics.local.accept(0x61)
    assert apics.level
    assert apics.local.acknowledge() == 0x61
    assert apics.local.read(0x100 + 0x10 * 3, 4) == 1 << 1
    for expected in (0x52, 0x31):
        apics.local.write(0xB0, 4, 0)
        if expected == 0x52:
            assert not apics.level
            apics.local.write(0xB0, 4, 0)
        assert apics.local.acknowledge() == expected
    apics.local.write(0xB0, 4, 0)
    apics.local.write(0x80, 4, 0x40)
    apics.local.accept(0x45)
    assert not apics.level
    apics.local.write(0x80, 4, 0x30)
    assert apics.level


def test_levels_come_again_after_their_end() -> None:
    # 82093AA, 3.2.4: Remote IRR.
    apics = Apics()
    line = apics.io.line(10)
    apics.redirect(10, 1 << 15 | 0x41)
    line(True)
    assert apics.entry(10) & 1 << 14
    assert apics.local.acknowledge() == 0x41
    assert not apics.level
    apics.local.write(0xB0, 4, 0)
    assert apics.level
    assert apics.local.acknowledge() == 0x41
    line(False)
    apics.local.write(0xB0, 4, 0)
    assert not apics.level
    assert not apics.entry(10) & 1 << 14


def test_edges_come_once_and_not_while_they_are_masked() -> None:
    apics = Apics()
    line = apics.io.line(4)
    line(True)
    line(False)
    apics.redirect(4, 0x33)
    assert not apics.level
    line(True)
    line(True)
    assert apics.local.acknowledge() == 0x33
    apics.local.write(0xB0, 4, 0)
    assert not apics.level
    line(False)
    line(True)
    assert apics.level


def test_the_timer() -> None:
    # 11.5.4: the divisor's encoding has a gap; 3 is 16.
    apics = Apics()
    time = apics.time
    apics.local.write(0x3E0, 4, 3)
    apics.local.write(0x320, 4, 0x20040)
    apics.local.write(0x380, 4, 100)
    time.pass_to(800)
    assert apics.local.read(0x390, 4) == 50
    time.pass_to(1599)
    assert not apics.level
    time.pass_to(1600)
    assert apics.local.acknowledge() == 0x40
    apics.local.write(0xB0, 4, 0)
    time.pass_to(3200)
    assert apics.local.acknowledge() == 0x40
    apics.local.write(0xB0, 4, 0)
    apics.local.write(0x320, 4, 0x40)
    apics.local.write(0x3E0, 4, 0xB)
    apics.local.write(0x380, 4, 10)
    time.pass_to(3210)
    assert apics.local.acknowledge() == 0x40
    apics.local.write(0xB0, 4, 0)
    time.pass_to(9999)
    assert not apics.level
    assert apics.local.read(0x390, 4) == 0


def test_the_8259_comes_through_and_messages_do() -> None:
    apics = Apics()
    apics.local.set_external(True)
    assert apics.level
    assert apics.local.acknowledge() == 0x08
    apics.local.write(0x350, 4, 0x10700)
    assert not apics.level
    apics.local.message(0xFEE00000, 0x51)
    assert apics.local.acknowledge() == 0x51
    apics.local.write(0x300, 4, 0x40000 | 0x77)
    assert apics.local.acknowledge() == 0x77


def test_shadow_ram() -> None:
    # 82441FX, 3.2.18: PAM.
    seen: list[list[Region]] = []
    memory = GuestMemory(2 << 20)
    rom = bytes([0xEE]) * 0x20000 + bytes([0xFF]) * 0x20000
    host = HostBridge(memory, rom, seen.append)
    host.reset()
    seen.clear()
    memory.ram[0xF0000] = 0x11

    def at(address: int) -> tuple[int, bool] | None:
        for region in host.regions():
            if region.address <= address < region.address + len(region.memory):
                return region.memory[address - region.address], region.writable
        return None

    assert at(0xF0000) == (0xFF, False)
    assert at(0xFFFC0000) == (0xEE, False)
    assert at(0xA0000) is None
    host.write_config(0x59, 1, 0x10)
    assert at(0xF0000) == (0x11, False)
    host.write_config(0x59, 1, 0x30)
    assert at(0xF0000) == (0x11, True)
    host.write_config(0x5A, 1, 0x03)
    assert at(0xC0000) == (0, True)
    assert at(0xC4000) == (0xEE, False)
    assert len(seen) == 3
    host.reset()
    assert at(0xF0000) == (0xFF, False)
    host.write_config(0x59, 1, 0x20)
    host.write_shadow(0x3FFFE, 4, 0x44332211)
    # What is behind has nobody to write it.
    assert memory.read(0xFFFFE, 4) == b"\x11\x22\0\0"


def test_memory_is_bounded() -> None:
    memory = GuestMemory(2 << 20)
    assert len(memory.view((2 << 20) - 4, 4)) == 4
    for address, length in (((2 << 20) - 4, 5), (1 << 32, 1), (1 << 63, 8), (0, 3 << 20)):
        with pytest.raises(GuestError):
            memory.view(address, length)


def test_the_keyboard_controller() -> None:
    resets: list[int] = []
    levels: list[bool] = []
    keyboard = KeyboardController(Line(levels.append), Line(lambda _: None), lambda: resets.append(1))

    def command(value: int) -> list[int]:
        keyboard.write(4, 1, value)
        return drain()

    def drain() -> list[int]:
        found = []
        while keyboard.read(4, 1) & 1:
            found.append(keyboard.read(0, 1))
        return found

    assert command(0xAA) == [0x55]
    assert command(0xAB) == [0x00]
    keyboard.write(0, 1, 0xFF)
    assert drain() == [0xFA, 0xAA]
    keyboard.write(0, 1, 0xF2)
    assert drain() == [0xFA, 0xAB, 0x41]
    levels.clear()
    keyboard.press(b"\x1e\x9e")
    assert drain() == [0x1E, 0x9E]
    assert levels == [True, False, True, False]
    command(0xFE)
    assert resets == [1]


def test_power_management() -> None:
    # 82371AB, 7.2
    time, bus, levels, offs = Time(), Bus(), list[bool](), list[int]()
    power = PowerManagement(bus, time.clock, levels.append, lambda: offs.append(1))
    power.enable_at(0x600)
    time.at = 1_000_000_000
    assert bus.port_read(0x608, 4) == 3_579_545
    bus.port_write(0x602, 2, 0x101)
    bus.port_write(0x604, 2, 1)
    power.registers.press_power_button()
    assert levels[-1]
    assert bus.port_read(0x600, 2) == 0x100
    bus.port_write(0x600, 2, 0x100)
    assert not levels[-1]
    # The timer's top bit changes every 2^23 ticks.
    time.pass_to((1 << 23) * 1_000_000_000 // 3_579_545 + 1)
    assert levels[-1]
    bus.port_write(0x600, 2, 1)
    assert not levels[-1]
    bus.port_write(0x604, 2, 0x2000)
    assert offs == [1]
    power.apm.write(0, 1, 0xF0)
    assert bus.port_read(0x604, 2) & 1 == 0


def test_pins_are_routed() -> None:
    levels = [False] * 16
    isa = IsaBridge([lambda level, n=n: levels.__setitem__(n, level) for n in range(16)])
    isa.pirqs[1](True)
    assert not any(levels)
    isa.write_config(0x61, 1, 11)
    assert [n for n in range(16) if levels[n]] == [11]
    isa.pirqs[2](True)
    isa.write_config(0x62, 1, 11)
    isa.pirqs[1](False)
    assert levels[11]
    isa.write_config(0x62, 1, 0x80)
    assert not any(levels)
    isa.write_config(0x62, 1, 13)
    assert not any(levels)


def test_resets_are_edges() -> None:
    resets: list[int] = []
    control = ResetControl(lambda: resets.append(1))
    control.write(0, 1, 2)
    assert resets == []
    control.write(0, 1, 6)
    assert resets == [1]


def test_files_are_read_by_dma() -> None:
    memory = GuestMemory(2 << 20)
    config = FirmwareConfig(memory, {"etc/b": b"second", "etc/a": b"first"})
    config.write(0, 2, 0)
    assert bytes(config.read(1, 1) for _ in range(5)) == b"QEMU\0"
    assert bytes(config.read(4 + n, 1) for n in range(8)) == b"QEMU CFG"
    memory.write(
        0x1000, (0x19 << 16 | 8 | 2).to_bytes(4, "big") + (132).to_bytes(4, "big") + (0x2000).to_bytes(8, "big")
    )
    config.write(4, 4, 0)
    config.write(8, 4, int.from_bytes((0x1000).to_bytes(4, "big"), "little"))
    assert memory.read(0x1000, 4) == bytes(4)
    directory = memory.read(0x2000, 132)
    assert int.from_bytes(directory[:4], "big") == 2
    assert directory[12:17] == b"etc/a"
    select = int.from_bytes(directory[8:10], "big")
    config.write(0, 2, select)
    assert bytes(config.read(1, 1) for _ in range(6)) == b"first\0"
    # What is not RAM is left alone.
    config.write(8, 4, 0xFFFFFFFF)
    memory.write(0x1000, (2).to_bytes(4, "big") + (16).to_bytes(4, "big") + (1 << 40).to_bytes(8, "big"))
    config.write(4, 4, 0)
    config.write(8, 4, int.from_bytes((0x1000).to_bytes(4, "big"), "little"))


def test_the_task_priority_is_cr8() -> None:
    pc = Pc(PythonAccelerator(), 2 << 20, lambda _: None)
    apic, cpu = pc.local_apic, pc.cpu
    apic.write(0xF0, 4, 0x1FF)
    apic.write(0x80, 4, 0x57)
    assert cpu.get_state()[state.CR8] == 5
    assert apic.read(0x80, 4) == 0x57
    apic.message(0xFEE00000, 0x61)
    cpu.task_priority_changed(6)
    assert (apic.read(0x80, 4), apic.read(0xA0, 4)) == (0x60, 0x60)
    # What is pending is of the same class: it waits.
    assert apic.acknowledge() == 0xFF
    cpu.task_priority_changed(5)
    assert apic.acknowledge() == 0x61
