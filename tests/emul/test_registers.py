"""Register banks: parts of registers, several at once, and what reads and writes do."""

from __future__ import annotations

import pytest

from blockkit.emul.registers import Register, RegisterBank


class Sample(RegisterBank):
    # fmt: off
    narrow  = Register(0, reset=0x12)
    status  = Register(1, "r", reset=0x80)
    command = Register(1, "w")
    wide    = Register(4, width=4, reset=0x11223344, writable=0x00FFFFFF)
    causes  = Register(8, width=2, reset=0xF0F0, writable=0x000F, clear_by_one=0xF000)
    # fmt: on

    def __init__(self) -> None:
        self.seen: list[int] = []
        super().__init__()

    @status.on_read
    def _status(self) -> int:
        self.status ^= 1
        return self.status

    @command.on_write
    def _command(self, value: int) -> None:
        self.seen.append(value)


def test_reads_cut_and_join_registers() -> None:
    bank = Sample()
    assert bank.read(4, 4) == 0x11223344
    assert bank.read(5, 1) == 0x33
    assert bank.read(0, 4) == 0xFFFF8112
    assert bank.read(1, 1) == 0x80
    assert bank.read(12, 2) == 0xFFFF


def test_writes_change_what_may_be_changed() -> None:
    bank = Sample()
    bank.write(4, 4, 0xAABBCCDD)
    assert bank.wide == 0x11BBCCDD
    bank.write(6, 1, 0x55)
    assert bank.wide == 0x1155CCDD
    bank.write(8, 2, 0x300A)
    assert bank.causes == 0xC0FA
    bank.write(0, 2, 0x3477)
    assert (bank.narrow, bank.seen) == (0x77, [0x34])
    bank.reset()
    assert bank.wide == 0x11223344


def test_registers_that_overlap_are_refused() -> None:
    with pytest.raises(TypeError, match="overlap"):
        type("Bad", (RegisterBank,), {"a": Register(0, width=2), "b": Register(1)})
