"""Far jumps, calls and returns, call gates and IRET do what Unicorn and the SDM say."""

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
    CONFORMING,
    DATAS,
    FREE,
    GDT,
    LONG_0,
    LONG_3,
    SHORT,
    STACK,
    STACK_16,
    STACKS,
    TASK,
    TSS,
    Guest,
    descriptor,
    gate,
    tables,
)
from tests.cpu.levels import RANDOM, Case, OutsideError, ours, random_descriptor, theirs
from tests.cpu.machine import Observed

CASES: Final = 80 * TIMES
_POINTER: Final = 0x8800
_FREE_LOCAL: Final = 4

#: Code by name; where a far pointer belongs there is a P.
TRANSFERS: Final = {
    "JMP": "eaP",
    "JMP 16": "66eaP",
    "JMP memory": "ff2b",
    "JMP memory 16": "66ff2b",
    "CALL": "9aP",
    "CALL 16": "669aP",
    "CALL memory": "ff1b",
    "CALL memory 16": "66ff1b",
    "RETF": "cb",
    "RETF 8": "ca0800",
    "RETF 16": "66cb",
    "RETF 16, 6": "66ca0600",
    "IRET": "cf",
    "IRET 16": "66cf",
}


def _entry(rng: random.Random) -> bytes:
    """Return a descriptor that a transfer may go to, or not."""
    what = rng.random()
    if what < 0.1:
        found = bytearray(random_descriptor(rng))
        # Unicorn does not mark code as accessed, nor the stack that a gate leads to.
        found[5] |= 1 if found[5] & 0x10 else 0
        # Nor does it get along with tasks at random places.
        found[5] &= 0x7F if found[5] & 0x1F in (1, 5, 9) else 0xFF
        return bytes(found)
    level, present = rng.choice((0, 0, 1, 2, 3, 3)) << 5, (rng.random() < 0.95) << 7
    if what < 0.6:
        kind = rng.choice((0x19, 0x1B, 0x1B, 0x1D, 0x1F))
        size = rng.choice((0, 0x4000, 0x8000, 0xC000))
        return descriptor(kind | level | present | size, rng.choice((0, 0x12340)), rng.choice((0xFFFF, 0x7FFF)))
    if what < 0.75:
        size = rng.choice((0x0000, 0x4000, 0xC000))
        return descriptor(rng.choice((0x13, 0x13, 0x11)) | level | present | size, 0, 0xFFFFF)
    kind = rng.choice((4, 12, 12))
    level = rng.choice((level, 3 << 5))
    return gate(
        kind | level | present, _selector(rng, rng.randrange(4)), rng.getrandbits(15), rng.choice((0, 1, 3, 17))
    )


def _selector(rng: random.Random, level: int) -> int:
    """Return a selector of code or a gate."""
    what = rng.random()
    if what < 0.04:
        return rng.randrange(4)
    if what < 0.25:
        return rng.choice((*CODES, SHORT, CONFORMING, CONFORMING | 3, SHORT | 1))
    local = rng.randrange(2)
    return (
        (8 * rng.randrange(RANDOM) + (0 if local else FREE)) | local << 2 | rng.choice((level, level, rng.randrange(4)))
    )


def _stack(rng: random.Random, level: int) -> int:
    if rng.random() < 0.7:
        return DATAS[level]
    return rng.choice((STACK_16 | level, DATAS[rng.randrange(4)], 0, level, FREE + 8 * rng.randrange(RANDOM) | level))


