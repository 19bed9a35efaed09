"""Segment registers and what looks at descriptors do what Unicorn and the SDM say."""

from __future__ import annotations

import random
import struct
from typing import Final

import pytest

from blockkit.cpu import state
from tests.amount import TIMES
from tests.cpu.descriptors import (
    CODE,
    CODES,
    DATAS,
    FREE,
    GDT,
    LOCAL,
    STACK,
    TASK,
    Guest,
    descriptor,
    tables,
)
from tests.cpu.levels import RANDOM, SEGMENTS, Case, OutsideError, ours, random_descriptor, random_selector, theirs
from tests.cpu.machine import Observed, real_mode

CASES: Final = 48 * TIMES
_POINTER: Final = 0x8800

#: Code by name; a selector is in AX, on the stack, and after the offset that EBX points to.
INSTRUCTIONS: Final = {
    **{f"MOV {name}": f"8e{0xC0 | number << 3:02x}" for number, name in enumerate(SEGMENTS) if name != "CS"},
    "POP ES": "07",
    "POP SS": "17",
    "POP DS": "1f",
    "POP FS": "0fa1",
    "POP GS": "660fa9",
    "LES": "c40b",
    "LDS": "c50b",
    "LSS": "0fb20b",
    "LFS": "0fb40b",
    "LGS": "660fb50b",
    "LAR": "0f02c8",
    "LAR 16": "660f02c8",
    "LSL": "0f03c8",
    "LSL 16": "660f030f",
    "LAR memory": "0f020f",
    "VERR": "0f00e0",
    "VERW": "0f00e8",
    "VERW memory": "0f002f",
    "ARPL": "63c8",
    "ARPL memory": "630f",
    "LLDT": "0f00d0",
    "LTR": "0f00d8",
    "LTR memory": "0f001f",
    "SLDT": "0f00c1",
    "STR": "660f00c9",
    "MOV from DS": "8cd9",
    "PUSH FS": "0fa0",
    "PUSH ES 16": "6606",
}
_PRIVILEGED: Final = ("LLDT", "LTR", "LTR memory")
#: Types of descriptors that some of them want.
_MADE: Final = {
    **dict.fromkeys(("MOV SS", "POP SS", "LSS"), (0x12, 0x13, 0x16, 0x17)),
    **dict.fromkeys(("LTR", "LTR memory"), (1, 3, 9, 9, 11)),
    "LLDT": (2,),
}


def random_case(rng: random.Random, name: str) -> Case:
    level = 0 if name in _PRIVILEGED and rng.random() < 0.8 else rng.randrange(4)
    entries = bytearray(tables() + b"".join(random_descriptor(rng) for _ in range(RANDOM)))
    local = bytearray(b"".join(random_descriptor(rng) for _ in range(RANDOM)))
    selector = random_selector(rng)
    if name.startswith("LTR") and selector < 4:
        # Unicorn loads it.
        selector = LOCAL
    if name in _MADE and rng.random() < 0.6:
        # Most random ones are wrong.
        selector = selector & ~3 | level
        table = local if selector & 4 else entries
        made = random_descriptor(rng)
        kind = rng.choice(_MADE[name]) | (level << 5 if "SS" in name else rng.randrange(4) << 5)
        place = selector & ~7
        if 8 <= place < len(table):
            table[place : place + 8] = made[:5] + bytes((made[5] & 0x80 | kind,)) + made[6:]
    registers = [rng.getrandbits(32) for _ in range(8)]
    registers[0] = registers[0] & ~0xFFFF | selector
    registers[1] = registers[1] & ~0xFFFF | random_selector(rng)
    registers[state.RBX] = registers[state.RDI] = _POINTER
    registers[state.RSP] = STACK - 32
    flags = rng.getrandbits(32) & state.ARITHMETIC | state.ALWAYS
    code = bytes.fromhex(INSTRUCTIONS[name])
    pointer = struct.pack("<H", selector)
    memory = [(registers[state.RSP], pointer + bytes(6))]
    if name in ("LES", "LDS", "LSS", "LFS", "LGS"):
        offset = struct.pack("<I", registers[2])
        pointer = (offset[:2] if code[0] == 0x66 else offset) + pointer
    memory.append((_POINTER, pointer))
    return Case(code, level, bytes(entries), bytes(local), registers, flags, memory)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_it_does_what_unicorn_does(name: str) -> None:
    rng = random.Random(name)
    done = faults = 0
    for _ in range(CASES):
        case = random_case(rng, name)
        found, cpu = ours(case)
        try:
            expected = theirs(case)
        except OutsideError:
            continue
        what = (case.level, hex(case.registers[0] & 0xFFFF), hex(case.registers[1] & 0xFFFF), cpu.fault)
        assert found.vector == expected.vector, what
        assert [hex(each) for each in found.selectors] == [hex(each) for each in expected.selectors], what
        assert [hex(each) for each in found.registers] == [hex(each) for each in expected.registers], what
        if found.vector is None:
            assert found.eip == expected.eip, what
            assert hex(found.flags) == hex(expected.flags), what
            check_registers(case, cpu)
            done += 1
        else:
            selector = case.registers[0] & 0xFFFC
            assert cpu.fault is not None
            assert cpu.fault.error in (selector, 0), what
            if name not in _PRIVILEGED or not case.level:
                assert cpu.fault.error == selector, what
            faults += 1
        assert found.memory == expected.memory, what
    assert done > CASES // 20
    assert faults or not name.startswith(("MOV", "POP", "L")) or "from" in name or name.startswith(("LAR", "LSL"))


