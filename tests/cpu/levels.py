"""One instruction at some privilege level in protected mode, among random descriptors, on ours and in Unicorn."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import unicorn
from unicorn import x86_const as uc

from blockkit.cpu import state
from tests.cpu.descriptors import (
    CODE,
    CODES,
    DATAS,
    FREE,
    GDT,
    LDT,
    LOCAL,
    STACK,
    STACKS,
    TASK,
    TSS,
    Guest,
    descriptor,
)
from tests.cpu.machine import Observed

if TYPE_CHECKING:
    import random

#: Random descriptors in the GDT from FREE, and in the LDT from 0.
RANDOM: Final = 24
SEGMENTS: Final = ("ES", "CS", "SS", "DS", "FS", "GS")
_NAMES: Final = [getattr(uc, f"UC_X86_REG_E{name[1:].upper()}") for name in state.REGISTERS[:8]]
_SELECTORS: Final = [getattr(uc, f"UC_X86_REG_{name}") for name in SEGMENTS]


class OutsideError(Exception):
    """The case uses memory that Unicorn does not have here."""


class Case(NamedTuple):
    """What to run, at which level, and what memory holds: the GDT, the LDT, and more by addresses."""

    code: bytes
    level: int
    tables: bytes
    local: bytes
    registers: list[int]
    flags: int
    memory: list[tuple[int, bytes]]


class After(NamedTuple):
    """What is compared: the vector of the exception, if there is one, and the rest."""

    vector: int | None
    registers: list[int]
    eip: int
    flags: int
    selectors: list[int]
    memory: bytes


def random_descriptor(rng: random.Random) -> bytes:
    kind = rng.randrange(16, 32) if rng.random() < 0.75 else rng.randrange(16)
    attributes = kind | rng.choice((0, 0, 1, 2, 3, 3)) << 5 | (rng.random() < 0.85) << 7 | rng.randrange(16) << 12
    return descriptor(attributes & ~0x2000, rng.choice((0, rng.getrandbits(32))), rng.getrandbits(20))


def random_selector(rng: random.Random) -> int:
    rpl = rng.randrange(4)
    if rng.random() < 0.08:
        return rpl
    if rng.random() < 0.08:
        return rng.getrandbits(16)
    local = rng.randrange(2)
    return (8 * rng.randrange(RANDOM) + (0 if local else FREE)) | local << 2 | rpl


def _memory(case: Case) -> list[tuple[int, bytes]]:
    """Return what memory holds, by address."""
    stacks = [struct.pack("<II", top, DATAS[number]) for number, top in enumerate(STACKS)]
    # IRET to the level, unless that is 0.
    frame = b""
    if case.level:
        esp = case.registers[state.RSP]
        frame = struct.pack("<5I", CODE + 1, CODES[case.level], case.flags, esp, DATAS[case.level])
    return [
        (GDT, case.tables),
        (LDT, case.local),
        (TSS + 4, b"".join(stacks)),
        (STACK, frame),
        (CODE, b"\xcf" + case.code + b"\xf4" * 16),
        *case.memory,
    ]


def ours(case: Case) -> tuple[After, Observed]:
    """Run it on our processor, which changes nothing if there is an exception."""
    guest = Guest(make=Observed)
    for address, data in _memory(case):
        guest.board.write(address, data)
    guest.slots[:8] = case.registers
    guest[state.GDT_LIMIT] = len(case.tables) - 1
    guest.set(state.LDTR, LOCAL, 0x82, LDT, len(case.local) - 1)
    guest.set(state.TR, TASK, 0x8B, TSS, 0xFFF)
    for number in (state.ES, state.DS, state.FS, state.GS):
        guest.set(number, DATAS[3], 0xC0F3)
    guest.flags(case.flags)
    cpu = guest.board.cpu
    assert isinstance(cpu, Observed)
    if case.level:
        guest[state.RSP] = STACK
        cpu.set_state(guest.slots)
        cpu.run(1)
        assert cpu.fault is None
        assert cpu.slots[state.CPL] == case.level
        assert cpu.slots[state.RSP] == case.registers[state.RSP]
    else:
        guest[state.RIP] = CODE + 1
        cpu.set_state(guest.slots)
    before = list(cpu.slots)
    cpu.run(1)
    slots = cpu.slots
    if cpu.fault:
        for number in range(state.OWN):
            if number not in (state.HALT, state.EXECUTED):
                assert slots[number] == before[number], number
    several = [slots[state.SELECTORS + number] for number in (*range(6), state.LDTR, state.TR)]
    vector = cpu.fault.vector if cpu.fault else None
    rip = slots[state.RIP]
    return After(vector, slots[:8], rip, cpu.flags, several, guest.board.read(0, 0x10000)), cpu


def theirs(case: Case) -> After:
    """Run it in Unicorn."""
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    machine.ctl_set_cpu_model(uc.UC_CPU_X86_HASWELL)
    machine.mem_map(0, 0x10000)
    for address, data in _memory(case):
        machine.mem_write(address, data)
    machine.reg_write(uc.UC_X86_REG_GDTR, (0, GDT, len(case.tables) - 1, 0))
    machine.reg_write(uc.UC_X86_REG_LDTR, (LOCAL, LDT, len(case.local) - 1, 0x8200))
    # Its task register does not know that it is busy.
    machine.reg_write(uc.UC_X86_REG_TR, (TASK, TSS, 0xFFF, 0x8900))
    for number in (state.SS, state.CS, state.ES, state.DS, state.FS, state.GS):
        machine.reg_write(_SELECTORS[number], CODES[0] if number == state.CS else DATAS[0 if number == state.SS else 3])
    for name, value in zip(_NAMES, case.registers, strict=True):
        machine.reg_write(name, value)
    machine.reg_write(uc.UC_X86_REG_EFLAGS, case.flags)
    vectors: list[int] = []

    def note(machine: unicorn.Uc, number: int, _: object) -> None:
        vectors.append(number)
        machine.emu_stop()

    machine.hook_add(unicorn.UC_HOOK_INTR, note)
    if case.level:
        machine.reg_write(uc.UC_X86_REG_ESP, STACK)
        machine.emu_start(CODE, 0, count=1)
    here = CODE + 1
    assert not vectors
    try:
        machine.emu_start(here, 0, count=1)
    except unicorn.UcError as error:
        # It looks at what comes next.
        if error.errno != unicorn.UC_ERR_FETCH_UNMAPPED:
            raise OutsideError from error
    several = [machine.reg_read(name) for name in _SELECTORS]
    several += [machine.reg_read(name)[0] for name in (uc.UC_X86_REG_LDTR, uc.UC_X86_REG_TR)]
    registers = [machine.reg_read(name) for name in _NAMES]
    eip, flags = machine.reg_read(uc.UC_X86_REG_EIP), machine.reg_read(uc.UC_X86_REG_EFLAGS)
    memory = bytes(machine.mem_read(0, 0x10000))
    return After(vectors[0] if vectors else None, registers, eip, flags, several, memory)
