"""The state of the x87 in memory, and its exceptions as faults."""

from __future__ import annotations

import random
import struct
from typing import Final

import pytest

from blockkit.cpu import state
from tests.cpu.host import MEMORY, Host, available
from tests.cpu.machine import Board, LongBoard, Observed, protected_mode, real_mode
from tests.cpu.stacks import Stack

needs_host = pytest.mark.skipif(not available(), reason="the oracle is an x86-64 processor")

_DATA: Final = 0x20000
#: FRSTOR [RDI]; FNSAVE [RDI + 0x300].
_RESTORE, _SAVE = "dd27", "ddb700030000"
#: Where an image of any kind is that an instruction reads, and one that it writes.
_AREA: Final = 0x200


def _ours(code: bytes, memory: bytes, count: int) -> tuple[Observed, bytes]:
    board = LongBoard(_DATA)
    cpu = board.begin(memory, code, [0] * 7 + [_DATA] + [0] * 8)
    cpu.run(count)
    return cpu, board.data


def _given(chance: random.Random, *, calm: bool = False) -> Stack:
    numbers = [
        (
            chance.choice((0, 0x3FFF, 0x7FFF, chance.getrandbits(16))),
            chance.choice((0, 1 << 63, chance.getrandbits(64))),
        )
        for _ in range(8)
    ]
    control = 0x340 | chance.getrandbits(6)
    status = chance.getrandbits(16)
    # FRSTOR is not asked for what waits, which the next instruction would raise.
    return Stack(control | (status & 0x3F if calm else 0), status, chance.getrandbits(8), tuple(numbers))


def _without(image: bytes, *ranges: tuple[int, int]) -> bytes:
    """Return memory with some parts zeroed: what was executed and where, which is elsewhere on the host."""
    found = bytearray(image)
    for start, end in ranges:
        found[start:end] = bytes(end - start)
    return bytes(found)


@needs_host
@pytest.mark.parametrize(
    ("code", "hidden"),
    [
        ("d9b7", (12, 28)),  # FNSTENV
        ("66d9b7", (6, 14)),
        ("66ddb7", (6, 14)),  # FNSAVE with words
        ("0faeb7"[:4] + "87", (6, 32)),  # FXSAVE, up to the bits of MXCSR
    ],
)
def test_areas_are_written_as_the_processor_does(code: str, hidden: tuple[int, int]) -> None:
    host, chance = Host(), random.Random(code)
    for _ in range(40):
        memory = _given(chance).image().ljust(MEMORY, b"\x55")
        whole = bytes.fromhex(f"{_RESTORE}{code}00020000{_SAVE}")
        registers = [0] * 7 + [host.address] + [0] * 8
        theirs = host.run(whole, registers, 2, memory)[2]
        cpu, mine = _ours(whole, memory, 3)
        assert cpu.fault is None
        # XMM registers are not what they are here.
        ranges = (
            (_AREA + hidden[0], _AREA + hidden[1]),
            (_AREA + 160, 0x300),
            (0x300 + 12, 0x300 + 28),
            (0x300 + 108, MEMORY),
        )
        assert _without(mine, *ranges) == _without(theirs, *ranges)


@needs_host
@pytest.mark.parametrize("code", ["d9a7", "66d9a7", "dda7", "66dda7", "0fae8f"])
def test_areas_are_read_as_the_processor_does(code: str) -> None:
    host, chance = Host(), random.Random(code)
    for _ in range(40):
        area = bytearray(_given(chance).image().ljust(512, b"\0"))
        if code.startswith("66"):
            words = struct.unpack_from("<7I", area)
            area[:] = struct.pack("<7H", *(word & 0xFFFF for word in words)) + area[28:].ljust(498, b"\0")
        elif code == "0fae8f":
            area[:32] = struct.pack("<HHBxHQQII", 0x340 | chance.getrandbits(6), chance.getrandbits(16),
                                    chance.getrandbits(8), 0, 0, 0, 0x1F80, 0)  # fmt: skip
        memory = _given(chance, calm=True).image().ljust(_AREA, b"\0") + bytes(area).ljust(MEMORY - _AREA, b"\0")
        whole = bytes.fromhex(f"{_RESTORE}{code}00020000{_SAVE.replace('03', '05')}")
        registers = [0] * 7 + [host.address] + [0] * 8
        theirs = host.run(whole, registers, 2, memory)[2]
        cpu, mine = _ours(whole, memory, 3)
        assert cpu.fault is None
        ranges = ((0x500 + 12, 0x500 + 28),)
        assert _without(mine, *ranges) == _without(theirs, *ranges)