def random_case(rng: random.Random, name: str) -> Case:
    level = rng.choice((0, 1, 2, 3, 3))
    several = [_entry(rng) for _ in range(RANDOM)]
    local = b"".join(_entry(rng) for _ in range(RANDOM))
    registers = [rng.getrandbits(32) for _ in range(8)]
    registers[state.RBX] = _POINTER
    registers[state.RSP] = STACK - 0x100
    flags = rng.getrandbits(32) & (state.ARITHMETIC | state.IOPL) | state.ALWAYS
    size, pack = (2, "H") if "16" in name else (4, "I")
    # Unicorn does not look at the limit where it returns to.
    offset = rng.getrandbits(12 if rng.random() < 0.8 or "RET" in name else 18)
    outer = rng.choice((level, 3, max(level, rng.randrange(4))))
    selector = _selector(rng, outer if "RET" in name else level)
    if name.startswith("CALL") and rng.random() < 0.4:
        # Most random gates lead nowhere.
        number = rng.randrange(RANDOM)
        selector = FREE + 8 * number | level
        target = CODES[rng.randrange(level + 1)]
        several[number] = gate(rng.choice((0xE4, 0xEC)), target, offset & 0xFFFF, rng.choice((0, 1, 3, 17)))
    entries = tables() + b"".join(several)
    pointer = struct.pack(f"<{pack}H", offset & (1 << 8 * size) - 1, selector)
    words = [offset & (1 << 8 * size) - 1, selector]
    if name.startswith("IRET"):
        # TF would stop Unicorn, which has no VIF and VIP; NT is for tasks.
        words.append(rng.getrandbits(8 * size) & ~(state.TF | state.NT | state.VM | state.VIF | state.VIP))
    drop = {"RETF 8": 2, "RETF 16, 6": 3}.get(name, 0)
    words += [rng.getrandbits(8 * size) for _ in range(drop)]
    words += [rng.getrandbits(16), _stack(rng, selector & 3)]
    top = struct.pack(f"<{len(words)}{pack}", *words) + rng.randbytes(128)
    inner = b"".join(struct.pack("<IH", rng.choice((place, place - 1)), _stack(rng, number)) + bytes(2)
                     for number, place in enumerate(STACKS))  # fmt: skip
    code = bytes.fromhex(TRANSFERS[name].replace("P", pointer.hex()))
    memory = [(_POINTER, pointer), (registers[state.RSP], top), (TSS + 4, inner)]
    return Case(code, level, entries, local, registers, flags, memory)


@pytest.mark.parametrize("name", TRANSFERS)
def test_it_does_what_unicorn_does(name: str) -> None:
    rng = random.Random(name)
    done = changed = faults = 0
    for _ in range(CASES):
        case = random_case(rng, name)
        found, cpu = ours(case)
        try:
            expected = theirs(case)
        except OutsideError:
            continue
        what = (case.code.hex(), case.level, cpu.fault, hex(cpu.slots[state.CPL]), found.vector, expected.vector)
        if name.startswith("JMP") and (found.vector, expected.vector) == (state.NOT_PRESENT, state.PROTECTION):
            # For code behind a gate that is not present, Unicorn raises the other one.
            continue
        assert found.vector == expected.vector, what
        if name.startswith("CALL") and cpu.slots[state.SEGMENT_ATTRIBUTES + state.CS] & 12 == 12:
            # Through a gate to conforming code, Unicorn takes DPL for the level.
            assert found.selectors[state.CS] & 3 == case.level
            expected.selectors[state.CS] = expected.selectors[state.CS] & ~3 | case.level
        assert [hex(each) for each in found.selectors] == [hex(each) for each in expected.selectors], what
        assert [hex(each) for each in found.registers] == [hex(each) for each in expected.registers], what
        if found.vector is None:
            assert hex(found.eip) == hex(expected.eip), what
            assert hex(found.flags) == hex(expected.flags), what
            done += 1
            changed += cpu.slots[state.CPL] != case.level
            assert found.memory == expected.memory, what
        else:
            faults += 1
    assert done > CASES // 10
    assert faults > CASES // 10
    if not name.startswith("JMP"):
        assert changed > 2


# -- what Unicorn does not do ------------------------------------------------------------------------------------


def observed(mode: int = 32, level: int = 0) -> Guest:
    return Guest(mode, level, Observed)


def fault_of(guest: Guest) -> tuple[int, int] | None:
    cpu = guest.board.cpu
    assert isinstance(cpu, Observed)
    return None if cpu.fault is None else (cpu.fault.vector, cpu.fault.error)


def accessed(guest: Guest, selector: int) -> int:
    return guest.board.read(GDT + (selector & 0xFFF8) + 5, 1)[0] & 1


