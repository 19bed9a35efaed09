"""The modes of the processor with memory and segments in them, on ours and in Unicorn."""

from __future__ import annotations

import struct
from functools import cache
from typing import Final

import unicorn
from unicorn import x86_const as uc

from blockkit.cpu import state
from tests.cpu.cases import CODE, DATA, Case, World
from tests.cpu.machine import (
    CODE_16,
    CODE_32,
    DATA_16,
    DATA_32,
    PAGE,
    Board,
    Observed,
    long_mode,
    protected_mode,
    real_mode,
)

_LOW = 0x8000
_BASES = (0x7000, 0x2000, 0x6000, 0x4000, 0x1230, 0x7FF0)
_FLAT = (0, 0, 0, 0, 0x3000, 0xFFFFF000)
WORLDS: Final = {
    each.name: each
    for each in (
        World("real", 16, 16, _BASES, _LOW),
        World("code 16, stack 16", 16, 16, _FLAT, _LOW),
        World("code 16, stack 32", 16, 32, _FLAT, _LOW),
        World("code 32, stack 16", 32, 16, _FLAT, _LOW),
        World("code 32, stack 32", 32, 32, _FLAT, _LOW),
        World("code 64", 64, 64, (0, 0, 0, 0, 0x7F1234567800, 0xFFFFFFFF80000000), 0x7FFF8000),
    )
}
#: Linear to physical in the last of them.
_PAGES: Final = {CODE: 0x5000, 0x7FFF8000: 0x9000, 0x7FFF9000: 0x8000}
_GDT: Final = 0x10000

_REGISTERS: Final = {
    64: [getattr(uc, f"UC_X86_REG_{name.upper()}") for name in state.REGISTERS],
    32: [getattr(uc, f"UC_X86_REG_E{name[1:].upper()}") for name in state.REGISTERS[:8]],
}
_SEGMENTS: Final = [getattr(uc, f"UC_X86_REG_{name}") for name in ("ES", "CS", "SS", "DS", "FS", "GS")]


def _descriptor(base: int, attributes: int) -> bytes:
    """Encode a descriptor of 4 GiB."""
    high = base & 0xFF000000 | base >> 16 & 0xFF | (attributes & 0xF0FF) << 8 | 0xF0000
    return struct.pack("<II", base << 16 & 0xFFFFFFFF | 0xFFFF, high)


class Ours:
    """A world on our processor."""

    def __init__(self, world: World) -> None:
        self.world, self.board = world, Board()
        if world.mode == 64:
            self.slots = long_mode(self.board.tables(_PAGES))
        elif world.name == "real":
            self.slots = real_mode([base >> 4 for base in world.bases])
        else:
            self.slots = protected_mode(
                CODE_16 if world.mode == 16 else CODE_32, DATA_16 if world.stack == 16 else DATA_32
            )
        self.slots[state.SEGMENT_BASES : state.SEGMENT_BASES + 6] = world.bases

    def physical(self, linear: int) -> int:
        return _PAGES[linear] if self.world.mode == 64 else linear

    def run(self, made: Case, data: bytes) -> Observed:
        cpu = self.board.cpu
        assert isinstance(cpu, Observed)
        base = self.world.bases[state.CS]
        self.board.write(self.physical(base + CODE) + PAGE - len(made.code), made.code)
        for at in (0, PAGE):
            self.board.write(self.physical(self.world.data + at), data[at : at + PAGE])
        self.board.start(list(self.slots), made.registers, CODE + PAGE - len(made.code), made.flags)
        cpu.run(1)
        return cpu

    def data(self) -> bytes:
        return b"".join(self.board.read(self.physical(self.world.data + at), PAGE) for at in (0, PAGE))


class Theirs:
    """A world in Unicorn."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = _REGISTERS[64 if world.mode == 64 else 32]
        self.begin()

    def begin(self) -> None:
        world = self.world
        mode = {"real": unicorn.UC_MODE_16, "code 64": unicorn.UC_MODE_64}.get(world.name, unicorn.UC_MODE_32)
        self.machine = machine = unicorn.Uc(unicorn.UC_ARCH_X86, mode)
        machine.ctl_set_cpu_model(uc.UC_CPU_X86_HASWELL)
        if world.mode == 64:
            # One more page of code: it looks at what comes after the instruction.
            machine.mem_map(CODE, 2 * PAGE)
            machine.mem_map(world.data, DATA)
            machine.reg_write(uc.UC_X86_REG_FS_BASE, world.bases[state.FS])
            machine.reg_write(uc.UC_X86_REG_GS_BASE, world.bases[state.GS])
            return
        machine.mem_map(0, 0x20000)
        if world.name == "real":
            selectors = [base >> 4 for base in world.bases]
        else:
            attributes = [DATA_32] * 6
            attributes[state.CS] = CODE_16 if world.mode == 16 else CODE_32
            attributes[state.SS] = DATA_16 if world.stack == 16 else DATA_32
            table = b"".join(_descriptor(*each) for each in zip(world.bases, attributes, strict=True))
            machine.mem_write(_GDT + 8, table)
            machine.reg_write(uc.UC_X86_REG_GDTR, (0, _GDT, len(table) + 7, 0))
            selectors = [8 * (segment + 1) for segment in range(6)]
        for name, selector in zip(_SEGMENTS, selectors, strict=True):
            machine.reg_write(name, selector)

    def run(self, made: Case, data: bytes, *, repeated: bool = False) -> tuple[list[int], int, int, bytes] | None:
        """Return registers, RIP, RFLAGS and data afterwards; None after an exception.

        Args:
            made: What to run.
            data: What memory holds before.
            repeated: Run to the end of the code: Unicorn counts the turns of REP.
        """
        machine = self.machine
        at = self.world.bases[state.CS] + CODE + PAGE - len(made.code)
        machine.mem_write(at, made.code + b"\xf4" * 16)
        machine.mem_write(self.world.data, data)
        for name, value in zip(self.names, made.registers, strict=True):
            machine.reg_write(name, value)
        machine.reg_write(uc.UC_X86_REG_EFLAGS, made.flags)
        machine.ctl_flush_tb()
        try:
            machine.emu_start(at, at + len(made.code) if repeated else 0, count=0 if repeated else 1)
        except unicorn.UcError as error:
            # Afterwards it does not execute the next instruction it is told to.
            self.begin()
            if error.errno != unicorn.UC_ERR_FETCH_UNMAPPED:
                return None
        after = [machine.reg_read(name) for name in self.names]
        rip = machine.reg_read(uc.UC_X86_REG_RIP if self.world.mode == 64 else uc.UC_X86_REG_EIP)
        return after, rip, machine.reg_read(uc.UC_X86_REG_EFLAGS), bytes(machine.mem_read(self.world.data, DATA))


@cache
def both(name: str) -> tuple[Ours, Theirs]:
    return Ours(WORLDS[name]), Theirs(WORLDS[name])
