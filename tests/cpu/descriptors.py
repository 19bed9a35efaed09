"""Descriptors, gates and task states as bytes, and a processor with its tables full of them."""

from __future__ import annotations

import struct
from functools import cache
from typing import Final

from blockkit.cpu import state
from blockkit.cpu.portable.vcpu import PortableVcpu
from tests.cpu.machine import Board, long_mode, protected_mode, real_mode

#: Where the tables and the code of tests are.
IDT, GDT, LDT, TSS, OTHER_TSS, CODE, HANDLERS = 0x0, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000
#: Bytes of memory that tests use, from 0, but for page tables.
_USED: Final = 0x21000
#: Tops of stacks: of the code that begins, and of the levels 0 to 2 in the TSS.
STACK: Final = 0x9000
STACKS: Final = (0xA000, 0xB000, 0xC000)

#: Selectors of the first entries of the GDT: code and data for each level, code of 64 bits for levels 0 and 3, and of
#: 16 bits and conforming for level 0; then two TSSs, which have room for 16 bytes, an LDT, and what is free.
CODES: Final = (0x08, 0x19, 0x2A, 0x3B)
DATAS: Final = (0x10, 0x21, 0x32, 0x43)
LONG_0, LONG_3, SHORT, CONFORMING, STACK_16 = 0x48, 0x53, 0x58, 0x60, 0x68
TASK, OTHER_TASK, LOCAL, FREE = 0x70, 0x80, 0x90, 0xA0

CODE_32, DATA_32, CODE_64, CODE_16, DATA_16 = 0xC09B, 0xC093, 0xA09B, 0x009B, 0x0093
CONFORMING_32: Final = 0xC09F


def descriptor(attributes: int, base: int = 0, limit: int = 0xFFFFF) -> bytes:
    """Encode a descriptor; the limit as its field, in pages if bit 15 of ``attributes`` is set."""
    low = base << 16 & 0xFFFFFFFF | limit & 0xFFFF
    return struct.pack("<II", low, base & 0xFF000000 | limit & 0xF0000 | attributes << 8 | base >> 16 & 0xFF)


def gate(attributes: int, selector: int, offset: int, count: int = 0, *, long: bool = False) -> bytes:
    """Encode a call, interrupt, trap or task gate; ``count`` is the parameters or the IST."""
    low = struct.pack("<HHBBH", offset & 0xFFFF, selector, count, attributes, offset >> 16 & 0xFFFF)
    return low + struct.pack("<Q", offset >> 32) if long else low


def tables() -> bytes:
    """Return the beginning of a GDT."""
    entries = bytes(8)
    for level in range(4):
        entries += descriptor(CODE_32 | level << 5) + descriptor(DATA_32 | level << 5)
    entries += descriptor(CODE_64) + descriptor(CODE_64 | 3 << 5) + descriptor(CODE_16, limit=0xFFFF)
    entries += descriptor(CONFORMING_32) + descriptor(DATA_16, limit=0xFFFF)
    for place in (TSS, OTHER_TSS):
        entries += descriptor(0x89, place, 0xFFF) + bytes(8)
    return entries + descriptor(0x82, LDT, 0xFF) + bytes(8)


@cache
def _board(make: type[PortableVcpu]) -> Board:
    """Return a board, always the same: most of the time of a test is that of making one."""
    return Board(make)