@pytest.mark.parametrize("code", ["eaP", "9aP"])
def test_code_becomes_accessed(code: str) -> None:
    guest = observed()
    guest.entry(FREE, descriptor(0xC09A))
    guest.run(code.replace("P", struct.pack("<IH", 0x1234, FREE).hex()))
    assert guest.where == (FREE, 0x1234)
    assert accessed(guest, FREE)
    assert guest[state.SEGMENT_ATTRIBUTES + state.CS] == 0xC09B


def test_a_gate_marks_code_and_stack_as_accessed() -> None:
    guest = observed(level=3)
    guest.entry(CODES[0], descriptor(0xC09A))
    guest.entry(DATAS[0], descriptor(0xC092))
    guest.entry(FREE, gate(0xEC, CODES[0], 0x5678, 2))
    guest.board.write(STACK, struct.pack("<II", 0x11, 0x22))
    guest[state.RSP] = STACK
    guest.run("9a" + struct.pack("<IH", 0, FREE | 3).hex())
    assert guest.where == (CODES[0], 0x5678)
    assert accessed(guest, CODES[0])
    assert accessed(guest, DATAS[0])
    assert guest[state.SEGMENT_ATTRIBUTES + state.SS] == 0xC093
    assert guest[state.CPL] == 0
    assert guest.pushed(4, 6) == (CODE + 7, CODES[3], 0x11, 0x22, STACK, DATAS[3])
    assert guest[state.RSP] == STACKS[0] - 24


@pytest.mark.parametrize(("limit", "fault"), [(0x67, None), (0x09, None), (0x08, (state.INVALID_TSS, TASK))])
def test_the_stack_must_be_inside_the_tss(limit: int, fault: tuple[int, int] | None) -> None:
    guest = observed(level=3)
    guest.slots[state.SEGMENT_LIMITS + state.TR] = limit
    guest.entry(FREE, gate(0xEC, CODES[0], 0x5678))
    guest.run("9a" + struct.pack("<IH", 0, FREE | 3).hex())
    assert fault_of(guest) == fault


def test_a_jump_through_a_gate_looks_at_levels_before_it_looks_whether_code_is_there() -> None:
    guest = observed(level=3)
    guest.entry(FREE, gate(0xEC, FREE + 8, 0x5678))
    guest.entry(FREE + 8, descriptor(0xC01B))
    guest.run("ea" + struct.pack("<IH", 0, FREE | 3).hex())
    assert fault_of(guest) == (state.PROTECTION, FREE + 8)


@pytest.mark.parametrize("code", ["cb", "ca0400", "cf"])
def test_a_return_must_go_inside_its_segment(code: str) -> None:
    guest = observed()
    guest.entry(FREE, descriptor(0x409B, limit=0xFFF))
    for offset, well in ((0xFFF, True), (0x1000, False)):
        guest.board.write(STACK, struct.pack("<III", offset, FREE, state.ALWAYS))
        guest.run(code)
        assert fault_of(guest) == (None if well else (state.PROTECTION, 0))


@pytest.mark.parametrize("mode", [16, 32])
def test_real_and_virtual_mode_know_no_descriptors(mode: int) -> None:
    guest = observed(mode)
    if mode == 32:
        guest.virtual(state.IOPL)
    far = struct.pack("<HH", 0x5678, 0x1234).hex()
    guest.run("9a" + far)
    assert guest.where == (0x1234, 0x5678)
    assert guest[state.SEGMENT_BASES + state.CS] == 0x12340
    assert guest.pushed(2, 2) == (CODE + 5, 0)
    guest.board.write(STACK, struct.pack("<HHH", 0x4321, 0x999, state.CF | state.IF))
    for code, pointer in (("cb", 4), ("ca0600", 10), ("cf", 6)):
        guest.run(code)
        assert guest.where == (0x999, 0x4321)
        assert guest[state.RSP] == STACK + pointer
    assert guest.rflags & 0xFFFF == state.CF | state.IF | state.ALWAYS | (state.IOPL if mode == 32 else 0)


def test_iret_in_virtual_mode_wants_iopl_and_unblocks_nmis_even_if_it_faults() -> None:
    guest = observed()
    guest.virtual(2 << 12)
    guest[state.NMI_BLOCKED] = 1
    guest.run("cf")
    assert fault_of(guest) == (state.PROTECTION, 0)
    assert guest[state.NMI_BLOCKED] == 0


