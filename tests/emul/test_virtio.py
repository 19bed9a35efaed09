"""virtio-blk, by a driver that keeps the rules, in every way there is to talk to it, and by one that does not."""

from __future__ import annotations

import itertools
import random
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockkit.emul.clock import Clock
from blockkit.emul.disk import Disk
from blockkit.emul.memory import GuestMemory
from blockkit.emul.virtio.blk import Feature, VirtioBlk
from blockkit.emul.virtio.pci import VirtioPci
from blockkit.errors import NodeIOError
from blockkit.testing.memory import MemoryNode
from blockkit.testing.virtio_driver import Buffer, VirtioDriver

if TYPE_CHECKING:
    from typing import Any

SECTORS = 512
HEADER, DATA, STATUS = 0x200000, 0x210000, 0x2F0000
#: Device status: a reset is needed.
NEEDS_RESET = 64
WAYS = list(itertools.product((False, True), repeat=5))


class Watched(MemoryNode):
    """A disk that counts flushes and durable writes, and fails on demand."""

    flushes = durable = 0
    broken = False

    def _flush(self) -> None:
        self.flushes += 1

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        self.durable += fua
        if self.broken:
            raise NodeIOError("memory: broken")
        super()._writev(offset, buffers, fua)


class Board:
    """A device, and a driver for it."""

    def __init__(self, features: int = 0, *, start: bool = True, transitional: bool = True, **way: Any) -> None:
        self.at = 0
        self.memory = GuestMemory(4 << 20)
        self.node = Watched(random.Random(1).randbytes(SECTORS * 512))
        read_only = way.pop("read_only", False)
        self.clock = Clock(lambda: self.at, lambda: None)
        self.disk = Disk(self.node, self.clock, serial="a serial number", read_only=read_only)
        self.device = VirtioBlk(self.memory, self.disk, queue_size=64)
        self.function = VirtioPci(self.device, 0x010000, transitional=transitional)
        self.function.reset()
        self.driver = VirtioDriver(self.memory, self.function, **way)
        if start:
            self.chosen = self.driver.start(features | 1 << Feature.FLUSH)

    def settle(self) -> None:
        """Let all requests end."""
        while (at := self.clock.deadline()) is not None:
            self.at = max(at, self.at)
            self.clock.fire()

    def request(self, kind: int, sector: int, *parts: Buffer, number: int = 0) -> int:
        """Make a request available, cut as the driver likes."""
        header, status = HEADER + 16 * number, STATUS + number
        self.memory.write(header, struct.pack("<IIQ", kind, 0, sector))
        self.memory.write(status, b"\xff")
        return self.driver.add([Buffer(header, 16), *parts, Buffer(status, 1, True)])

    def do(self, kind: int, sector: int, *parts: Buffer) -> tuple[int, int]:
        """Do a request; return its status and how many bytes were written."""
        head = self.request(kind, sector, *parts)
        self.driver.kick()
        self.settle()
        (used,) = self.driver.used()
        assert used.head == head
        return self.memory.read(STATUS, 1)[0], used.length


@pytest.mark.parametrize(("legacy", "packed", "indirect", "event_index", "msix"), WAYS)
def test_reads_and_writes_in_every_way(
    legacy: bool, packed: bool, indirect: bool, event_index: bool, msix: bool
) -> None:
    if legacy and packed:
        packed = False  # There is no such thing: the other ways are tested twice.
    way = {"legacy": legacy, "packed": packed, "indirect": indirect, "event_index": event_index, "msix": msix}
    board = Board(**way)
    driver, rng = board.driver, random.Random(2)
    expected = bytearray(board.node.data)
    for _ in range(100):
        heads = []
        for number in range(rng.randrange(1, 5)):
            # Each request of a round has sectors of its own.
            sector, count = number * 100 + rng.randrange(80), rng.randrange(1, 17)
            place = DATA + number * 0x8000
            cut = rng.randrange(1, count * 512)
            writes = rng.random() < 0.5
            if writes:
                data = rng.randbytes(count * 512)
                board.memory.write(place, data)
                expected[sector * 512 : (sector + count) * 512] = data
            parts = Buffer(place, cut, not writes), Buffer(place + cut, count * 512 - cut, not writes)
            head = board.request(1 if writes else 0, sector, *parts, number=number)
            heads.append((head, number, sector, count, writes))
        driver.kick()
        board.settle()
        used = {each.head: each.length for each in driver.used()}
        assert len(used) == len(heads)
        for head, number, sector, count, writes in heads:
            assert board.memory.read(STATUS + number, 1) == b"\0"
            assert used[head] == (1 if writes else count * 512 + 1)
            if not writes:
                found = board.memory.read(DATA + number * 0x8000, count * 512)
                assert found == expected[sector * 512 : (sector + count) * 512]
        if msix:
            assert driver.messages
            assert set(driver.messages) == {(0xFEE00000, 0x41)}
            assert not driver.level
            driver.messages.clear()
        else:
            assert driver.level
            assert driver.read_isr() == 1
            assert not driver.level
            assert driver.read_isr() == 0
    assert board.node.data == expected