def check_registers(case: Case, cpu: Observed) -> None:
    """Compare every segment register with the descriptor it names."""
    for register in (state.ES, state.SS, state.DS, state.FS, state.GS):
        selector = cpu.slots[state.SELECTORS + register]
        found = tuple(cpu.slots[each + register] for each in (
            state.SEGMENT_BASES, state.SEGMENT_LIMITS, state.SEGMENT_ATTRIBUTES))  # fmt: skip
        if selector < 4:
            assert found == (0, 0, 0)
            continue
        table = case.local if selector & 4 else case.tables
        low, high = struct.unpack_from("<II", table, selector & ~7)
        limit = low & 0xFFFF | high & 0xF0000
        limit = limit * 4096 + 4095 if high & 1 << 23 else limit
        attributes = high >> 8 & 0xF0FF
        if attributes & 16 and selector not in DATAS:
            attributes |= 1
        assert found == (low >> 16 | high << 16 & 0xFF0000 | high & 0xFF000000, limit, attributes)


# -- limits --------------------------------------------------------------------------------------------------

_EDGES: Final = (
    0,
    0xFF,
    0x100,
    0xFFE,
    0xFFF,
    0x1000,
    0xFFFC,
    0xFFFD,
    0xFFFF,
    0x10000,
    0xFFFFFFFC,
    0xFFFFFFFD,
    0xFFFFFFFF,
)


@pytest.mark.parametrize("register", [state.DS, state.SS])
@pytest.mark.parametrize("attributes", [0x93, 0x91, 0x97, 0x4097, 0x9B, 0x99, 0x13])
@pytest.mark.parametrize("write", [False, True])
def test_an_access_must_be_inside_a_segment_that_allows_it(register: int, attributes: int, write: bool) -> None:
    limit = 0xFFF
    down, code = attributes & 12 == 4, attributes & 8
    for offset in _EDGES:
        guest = Guest(make=Observed)
        guest.set(register, 0x40, attributes, 0x1000, limit)
        guest[state.RAX] = offset
        cpu = guest.board.cpu
        assert isinstance(cpu, Observed)
        # MOV [EAX], ECX and back, with an override.
        guest.run(("36" if register == state.SS else "3e") + ("8908" if write else "8b08"))
        last = offset + 3
        if down:
            inside = offset > limit and last <= (0xFFFFFFFF if attributes & 0x4000 else 0xFFFF)
        else:
            inside = last <= limit
        if code:
            allowed = not write and bool(attributes & 2)
        else:
            allowed = not write or bool(attributes & 2)
        fault = None if cpu.fault is None else (cpu.fault.vector, cpu.fault.error)
        wrong = state.STACK_FAULT if register == state.SS else state.PROTECTION
        expected = None if inside and allowed and attributes & 0x80 else (wrong, 0)
        assert fault == expected, hex(offset)


