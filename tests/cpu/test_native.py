"""Native code does what portable code does, instruction for instruction."""

from __future__ import annotations

import random
import struct
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from blockkit.cpu import state
from blockkit.cpu.portable.vcpu import PortableVcpu
from tests.cpu.machine import CODE_16, CODE_32, TABLES, Board, long_mode, protected_mode, real_mode
from tests.cpu.programs import MODES, UNTOLD, run_both

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.jit import JitAccelerator
    from tests.cpu.machine import Bus

pytestmark = [pytest.mark.guest, pytest.mark.skipif(find_spec("llvmlite") is None, reason="needs llvmlite")]

SEEDS = range(8)


@cache
def native() -> JitAccelerator:

    from blockkit.cpu.jit import JitAccelerator

    return JitAccelerator(lambda text: None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_are_the_same(seed: int, mode: int) -> None:
    assert run_both(seed, mode, (PortableVcpu, native().create_vcpu), frozenset(("HLT",))) > 0


#: 1: mov %eax, (%rdi) of some bytes; inc %eax; dec %rcx; jne 1b; jmp .
_STORES = {1: "8807", 2: "668907", 4: "8907", 8: "488907"}


@pytest.mark.parametrize("size", _STORES)
@pytest.mark.parametrize("at", [0x20040, 0x20FF8])
def test_writes_right_beside_code_and_into_it_are_told_apart(at: int, size: int) -> None:
    loop = bytes.fromhex(_STORES[size] + "ffc0 48ffc9 75" + f"{-len(_STORES[size]) // 2 - 7 & 0xFF:02x}" + "ebfe")
    for target in range(at - 9, at + len(loop) + 2):
        both = []
        for make in (PortableVcpu, native().create_vcpu):
            board = Board(make)
            slots = long_mode(board.tables({number << 12: number << 12 for number in range(0x100)}))
            slots[state.RIP], slots[state.RCX], slots[state.RDI] = at, 100, target
            slots[state.RAX] = 0x9090_9090_9090_9090
            board.write(at, loop)
            board.cpu.set_state(slots)
            board.cpu.run(1)
            stop = board.cpu.run(150)
            both.append((stop, board.cpu.get_state()[: state.CR8], board.read(at - 16, 64)))
        assert both[0] == both[1], hex(target)


def test_blocks_that_are_forgotten_leave_no_entries_that_searches_have_to_pass() -> None:
    from blockkit.cpu.jit import layout

    # 1: movb $0x90, (%rdi), which is its own last byte but one; dec %rcx; nop; jne 1b; jmp .
    loop, at = bytes.fromhex("c60790 48ffc9 90 75f7 ebfe"), 0x20000
    board = Board(native().create_vcpu)
    slots = long_mode(board.tables({number << 12: number << 12 for number in range(0x100)}))
    slots[state.RIP], slots[state.RCX], slots[state.RDI] = at, 1000, at + 6
    board.write(at, loop)
    board.cpu.set_state(slots)
    board.cpu.run(1000 * 4 + 2)
    assert board.cpu.get_state()[state.RCX] == 0
    assert board.cpu.slots[layout.BLOCKS_USED] < 20


#: Bytes before a string instruction: other address sizes, operand sizes and segments, and REP.
_BEFORE = (b"", b"\x67", b"\x66", b"\x26", b"\x2e", b"\x36", b"\x64", b"\xf3")


@pytest.mark.parametrize("opcode", [0xA4, 0xA5, 0xAA, 0xAB, 0xAC, 0xAD])
def test_strings_of_any_address_are_native(opcode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(opcode)
    monkeypatch.setattr("blockkit.cpu.jit.vcpu.JitVcpu._run_alone", lambda _: pytest.fail("it was left to Python"))
    for _ in range(120):
        code = b"".join(rng.choice(_BEFORE) for _ in range(3)) + bytes([opcode]) + b"\x90\xf4"
        if rng.random() < 0.5:
            slots = real_mode([0x3000, 0x1000, 0x2000, 0x4000, 0x5000, 0x5800])
        else:
            slots = protected_mode(rng.choice((CODE_16, CODE_32)))
            slots[state.RIP] = 0x10000
            if rng.random() < 0.5:
                slots[state.SEGMENT_LIMITS + rng.randrange(6)] = rng.choice((0x1FFFF, 0x50000))
                slots[state.MODE] &= ~state.MODE_FLAT
        for register in (state.RSI, state.RDI):
            slots[register] = rng.choice((0x100, 0xFFFE, 0x1FFFE, rng.getrandbits(17)))
        slots[state.RAX], slots[state.RCX] = rng.getrandbits(32), rng.choice((0, 1, 2, 5, 0x10003))
        slots[state.SYSTEM_FLAGS] |= rng.choice((0, state.DF))
        data = rng.randbytes(0x40000)
        both = []
        for make in (PortableVcpu, native().create_vcpu):
            board = Board(make)
            board.write(0x20000, data)
            board.write(0x10000, code)
            board.cpu.set_state(slots)
            board.cpu.run(3)
            both.append((board.cpu.get_state()[: state.CR8], bytes(board.bus.ram)))
        assert both[0] == both[1], code.hex()


_CODE, _OTHER, _END = 0x20000, 0x40000, 0x80000


def both(code: bytes, at: int = _CODE, **slots: int) -> list[Board]:
    """Return two machines in 64-bit mode, with memory up to _END, no handlers, and some slots by their names."""
    made = []
    for make in (PortableVcpu, native().create_vcpu):
        board = Board(make)
        given = long_mode(board.tables({page: page for page in range(0, _END, 0x1000)}))
        given[state.RIP] = at
        for name, value in slots.items():
            given[getattr(state, name)] = value
        board.write(at, code)
        board.cpu.set_state(given)
        made.append(board)
    return made


def run(boards: list[Board], budget: int) -> list[int]:
    """Run both, and return the state that both are in."""
    for board in boards:
        board.cpu.run(budget)
    mine, theirs = (board.cpu.get_state() for board in boards)
    assert not [number for number in range(state.SLOTS) if mine[number] != theirs[number] and number not in UNTOLD]
    assert bytes(boards[0].bus.ram) == bytes(boards[1].bus.ram)
    return mine


@pytest.mark.parametrize("text", ["0fae07", "0fae0f", "0fae17", "0fae1f", "0f77", "9b d9c0", "0fc307"])
@pytest.mark.parametrize("budget", [1, 50])
def test_what_saves_the_x87_and_sse_is_not_there_after_a_task_switch(text: str, budget: int) -> None:
    cr0 = state.CR0_PE | state.CR0_PG | state.CR0_NE | state.CR0_MP
    code = bytes.fromhex(text) + b"\xeb\xfe"
    available = text == "0fc307"  # MOVNTI is of general registers
    for ts in (0, state.CR0_TS):
        after = run(both(code, RDI=_OTHER, CR0=cr0 | ts, FCW=0x37F, MXCSR=0x1F80, FTW=0xFFFF), budget)
        assert (after[state.HALT] == state.SHUTDOWN) == (ts != 0 and not available)


def test_code_that_python_has_written_over_is_seen_after_native_code_was_there() -> None:
    # enter 0, 0; jmp rdi; mov rsp, rsi; mov rbp, rdx; enter 0, 0; jmp rdi: ENTER is done in Python. The first one
    # writes to a page without code, the second one writes over what was executed there since.
    code = bytes.fromhex("c8000000 ffe7 4889f4 4889d5 c8000000 ffe7")
    new = int.from_bytes(bytes.fromhex("48ffc3 ebfe 909090"), "little")  # inc rbx; jmp .
    boards = both(code, RDI=_OTHER, RSP=_OTHER + 0x108, RSI=_OTHER + 8, RDX=new, RCX=_CODE + 6)
    for board in boards:
        board.write(_OTHER, bytes.fromhex("48ffc0 ffe1"))  # inc rax; jmp rcx
    after = run(boards, 50)
    assert (after[state.RAX], after[state.RBX]) == (1, 1)


@pytest.mark.parametrize("code", ["0f2305", "0f2104", "0f2344"])
def test_moves_of_debug_registers_have_three_bytes_at_the_end_of_memory_too(code: str) -> None:
    # mod says that there is a displacement, but nobody listens.
    after = run(both(bytes.fromhex(code), _END - 3), 1)
    assert (after[state.RIP], after[state.HALT]) == (_END, 0)


def test_a_page_is_accessed_when_an_instruction_gets_there() -> None:
    # nop; mov eax, imm32, of which two bytes are in the next page.
    for budget, accessed in ((1, False), (2, True), (50, True)):
        boards = both(bytes.fromhex("90 b811111111 ebfe"), _CODE + 0xFFC)
        run(boards, budget)
        (entry,) = struct.unpack("<Q", boards[0].read(TABLES + 0x3000 + ((_CODE >> 12) + 1) * 8, 8))
        assert bool(entry & 1 << 5) == accessed


@pytest.mark.parametrize("make", [PortableVcpu, lambda bus: native().create_vcpu(bus)], ids=["portable", "native"])
def test_a_change_of_cr8_is_told_behind_its_instruction(make: Callable[[Bus], PortableVcpu]) -> None:
    board = Board(make)
    slots = long_mode(board.tables({number << 12: number << 12 for number in range(0x100)}))
    slots[state.RIP], slots[state.RAX], slots[state.RBX] = 0x20000, 5, 7
    # mov rax, cr8; the same again; mov rbx, cr8; nop; mov cr8, rcx; jmp .
    board.write(0x20000, bytes.fromhex("440f22c0 440f22c0 440f22c3 90 440f20c1 ebfe"))
    board.cpu.set_state(slots)
    told: list[tuple[int, int]] = []
    board.cpu.task_priority_changed = lambda value: told.append((value, board.cpu.executed))
    board.cpu.run(1000)
    assert told == [(5, 1), (7, 3)]
    board.cpu.set_task_priority(3)
    board.cpu.run(1000)
    assert told == [(5, 1), (7, 3)]
    assert board.cpu.get_state()[state.CR8] == 3


@pytest.mark.parametrize("make", [PortableVcpu, lambda bus: native().create_vcpu(bus)], ids=["portable", "native"])
def test_a_change_of_cr8_is_told_before_the_processor_stops(make: Callable[[Bus], PortableVcpu]) -> None:
    board = Board(make)
    slots = long_mode(board.tables({number << 12: number << 12 for number in range(0x100)}))
    slots[state.RIP], slots[state.RAX] = 0x20000, 5
    board.write(0x20000, bytes.fromhex("440f22c0 ebfe"))  # mov cr8, rax; jmp .
    board.cpu.set_state(slots)
    told: list[int] = []
    board.cpu.task_priority_changed = told.append
    board.cpu.run(1)
    assert told == [5]
