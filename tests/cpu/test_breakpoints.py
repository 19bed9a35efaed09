"""Breakpoints and single steps (SDM volume 3, 17.2 and 17.3), the same on every processor."""

from __future__ import annotations

import struct
from typing import Final

import pytest

from blockkit.cpu import state
from blockkit.cpu.portable.vcpu import PortableVcpu
from tests.cpu.machine import CODE_32, DATA_32, Board, protected_mode

_IDT, _GDT, _CODE, _STACK, _DATA = 0x1000, 0x2000, 0x3000, 0x8000, 0x5000
_HANDLER: Final = 0x4000
_EXECUTE, _WRITE, _PORT, _ACCESS = range(4)
_RESUME: Final = state.RF


def _board(code: bytes, dr7: int, *, address: int = 0, flags: int = state.ALWAYS, cr4: int = 0) -> Board:
    board = Board(PortableVcpu)
    slots = protected_mode()
    table = bytes(16) + b"".join(
        struct.pack("<Q", 0xFFFF | 0xF << 48 | (each & 0xF0FF) << 40) for each in (CODE_32, DATA_32)
    )
    slots[state.SELECTORS + state.CS], slots[state.SELECTORS + state.SS] = 16, 24
    slots[state.GDT_BASE], slots[state.GDT_LIMIT] = _GDT, len(table) - 1
    slots[state.IDT_BASE], slots[state.IDT_LIMIT] = _IDT, 15
    slots[state.RSP] = _STACK
    slots[state.DEBUG], slots[state.DEBUG + 7] = address, dr7 | 0x400
    slots[state.CR4] |= cr4
    board.write(_GDT, table)
    board.write(_IDT + 8, struct.pack("<HHHH", _HANDLER, 16, 0x8E00, 0))
    board.write(_CODE, code)
    board.write(_HANDLER, b"\xcf")
    slots[state.RIP] = _CODE
    state.set_rflags(slots, flags)
    board.cpu.set_state(slots)
    return board


def _frame(board: Board) -> tuple[int, int]:
    """Return RIP and RFLAGS of the handler's frame."""
    rip, _, flags = struct.unpack("<III", board.read(board.cpu.slots[state.RSP], 12))
    return rip, flags


def _control(condition: int, length: int) -> int:
    return 1 | condition << 16 | {1: 0, 2: 1, 4: 3, 8: 2}[length] << 18


def test_an_instruction_is_stopped_before_it_runs() -> None:
    board = _board(b"\x90\x40\x90", _control(_EXECUTE, 1), address=_CODE + 1)
    board.cpu.run(2)
    assert board.cpu.slots[state.RIP] == _HANDLER
    assert _frame(board) == (_CODE + 1, state.ALWAYS)
    assert board.cpu.slots[state.RAX] == 0
    assert board.cpu.slots[state.DEBUG + 6] & 0xF == 1


def test_rf_lets_it_run_once() -> None:
    board = _board(b"\x40\xeb\xfd", _control(_EXECUTE, 1), address=_CODE, flags=state.ALWAYS | _RESUME)
    board.cpu.run(1)
    assert board.cpu.slots[state.RAX] == 1
    assert not board.cpu.slots[state.SYSTEM_FLAGS] & _RESUME
    board.cpu.run(2)
    assert board.cpu.slots[state.RIP] == _HANDLER
    assert board.cpu.slots[state.RAX] == 1


def test_iret_with_rf_goes_past_the_breakpoint() -> None:
    board = _board(b"\x40\x90", _control(_EXECUTE, 1), address=_CODE)
    board.cpu.run(1)
    rip, flags = _frame(board)
    board.write(board.cpu.slots[state.RSP] + 8, struct.pack("<I", flags | _RESUME))
    board.cpu.run(2)
    assert rip == _CODE
    assert (board.cpu.slots[state.RIP], board.cpu.slots[state.RAX]) == (_CODE + 1, 1)


@pytest.mark.parametrize(
    ("condition", "length", "at", "stops"),
    [
        (_WRITE, 4, 0, True), (_WRITE, 4, 3, True), (_WRITE, 4, 4, False), (_WRITE, 1, 0, True), (_WRITE, 1, 1, False),
        (_ACCESS, 2, 1, True), (_ACCESS, 2, 2, False), (_WRITE, 4, -1, False), (_WRITE, 8, 7, True),
    ],
)  # fmt: skip
def test_a_byte_that_is_written_stops_after_it(condition: int, length: int, at: int, stops: bool) -> None:
    code = b"\xc6\x05" + struct.pack("<IB", _DATA + at, 7) + b"\x90"
    board = _board(code, _control(condition, length), address=_DATA)
    board.cpu.run(2)
    assert board.read(_DATA + at, 1) == b"\7"
    assert (board.cpu.slots[state.RIP] == _HANDLER) is stops
    if stops:
        assert _frame(board) == (_CODE + 7, state.ALWAYS)
        assert board.cpu.slots[state.DEBUG + 6] & 0xF == 1


@pytest.mark.parametrize(("condition", "stops"), [(_WRITE, False), (_ACCESS, True)])
def test_only_one_kind_looks_at_reads(condition: int, stops: bool) -> None:
    board = _board(b"\xa1" + struct.pack("<I", _DATA) + b"\x90", _control(condition, 4), address=_DATA)
    board.cpu.run(2)
    assert (board.cpu.slots[state.RIP] == _HANDLER) is stops


@pytest.mark.parametrize(("cr4", "stops"), [(0, False), (state.CR4_DE, True)])
def test_ports_are_looked_at_with_de(cr4: int, stops: bool) -> None:
    board = _board(b"\xe6\x42\x90", _control(_PORT, 1), address=0x42, cr4=cr4)
    board.cpu.run(2)
    assert (board.cpu.slots[state.RIP] == _HANDLER) is stops


def test_a_repeated_string_stops_after_the_element() -> None:
    code = b"\xb9\x08\0\0\0\xbf" + struct.pack("<I", _DATA - 3) + b"\xf3\xaa"
    board = _board(code, _control(_WRITE, 1), address=_DATA)
    board.cpu.run(7)
    assert board.cpu.slots[state.RIP] == _HANDLER
    assert _frame(board)[0] == _CODE + 10
    assert board.cpu.slots[state.RCX] == 4


def test_tf_steps() -> None:
    board = _board(b"\x40\x41\x90", 0, flags=state.ALWAYS | state.TF)
    board.cpu.run(2)
    assert board.cpu.slots[state.RIP] == _HANDLER
    assert _frame(board) == (_CODE + 1, state.ALWAYS | state.TF)
    assert board.cpu.slots[state.DEBUG + 6] & 0x4000
    assert not board.cpu.slots[state.SYSTEM_FLAGS] & state.TF


def test_writing_dr7_begins_at_the_next_instruction() -> None:
    code = b"\xb8" + struct.pack("<I", 0x401) + b"\x0f\x23\xf8\x90"
    board = _board(code, 0, address=_CODE + 8)
    board.cpu.run(3)
    assert board.cpu.slots[state.RIP] == _HANDLER
    assert _frame(board)[0] == _CODE + 8
