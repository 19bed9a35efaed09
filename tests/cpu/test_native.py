"""Native code does what portable code does, instruction for instruction."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from blockkit.cpu import state
from blockkit.cpu.portable.vcpu import PortableVcpu
from tests.cpu.machine import Board, long_mode
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
