"""The states in which a kernel finds the processor: flat, in protected mode or in long mode."""

from __future__ import annotations

import struct
from typing import Final

from blockkit.cpu import state
from blockkit.cpu.reset import reset
from blockkit.emul.boot import layout

#: Attributes and selectors of flat segments.
_CODE, _LONG_CODE, _DATA = 0xC09B, 0xA09B, 0xC093
_CODE_SELECTOR, _DATA_SELECTOR = 0x10, 0x18
_TSS_LIMIT: Final = 0x67
_FLAT: Final = 0x000F_00000000FFFF
#: An entry of a page table: present, writable; and a page of 2 MiB.
_TABLE, _LARGE_PAGE = 0x3, 0x83
_ENTRIES: Final = 512
_PAGE: Final = 4096
#: Gigabytes that are mapped where they are.
_MAPPED: Final = 4


def protected(memory: memoryview, entry: int) -> list[int]:
    """Return the state of flat protected mode, without paging, and write its descriptors to memory.

    Linux and PVH (docs/misc/pvh of Xen) agree in it.
    """
    return _begin(memory, entry, _CODE)


def long(memory: memoryview, entry: int) -> list[int]:
    """Return the state of long mode, 4 GiB mapped where they are, and write its descriptors and page tables."""
    slots = _begin(memory, entry, _LONG_CODE)
    directories = [layout.PAGES + (2 + number) * _PAGE for number in range(_MAPPED)]
    tables = struct.pack("<Q", layout.PAGES + _PAGE | _TABLE).ljust(_PAGE, b"\0")
    tables += b"".join(struct.pack("<Q", each | _TABLE) for each in directories).ljust(_PAGE, b"\0")
    tables += b"".join(struct.pack("<Q", number << 21 | _LARGE_PAGE) for number in range(_MAPPED * _ENTRIES))
    memory[layout.PAGES : layout.PAGES + len(tables)] = tables
    slots[state.CR0] |= state.CR0_PG
    slots[state.CR3] = layout.PAGES
    slots[state.CR4] = state.CR4_PAE
    slots[state.EFER] = state.EFER_LME | state.EFER_LMA
    return slots


def _descriptor(attributes: int) -> int:
    """Return a descriptor of 4 GiB from address 0."""
    return _FLAT | attributes << 40


def _begin(memory: memoryview, entry: int, code: int) -> list[int]:
    slots = state.new_state()
    # What nobody says anything about is as after RESET.
    reset(slots)
    slots[state.CR0] = state.CR0_PE | state.CR0_ET
    for register in range(6):
        is_code = register == state.CS
        slots[state.SELECTORS + register] = _CODE_SELECTOR if is_code else _DATA_SELECTOR
        slots[state.SEGMENT_BASES + register], slots[state.SEGMENT_LIMITS + register] = 0, 0xFFFFFFFF
        slots[state.SEGMENT_ATTRIBUTES + register] = code if is_code else _DATA
    slots[state.SEGMENT_LIMITS + state.TR] = _TSS_LIMIT
    table = struct.pack("<4Q", 0, 0, _descriptor(code), _descriptor(_DATA))
    memory[layout.DESCRIPTORS : layout.DESCRIPTORS + len(table)] = table
    slots[state.GDT_BASE], slots[state.GDT_LIMIT] = layout.DESCRIPTORS, len(table) - 1
    slots[state.RIP], slots[state.RSP] = entry, layout.STACK
    slots[state.FCW], slots[state.FTW], slots[state.MXCSR] = 0x37F, 0xFFFF, 0x1F80
    return slots