_VIRTUAL: Final = (0x1234, 0x100, state.VM | state.IF | state.ALWAYS, 0xFFF0, 0x200, 0x300, 0x400, 0x500, 0x600)


@pytest.mark.parametrize("offset", [0x1234, 0xFFFF, 0x10000])
def test_iret_goes_to_virtual_mode(offset: int) -> None:
    guest = observed()
    guest.board.write(STACK, struct.pack("<9I", offset, *_VIRTUAL[1:]))
    guest.run("cf")
    if offset > 0xFFFF:
        assert fault_of(guest) == (state.PROTECTION, 0)
        assert not guest.rflags & state.VM
        return
    assert guest.where == (0x100, offset)
    assert guest[state.CPL] == 3
    assert guest[state.RSP] == 0xFFF0
    assert guest.rflags == _VIRTUAL[2]
    order = (state.SS, state.ES, state.DS, state.FS, state.GS)
    for register, selector in zip(order, _VIRTUAL[4:], strict=True):
        assert guest.selector(register) == selector
        assert guest[state.SEGMENT_BASES + register] == selector << 4
        assert guest[state.SEGMENT_LIMITS + register] == 0xFFFF
    assert guest[state.MODE] & state.MODE_VIRTUAL


def test_iret_at_other_levels_does_not_go_to_virtual_mode() -> None:
    guest = observed(level=3)
    guest.board.write(STACK, struct.pack("<3I", 0x1234, CODES[3], state.VM | state.VIF | state.IOPL | state.IF))
    guest.run("cf")
    assert guest.where == (CODES[3], 0x1234)
    assert guest.rflags == state.ALWAYS


def test_iret_at_level_0_sets_all_flags_and_forgets_segments_of_the_system() -> None:
    guest = observed()
    flags = state.VIF | state.VIP | state.IOPL | state.IF | state.ID | state.AC | state.RF | state.ALWAYS
    guest.set(state.FS, CONFORMING, 0xC09F)
    guest.set(state.GS, DATAS[3], 0xC0F3)
    guest.board.write(STACK, struct.pack("<5I", 0x1234, CODES[3], flags, 0x8000, DATAS[3]))
    guest.run("cf")
    assert guest.where == (CODES[3], 0x1234)
    assert guest.rflags == flags
    assert [guest.selector(each) for each in (state.ES, state.DS, state.FS, state.GS)] == [0, 0, CONFORMING, DATAS[3]]
    assert guest[state.SEGMENT_ATTRIBUTES + state.DS] == 0


def test_iret_of_64_bits_always_pops_the_stack() -> None:
    guest = observed(64)
    guest.board.write(STACK, struct.pack("<5Q", 0x1234, LONG_0, state.IF, 0x8888, 0))
    guest.run("48cf")
    assert guest.where == (LONG_0, 0x1234)
    assert guest[state.RSP] == 0x8888
    assert guest.selector(state.SS) == 0
    assert guest.rflags == state.IF | state.ALWAYS


@pytest.mark.parametrize(("code", "stack", "fault"), [
    (LONG_3, DATAS[3], None), (CODES[3], DATAS[3], None), (LONG_3, 3, 0), (LONG_0, 1, 0), (CODES[0], 0, 0),
    (CODES[3], DATAS[0], DATAS[0]), (LONG_3, DATAS[0] | 3, DATAS[0]), (LONG_3 & ~3, DATAS[0], LONG_3 & ~3),
])  # fmt: skip
@pytest.mark.parametrize("instruction", ["48cf", "48cb"])
def test_returns_from_64_bit_mode(code: int, stack: int, fault: int | None, instruction: str) -> None:
    guest = observed(64)
    if instruction == "48cf":
        guest.board.write(STACK, struct.pack("<5Q", 0x1234, code, 0, 0x8888, stack))
    elif code & 3 == 0:
        # It does not look at the stack.
        return
    else:
        guest.board.write(STACK, struct.pack("<4Q", 0x1234, code, 0x8888, stack))
    guest.run(instruction)
    assert fault_of(guest) == (None if fault is None else (state.PROTECTION, fault))
    if fault is None:
        assert guest.where == (code, 0x1234)
        assert guest[state.CPL] == 3
        assert guest[state.RSP] == 0x8888
        assert guest[state.MODE] & state.MODE_CODE == (state.MODE_64 if code == LONG_3 else state.MODE_32)