def test_fxsave_and_fxrstor_keep_everything() -> None:
    chance = random.Random(1)
    board = LongBoard(_DATA)
    code = bytes.fromhex("480fae8700020000 480fae8f00020000".replace(" ", ""))
    cpu = board.begin(bytes(MEMORY), code, [0] * 7 + [_DATA] + [0] * 8)
    slots = cpu.slots
    for slot in (*range(state.XMM, state.XMM + 32), *range(state.X87, state.X87 + 16, 2), state.FIP, state.FDP):
        slots[slot] = chance.getrandbits(64)
    for slot in range(state.X87 + 1, state.X87 + 16, 2):
        slots[slot] = chance.getrandbits(16)
    slots[state.FCW] = 0x27F
    slots[state.FTW], slots[state.FSW], slots[state.FOP], slots[state.MXCSR] = 0xC3F0, 0x3800, 0x123, 0xFFBF
    before = list(slots)
    cpu.run(1)
    for slot in range(state.X87, state.XMM + 32):
        if slot not in (state.FCS, state.FDS):
            slots[slot] = 0
    cpu.run(1)
    assert cpu.fault is None
    assert list(slots[state.X87 : state.XMM + 32]) == before[state.X87 : state.XMM + 32]


@pytest.mark.parametrize("code", ["0fae8701000000", "0fae8f08000000"])
def test_an_area_of_fxsave_that_is_not_aligned_faults(code: str) -> None:
    cpu, _ = _ours(bytes.fromhex(code), bytes(MEMORY), 1)
    assert cpu.fault is not None
    assert cpu.fault.vector == state.PROTECTION


def test_fxrstor_takes_no_unknown_bits_of_mxcsr() -> None:
    memory = bytearray(MEMORY)
    struct.pack_into("<I", memory, _AREA + 24, 0x11F80)
    cpu, _ = _ours(bytes.fromhex("0fae8f00020000"), bytes(memory), 1)
    assert cpu.fault is not None
    assert cpu.fault.vector == state.PROTECTION
    assert cpu.slots[state.MXCSR] == 0


def test_an_unmasked_exception_is_raised_by_the_next_instruction_that_waits() -> None:
    # FLDZ; FLD1; FDIV ST,ST(1), which divides by zero; FNSTSW AX; FLD1.
    code = bytes.fromhex("dbe3 d92f d9ee d9e8 d8f1 dfe0 d9e8".replace(" ", ""))
    cpu, _ = _ours(code, struct.pack("<H", 0x37B).ljust(MEMORY, b"\0"), 6)
    assert cpu.fault is None
    assert cpu.registers[0] & 0xFFFF == 0xB084
    assert cpu.slots[state.FIP] == LongBoard.PAGE_OF_CODE + 4096 - 6
    assert cpu.slots[state.FOP] == 0x0F1
    cpu.run(1)
    assert cpu.fault is not None
    assert cpu.fault.vector == state.MATH_FAULT
    assert cpu.slots[state.FSW] == 0xB084


def test_wait_and_others_wait() -> None:
    # FNSTCW and FNCLEX do not.
    for code, waits in (("9b", 1), ("d92f", 1), ("d927", 1), ("dd27", 1), ("d93f", 0), ("dbe2", 0), ("d937", 0)):
        board = LongBoard(_DATA)
        cpu = board.begin(bytes(MEMORY), bytes.fromhex(code), [0] * 7 + [_DATA] + [0] * 8)
        cpu.slots[state.FCW], cpu.slots[state.FSW] = 0x37B, 0x8084
        cpu.run(1)
        assert (cpu.fault is not None and cpu.fault.vector == state.MATH_FAULT) == bool(waits), code