def test_configuration_says_what_there_is() -> None:
    # 5.2.4
    driver = Board().driver
    assert driver.read_config(0, 4) | driver.read_config(4, 4) << 32 == SECTORS
    assert driver.read_config(0x0C, 4) == 62
    assert driver.read_config(0x14, 4) == 512
    assert [driver.read_config(0x18 + n, 1) for n in range(2)] == [3, 0]
    assert driver.read_config(0x20, 1) == 1
    assert driver.read_config(0x22, 2) == 1


@pytest.mark.parametrize("legacy", [False, True])
def test_without_flush_every_write_is_durable(legacy: bool) -> None:
    # 5.2.6.2: a driver that did not negotiate FLUSH takes what is written for durable.
    board = Board(start=False, legacy=legacy)
    board.driver.start(0)
    assert board.do(1, 0, Buffer(DATA, 512)) == (0, 1)
    assert board.node.durable == 1
    cached = Board(legacy=legacy)
    assert cached.do(1, 0, Buffer(DATA, 512)) == (0, 1)
    assert (cached.node.durable, cached.node.flushes) == (0, 0)
    assert cached.do(4, 0) == (0, 1)
    assert cached.node.flushes == 1


def test_the_cache_can_be_switched_off() -> None:
    board = Board(1 << Feature.CONFIG_WCE)
    board.driver.write_config(0x20, 1, 0)
    assert board.driver.read_config(0x20, 1) == 0
    board.do(1, 0, Buffer(DATA, 512))
    assert board.node.durable == 1


def test_other_requests() -> None:
    board = Board(1 << Feature.DISCARD | 1 << Feature.WRITE_ZEROES)
    assert board.do(8, 0, Buffer(DATA, 20, True)) == (0, 21)
    assert board.memory.read(DATA, 20) == b"a serial number".ljust(20, b"\0")
    assert board.do(99, 0, Buffer(DATA, 512)) == (2, 1)
    board.memory.write(DATA, struct.pack("<QIIQII", 8, 8, 0, 32, 1, 1))
    assert board.do(13, 0, Buffer(DATA, 32)) == (0, 1)
    assert board.node.data[8 * 512 : 16 * 512] == bytes(8 * 512)
    assert board.node.data[32 * 512 : 33 * 512] == bytes(512)
    assert board.node.data[33 * 512] or board.node.data[33 * 512 + 1]
    # 5.2.6.2: reserved flags are not supported; ranges beyond the end are errors, and then none is touched.
    board.memory.write(DATA, struct.pack("<QII", 0, 8, 1))
    assert board.do(11, 0, Buffer(DATA, 16)) == (2, 1)
    before = bytes(board.node.data)
    board.memory.write(DATA, struct.pack("<QIIQII", 0, 8, 0, SECTORS - 1, 2, 0))
    assert board.do(13, 0, Buffer(DATA, 32)) == (1, 1)
    assert board.node.data == before


def test_errors_are_told() -> None:
    board = Board()
    assert board.do(0, SECTORS - 1, Buffer(DATA, 1024, True)) == (1, 1)
    assert board.do(0, 1 << 60, Buffer(DATA, 512, True)) == (1, 1)
    assert board.do(0, 0, Buffer(DATA, 100, True)) == (1, 1)
    board.node.broken = True
    assert board.do(1, 0, Buffer(DATA, 512)) == (1, 1)
    shut = Board(read_only=True)
    assert shut.chosen == 1 << Feature.FLUSH | 1 << 32
    assert shut.driver.offered() >> Feature.RO & 1
    assert shut.do(1, 0, Buffer(DATA, 512)) == (1, 1)


