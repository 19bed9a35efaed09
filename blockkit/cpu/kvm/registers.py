"""General, segment and control registers between the slots and the kernel's structures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.kvm import interface as kvm
from blockkit.cpu.kvm.interface import Regs, Segment, Sregs, Sregs2

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

#: Segment registers in the order of their slots.
_SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr")
_CONTROL: Final = {
    "cr0": state.CR0,
    "cr2": state.CR2,
    "cr3": state.CR3,
    "cr4": state.CR4,
    "cr8": state.CR8,
    "efer": state.EFER,
    "apic_base": state.APIC_BASE,
}


def load_general(slots: MutableSequence[int], regs: Regs) -> None:
    """Set the slots of general registers, RIP and RFLAGS."""
    for number, name in enumerate(state.REGISTERS):
        slots[number] = getattr(regs, name)
    slots[state.RIP] = regs.rip
    slots[state.SYSTEM_FLAGS] = regs.rflags & ~(state.ARITHMETIC | state.ALWAYS) | state.ALWAYS
    slots[state.RES], slots[state.COUT] = state.pack_flags(regs.rflags)
    slots[state.SHIFT] = 0


def store_general(slots: Sequence[int]) -> Regs:
    """Return the structure for the slots."""
    regs = Regs(rip=slots[state.RIP], rflags=state.rflags(list(slots)))
    for number, name in enumerate(state.REGISTERS):
        setattr(regs, name, slots[number])
    return regs


def load_system(slots: MutableSequence[int], sregs: Sregs | Sregs2) -> None:
    """Set the slots of segments, tables and control registers, and the privilege level."""
    for number, name in enumerate(_SEGMENTS):
        segment = getattr(sregs, name)
        slots[state.SELECTORS + number] = segment.selector
        slots[state.SEGMENT_BASES + number] = segment.base
        slots[state.SEGMENT_LIMITS + number] = segment.limit
        slots[state.SEGMENT_ATTRIBUTES + number] = _attributes(segment)
    slots[state.GDT_BASE], slots[state.GDT_LIMIT] = sregs.gdt.base, sregs.gdt.limit
    slots[state.IDT_BASE], slots[state.IDT_LIMIT] = sregs.idt.base, sregs.idt.limit
    for name, slot in _CONTROL.items():
        slots[slot] = getattr(sregs, name)
    # Of SS, even of a null one, it is the privilege level; of CS it is not where that is conforming.
    slots[state.CPL] = sregs.ss.dpl if sregs.cr0 & state.CR0_PE else 0
    if isinstance(sregs, Sregs2) and _has_pdptes(slots):
        slots[state.PDPTES : state.PDPTES + 4] = list(sregs.pdptrs)


def store_system(slots: Sequence[int], structure: type[Sregs | Sregs2]) -> Sregs | Sregs2:
    """Return the structure for the slots."""
    sregs = structure()
    for number, name in enumerate(_SEGMENTS):
        segment = getattr(sregs, name)
        segment.selector = slots[state.SELECTORS + number]
        segment.base = slots[state.SEGMENT_BASES + number]
        segment.limit = slots[state.SEGMENT_LIMITS + number]
        _set_attributes(segment, slots[state.SEGMENT_ATTRIBUTES + number])
    if sregs.ss.unusable:
        sregs.ss.dpl = slots[state.CPL]
    sregs.gdt.base, sregs.gdt.limit = slots[state.GDT_BASE], slots[state.GDT_LIMIT]
    sregs.idt.base, sregs.idt.limit = slots[state.IDT_BASE], slots[state.IDT_LIMIT]
    for name, slot in _CONTROL.items():
        setattr(sregs, name, slots[slot])
    if isinstance(sregs, Sregs2) and _has_pdptes(slots):
        sregs.flags = kvm.SREGS2_PDPTRS_VALID
        for number in range(4):
            sregs.pdptrs[number] = slots[state.PDPTES + number]
    return sregs


def _has_pdptes(slots: Sequence[int]) -> bool:
    """Whether PAE paging is on."""
    pae = slots[state.CR0] & state.CR0_PG and slots[state.CR4] & state.CR4_PAE
    return bool(pae) and not slots[state.EFER] & state.EFER_LMA


def _attributes(segment: Segment) -> int:
    """Return the attributes as the descriptor has them; 0 for a null selector."""
    if segment.unusable:
        return 0
    low = segment.type | segment.s << 4 | segment.dpl << 5 | segment.present << 7
    return int(low | segment.avl << 12 | segment.l << 13 | segment.db << 14 | segment.g << 15)


def _set_attributes(segment: Segment, attributes: int) -> None:
    segment.type = attributes & 15
    segment.s, segment.dpl, segment.present = attributes >> 4 & 1, attributes >> 5 & 3, attributes >> 7 & 1
    segment.avl, segment.l = attributes >> 12 & 1, attributes >> 13 & 1
    segment.db, segment.g = attributes >> 14 & 1, attributes >> 15 & 1
    segment.unusable = not attributes
