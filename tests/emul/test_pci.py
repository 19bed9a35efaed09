"""Configuration space: sizing, windows that come and go, capabilities and interrupt pins."""

from __future__ import annotations

from blockkit.emul.machine import Bus
from blockkit.emul.pci.bus import PciBus
from blockkit.emul.pci.function import Bar, PciFunction
from blockkit.emul.spaces import Ports


class Board:
    def __init__(self) -> None:
        self.bus, self.levels = Bus(), [False] * 4
        pirqs = [lambda level, n=n: self.levels.__setitem__(n, level) for n in range(4)]
        self.pci = PciBus(self.bus, pirqs, lambda *_: None)

    def select(self, slot: int, register: int, number: int = 0) -> int:
        self.pci.write(0, 4, 1 << 31 | slot << 11 | number << 8 | register & 0xFC)
        return 4 + (register & 3)

    def read(self, slot: int, register: int, size: int) -> int:
        return self.pci.read(self.select(slot, register), size)

    def write(self, slot: int, register: int, size: int, value: int) -> None:
        self.pci.write(self.select(slot, register), size, value)


def function(pin: int = 1) -> PciFunction:
    made = PciFunction(vendor=0x8086, device=0x7010, class_code=0x010180, revision=2, pin=pin)
    made.add_bar(Bar(0, 0x1000, Ports(lambda *_: 0x55)))
    made.add_bar(Bar(4, 16, Ports(lambda *_: 0x66), is_io=True))
    return made


def test_sizing_keeps_the_type_and_shows_the_size() -> None:
    board = Board()
    board.pci.add(3, 0, function())
    assert board.read(3, 0, 4) == 0x70108086
    assert board.read(3, 9, 1) == 0x80
    assert board.read(3, 10, 2) == 0x0101
    board.write(3, 0x10, 4, 0xFFFFFFFF)
    board.write(3, 0x20, 4, 0xFFFFFFFF)
    assert board.read(3, 0x10, 4) == 0xFFFFF000
    assert board.read(3, 0x20, 4) == 0xFFFFFFF1
    assert board.read(4, 0, 4) == 0xFFFFFFFF
    assert board.pci.read(board.select(3, 0, 1), 2) == 0xFFFF


def test_windows_follow_the_registers() -> None:
    board = Board()
    board.pci.add(3, 0, function())
    board.write(3, 0x20, 4, 0xC001)
    board.write(3, 0x10, 4, 0xE0000000)
    assert board.bus.port_read(0xC000, 1) == 0xFF
    board.write(3, 4, 2, 3)
    assert board.bus.port_read(0xC00F, 1) == 0x66
    assert board.bus.mmio_read(0xE0000FFF, 1) == 0x55
    board.write(3, 0x20, 2, 0xD000)
    assert board.bus.port_read(0xC000, 1) == 0xFF
    assert board.bus.port_read(0xD000, 1) == 0x66
    board.write(3, 4, 1, 1)
    assert board.bus.mmio_read(0xE0000000, 1) == 0xFF
    board.pci.reset()
    assert board.bus.port_read(0xD000, 1) == 0xFF
    assert board.read(3, 0x20, 4) == 1


def test_windows_of_two_that_are_sized_alike_do_not_collide() -> None:
    board = Board()
    board.pci.add(3, 0, function())
    board.pci.add(4, 0, function())
    for slot in (3, 4):
        board.write(slot, 4, 2, 3)
        board.write(slot, 0x10, 4, 0xFFFFFFFF)
        board.write(slot, 0x20, 4, 0xFFFFFFFF)
    for slot in (3, 4):
        board.write(slot, 0x20, 4, 0xC000)
    assert board.bus.port_read(0xC000, 1) == 0x66


def test_capabilities_form_a_list() -> None:
    made = function()
    first = made.add_capability(9, bytes(14))
    second = made.add_capability(0x11, bytes(10), b"\x00\xc0")
    assert (first, second) == (0x40, 0x50)
    assert made.number(0x34, 1) == first
    assert [made.number(first, 1), made.number(first + 1, 1)] == [9, second]
    assert made.number(second + 1, 1) == 0
    assert made.number(6, 2) & 0x10
    made.write_config(second + 2, 2, 0xFFFF)
    assert made.number(second + 2, 2) == 0xC000


def test_pins_are_shared_and_turned_from_slot_to_slot() -> None:
    board = Board()
    functions = [function(), function(), function(pin=4)]
    for slot, each in zip((1, 5, 2), functions, strict=True):
        board.pci.add(slot, 0, each)
    functions[0].set_interrupt(True)
    functions[1].set_interrupt(True)
    assert board.levels == [True, False, False, False]
    functions[0].set_interrupt(False)
    assert board.levels[0]
    assert functions[1].read_config(6, 2) & 8
    functions[1].write_config(4, 2, 1 << 10)
    assert not board.levels[0]
    functions[2].set_interrupt(True)
    assert board.levels == [True, False, False, False]