def broken_rules() -> dict[str, Any]:
    def no_status(board: Board) -> None:
        board.memory.write(HEADER, bytes(16))
        board.driver.add([Buffer(HEADER, 16)])

    def short_header(board: Board) -> None:
        board.driver.add([Buffer(HEADER, 8), Buffer(STATUS, 1, True)])

    def outside(board: Board) -> None:
        board.driver.add([Buffer(HEADER, 16), Buffer(1 << 40, 512, True), Buffer(STATUS, 1, True)])

    def loop(board: Board) -> None:
        board.driver.add([Buffer(HEADER, 16), Buffer(STATUS, 1, True)])
        board.memory.write(0x100000 + 16 + 12, struct.pack("<HH", 3, 0))

    def index(board: Board) -> None:
        board.driver.add([Buffer(HEADER, 16), Buffer(STATUS, 1, True)])
        board.memory.write(0x100000 + 12, struct.pack("<HH", 1, 9999))

    def head(board: Board) -> None:
        board.driver.add([Buffer(HEADER, 16), Buffer(STATUS, 1, True)])
        board.memory.write(0x100000 + 0x4004, struct.pack("<H", 9999))

    def too_many(board: Board) -> None:
        board.memory.write(0x100000 + 0x4002, struct.pack("<H", 1000))

    def order(board: Board) -> None:
        board.driver.add([Buffer(STATUS, 1, True), Buffer(HEADER, 16)])

    return {name: rule for name, rule in locals().items() if callable(rule)}


@pytest.mark.parametrize("name", broken_rules())
@pytest.mark.parametrize("msix", [False, True])
def test_a_driver_that_breaks_the_rules_has_to_reset(name: str, msix: bool) -> None:
    board = Board(msix=msix)
    board.driver.write(1, 0x10, 2, 0)
    broken_rules()[name](board)
    board.driver.kick()
    board.settle()
    assert board.driver.status & NEEDS_RESET
    assert board.driver.messages == [(0xFEE00000, 0x40)] if msix else board.driver.read_isr() & 2
    # Nothing more is done until then.
    board.request(0, 0, Buffer(DATA, 512, True))
    board.driver.kick()
    board.settle()
    assert board.driver.used() == []
    again = VirtioDriver(board.memory, board.function)
    again.start(1 << Feature.FLUSH)
    board.driver = again
    assert board.do(0, 0, Buffer(DATA, 512, True)) == (0, 513)


def test_features_that_are_not_offered_are_refused() -> None:
    # 2.2 and 3.1.1: FEATURES_OK does not stay.
    board = Board(start=False)
    driver = board.driver
    driver.status = 0
    driver.status = 3
    driver.write(1, 8, 4, 0)
    driver.write(1, 0xC, 4, 1 << 3)
    driver.write(1, 8, 4, 1)
    driver.write(1, 0xC, 4, 1)
    driver.status = 11
    assert not driver.status & 8


def test_a_reset_forgets_requests() -> None:
    board = Board()
    board.request(0, 0, Buffer(DATA, 512, True))
    board.driver.kick()
    board.driver.status = 0
    board.settle()
    assert not board.driver.level
    assert board.memory.read(STATUS, 1) == b"\xff"


def test_the_processor_learns_of_what_was_read_before_a_reset() -> None:
    board, changed = Board(), set[tuple[int, int]]()
    board.request(0, 0, Buffer(DATA, 512, True))
    board.memory.changed = lambda address, length: changed.add((address, length))
    board.driver.kick()
    board.driver.status = 0
    board.settle()
    assert board.memory.read(DATA, 512) == board.node.data[:512]
    assert (DATA, 512) in changed


def test_event_indices_save_interrupts() -> None:
    # 2.7.7: an interrupt for the fifth chain, none for those before.
    board = Board(event_index=True, msix=True)
    board.memory.write(0x100000 + 0x4004 + 2 * 64, struct.pack("<H", 4))
    for number in range(6):
        board.request(0, number, Buffer(DATA, 512, True), number=number)
        board.driver.kick()
        board.settle()
        assert len(board.driver.messages) == (1 if number >= 4 else 0), number
    # And the device says which kick it wants next.
    assert board.memory.read(0x100000 + 0x8004 + 8 * 64, 2) == struct.pack("<H", 6)