def test_nothing_can_be_reached_by_a_null_selector() -> None:
    guest = Guest(make=Observed)
    guest.run("8ed8 8e00", 1)
    cpu = guest.board.cpu
    assert isinstance(cpu, Observed)
    assert cpu.fault is None
    assert not cpu.slots[state.MODE] & state.MODE_FLAT
    cpu.run(1)
    assert cpu.fault is not None
    assert (cpu.fault.vector, cpu.fault.error) == (state.PROTECTION, 0)


def test_code_that_may_only_be_executed_cannot_be_read() -> None:
    guest = Guest(make=Observed)
    guest.set(state.CS, CODES[0], 0xC099)
    guest.run("2e8b00")
    cpu = guest.board.cpu
    assert isinstance(cpu, Observed)
    assert cpu.fault is not None
    assert (cpu.fault.vector, cpu.fault.error) == (state.PROTECTION, 0)


def test_real_mode_keeps_limits_that_were_large() -> None:
    guest = Guest(16, make=Observed)
    guest.set(state.DS, 0, 0x93, 0, 0xFFFFFFFF)
    guest[state.RAX], guest[state.RBX] = 0x100, 0x1F000
    guest.board.write(0x20000, b"\x77")
    # MOV DS, AX; MOV CL, [EBX]
    guest.run("8ed8 678a0b", 2)
    assert guest.selector(state.DS) == 0x100
    assert guest[state.SEGMENT_BASES + state.DS] == 0x1000
    assert guest[state.RCX] == 0x77


def test_real_mode_has_64_kib() -> None:
    slots = real_mode([0] * 6)
    guest = Guest(16, make=Observed)
    guest.slots[:] = slots
    guest[state.RIP], guest[state.RBX] = CODE, 0xFFFF
    guest.run("8b07")
    cpu = guest.board.cpu
    assert isinstance(cpu, Observed)
    assert cpu.fault is not None
    assert cpu.fault.vector == state.PROTECTION


@pytest.mark.parametrize("code", ["0f00c8", "0f02c8", "0f03c8", "0f00e0", "63c8", "0f00d0", "0f00d8"])
def test_real_and_virtual_mode_have_no_descriptors_to_look_at(code: str) -> None:
    for mode in (16, 32):
        guest = Guest(mode, make=Observed)
        if mode == 32:
            guest.virtual(state.IOPL)
        guest.run(code)
        cpu = guest.board.cpu
        assert isinstance(cpu, Observed)
        assert cpu.fault is not None
        assert cpu.fault.vector == state.UNDEFINED


def test_virtual_mode_makes_segments_of_paragraphs() -> None:
    guest = Guest()
    guest.virtual()
    guest[state.RAX] = 0x1234
    guest.run("8ed8 8ed0", 2)
    for register in (state.DS, state.SS):
        assert guest.selector(register) == 0x1234
        assert guest[state.SEGMENT_BASES + register] == 0x12340
        assert guest[state.SEGMENT_LIMITS + register] == 0xFFFF


# -- long mode -------------------------------------------------------------------------------------------------


def fault_of(guest: Guest) -> tuple[int, int] | None:
    cpu = guest.board.cpu
    assert isinstance(cpu, Observed)
    return None if cpu.fault is None else (cpu.fault.vector, cpu.fault.error)


@pytest.mark.parametrize(("level", "selector", "well"), [(0, 0, True), (0, 1, False), (3, 3, False), (3, 0, False)])
def test_a_null_stack_is_for_64_bit_mode_and_inner_levels(level: int, selector: int, well: bool) -> None:
    guest = Guest(64, level, Observed)
    guest[state.RAX] = selector
    guest.run("8ed0")
    assert fault_of(guest) == (None if well else (state.PROTECTION, 0))
    if well:
        assert guest.selector(state.SS) == selector
        assert guest[state.SHADOW] == 2


