"""Instructions that work on flags, decimals and pairs of registers do what the host and Unicorn do."""

from __future__ import annotations

import random
from functools import cache
from typing import Final

import pytest

from blockkit.cpu import state
from blockkit.cpu.isa.decode import decode
from tests.cpu.cases import DATA, Case
from tests.cpu.host import MEMORY, Host, available
from tests.cpu.machine import PAGE, Board, LongBoard, Observed, long_mode, protected_mode, real_mode
from tests.cpu.worlds import WORLDS, both

CODE: Final = 0x1000


@pytest.fixture(scope="module")
def host() -> Host:
    if not available():
        pytest.skip("this machine executes no x86-64 code")
    return Host()


@cache
def long_board(data: int) -> LongBoard:
    return LongBoard(data)


@pytest.mark.parametrize(
    "text",
    [
        *("9f", "9e", "d7", "0fc70e", "480fc70e", "f00fc70e", "f0480fc70e", "0f18 0e", "0f0d 0e", "0fae 3e"),
        *("f20f38f0c2", "f20f38f0c6", "f2400f38f0c6", "66f20f38f1c2", "f20f38f1c2", "f2480f38f1c2", "f2480f38f0c2"),
        *("f20f38f016", "f20f38f116", "f2480f38f116", "f24d0f38f1c2"),
    ],
)
def test_it_does_what_this_processor_does(host: Host, text: str) -> None:
    rng = random.Random(text)
    code = bytes.fromhex(text)
    for _ in range(100):
        data = rng.randbytes(MEMORY)
        registers = [rng.getrandbits(64) for _ in range(16)]
        registers[state.RSP] = 0
        registers[state.RBX] = host.address + 1000 if text == "d7" else registers[state.RBX]
        registers[state.RSI] = host.address + 1024 + 16 * rng.randrange(50)
        at = registers[state.RSI] - host.address
        if rng.random() < 0.5 and "c70e" in text:
            # What is compared is the same.
            half = 8 if "48" in text else 4
            registers[state.RAX] = int.from_bytes(data[at : at + half], "little") | (rng.getrandbits(32) << 32) * (
                half < 8
            )
            registers[state.RDX] = int.from_bytes(data[at + half : at + 2 * half], "little")
        flags = rng.getrandbits(12) & state.ARITHMETIC | state.ALWAYS
        board = long_board(host.address)
        cpu = board.begin(data, code, registers, flags)
        cpu.run(1)
        assert cpu.fault is None
        after, flags_after, data_after = host.run(code, registers, flags, data)
        after[state.RSP] = 0
        assert [hex(number) for number in cpu.registers] == [hex(number) for number in after]
        assert (cpu.flags ^ flags_after) & state.ARITHMETIC == 0
        assert board.data == data_after


#: Flags that the SDM leaves undefined.
_UNDEFINED: Final = {
    **dict.fromkeys(("37", "3f"), state.OF | state.SF | state.ZF | state.PF),
    **dict.fromkeys(("27", "2f"), state.OF),
    **dict.fromkeys(("d40a", "d410", "d403", "d50a", "d5ff"), state.OF | state.AF | state.CF),
}


@pytest.mark.parametrize("world", ["real", "code 32, stack 32"])
@pytest.mark.parametrize("text", [*_UNDEFINED, "d6", "9e", "9f", "d7", "67d7", "64d7"])
def test_it_does_what_unicorn_does(world: str, text: str) -> None:
    rng = random.Random(text + world)
    here = WORLDS[world]
    ours, theirs = both(world)
    code = bytes.fromhex(text)
    data = rng.randbytes(DATA)
    for value in range(0, 0x10000, 397):
        registers = [rng.getrandbits(32) for _ in range(8)]
        registers[state.RAX] = registers[state.RAX] & 0xFFFF0000 | value
        found = decode(code, here.mode)
        base = here.bases[state.FS if "64" in text else state.DS]
        mask = (1 << 8 * found.address_size) - 1
        where = here.data + 100 - base & 0xFFFFFFFF
        if "d7" in text and where > mask - 300:
            pytest.skip("the data cannot be addressed")
        registers[state.RBX] = where if mask != 0xFFFF else registers[state.RBX] & 0xFFFF0000 | where
        flags = rng.getrandbits(12) & state.ARITHMETIC | state.ALWAYS
        made = Case(found, code, registers, flags)
        cpu = ours.run(made, data)
        expected = theirs.run(made, data)
        assert expected is not None
        after, _, flags_after, _ = expected
        assert cpu.fault is None
        assert [hex(number) for number in cpu.registers[:8]] == [hex(number) for number in after], hex(value)
        assert (cpu.flags ^ flags_after) & state.ARITHMETIC & ~_UNDEFINED.get(text, 0) == 0, (hex(value), hex(flags))


