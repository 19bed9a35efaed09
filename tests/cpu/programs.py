"""Random programs of a whole system: they fault, are interrupted, change modes and themselves, and go on."""

from __future__ import annotations

import random
import struct
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.accelerator import Stop
from blockkit.cpu.isa.decode import DecodeError, decode
from blockkit.cpu.isa.disassembly import listing
from blockkit.cpu.isa.forms import BASELINE, forms
from blockkit.cpu.sem.table import semantics
from tests.cpu.machine import (
    CODE_32,
    CODE_64,
    DATA_32,
    RAM,
    TABLES,
    Access,
    Board,
    long_mode,
    protected_mode,
    real_mode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.cpu.isa.forms import Form
    from blockkit.cpu.portable.vcpu import PortableVcpu
    from tests.cpu.machine import Bus

MODES: Final = (16, 32, 64)
_CODE, _SIZE = 0x20000, 2000
_IDT, _GDT = 0x10000, 0x11000
_OVERRIDES: Final = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
#: Slots that say nothing of the processor.
UNTOLD: Final = frozenset(
    (state.ATTENTION, state.FAULT_VECTOR, state.FAULT_ERROR, *range(state.OWN, state.OWN + 8), *range(170, 179))
)


class Program(NamedTuple):
    """What begins.

    Attributes:
        slots: The state.
        memory: What is in memory, by address.
    """

    slots: list[int]
    memory: dict[int, bytes]


@cache
def _forms(mode: int) -> tuple[Form, ...]:
    return tuple(form for form in forms() if not form.feature or form.feature in BASELINE)


def instruction(rng: random.Random, mode: int, without: frozenset[str]) -> bytes:
    """Return the bytes of one instruction that is described."""
    while True:
        form = rng.choice(_forms(mode))
        data = b"\x67" if rng.random() < 0.1 else b""
        data += bytes([rng.choice(_OVERRIDES)]) if rng.random() < 0.1 else b""
        data += b"\xf0" if rng.random() < 0.05 else b""
        data += bytes([rng.choice((0xF2, 0xF3))]) if rng.random() < 0.1 else b""
        data += bytes([form.prefix]) if form.prefix else b""
        data += rng.choice((b"", b"", b"\x66"))
        data += bytes([0x40 | rng.randrange(16)]) if mode == 64 and rng.random() < 0.5 else b""
        data += form.opcode.to_bytes(max(1, (form.opcode.bit_length() + 7) // 8), "big")
        modrm = rng.choice((0xC0, 0xC0, 0x80, 0x40, 0)) | rng.getrandbits(6)
        if form.reg is not None:
            modrm = modrm & 0xC7 | form.reg << 3
        if form.rm is not None:
            modrm = 0xC0 | modrm & 0x38 | form.rm
        data += bytes([modrm]) if form.modrm else b""
        data += bytes(rng.choice((0, 0, 1, 2, 4, 8, 0xFF, 0xFE, rng.getrandbits(8))) for _ in range(12))
        try:
            found = decode(data[:15], mode)
        except DecodeError:
            continue
        if semantics(found) is not None and found.name not in without:
            return data[: found.length]


def program(rng: random.Random, mode: int, without: frozenset[str] = frozenset(("HLT",))) -> Program:
    """Return a program whose exceptions are handled anywhere in its code.

    Args:
        rng: Where it comes from.
        mode: 16, 32 or 64.
        without: Mnemonics it has not.
    """
    slots, memory = {16: _real, 32: _protected, 64: _long}[mode](rng)
    code = b""
    while len(code) < _SIZE:
        code += instruction(rng, mode, without)
    noise = rng.randbytes(RAM // 4) * 4
    for number in range(16):
        if number != state.RSP:
            choice = (0x40000, 0x60000, 0x21000, 0x30FF8, 0x100000, rng.getrandbits(64), rng.getrandbits(16))
            slots[number] = rng.choice(choice) & (1 << (64 if mode == 64 else 32)) - 1
    state.set_rflags(slots, state.ALWAYS)
    slots[state.FCW], slots[state.FTW], slots[state.MXCSR] = 0x37F, 0xFFFF, 0x1F80
    return Program(slots, {0x1000: noise[0x1000:], **memory, _CODE: code})


def _handler(rng: random.Random) -> int:
    return rng.randrange(_SIZE // 2)


def _real(rng: random.Random) -> tuple[list[int], dict[int, bytes]]:
    slots = real_mode([0x1000, _CODE >> 4, 0x3000, 0x1000, 0x4000, 0x5000])
    slots[state.RIP], slots[state.RSP], slots[state.IDT_LIMIT] = 0, 0x8000, 0x3FF
    return slots, {0: b"".join(struct.pack("<HH", _handler(rng), _CODE >> 4) for _ in range(256))}


def _tables(slots: list[int], code: int, entry: int) -> bytes:
    """Point to a GDT of code and data, and to an IDT; return the GDT."""
    table = bytes(8)
    for number in range(6):
        attributes = code if number == 1 else DATA_32
        table += struct.pack("<Q", 0xFFFF | 0xF << 48 | (attributes & 0xF0FF) << 40)
    slots[state.GDT_BASE], slots[state.GDT_LIMIT] = _GDT, len(table) - 1
    slots[state.IDT_BASE], slots[state.IDT_LIMIT] = _IDT, 256 * entry - 1
    slots[state.RIP], slots[state.RSP] = _CODE, 0x50000
    return table


def _protected(rng: random.Random) -> tuple[list[int], dict[int, bytes]]:
    slots = protected_mode()
    table = _tables(slots, CODE_32, 8)
    gates = b""
    for _ in range(256):
        offset = _CODE + _handler(rng)
        gates += struct.pack("<HHHH", offset & 0xFFFF, 16, 0x8E00 | rng.choice((0, 0x100)), offset >> 16)
    return slots, {_GDT: table, _IDT: gates}


def _long(rng: random.Random) -> tuple[list[int], dict[int, bytes]]:
    board = Board()
    pages = {number << 12: number << 12 for number in range(RAM >> 12)}
    slots = long_mode(board.tables(pages | {RAM: 0x200000}))
    table = _tables(slots, CODE_64, 16)
    gates = b""
    for _ in range(256):
        offset = _CODE + _handler(rng)
        gates += struct.pack("<HHHHQ", offset & 0xFFFF, 16, 0x8E00 | rng.choice((0, 0x100)), offset >> 16, 0)
    return slots, {_GDT: table, _IDT: gates, TABLES: board.read(TABLES, RAM - TABLES)}


def answer(access: Access) -> int:
    what, address, size, value = access
    return (len(what) * 0x9E3779B97F4A7C15 ^ address * 0xBF58476D1CE4E5B9 ^ size * 77 ^ value) & (1 << 64) - 1


def _next(board: Board) -> list[str]:
    """Return the next instructions, where linear addresses are physical ones."""
    slots = board.cpu.slots
    mode = MODES[slots[state.MODE] & state.MODE_CODE]
    at = slots[state.RIP] + (0 if mode == 64 else slots[state.SEGMENT_BASES + state.CS])
    code = board.read(at, 75) if 0 <= at < RAM else b""
    return [line.text for line in islice(listing(code, mode, slots[state.RIP]), 5)]


def run_both(
    seed: int, mode: int, makers: Sequence[Callable[[Bus], PortableVcpu]], without: frozenset[str], steps: int = 60
) -> int:
    """Run a program on several processors, and see that all are the same after each of many short runs.

    Returns:
        How many instructions it had.
    """
    rng = random.Random(seed)
    made = program(rng, mode, without)
    boards = [Board(make) for make in makers]
    for board in boards:
        board.bus.answer = answer
        for address, data in made.memory.items():
            board.write(address, data[: RAM - address])
        board.cpu.set_state(list(made.slots))
        board.cpu.port_time = (0, 3, 300)[seed % 3]
    for step in range(steps):
        budget = rng.choice((1, 2, 3, 5, 17, 40, 100, 333))
        rip = boards[0].cpu.slots[state.RIP]
        before = {"seed": seed, "mode": mode, "step": step, "rip": hex(rip), "budget": budget, "code": _next(boards[0])}
        line = rng.random() < 0.1
        stops = []
        for board in boards:
            if line:
                board.bus.vectors += [0x20 + seed % 8] * 1000
            board.cpu.set_interrupt_line(line)
            stops.append(board.cpu.run(budget))
            board.bus.vectors.clear()
        states = [board.cpu.get_state() for board in boards]
        for other, stop in zip(states[1:], stops[1:], strict=True):
            assert stop is stops[0], before
            wrong = {
                number: (hex(a), hex(b))
                for number, (a, b) in enumerate(zip(states[0], other, strict=True))
                if a != b and number not in UNTOLD
            }
            assert not wrong, (before, wrong)
        for board in boards[1:]:
            assert board.bus.accesses == boards[0].bus.accesses, before
            if step % 10 == 9:
                assert bytes(board.bus.ram) == bytes(boards[0].bus.ram), before
        if stops[0] is not Stop.BUDGET:
            break
    return states[0][state.EXECUTED]
