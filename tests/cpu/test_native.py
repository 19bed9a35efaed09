"""Native code does what portable code does, instruction for instruction."""

from __future__ import annotations

import random
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from blockkit.cpu import state
from blockkit.cpu.portable.vcpu import PortableVcpu
from tests.cpu.machine import CODE_16, CODE_32, Board, long_mode, protected_mode, real_mode
from tests.cpu.programs import MODES, run_both

if TYPE_CHECKING:
    from blockkit.cpu.jit import JitAccelerator

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