def test_a_null_selector_clears_the_base_of_gs() -> None:
    guest = Guest(64, make=Observed)
    guest[state.SEGMENT_BASES + state.GS] = 0xFFFF800000000000
    guest.run("8ee8")
    assert guest[state.SEGMENT_BASES + state.GS] == 0


@pytest.mark.parametrize(("base", "high", "error"), [
    (0xFFFF800012345678, 0, None), (0x0000900000000000, 0, FREE), (0x5000, 0x1F00, FREE), (0x5000, 0xE000, None)
])  # fmt: skip
@pytest.mark.parametrize("code", ["0f00d8", "0f00d0"])
def test_bases_of_the_system_have_64_bits(base: int, high: int, error: int | None, code: str) -> None:
    guest = Guest(64, make=Observed)
    task = code == "0f00d8"
    guest.entry(FREE, descriptor(0x89 if task else 0x82, base & 0xFFFFFFFF, 0x67))
    guest.entry(FREE + 8, struct.pack("<II", base >> 32, high))
    guest[state.RAX] = FREE
    guest.run(code)
    assert fault_of(guest) == (None if error is None else (state.PROTECTION, error))
    register = state.TR if task else state.LDTR
    assert (guest[state.SEGMENT_BASES + register] == base) == (error is None)
    busy = guest.board.read(GDT + FREE + 5, 1)[0] & 2
    assert bool(busy) == (not task or error is None)


def test_lar_that_fails_leaves_the_whole_register() -> None:
    guest = Guest(64, make=Observed)
    guest[state.RCX] = 0x1122334455667788
    guest[state.RAX] = 0
    # LAR ECX, AX
    guest.run("0f02c8")
    assert guest[state.RCX] == 0x1122334455667788
    assert not guest.rflags & state.ZF


@pytest.mark.parametrize("what", [0x02, 0x03])
@pytest.mark.parametrize("mode", [32, 64])
def test_only_some_descriptors_of_the_system_can_be_looked_at(what: int, mode: int) -> None:
    known = {1, 2, 3, 9, 11} if mode == 32 else {2, 9, 11}
    if what == 0x02:
        known |= {4, 5, 12} if mode == 32 else {12}
    for kind in range(16):
        guest = Guest(mode, make=Observed)
        guest.entry(FREE, descriptor(0x80 | kind, 0, 0x123))
        guest[state.RAX] = FREE
        guest.run(f"0f{what:02x}c8")
        assert bool(guest.rflags & state.ZF) == (kind in known), kind
        if kind in known:
            assert guest[state.RCX] == (0x8000 | kind << 8 if what == 0x02 else 0x123)


def test_a_stack_where_no_address_can_be_is_a_fault_of_the_stack() -> None:
    guest = Guest(64, make=Observed)
    guest[state.RSP] = 1 << 47
    # RETFQ
    guest.run("48cb")
    assert fault_of(guest) == (state.STACK_FAULT, 0)


def test_loading_the_task_register_changes_nothing_where_the_table_cannot_be_written() -> None:
    guest = Guest(64, make=Observed)
    guest.slots[state.CR0] |= state.CR0_WP
    entry = guest.slots[state.CR3]
    guest.entry(FREE, descriptor(0x89, 0x5000, 0x67))
    for _ in range(3):
        (entry,) = struct.unpack("<Q", guest.board.read(entry & ~0xFFF, 8))
    table = (entry & ~0xFFF) + (GDT >> 12) * 8
    (page,) = struct.unpack("<Q", guest.board.read(table, 8))
    guest.board.write(table, struct.pack("<Q", page & ~2))
    guest[state.RAX] = FREE
    guest.run("0f00d8")
    assert fault_of(guest) == (state.PAGE_FAULT, 3)
    assert guest.selector(state.TR) == TASK
    assert guest[state.SEGMENT_BASES + state.TR] != 0x5000
