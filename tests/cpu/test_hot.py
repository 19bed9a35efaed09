"""Blocks that are hot do what portable code does, whenever they became code and wherever they are left."""

from __future__ import annotations

import gc
import random
import struct
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from blockkit.cpu import state
from blockkit.cpu.isa.decode import Instruction, decode
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.portable.vcpu import PortableVcpu
from blockkit.cpu.sem.table import ENDS, is_string
from tests.cpu.machine import CODE_64, Board, long_mode
from tests.cpu.programs import instruction
from tests.cpu.test_native import native

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cpu.machine import Bus

pytestmark = [pytest.mark.guest, pytest.mark.skipif(find_spec("llvmlite") is None, reason="needs llvmlite")]

SEEDS = range(24)
#: What may fault wherever its memory is, or moves the stack.
_NOT_HERE = frozenset("HLT DIV IDIV BT FLD FST FSTP FILD FISTP MOVAPS MOVDQA XORPS PUSH POP LEAVE".split())
_ALIGNED = frozenset("POR PXOR PAND PADDD PADDQ".split())
_STRANGE = {Where.SEGMENT, Where.CONTROL, Where.DEBUG, Where.OFFSET}
#: The stack, what memory is near to, its index, and the counter.
_KEPT = {state.RSP, state.RSI, state.RDI, 9, 15}
_CODE, _DATA, _PAGES = 0x20000, 0x40000, 0x100


def _body(rng: random.Random) -> bytes:
    """Return random instructions that stencils exist for, whose memory is near RSI and RDI."""
    from blockkit.cpu.jit.stencils import HOT

    code = b""
    wanted = rng.randrange(3, 9)
    while wanted:
        made = instruction(rng, 64, _NOT_HERE)
        found = decode(made, 64)
        if HOT.isdisjoint(found.form.names) or found.name in ENDS or found.lock:
            continue
        strange = found.is_memory and found.name in _ALIGNED
        if strange or is_string(found.form) or any(operand.where in _STRANGE for operand in found.form.operands):
            continue
        used = {found.reg if found.form.modrm else 0} | (set() if found.is_memory else {found.rm})
        if used & _KEPT or (found.is_memory and found.name not in ("LEA", "NOP") and not _is_near(found)):
            continue
        code += made
        wanted -= 1
    return code


def _is_near(found: Instruction) -> bool:
    return found.base in (6, 7) and found.index in (None, 9) and found.mod in (0, 1) and found.address_size == 8


