"""The registers of descriptor tables, and looking at descriptors (SDM volume 3, 2.4 and 5.10)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load, probe_store, raise_fault, store, store_system
from blockkit.cpu.state import (
    CPL,
    CR4,
    CR4_UMIP,
    EFER,
    EFER_LMA,
    GDT_BASE,
    GDT_LIMIT,
    IDT_BASE,
    IDT_LIMIT,
    LDTR,
    MODE,
    MODE_64,
    MODE_PROTECTED,
    NOT_PRESENT,
    PROTECTION,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SELECTORS,
    TR,
    UNDEFINED,
)
from blockkit.cpu.system.descriptors import (
    BUSY,
    CALL_16,
    CALL_32,
    CODE,
    CONFORMING,
    LDT,
    NOT_SYSTEM,
    PRESENT,
    READABLE,
    TASK_GATE,
    TSS_16,
    TSS_32,
    WRITABLE,
    attributes_of,
    base_of,
    descriptor_place,
    level_of,
    limit_of,
    read_descriptor,
    read_second_half,
    selector_error,
    set_segment,
)
from blockkit.cpu.system.flags import read_flags, write_arithmetic_flags
from blockkit.cpu.system.segments import set_null_segment

_ZF: Final = 64
#: What LAR and LSL are for.
FOR_RIGHTS, FOR_LIMIT = 0, 1


def require_level_0() -> None:
    """Raise #GP(0) at other privilege levels."""
    if S[CPL]:
        raise_fault(PROTECTION, 0)


def _require_protected() -> None:
    """Raise #UD in real and in virtual-8086 mode."""
    if (S[MODE] & MODE_PROTECTED) == 0:
        raise_fault(UNDEFINED, 0)


def _require_telling() -> None:
    """Raise #GP(0) where users are not told (2.5, UMIP)."""
    if S[CPL] and S[CR4] & CR4_UMIP:
        raise_fault(PROTECTION, 0)


def load_table(place: int, which: int, size: int) -> None:
    """LGDT and LIDT.

    Args:
        place: Where limit and base are.
        which: GDT_BASE or IDT_BASE.
        size: Of operands: with 2 the base has 24 bits.
    """
    require_level_0()
    limit = load(place, 2)
    if S[MODE] & MODE_64:
        base = load(place + 2, 8)
        if (base + (1 << 47)) >> 48:
            raise_fault(PROTECTION, 0)
    else:
        base = load(place + 2, 4)
        if size == 2:
            base &= 0xFFFFFF
    if which == GDT_BASE:
        S[GDT_BASE] = base
        S[GDT_LIMIT] = limit
    else:
        S[IDT_BASE] = base
        S[IDT_LIMIT] = limit


def store_table(place: int, which: int) -> None:
    """SGDT and SIDT."""
    _require_telling()
    base = S[GDT_BASE] if which == GDT_BASE else S[IDT_BASE]
    limit = S[GDT_LIMIT] if which == GDT_BASE else S[IDT_LIMIT]
    # If one of them faults nothing is written.
    probe_store(place, 2)
    if S[MODE] & MODE_64:
        store(place + 2, 8, base)
    else:
        store(place + 2, 4, base & 0xFFFFFFFF)
    store(place, 2, limit)


def local_table() -> int:
    """SLDT."""
    _require_protected()
    _require_telling()
    return S[SELECTORS + LDTR]


def task_register() -> int:
    """STR."""
    _require_protected()
    _require_telling()
    return S[SELECTORS + TR]


def check_loading() -> None:
    """Raise what LLDT and LTR raise before they look at their operand."""
    _require_protected()
    require_level_0()


def check_looking() -> None:
    """Raise what LAR, LSL, VERR, VERW and ARPL raise in real and virtual-8086 mode."""
    _require_protected()


def load_local_table(selector: int) -> None:
    """LLDT."""
    selector = selector & 0xFFFF
    if (selector & 0xFFFC) == 0:
        set_null_segment(LDTR, selector)
        return
    descriptor = _system_descriptor(selector)
    if attributes_of(descriptor) & (NOT_SYSTEM | 15) != LDT:
        raise_fault(PROTECTION, selector_error(selector))
    base = _system_base(selector, descriptor)
    set_segment(LDTR, selector, descriptor)
    S[SEGMENT_BASES + LDTR] = base