@pytest.mark.parametrize(("bits", "vector"), [(state.CR0_EM, 7), (state.CR0_TS, 7), (state.CR0_TS | state.CR0_MP, 7)])
def test_without_an_x87_its_instructions_raise_nm(bits: int, vector: int) -> None:
    board = Board()
    board.write(0x1000, bytes.fromhex("d9e8"))
    slots = protected_mode()
    slots[state.CR0] |= bits
    slots[state.MODE] |= state.MODE_NO_X87 | state.MODE_NO_SSE
    board.start(slots, [0] * 8, 0x1000)
    assert isinstance(board.cpu, Observed)
    board.cpu.run(1)
    assert board.cpu.fault is not None
    assert board.cpu.fault.vector == vector


def test_wait_asks_for_mp_and_ts() -> None:
    for bits, faults in ((0, 0), (state.CR0_TS, 0), (state.CR0_MP, 0), (state.CR0_TS | state.CR0_MP, 1)):
        board = Board()
        board.write(0x1000, b"\x9b\x90")
        slots = protected_mode()
        slots[state.CR0] |= bits
        if bits & state.CR0_TS:
            slots[state.MODE] |= state.MODE_NO_X87 | state.MODE_NO_SSE
        board.start(slots, [0] * 8, 0x1000)
        assert isinstance(board.cpu, Observed)
        board.cpu.run(1)
        assert (board.cpu.fault is not None) == bool(faults), bits


def test_real_mode_has_linear_addresses_in_two_parts() -> None:
    board = Board()
    # FADD dword [BX]; FNSTENV [BX + 64]; o32 FNSTENV [BX + 128]; FLDENV [BX + 64]; FNSTENV [BX + 192]
    code = bytes.fromhex("d807 d97740 66d9b78000 d96740 d9b7c000".replace(" ", ""))
    board.write(0x12345, code)
    slots = real_mode([0x2000] * 1 + [0x1230] + [0x2000] * 4)
    board.start(slots, [0, 0, 0, 0x100, 0, 0, 0, 0], 0x45)
    assert isinstance(board.cpu, Observed)
    board.cpu.slots[state.FCW], board.cpu.slots[state.FTW] = 0x37F, 0x5555
    board.cpu.slots[state.FOP] = 0x123
    board.cpu.run(5)
    assert board.cpu.fault is None
    assert struct.unpack("<7H", board.read(0x20140, 14)) == (0x37F, 0, 0x5555, 0x2345, 0x1123, 0x0100, 0x2000)
    wide = struct.unpack("<7I", board.read(0x20180, 28))
    assert wide == (0xFFFF037F, 0xFFFF0000, 0xFFFF5555, 0x2345, 0x1123, 0x0100, 0x2000)
    assert board.read(0x201C0, 14) == board.read(0x20140, 14)


def test_protected_mode_has_selectors() -> None:
    board = Board()
    board.write(0x1000, bytes.fromhex("d803 d97340 66d9b380000000".replace(" ", "")))
    slots = protected_mode()
    board.start(slots, [0, 0, 0, 0x20000, 0, 0, 0, 0], 0x1000)
    assert isinstance(board.cpu, Observed)
    board.cpu.slots[state.FCW], board.cpu.slots[state.FTW] = 0x37F, 0x5555
    board.cpu.run(3)
    assert board.cpu.fault is None
    code, data = slots[state.SELECTORS + state.CS], slots[state.SELECTORS + state.DS]
    wide = struct.unpack("<7I", board.read(0x20040, 28))
    assert wide == (0xFFFF037F, 0xFFFF0000, 0xFFFF5555, 0x1000, code, 0x20000, 0xFFFF0000 | data)
    assert struct.unpack("<7H", board.read(0x20080, 14)) == (0x37F, 0, 0x5555, 0x1000, code, 0, data)