def test_registers_are_reached_through_configuration_space() -> None:
    # 4.1.4.9
    board = Board()
    function = board.function
    at = function.read_config(0x34, 1)
    while not (function.read_config(at, 1) == 9 and function.read_config(at + 3, 1) == 5):
        at = function.read_config(at + 1, 1)
    function.write_config(at + 4, 1, 4)
    function.write_config(at + 8, 4, 0x14)
    function.write_config(at + 12, 4, 1)
    assert function.read_config(at + 16, 1) == board.driver.status
    function.write_config(at + 16, 1, 0)
    assert board.driver.status == 0


def test_a_device_goes_on_where_it_was_saved() -> None:
    for packed in (False, True):
        board = Board(packed=packed, event_index=True, msix=True)
        board.do(1, 7, Buffer(DATA, 512))
        saved = board.function.save()
        other = Board(start=False, packed=packed, event_index=True, msix=True)
        other.memory.ram[:] = board.memory.ram
        other.function.load(saved)
        assert other.function.save() == saved
        driver, other.driver = other.driver, board.driver
        other.driver.memory, other.driver.function = other.memory, other.function
        other.function.message = driver.function.message
        assert other.do(0, 7, Buffer(DATA + 512, 512, True)) == (0, 513)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nothing_a_driver_writes_gets_out_of_hand(data: st.DataObject) -> None:
    packed = data.draw(st.booleans())
    board = Board(packed=packed, indirect=data.draw(st.booleans()), event_index=data.draw(st.booleans()))
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    for number in range(4):
        board.request(rng.choice((0, 1, 4, 8, 11, 13)), rng.randrange(600), Buffer(DATA, 512, True), number=number)
    areas = (0x100000, 0x104000, 0x108000, 0x120000, HEADER)
    for _ in range(data.draw(st.integers(0, 12))):
        at = rng.choice(areas) + rng.randrange(96)
        board.memory.write(at, rng.choice((rng.randbytes(2), b"\0\0", b"\xff\xff", b"\1\0", b"\4\0")))
    board.driver.kick()
    board.settle()
    for _ in range(10):
        offset, size = rng.randrange(0x40), rng.choice((1, 2, 4))
        if offset % size == 0:
            board.driver.write(rng.choice((1, 2, 4)), offset, size, rng.getrandbits(8 * size))
            board.driver.read(1, offset, size)
    board.settle()


@pytest.mark.parametrize("wraps", [False, True])
def test_packed_rings_tell_when_a_descriptor_is_used(wraps: bool) -> None:
    # 2.8.10: the interrupt that is wanted is that of a descriptor, in this turn of the ring or the next.
    board = Board(packed=True, event_index=True, msix=True)
    size, done = board.driver.size, 0
    while wraps and done + 3 <= size:
        board.do(0, 0, Buffer(DATA, 512, True))
        done += 3
    board.driver.messages.clear()
    # Three descriptors each, from there on; the second chain of them has the one that is waited for.
    wanted, turn = (done + 4) % size, done + 4 < size
    board.memory.write(0x104000, struct.pack("<HH", wanted | (0x8000 if turn else 0), 2))
    for number in range(4):
        board.request(0, number, Buffer(DATA, 512, True), number=number)
        board.driver.kick()
        board.settle()
        assert len(board.driver.messages) == (1 if number >= 1 else 0), number
    board.memory.write(0x104000, struct.pack("<HH", 0, 1))
    board.request(0, 0, Buffer(DATA, 512, True))
    board.driver.kick()
    board.settle()
    assert len(board.driver.messages) == 1


def test_messages_that_are_masked_wait() -> None:
    # PCI 3.0, 6.8.2.9
    board = Board(msix=True)
    table, control = board.function.bars[1].device, 0x42
    table.write(16 + 12, 4, 1)
    board.do(0, 0, Buffer(DATA, 512, True))
    assert (board.driver.messages, table.read(0x800, 4)) == ([], 2)
    table.write(16 + 12, 4, 0)
    assert (board.driver.messages, table.read(0x800, 4)) == ([(0xFEE00000, 0x41)], 0)
    board.function.write_config(control, 2, 0xC000)
    board.do(0, 0, Buffer(DATA, 512, True))
    assert len(board.driver.messages) == 1
    board.function.write_config(control, 2, 0x8000)
    assert len(board.driver.messages) == 2