@pytest.mark.parametrize(("size", "code"), [(2, "66cf"), (4, "cf")])
def test_nested_tasks_cannot_return_in_long_mode(size: int, code: str) -> None:
    guest = observed(64)
    guest.flags(state.NT)
    guest.run(code)
    assert fault_of(guest) == (state.PROTECTION, 0), size


def test_a_far_jump_leaves_64_bit_mode_and_comes_back() -> None:
    guest = observed(64)
    guest.board.write(0x8000, struct.pack("<IH", CODE + 0x100, CODES[0]))
    guest.board.write(CODE + 0x100, b"\xea" + struct.pack("<IH", 0x1234, LONG_0))
    guest[state.RBX] = 0x8000
    guest.run("ff2b")
    assert guest.where == (CODES[0], CODE + 0x100)
    assert guest[state.MODE] & state.MODE_CODE == state.MODE_32
    guest.board.cpu.run(1)
    assert guest.where == (LONG_0, 0x1234)
    assert guest[state.MODE] & state.MODE_64


@pytest.mark.parametrize(("target", "second", "fault"), [
    (LONG_0, 0, None), (CODES[0], 0, CODES[0]), (LONG_0, 0x100 << 32, FREE), (LONG_0, 0x8000, 0),
])  # fmt: skip
@pytest.mark.parametrize("level", [0, 3])
def test_gates_of_long_mode_lead_to_64_bit_code(target: int, second: int, fault: int | None, level: int) -> None:
    guest = observed(64, level)
    guest.board.write(0x8000, struct.pack("<IH", 0, FREE | level))
    guest.entry(FREE, gate(0xEC, target, 0x12345678) + struct.pack("<Q", second))
    guest[state.RBX] = 0x8000
    guest.run("ff1b")
    assert fault_of(guest) == (None if fault is None else (state.PROTECTION, fault))
    if fault is None:
        assert guest.where == (LONG_0, 0x12345678)
        assert guest[state.CPL] == 0
        old = LONG_3 if level else LONG_0
        frame = (CODE + 2, old, STACK, DATAS[3]) if level else (CODE + 2, old)
        assert guest.pushed(8, len(frame)) == frame
        assert guest[state.RSP] == (STACKS[0] if level else STACK) - 8 * len(frame)
        assert guest.selector(state.SS) == (0 if level else DATAS[0])


def test_tasks_and_gates_of_16_bits_do_not_exist_in_long_mode() -> None:
    for data in (descriptor(0x89, TSS, 0x67), gate(0x84, LONG_0, 0), gate(0x85, TASK, 0)):
        guest = observed(64)
        guest.entry(FREE, data)
        guest.board.write(0x8000, struct.pack("<IH", 0, FREE))
        guest[state.RBX] = 0x8000
        guest.run("ff2b")
        assert fault_of(guest) == (state.PROTECTION, FREE)


def test_an_inner_stack_where_no_address_can_be_is_a_fault_of_the_stack() -> None:
    guest = observed(64, 3)
    guest.entry(FREE, gate(0xEC, LONG_0, 0x1000) + bytes(8))
    guest.board.write(0x8000, struct.pack("<IH", 0, FREE | 3))
    guest.board.write(TSS + 4, struct.pack("<Q", 1 << 47 | 0x100))
    guest[state.RBX] = 0x8000
    guest.run("ff1b")
    assert fault_of(guest) == (state.STACK_FAULT, 0)
    assert guest[state.CPL] == 3


def test_a_stack_of_16_bits_keeps_the_upper_half_of_its_pointer() -> None:
    guest = observed()
    guest.set(state.SS, STACK_16, 0x93, 0, 0xFFFF)
    guest[state.RSP] = 0x12340000 | STACK
    guest.board.write(STACK, struct.pack("<II", 0x1234, SHORT))
    guest.run("cb")
    assert guest.where == (SHORT, 0x1234)
    assert guest[state.RSP] == 0x12340000 | STACK + 8
    assert guest[state.MODE] & state.MODE_CODE == state.MODE_16