def start(board: Board, slots: list[int], code: str, flags: int = state.ALWAYS, **registers: int) -> Observed:
    """Begin with code at CODE of the code segment."""
    board.write(slots[state.SEGMENT_BASES + state.CS] + CODE, bytes.fromhex(code))
    numbers = [registers.get(name, 0) for name in state.REGISTERS]
    board.start(slots, numbers, CODE, flags)
    assert isinstance(board.cpu, Observed)
    return board.cpu


def test_digits_of_base_0_are_a_division_by_zero() -> None:
    cpu = start(Board(), real_mode([0] * 6), "d400", rax=0x1234)
    cpu.run(1)
    assert cpu.fault is not None
    assert cpu.fault.vector == state.DIVIDE_ERROR
    assert cpu.slots[state.RAX] == 0x1234


@pytest.mark.parametrize(("code", "address", "vector"), [
    ("480fc70e", 0x8008, state.PROTECTION), ("f0480fc70e", 0x8001, state.PROTECTION), ("0fc70e", 0x8001, None),
    ("480fc70e", 0xA000, state.PAGE_FAULT), ("0fae3e", 0xA000, state.PAGE_FAULT), ("0f180e", 0xA000, None),
    ("0f0d0e", 0xA000, None), ("0fc7ce", 0x8000, state.UNDEFINED),
])  # fmt: skip
def test_memory_faults(code: str, address: int, vector: int | None) -> None:
    board = Board()
    slots = long_mode(board.tables({CODE: CODE, 0x8000: 0x8000}))
    cpu = start(board, slots, code, rsi=address)
    cpu.run(1)
    assert (cpu.fault and cpu.fault.vector) == vector


def test_a_comparison_writes_where_it_is_different() -> None:
    board = Board()
    tables = board.tables({CODE: CODE, 0x8000: 0x8000})
    # The page is for reading only.
    entry = tables + 3 * PAGE + 8 * 8
    board.write(entry, (0x8001).to_bytes(8, "little"))
    slots = long_mode(tables)
    slots[state.CR0] |= state.CR0_WP
    cpu = start(board, slots, "0fc70e", rsi=0x8000, rax=1)
    cpu.run(1)
    assert cpu.fault is not None
    assert cpu.fault.vector == state.PAGE_FAULT
    assert cpu.slots[state.RAX] == 1


def test_a_comparison_needs_a_segment_to_write_to() -> None:
    slots = protected_mode()
    slots[state.SEGMENT_ATTRIBUTES + state.DS] &= ~2
    slots[state.MODE] &= ~state.MODE_FLAT
    cpu = start(Board(), slots, "0fc70e", rsi=0x8000)
    cpu.run(1)
    assert cpu.fault is not None
    assert (cpu.fault.vector, cpu.fault.error) == (state.PROTECTION, 0)


@pytest.mark.parametrize("code", ["0f0b", "0fffc0", "0fb9c0", "0f01c8", "0f01c9", "0faa", "0f01d0"])
def test_what_there_is_not_is_undefined(code: str) -> None:
    cpu = start(Board(), protected_mode(), code)
    cpu.run(1)
    assert cpu.fault is not None
    assert cpu.fault.vector == state.UNDEFINED
    assert cpu.slots[state.RIP] == CODE


def test_random_numbers_are_the_same_ones_after_each_start() -> None:
    found = []
    for _ in range(2):
        board = Board()
        slots = long_mode(board.tables({CODE: CODE}))
        cpu = start(
            board, slots, "480fc7f0 0fc7f3 660fc7f1", state.ALWAYS | state.ZF | state.OF, rbx=~0 & (1 << 64) - 1
        )
        cpu.run(3)
        assert cpu.flags == state.ALWAYS | state.CF
        found.append(cpu.registers[:4])
    assert found[0] == found[1]
    assert found[0][state.RAX] >> 32
    assert found[0][state.RBX] >> 32 == 0
    assert found[0][state.RCX] >> 16 == 0
    assert len(set(found[0][:2] + found[0][3:])) == 3