def _loops(rng: random.Random) -> bytes:
    """Return loops, one after the other, the last of which goes on with the first."""
    code = b""
    for _ in range(5):
        # mov $turns, %r15d; 1: mov $data, %esi; mov $data, %edi; mov $small, %r9d; ...; call 2f; dec %r15d; jne 1b
        start = bytes.fromhex("41bf") + struct.pack("<I", rng.randrange(1, 150))
        turn = b"\xbe" + struct.pack("<I", _DATA + rng.randrange(0x1F00))
        turn += b"\xbf" + struct.pack("<I", _DATA + 0xFF0 + rng.randrange(32))
        turn += bytes.fromhex("41b9") + struct.pack("<I", rng.randrange(64))
        turn += _body(rng)
        after = b"\x41\xff\xcf" if rng.random() < 0.5 else b"\x41\x83\xef\x01"
        called = _body(rng) + b"\xc3"
        turn += b"\xe8" + struct.pack("<i", len(after) + 6 + 5) + after
        turn += b"\x0f\x85" + struct.pack("<i", -len(turn) - 6)
        code += start + turn + b"\xe9" + struct.pack("<i", len(called)) + called
    return code + b"\xe9" + struct.pack("<i", -len(code) - 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_loops_are_the_same(seed: int, eager: list[int]) -> None:
    rng = random.Random(seed)
    registers = {number: rng.getrandbits(64) for number in range(16)} | {state.RSP: 0x50000, state.MXCSR: 0x1FA0}
    both = boards(_loops(rng), registers, (PortableVcpu, native().create_vcpu))
    for board in both:
        board.write(_DATA, random.Random(seed).randbytes(0x4000))
    for _ in range(150):
        agree(both, rng.choice((1, 2, 7, 40, 77, 111, 333)))
    assert bytes(both[0].bus.ram) == bytes(both[1].bus.ram)
    assert both[0].cpu.slots[state.HALT] == 0
    assert sum(eager) > 40


def boards(code: bytes, registers: dict[int, int], makers: tuple[Callable[[Bus], PortableVcpu], ...]) -> list[Board]:
    """Return machines in 64-bit mode that begin with ``code``."""
    found = []
    for make in makers:
        board = Board(make)
        slots = long_mode(board.tables({number << 12: number << 12 for number in range(_PAGES)}))
        slots[state.RIP] = _CODE
        for number, value in registers.items():
            slots[number] = value
        board.write(_CODE, code)
        board.cpu.set_state(slots)
        found.append(board)
    return found


def agree(both: list[Board], budget: int) -> None:
    for board in both:
        board.cpu.run(budget)
    mine, theirs = (board.cpu.get_state()[: state.CR8] for board in both)
    assert mine == theirs


#: 1: add (%rsi), %rax; add $8, %rsi; and $0x3fff, %rsi; or $0x40000, %rsi; dec %rcx; jne 1b; jmp .
_SUM = bytes.fromhex("480306 4883c608 4881e6ff3f0000 4881ce00000400 48ffc9 75e6 ebfe")


def test_a_budget_ends_after_any_instruction_of_hot_code(eager: list[int]) -> None:
    both = boards(_SUM, {state.RCX: 5000, state.RSI: _DATA}, (PortableVcpu, native().create_vcpu))
    for board in both:
        board.write(_DATA, struct.pack("<2048Q", *range(7, 2055)))
    agree(both, 400)
    assert max(eager) >= 6
    for budget in range(1, 60):
        agree(both, budget)
        agree(both, 101)


#: 1: inc %eax; movb $0x90, (%rdi); add %ebx, %eax; dec %rcx; jne 1b: what RDI points to is written in each turn.
_WRITES = bytes.fromhex("ffc0 c60790 01d8 48ffc9 75f4 ebfe")


def test_hot_code_that_is_written_is_seen_at_once(eager: list[int]) -> None:
    both = boards(_WRITES, {state.RCX: 300, state.RDI: _DATA, state.RBX: 3}, (PortableVcpu, native().create_vcpu))
    agree(both, 700)
    assert max(eager) >= 5
    for board in both:
        # From now on it writes NOPs over its own addition: first over one byte, then the other.
        board.cpu.slots[state.RDI] = _CODE + 5
    agree(both, 52)
    for board in both:
        board.cpu.slots[state.RDI] = _CODE + 6
    agree(both, 700)


def test_faults_in_hot_code_are_at_their_instruction(eager: list[int]) -> None:
    # 1: add $0x7f, %bl; mov (%rsi), %rdx; add $8, %rsi; dec %rcx; jne 1b: it walks off the last page, and what the
    # first addition made of the flags is there, though the second would have made it unseen.
    code = bytes.fromhex("80c37f 488b16 4883c608 48ffc9 75f1 ebfe")
    start = (_PAGES << 12) - 0x1F00
    both = boards(code, {state.RCX: 100_000, state.RSI: start}, (PortableVcpu, native().create_vcpu))
    for board in both:
        # An IDT for #PF, whose handler halts.
        gate = struct.pack("<HHHHQ", 0x2000, 16, 0x8E00, 2, 0)
        board.write(0x3000, bytes(14 * 16) + gate)
        board.write(0x22000, b"\xf4")
        board.write(0x3800, struct.pack("<QQQ", 0, 0, 0xFFFF | 0xF << 48 | (CODE_64 & 0xF0FF) << 40))
        board.cpu.slots[state.IDT_BASE], board.cpu.slots[state.IDT_LIMIT] = 0x3000, 0xFFF
        board.cpu.slots[state.GDT_BASE], board.cpu.slots[state.GDT_LIMIT] = 0x3800, 0xFFF
        board.cpu.slots[state.RSP] = 0x50000
    agree(both, 3000)
    assert max(eager) >= 5
    agree(both, 3000)
    cpu = both[0].cpu
    assert (cpu.slots[state.HALT], cpu.slots[state.CR2]) == (state.HALTED, _PAGES << 12)
    frame = [struct.unpack("<6Q", board.read(board.cpu.slots[state.RSP], 48)) for board in both]
    assert frame[0] == frame[1]
    assert frame[0][1] == _CODE + 3


@pytest.mark.parametrize("scale", range(4))
def test_an_index_is_scaled(scale: int, eager: list[int]) -> None:
    # 1: add (%rsi, %rcx, scale), %rax; dec %rcx; jne 1b
    code = bytes([0x48, 0x03, 0x04, scale << 6 | 1 << 3 | 6]) + bytes.fromhex("48ffc9 75f7 ebfe")
    both = boards(code, {state.RCX: 900, state.RSI: _DATA}, (PortableVcpu, native().create_vcpu))
    for board in both:
        board.write(_DATA, random.Random(1).randbytes(8000))
    agree(both, 3000)
    assert max(eager) >= 3


def test_a_block_that_is_cut_for_its_length_leaves_its_flags(eager: list[int]) -> None:
    # 1: add %rbx, %rax, fifty times; jmp 1b
    code = bytes.fromhex("4801d8") * 50
    code += b"\xe9" + struct.pack("<i", -len(code) - 5)
    both = boards(code, {state.RBX: 0x123456789}, (PortableVcpu, native().create_vcpu))
    for budget in range(500, 600):
        agree(both, budget)
    assert max(eager) >= 30


def test_processors_that_are_gone_make_room(eager: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    gc.disable()
    try:
        # They refer to themselves, so they are not gone before somebody looks for them.
        for _ in range(40):
            boards(_SUM, {state.RCX: 5000, state.RSI: _DATA}, (native().create_vcpu,))[0].cpu.run(400)
    finally:
        gc.enable()
    assert len(eager) == 40
