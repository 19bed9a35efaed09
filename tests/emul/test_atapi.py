"""A CD-ROM drive, by a driver that sends packets."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockkit.emul.disk import Disk
from blockkit.emul.ide.atapi import AtapiDrive
from blockkit.testing.memory import MemoryNode
from tests.emul.test_ide import DRQ, ERR, MASTER, TABLE, Board

SECTORS = 50


class CdBoard(Board):
    """The board of disks, with a CD-ROM in place of the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.data = random.Random(6).randbytes(SECTORS * 2048 - 100)
        self.cd = AtapiDrive(Disk(MemoryNode(self.data), self.clock, read_only=True))
        channel = self.ide.channels[0]
        channel.drives[0] = self.cd
        self.cd.line, self.cd.needs_dma = channel._update, channel._try_dma

    def packet(self, data: bytes, *, limit: int = 0xFFFE, dma: bool = False) -> None:
        for register, value in ((1, int(dma)), (4, limit & 0xFF), (5, limit >> 8), (6, 0xA0)):
            self.write(register, value)
        self.write(7, 0xA0)
        # ATA/ATAPI-6, 9.8: a command is wanted, and nothing interrupts for it.
        assert (self.status() & DRQ, self.read(2) & 3, self.level) == (DRQ, 1, False)
        self.give(data.ljust(12, b"\0"))

    def answer(self) -> bytes:
        """Read all blocks; each says how long it is."""
        found = b""
        while self.status() & DRQ:
            assert self.level
            assert self.read(2) & 3 == 2
            size = self.read(4) | self.read(5) << 8
            self.read(7)
            for at in range(0, size, 2):
                found += self.bus.port_read(0x1F0, 2).to_bytes(2, "little")[: size - at]
            self.settle()
        assert self.level
        assert self.read(2) & 3 == 3
        self.read(7)
        return found

    def sense(self) -> tuple[int, int]:
        self.packet(bytes([3, 0, 0, 0, 18]))
        found = self.answer()
        return found[2], found[12]

    def ready(self) -> None:
        self.packet(bytes(12))
        assert self.read(7) & ERR
        assert self.sense() == (6, 0x28)
        self.packet(bytes(12))
        assert not self.read(7) & ERR


def test_it_is_known_by_its_signature() -> None:
    board = CdBoard()
    for command in (0xEC, 0x20):
        board.write(7, command)
        assert board.read(7) & ERR
        assert [board.read(register) for register in (2, 3, 4, 5)] == [1, 1, 0x14, 0xEB]
    board.write(7, 0xA1)
    words = struct.unpack("<256H", board.take(512))
    assert words[0] == 0x85C0
    assert board.status() & DRQ == 0


def test_what_it_says_of_itself_and_the_medium() -> None:
    board = CdBoard()
    board.packet(bytes([0x12, 0, 0, 0, 36]))
    found = board.answer()
    assert (found[0], found[1], len(found)) == (5, 0x80, 36)
    board.ready()
    board.packet(b"\x25")
    assert struct.unpack(">II", board.answer()) == (SECTORS - 1, 2048)
    board.packet(bytes([0x43, 0, 0, 0, 0, 0, 0, 0, 100, 0]))
    length, first, last, *_ = struct.unpack(">HBB", board.answer()[:4])
    assert (length, first, last) == (18, 1, 1)
    board.packet(bytes([0x5A, 0, 0x2A, 0, 0, 0, 0, 0, 100]))
    found = board.answer()
    assert (found[8], int.from_bytes(found[:2], "big")) == (0x2A, len(found) - 2)


@pytest.mark.parametrize("limit", [2048, 4096, 0xFFFE, 100])
def test_reading_by_the_processor(limit: int) -> None:
    board = CdBoard()
    board.ready()
    board.packet(struct.pack(">BBIBHB", 0x28, 0, 45, 0, 5, 0), limit=limit)
    board.settle()
    assert board.answer() == board.data[45 * 2048 :].ljust(5 * 2048, b"\0")


def test_reading_by_the_bus_master() -> None:
    board = CdBoard()
    board.ready()
    board.memory.write(TABLE, struct.pack("<IHHIHH", 0x110000, 2050, 0, 0x120000, 4094, 0x8000))
    board.bus.port_write(MASTER + 4, 4, TABLE)
    board.packet(struct.pack(">BBIIBB", 0xA8, 0, 7, 3, 0, 0), dma=True)
    board.bus.port_write(MASTER, 1, 9)
    board.settle()
    assert board.bus.port_read(MASTER + 2, 1) & 7 == 4
    assert not board.read(7) & (ERR | DRQ)
    found = board.memory.read(0x110000, 2050) + board.memory.read(0x120000, 4094)
    assert found == board.data[7 * 2048 : 10 * 2048]


def test_what_cannot_be_is_told() -> None:
    board = CdBoard()
    board.ready()
    for packet, sense in (
        (struct.pack(">BBIBHB", 0x28, 0, SECTORS, 0, 1, 0), (5, 0x21)),
        (b"\xff", (5, 0x20)),
        (bytes([0x43, 0, 3, 0, 0, 0, 0, 0, 100]), (5, 0x24)),
    ):
        board.packet(packet)
        assert board.read(7) & ERR
        assert board.read(1) >> 4 == sense[0]
        assert board.sense() == sense
    board.packet(bytes([0x1E, 0, 0, 0, 1]))
    board.packet(bytes([0x1B, 0, 0, 0, 2]))
    assert board.read(7) & ERR
    board.packet(bytes([0x1E, 0, 0, 0, 0]))
    board.packet(bytes([0x1B, 0, 0, 0, 2]))
    assert not board.read(7) & ERR
    board.packet(b"\x25")
    assert board.read(7) & ERR
    assert board.sense() == (2, 0x3A)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_no_packet_gets_out_of_hand(seed: int) -> None:
    rng, board = random.Random(seed), CdBoard()
    board.memory.write(TABLE, rng.randbytes(128))
    for _ in range(30):
        for register in range(1, 7):
            board.write(register, rng.choice((0, 1, 0xFF, rng.getrandbits(8))) & ~0x10)
        board.write(7, 0xA0)
        packet = bytes([rng.choice((0, 3, 0x12, 0x25, 0x28, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xA8))]) + rng.randbytes(11)
        for (word,) in struct.iter_unpack("<H", packet):
            board.bus.port_write(0x1F0, 2, word)
        if rng.random() < 0.5:
            board.bus.port_write(MASTER + 4, 4, TABLE)
            board.bus.port_write(MASTER, 1, rng.choice((0, 1, 8, 9)))
        board.settle()
        for _ in range(rng.randrange(40)):
            board.bus.port_read(0x1F0, rng.choice((2, 4)))
        board.settle()
        board.read(7)
