"""IDE disks, by a driver that reads and writes registers as those of operating systems do."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockkit.emul.clock import Clock
from blockkit.emul.disk import Disk
from blockkit.emul.ide.ata import AtaDrive
from blockkit.emul.ide.controller import PiixIde
from blockkit.emul.lines import Line
from blockkit.emul.machine import Bus
from blockkit.emul.memory import GuestMemory
from blockkit.errors import NodeIOError
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Sequence

SECTORS = 2000
BSY, DRDY, DRQ, ERR = 0x80, 0x40, 0x08, 0x01
ABRT, IDNF, UNC = 0x04, 0x10, 0x40
MASTER, TABLE, DATA = 0xC000, 0x100000, 0x110000


class Watched(MemoryNode):
    flushes = durable = 0
    broken = False
    discarded: list[tuple[int, int]]

    def _flush(self) -> None:
        self.flushes += 1

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        if self.broken:
            raise NodeIOError("memory: broken")
        super()._readv(offset, buffers)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        if self.broken:
            raise NodeIOError("memory: broken")
        self.durable += fua
        super()._writev(offset, buffers, fua)

    def _discard(self, offset: int, length: int) -> None:
        self.discarded = [*getattr(self, "discarded", []), (offset, length)]


class Board:
    """A controller with a disk as primary master, and a driver."""

    def __init__(self, sectors: int = SECTORS, *, read_only: bool = False, slave: bool = False) -> None:
        self.at, self.edges = 0, 0
        self.clock = Clock(lambda: self.at, lambda: None)
        self.memory = GuestMemory(4 << 20)
        self.bus = Bus()
        self.node = Watched(random.Random(3).randbytes(min(sectors, SECTORS) * 512))
        self.disk = Disk(self.node, self.clock, serial="S123", read_only=read_only)
        self.level = False
        drives = [AtaDrive(self.disk), AtaDrive(Disk(MemoryNode(512 * 99), self.clock)) if slave else None, None, None]
        self.ide = PiixIde(self.memory, self.bus, [Line(self.drive), Line(lambda _: None)], drives)
        self.ide.moved = self.place
        self.ide.reset()
        self.ide.write_config(0x20, 4, MASTER)
        self.ide.write_config(4, 2, 5)
        self.write(6, 0xE0)

    def place(self, function: object) -> None:
        bar = self.ide.bars[4]
        if self.ide.window(bar) == MASTER and self.bus.ports.is_free(MASTER, 16):
            self.bus.ports.map(MASTER, 16, bar.device)

    def drive(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def read(self, register: int, base: int = 0x1F0) -> int:
        return self.bus.port_read(base + register, 1)

    def write(self, register: int, value: int, base: int = 0x1F0) -> None:
        self.bus.port_write(base + register, 1, value)

    def status(self) -> int:
        return self.bus.port_read(0x3F6, 1)

    def settle(self) -> None:
        while (at := self.clock.deadline()) is not None:
            self.at = max(at, self.at)
            self.clock.fire()

    def command(self, command: int, lba: int = 0, count: int = 1, *, extended: bool = False, features: int = 0) -> None:
        if extended:
            for register, value in (
                (1, features >> 8),
                (2, count >> 8),
                (3, lba >> 24),
                (4, lba >> 32),
                (5, lba >> 40),
            ):
                self.write(register, value & 0xFF)
        for register, value in ((1, features), (2, count), (3, lba), (4, lba >> 8), (5, lba >> 16)):
            self.write(register, value & 0xFF)
        self.write(6, 0xE0 | (0 if extended else lba >> 24 & 15))
        self.write(7, command)
        self.settle()

    def take(self, size: int) -> bytes:
        """Read a block; there is an interrupt for it."""
        assert self.status() & (BSY | DRQ) == DRQ
        assert self.level
        assert self.read(7) & DRQ
        assert not self.level
        found = b"".join(self.bus.port_read(0x1F0, 4).to_bytes(4, "little") for _ in range(size // 4))
        self.settle()
        return found

    def give(self, data: bytes) -> None:
        assert self.status() & (BSY | DRQ) == DRQ
        for (word,) in struct.iter_unpack("<H", data):
            self.bus.port_write(0x1F0, 2, word)
        self.settle()

    def ended(self, error: int = 0) -> None:
        assert self.level
        assert self.read(7) & (BSY | DRDY | DRQ | ERR) == DRDY | (ERR if error else 0)
        assert not self.level
        assert self.read(1) == error

    def dma(
        self, command: int, lba: int, count: int, areas: Sequence[tuple[int, int]], *, extended: bool = True
    ) -> int:
        """Do a transfer by the bus master; return its status afterwards."""
        table = b"".join(
            struct.pack("<IHH", address, size & 0xFFFF, 0x8000 if index == len(areas) - 1 else 0)
            for index, (address, size) in enumerate(areas)
        )
        self.memory.write(TABLE, table)
        direction = 8 if command in (0x25, 0xC8) else 0
        self.bus.port_write(MASTER + 4, 4, TABLE)
        self.bus.port_write(MASTER, 1, direction)
        self.bus.port_write(MASTER + 2, 1, 6)
        self.command(command, lba, count, extended=extended)
        self.bus.port_write(MASTER, 1, direction | 1)
        self.settle()
        status = self.bus.port_read(MASTER + 2, 1)
        self.bus.port_write(MASTER, 1, direction)
        self.bus.port_write(MASTER + 2, 1, 6)
        return status


def test_it_says_what_it_is() -> None:
    board = Board()
    board.command(0xEC)
    words = struct.unpack("<256H", board.take(512))
    # ATA8-ACS, table 29; and the checksum over all bytes.
    assert struct.pack(">10H", *words[10:20]).strip() == b"S123"
    assert words[60] | words[61] << 16 == SECTORS == words[100] | words[101] << 16
    assert words[49] >> 8 & 3 == 3
    assert words[83] & 0xC000 == 0x4000
    assert words[83] >> 10 & 1
    assert words[83] >> 12 & 3 == 3
    assert words[47] & 0xFF == 16
    assert words[169] & 1
    assert sum(struct.pack("<256H", *words)) & 0xFF == 0
    assert board.status() & DRQ == 0
    assert not board.level


@pytest.mark.parametrize(
    ("command", "extended", "block"), [(0x20, False, 1), (0x24, True, 1), (0xC4, False, 16), (0x29, True, 16)]
)
def test_reading_by_the_processor(command: int, extended: bool, block: int) -> None:
    board = Board()
    board.command(command, 37, 40, extended=extended)
    found, left = b"", 40
    edges = board.edges
    while left:
        size = min(block, left)
        found += board.take(512 * size)
        left -= size
    assert found == board.node.data[37 * 512 : 77 * 512]
    # An interrupt for each block, before its data, and none behind the last one.
    assert board.edges - edges == -(-40 // block) - 1
    assert not board.status() & (DRQ | BSY)


@pytest.mark.parametrize(
    ("command", "extended", "block"), [(0x30, False, 1), (0x34, True, 1), (0xC5, False, 16), (0x39, True, 16)]
)
def test_writing_by_the_processor(command: int, extended: bool, block: int) -> None:
    board, data = Board(), random.Random(4).randbytes(40 * 512)
    board.command(command, 100, 40, extended=extended)
    # The first block is asked for without an interrupt.
    assert not board.level
    at = 0
    while at < len(data):
        size = min(block * 512, len(data) - at)
        board.give(data[at : at + size])
        at += size
        if at < len(data):
            assert board.level
            board.read(7)
    board.ended()
    assert board.node.data[100 * 512 : 140 * 512] == data


def test_a_count_of_zero_is_all() -> None:
    board = Board()
    board.command(0x20, 0, 0)
    for _ in range(256):
        board.take(512)
    assert not board.status() & DRQ
    board.command(0x24, 0, 0, extended=True)
    board.ended(IDNF)


@pytest.mark.parametrize(("read", "write", "extended"), [(0xC8, 0xCA, False), (0x25, 0x35, True)])
def test_the_bus_master_scatters_and_gathers(read: int, write: int, extended: bool) -> None:
    board = Board()
    areas = [(DATA + 2, 510), (DATA + 0x1000, 2), (DATA + 0x2000, 0), (DATA + 0x20000, 1024)]
    total = 510 + 2 + 0x10000 + 1024
    assert board.dma(read, 5, total // 512, areas, extended=extended) & 7 == 4
    board.ended()
    sizes = [510, 2, 0x10000, 1024]
    found = b"".join(board.memory.read(address, size) for (address, _), size in zip(areas, sizes, strict=True))
    assert found == board.node.data[5 * 512 : 5 * 512 + total]
    assert board.dma(write, 700, total // 512, areas, extended=extended) & 7 == 4
    board.ended()
    assert board.node.data[700 * 512 : 700 * 512 + total] == found


def test_tables_that_do_not_fit() -> None:
    # Bus Master IDE 1.0, 3.1: one that is longer leaves it active; one that is shorter ends it, and the drive waits.
    board = Board()
    assert board.dma(0x25, 0, 1, [(DATA, 1024)]) & 7 == 5
    board.ended()
    before = bytes(board.node.data)
    assert board.dma(0x35, 0, 4, [(DATA, 1024)]) & 7 == 0
    assert board.status() & (BSY | DRQ | ERR) == DRQ
    assert board.dma(0x25, 0, 1, [(0xF0000000, 512)]) & 3 == 2
    assert board.read(7) & ERR
    assert board.dma(0x25, 0, 4, [(DATA, 1024)]) & 7 == 0
    board.bus.port_write(0x3F6, 1, 4)
    board.bus.port_write(0x3F6, 1, 0)
    assert board.status() & (BSY | DRQ | ERR) == 0
    assert board.dma(0x25, 0, 1, [(DATA, 512)]) & 7 == 4
    assert board.node.data == before


def test_addresses_that_are_not_there() -> None:
    board = Board()
    for command, extended in ((0x20, False), (0x30, False), (0xC8, False), (0x25, True), (0x40, False), (0x42, True)):
        board.command(command, SECTORS - 1, 2, extended=extended)
        board.ended(IDNF)
    board.command(0x40, SECTORS - 1, 1)
    board.ended()
    board.command(0xF8)
    board.read(7)
    assert board.read(3) | board.read(4) << 8 | board.read(5) << 16 | (board.read(6) & 15) << 24 == SECTORS - 1


def test_cylinders_heads_and_sectors() -> None:
    board = Board()
    board.command(0x91, 0, 63)
    board.read(7)
    for register, value in ((2, 1), (3, 7), (4, 1), (5, 0)):
        board.write(register, value)
    board.write(6, 0xA0 | 2)
    board.write(7, 0x20)
    board.settle()
    # The geometry: heads from the device register of the command, 0 + 1.
    board.read(7)
    board.write(6, 0xA0 | 15)
    board.write(2, 63)
    board.write(7, 0x91)
    board.read(7)
    for register, value in ((2, 1), (3, 7), (4, 1), (5, 0)):
        board.write(register, value)
    board.write(6, 0xA0 | 2)
    board.write(7, 0x20)
    board.settle()
    lba = (1 * 16 + 2) * 63 + 6
    assert board.take(512) == board.node.data[lba * 512 : (lba + 1) * 512]


def test_high_order_bytes() -> None:
    board = Board()
    for value in (0x12, 0x34):
        board.write(3, value)
    assert board.read(3) == 0x34
    board.bus.port_write(0x3F6, 1, 0x80)
    assert board.read(3) == 0x12
    board.write(2, 1)
    assert board.read(3) == 0x34


def test_durability() -> None:
    board = Board()
    for command in (0xE7, 0xEA):
        flushes = board.node.flushes
        board.command(command)
        board.ended()
        assert board.node.flushes == flushes + 1
    board.command(0xEF, features=0x82)
    board.ended()
    board.dma(0x35, 0, 1, [(DATA, 512)])
    board.read(7)
    assert board.node.durable == 1
    board.command(0xEF, features=0x02)
    board.ended()
    board.dma(0x35, 0, 1, [(DATA, 512)])
    assert board.node.durable == 1


def test_trim() -> None:
    board = Board()
    board.memory.write(DATA, struct.pack("<QQ", 10 | 8 << 48, 100 | 1 << 48).ljust(512, b"\0"))
    board.memory.write(TABLE, struct.pack("<IHH", DATA, 512, 0x8000))
    board.bus.port_write(MASTER + 4, 4, TABLE)
    board.command(0x06, 0, 1, extended=True, features=1)
    board.bus.port_write(MASTER, 1, 1)
    board.settle()
    board.ended()
    assert board.node.discarded == [(5120, 4096), (51200, 512)]


def test_what_fails_is_told() -> None:
    board = Board()
    board.node.broken = True
    board.command(0x20)
    board.ended(UNC)
    assert board.dma(0x25, 0, 1, [(DATA, 512)]) & 3 == 2
    board.ended(UNC)
    board.command(0x30)
    board.give(bytes(512))
    board.ended(ABRT)
    shut = Board(read_only=True)
    for command in (0x30, 0xCA, 0x06):
        shut.command(command)
        shut.ended(ABRT)
    for command in (0x00, 0xA0, 0xA1, 0xFF, 0xC6):
        board.command(command, count=3)
        board.ended(ABRT)


def test_resets() -> None:
    board = Board()
    board.command(0x20, 5, 9)
    board.bus.port_write(0x3F6, 1, 4)
    assert board.status() & BSY
    board.bus.port_write(0x3F6, 1, 0)
    board.settle()
    assert [board.read(register) for register in (1, 2, 3, 4, 5)] == [1, 1, 1, 0, 0]
    assert board.status() == 0x50
    assert not board.level
    board.write(7, 0x90)
    assert board.level
    assert not board.read(7) & ERR
    assert board.read(1) == 1


def test_the_processor_learns_of_what_was_read_before_a_reset() -> None:
    board, changed = Board(), set[tuple[int, int]]()
    board.memory.changed = lambda address, length: changed.add((address, length))
    board.memory.write(TABLE, struct.pack("<IHH", 0x5000, 512, 0x8000))
    board.bus.port_write(MASTER + 4, 4, TABLE)
    board.command(0xC8, 5)
    board.bus.port_write(MASTER, 1, 9)
    board.bus.port_write(0x3F6, 1, 4)
    board.settle()
    assert board.memory.read(0x5000, 512) == board.node.data[5 * 512 : 6 * 512]
    assert (0x5000, 512) in changed


def test_interrupts_can_be_switched_off() -> None:
    board = Board()
    board.bus.port_write(0x3F6, 1, 2)
    board.command(0xE7)
    assert not board.level
    board.bus.port_write(0x3F6, 1, 0)
    assert board.level
    assert board.bus.port_read(0x3F6, 1) & DRDY
    assert board.level


def test_drives_that_are_not_there() -> None:
    board = Board()
    board.write(6, 0xF0)
    assert board.read(7) == 0
    board.write(7, 0xEC)
    board.settle()
    assert board.read(7) == 0
    # Nothing on the second cable: not busy, for nobody to wait for.
    assert not board.read(7, 0x170) & BSY
    assert board.read(2, 0x170) == 0x7F
    both = Board(slave=True)
    both.write(6, 0xF0)
    both.write(7, 0xEC)
    both.settle()
    words = struct.unpack("<256H", both.take(512))
    assert words[60] == 99


def test_a_controller_goes_on_where_it_was_saved() -> None:
    board = Board()
    board.command(0xEF, features=0x82)
    board.command(0xE7)
    other = Board()
    other.ide.load(board.ide.save())
    assert other.ide.save() == board.ide.save()
    assert other.level
    assert other.disk.write_through


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_no_register_access_gets_out_of_hand(seed: int) -> None:
    rng, board = random.Random(seed), Board(slave=seed % 2 == 0)
    ports = [*range(0x1F0, 0x1F8), 0x3F6, *range(MASTER, MASTER + 8), *range(0x170, 0x178)]
    commands = [0x06, 0x20, 0x25, 0x30, 0x35, 0xC4, 0xC5, 0xC8, 0xCA, 0xE7, 0xEC, 0xEF, 0xC6, 0x90, 0x91, 0xB0]
    board.memory.write(TABLE, rng.randbytes(256))
    for _ in range(300):
        port = rng.choice(ports)
        if rng.random() < 0.3:
            board.bus.port_read(port, rng.choice((1, 2, 4)))
        elif rng.random() < 0.3:
            board.bus.port_write(0x1F7, 1, rng.choice(commands))
        else:
            size = rng.choice((1, 1, 2, 4))
            board.bus.port_write(port, size, rng.choice((rng.getrandbits(8 * size), TABLE, 9, 1)) & (1 << 8 * size) - 1)
        if rng.random() < 0.3:
            board.settle()
    board.settle()
