"""The 8254 timer: what its modes do at OUT, and what GATE does to them (Intel 8254 data sheet, mode definitions)."""

from __future__ import annotations

import pytest

from blockkit.emul.clock import Clock
from blockkit.emul.lines import Line
from blockkit.emul.pit import FREQUENCY, Pit, Port61

SECOND = 1_000_000_000


class Board:
    """A timer; time is told in counts."""

    def __init__(self) -> None:
        self.at, self.level, self.edges = 0, False, 0
        self.clock = Clock(lambda: self.at, lambda: None)
        self.pit = Pit(self.clock, Line(self.drive))
        self.port = Port61(self.pit)

    def drive(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def to(self, count: int) -> None:
        """Let time pass to a count, doing what is due."""
        end = -(-count * SECOND // FREQUENCY)
        while (at := self.clock.deadline()) is not None and at <= end:
            self.at = max(self.at, at)
            self.clock.fire()
        self.at = end

    def program(self, number: int, mode: int, count: int, *, bcd: bool = False) -> None:
        self.pit.write(3, 1, number << 6 | 0x30 | mode << 1 | bcd)
        for byte in (count & 0xFF, count >> 8):
            self.pit.write(number, 1, byte)

    def gate(self, level: bool) -> None:
        """Drive the gate of the third counter."""
        self.port.write(0, 1, int(level))

    def count(self, number: int = 2) -> int:
        self.pit.write(3, 1, number << 6)
        return self.pit.read(number, 1) | self.pit.read(number, 1) << 8

    def status(self, number: int = 2) -> int:
        self.pit.write(3, 1, 0xE0 | 2 << number)
        return self.pit.read(number, 1)

    @property
    def out(self) -> bool:
        return bool(self.port.read(0, 1) & 0x20)


def test_mode_0_counts_while_the_gate_is_high() -> None:
    board = Board()
    board.program(2, 0, 1000)
    board.to(500)
    assert board.count() == 1000
    board.gate(True)
    board.to(900)
    assert board.count() == 600
    board.gate(False)
    board.to(5000)
    assert (board.count(), board.out) == (600, False)
    board.gate(True)
    board.to(5599)
    assert (board.count(), board.out) == (1, False)
    board.to(5600)
    assert (board.count(), board.out) == (0, True)
    board.to(5601)
    assert (board.count(), board.out) == (0xFFFF, True)


def test_mode_1_is_one_pulse_for_each_edge() -> None:
    board = Board()
    board.program(2, 1, 100)
    board.to(1000)
    assert board.out
    # OUT is high, and the count is not in use yet.
    assert board.status() == 0xF2
    board.gate(True)
    assert not board.out
    board.gate(False)
    board.to(1050)
    # What is written now is for the next pulse.
    for byte in (200, 0):
        board.pit.write(2, 1, byte)
    board.to(1099)
    assert not board.out
    board.to(1100)
    assert board.out
    board.gate(True)
    board.to(1299)
    assert not board.out
    board.to(1300)
    assert board.out


@pytest.mark.parametrize("mode", [2, 3])
def test_modes_2_and_3_begin_anew_with_the_gate(mode: int) -> None:
    board = Board()
    board.gate(True)
    board.program(2, mode, 100)
    low = 99 if mode == 2 else 50
    for turn in range(3):
        board.to(100 * turn + low - 1)
        assert board.out
        board.to(100 * turn + low)
        assert not board.out
        board.to(100 * turn + 99)
        assert not board.out
    board.gate(False)
    assert board.out
    board.to(330)
    assert board.out
    board.gate(True)
    board.to(330 + low - 1)
    assert board.out
    board.to(330 + low)
    assert not board.out


@pytest.mark.parametrize("mode", [4, 5])
def test_modes_4_and_5_are_low_for_one_count(mode: int) -> None:
    board = Board()
    board.gate(mode == 4)
    board.program(2, mode, 100)
    board.to(10)
    if mode == 5:
        board.to(500)
        board.gate(True)
    start = 0 if mode == 4 else 500
    for at, level in ((99, True), (100, False), (101, True), (1000, True)):
        board.to(start + at)
        assert board.out is level


def test_the_first_counter_interrupts() -> None:
    board = Board()
    board.program(0, 2, 100)
    board.to(1000)
    assert board.edges == 1 + 10
    before = board.edges
    board.program(0, 4, 50)
    board.to(1049)
    assert board.edges == before
    board.to(1200)
    assert board.edges == before + 1
    board.program(0, 0, 50)
    assert not board.level
    board.to(1249)
    assert not board.level
    board.to(1250)
    assert board.level
    # Nothing drives its gate.
    before = board.edges
    board.program(0, 1, 50)
    board.to(2000)
    assert board.level
    assert board.edges == before


def test_decimal_counts() -> None:
    board = Board()
    board.gate(True)
    board.program(2, 0, 0x0100, bcd=True)
    board.to(1)
    assert board.count() == 0x0099
    board.to(101)
    assert board.count() == 0x9999


def test_it_goes_on_where_it_was_saved() -> None:
    board, other = Board(), Board()
    board.program(2, 0, 1000)
    board.gate(True)
    board.to(100)
    board.gate(False)
    board.to(200)
    other.at = board.at
    other.pit.load(board.pit.save())
    other.port.load(board.port.save())
    for each in (board, other):
        each.gate(True)
        each.to(300)
    assert board.count() == other.count() == 800
    for name, value in (("_next", 0), ("mode", 6), ("_count", 0x10001)):
        saved = board.pit.save()
        saved["2"][name] = value
        with pytest.raises(ValueError):
            other.pit.load(saved)