def load_task_register(selector: int) -> None:
    """LTR."""
    selector = selector & 0xFFFF
    if (selector & 0xFFFC) == 0:
        raise_fault(PROTECTION, 0)
    descriptor = _system_descriptor(selector)
    kind = attributes_of(descriptor) & (NOT_SYSTEM | 15)
    if kind != TSS_32 and (kind != TSS_16 or S[EFER] & EFER_LMA):
        raise_fault(PROTECTION, selector_error(selector))
    base = _system_base(selector, descriptor)
    store_system(descriptor_place(selector, PROTECTION) + 5, 1, descriptor >> 40 & 0xFF | BUSY)
    set_segment(TR, selector, descriptor | BUSY << 40)
    S[SEGMENT_BASES + TR] = base


def _system_descriptor(selector: int) -> int:
    """Return a descriptor of the GDT."""
    if selector & 4:
        raise_fault(PROTECTION, selector_error(selector))
    return read_descriptor(selector, PROTECTION)


def _system_base(selector: int, descriptor: int) -> int:
    """Return the base of an LDT or a TSS, which has 64 bits in long mode; raises #NP if it is not present."""
    if (attributes_of(descriptor) & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(selector))
    base = base_of(descriptor)
    if S[EFER] & EFER_LMA:
        second = read_second_half(selector, PROTECTION)
        base |= second << 32
        if second >> 40 & 0x1F or (base + (1 << 47)) >> 48:
            raise_fault(PROTECTION, selector_error(selector))
    return base


def _is_allowed(attributes: int, selector: int) -> int:
    """Whether CPL and RPL allow a look at a descriptor."""
    if attributes & (NOT_SYSTEM | CODE | CONFORMING) == NOT_SYSTEM | CODE | CONFORMING:
        return 1
    level = level_of(attributes)
    return 1 if S[CPL] <= level and (selector & 3) <= level else 0


def _find(selector: int) -> int:
    """Return a descriptor, or 0 where no table has it."""
    selector = selector & 0xFFFF
    if (selector & 0xFFFC) == 0:
        return 0
    last = (selector & 0xFFF8) + 7
    if selector & 4:
        if (S[SEGMENT_ATTRIBUTES + LDTR] & PRESENT) == 0 or last > S[SEGMENT_LIMITS + LDTR]:
            return 0
    elif last > S[GDT_LIMIT]:
        return 0
    return read_descriptor(selector, PROTECTION)


def _set_zero(found: int) -> None:
    """Set or clear ZF."""
    flags = read_flags()
    write_arithmetic_flags(flags | _ZF if found else flags & ~_ZF)


def look_at(selector: int, what: int, old: int, size: int) -> int:
    """LAR and LSL: set ZF and return ``old`` with rights or limit in its place, or clear it and return ``old``."""
    descriptor = _find(selector)
    attributes = attributes_of(descriptor)
    known = attributes & NOT_SYSTEM
    if known == 0 and descriptor:
        kind = attributes & 15
        known = (kind == LDT) | (kind & ~BUSY == TSS_32)
        if (S[EFER] & EFER_LMA) == 0:
            known |= kind & ~BUSY == TSS_16
        if what == FOR_RIGHTS:
            known |= kind == CALL_32
            if (S[EFER] & EFER_LMA) == 0:
                known |= (kind == CALL_16) | (kind == TASK_GATE)
    if known and _is_allowed(attributes, selector):
        _set_zero(1)
        found = limit_of(descriptor) if what == FOR_LIMIT else descriptor >> 32 & 0x00F0FF00
        return old & ~0xFFFF | found & 0xFFFF if size == 2 else found
    _set_zero(0)
    return old


def verify(selector: int, write: int) -> None:
    """VERR and VERW."""
    descriptor = _find(selector)
    attributes = attributes_of(descriptor)
    well = 0
    if attributes & NOT_SYSTEM and _is_allowed(attributes, selector):
        if write:
            well = 1 if attributes & (CODE | WRITABLE) == WRITABLE else 0
        else:
            well = 1 if (attributes & CODE) == 0 or attributes & READABLE else 0
    _set_zero(well)


def adjusted_level(selector: int, other: int) -> int:
    """ARPL: return ``selector`` with at least the RPL of ``other``."""
    return selector & ~3 | other & 3 if (selector & 3) < (other & 3) else selector


def tell_adjusted(selector: int, other: int) -> None:
    """ARPL: set ZF if that changed it."""
    _set_zero(1 if (selector & 3) < (other & 3) else 0)