class Guest:
    """A processor that delivers exceptions, and what it finds in memory.

    Args:
        mode: 16 for real mode, 32, or 64.
        level: The privilege level.
        make: Its class.
    """

    def __init__(self, mode: int = 32, level: int = 0, make: type[PortableVcpu] = PortableVcpu) -> None:
        self.board = _board(make)
        self.board.write(0, bytes(_USED))
        self.board.cpu.reset()
        self.mode = mode
        self.slots = slots = self._mode(mode)
        if mode == 16:
            slots[state.IDT_LIMIT] = 0x3FF
        else:
            self._levels(level)
        slots[state.RSP] = STACK
        slots[state.RIP] = CODE
        slots[state.IDT_BASE] = IDT

    def _mode(self, mode: int) -> list[int]:
        if mode == 16:
            return real_mode([0] * 6)
        if mode == 32:
            return protected_mode()
        pages = {page: page for page in range(0, 0x10000, 0x1000)}
        top = self.board.tables(pages)
        # All pages are the users'.
        for at in range(top, self.board._tables, 8):
            entry = self.board.bus.ram[at]
            if entry & 1:
                self.board.bus.ram[at] = entry | 4
        return long_mode(top)

    def _levels(self, level: int) -> None:
        slots = self.slots
        long = self.mode == 64
        self.set(state.CS, (LONG_0, 0, 0, LONG_3)[level] if long else CODES[level], CODE_64 if long else CODE_32)
        for segment in (state.ES, state.SS, state.DS, state.FS, state.GS):
            self.set(segment, DATAS[level], DATA_32)
        for segment in range(6):
            slots[state.SEGMENT_ATTRIBUTES + segment] |= level << 5
        slots[state.CPL] = level
        slots[state.GDT_BASE], slots[state.GDT_LIMIT] = GDT, 0x1FF
        slots[state.IDT_LIMIT] = 0xFFF
        self.set(state.TR, TASK, 0x8B, TSS, 0xFFF)
        self.set(state.LDTR, LOCAL, 0x82, LDT, 0xFF)
        self.board.write(GDT, tables())
        self.entry(TASK, descriptor(0x8B, TSS, 0xFFF))
        for number, top in enumerate(STACKS):
            if long:
                self.board.write(TSS + 4 + 8 * number, struct.pack("<Q", top))
            else:
                self.board.write(TSS + 4 + 8 * number, struct.pack("<II", top, DATAS[number]))

    def set(self, segment: int, selector: int, attributes: int, base: int = 0, limit: int = 0xFFFFFFFF) -> None:
        """Set a segment register before it begins."""
        self.slots[state.SELECTORS + segment] = selector
        self.slots[state.SEGMENT_ATTRIBUTES + segment] = attributes
        self.slots[state.SEGMENT_BASES + segment] = base
        self.slots[state.SEGMENT_LIMITS + segment] = limit

    def virtual(self, flags: int = 0) -> None:
        """Begin in virtual-8086 mode, with all segments at 0."""
        for segment in range(6):
            self.set(segment, 0, 0xF3, 0, 0xFFFF)
        self.slots[state.CPL] = 3
        self.flags(flags | state.VM)

    def flags(self, flags: int) -> None:
        """Set RFLAGS before it begins."""
        state.set_rflags(self.slots, flags | state.ALWAYS)

    def entry(self, selector: int, data: bytes) -> None:
        """Write to the GDT or the LDT."""
        self.board.write((LDT if selector & 4 else GDT) + (selector & 0xFFF8), data)

    def vector(self, number: int, attributes: int = 0x8E, selector: int | None = None, ist: int = 0) -> None:
        """Let a vector have a handler at ``HANDLERS + 16 * number``."""
        long, place = self.mode == 64, HANDLERS + 16 * number
        if self.mode == 16:
            self.board.write(IDT + 4 * number, struct.pack("<HH", place, 0))
            return
        chosen = (LONG_0 if long else CODES[0]) if selector is None else selector
        self.board.write(IDT + (16 if long else 8) * number, gate(attributes, chosen, place, ist, long=long))

    def run(self, code: str, count: int = 1) -> None:
        """Execute ``count`` instructions, or deliveries of events, of code at CODE."""
        self.board.write(self.slots[state.SEGMENT_BASES + state.CS] + CODE, bytes.fromhex(code))
        self.board.cpu.set_state(self.slots)
        self.board.cpu.run(count)

    def __getitem__(self, slot: int) -> int:
        """Return a slot as it is now."""
        return self.board.cpu.slots[slot]

    def __setitem__(self, slot: int, value: int) -> None:
        """Set a slot before it begins."""
        self.slots[slot] = value

    def selector(self, segment: int) -> int:
        return self[state.SELECTORS + segment]

    @property
    def where(self) -> tuple[int, int]:
        """CS and RIP."""
        return self.selector(state.CS), self[state.RIP]

    @property
    def rflags(self) -> int:
        return state.rflags(list(self.board.cpu.slots[: state.SLOTS]))

    def at(self, address: int, size: int, count: int) -> tuple[int, ...]:
        """Return numbers in memory."""
        return struct.unpack(f"<{count}{' BH I   Q'[size]}", self.board.read(address, size * count))

    def pushed(self, size: int, count: int) -> tuple[int, ...]:
        """Return what is on top of the stack."""
        return self.at(self[state.RSP], size, count)

    def handler(self) -> int | None:
        """Return the vector whose handler it is at."""
        place = self[state.RIP] - HANDLERS
        return place // 16 if 0 <= place < 0x1000 and place % 16 == 0 else None
