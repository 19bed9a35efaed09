"""Task switches between TSSs of 32 bits (SDM volume 3, chapter 7)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, flush_tlb, load_system, probe_store, raise_fault, store_system
from blockkit.cpu.state import (
    CPL,
    CR0,
    CR0_PG,
    CR0_TS,
    CR3,
    CR4,
    CR4_PAE,
    CS,
    DEBUG,
    DEBUG_EXCEPTION,
    DS,
    ES,
    FS,
    GS,
    INVALID_TSS,
    LDTR,
    NOT_PRESENT,
    NT,
    PROTECTION,
    RIP,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SELECTORS,
    SS,
    TR,
    VM,
)
from blockkit.cpu.system.descriptors import (
    BUSY,
    CODE,
    CONFORMING,
    LDT,
    NOT_SYSTEM,
    PRESENT,
    TSS_32,
    attributes_of,
    base_of,
    descriptor_place,
    level_of,
    limit_of,
    mark_accessed,
    read_descriptor,
    selector_error,
    set_segment,
)
from blockkit.cpu.system.flags import read_flags, write_flags
from blockkit.cpu.system.paging import load_pdptes
from blockkit.cpu.system.segments import (
    load_data,
    load_stack,
    set_null_segment,
    set_virtual_segment,
    update_mode,
)

#: What switches: a jump; a call or an event, which return; IRET, which returns.
BY_JUMP, BY_CALL, BY_RETURN = 0, 1, 2
_SMALLEST: Final = 0x67
#: Where things are in a TSS (figure 7-2): the first of the eight general registers and of the six segments.
_CR3, _EIP, _EFLAGS, _REGISTERS, _SEGMENTS, _LDT, _TRAP = 0x1C, 0x20, 0x24, 0x28, 0x48, 0x60, 0x64
_SINGLE_TASK: Final = 1 << 15


def switch_task(selector: int, by: int, back: int) -> None:
    """Switch to the task of a TSS.

    Args:
        selector: The TSS.
        by: BY_JUMP, BY_CALL or BY_RETURN.
        back: Where the old task goes on.
    """
    vector = INVALID_TSS if by == BY_RETURN else PROTECTION
    descriptor = _check_tss(selector, by, vector)
    base = base_of(descriptor)
    old = S[SEGMENT_BASES + TR]
    old_selector = S[SELECTORS + TR]
    # All that is read or may fault comes first: then the old task is still whole.
    table = load_system(base + _CR3, 4)
    target = load_system(base + _EIP, 4)
    flags = load_system(base + _EFLAGS, 4)
    local = load_system(base + _LDT, 2)
    trap = load_system(base + _TRAP, 2) & 1
    index = 0
    while index < 8:
        load_system(base + _REGISTERS + index * 4, 4)
        index += 1
    if by == BY_CALL:
        store_system(base, 2, old_selector)
        flags |= NT
    _save(old, back, by)
    if by != BY_CALL:
        _set_busy(old_selector, 0)
    if by != BY_RETURN:
        _set_busy(selector, 1)
    set_segment(TR, selector, descriptor | BUSY << 40)
    S[CR0] |= CR0_TS
    index = 0
    while index < 8:
        S[index] = load_system(base + _REGISTERS + index * 4, 4)
        index += 1
    S[RIP] = target
    if S[CR0] & CR0_PG and table != S[CR3]:
        if S[CR4] & CR4_PAE:
            load_pdptes(table)
        S[CR3] = table
        flush_tlb(0)
    _load_segments(base, flags, local)
    if trap:
        S[DEBUG + 6] |= _SINGLE_TASK
        raise_fault(DEBUG_EXCEPTION, 0)


def _check_tss(selector: int, by: int, vector: int) -> int:
    """Return the descriptor of a TSS that can be switched to."""
    if selector & 4 or (selector & 0xFFFC) == 0:
        raise_fault(vector, selector_error(selector))
    descriptor = read_descriptor(selector, vector)
    attributes = attributes_of(descriptor)
    if attributes & (NOT_SYSTEM | 15) != (TSS_32 | BUSY if by == BY_RETURN else TSS_32):
        raise_fault(vector, selector_error(selector))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(selector))
    if limit_of(descriptor) < _SMALLEST:
        raise_fault(INVALID_TSS, selector_error(selector))
    return descriptor


def _save(base: int, back: int, by: int) -> None:
    """Write what the old task is to its TSS."""
    probe_store(base + _EIP, 4)
    probe_store(base + _LDT, 2)
    flags = read_flags()
    store_system(base + _EIP, 4, back & 0xFFFFFFFF)
    store_system(base + _EFLAGS, 4, flags & ~NT if by == BY_RETURN else flags)
    index = 0
    while index < 8:
        store_system(base + _REGISTERS + index * 4, 4, S[index] & 0xFFFFFFFF)
        index += 1
    index = 0
    while index < 6:
        store_system(base + _SEGMENTS + index * 4, 2, S[SELECTORS + index])
        index += 1


def _set_busy(selector: int, busy: int) -> None:
    """Mark a TSS as busy or not, in the GDT."""
    place = descriptor_place(selector, PROTECTION) + 5
    kept = load_system(place, 1)
    store_system(place, 1, kept | BUSY if busy else kept & ~BUSY)


def _load_segments(base: int, flags: int, local: int) -> None:
    """Load LDTR and the segments of the new task, whose faults are its own (#TS, #NP, #SS)."""
    index = ES
    while index <= GS:
        # Until they are checked nothing can be reached by them.
        set_null_segment(index, load_system(base + _SEGMENTS + index * 4, 2))
        index += 1
    set_null_segment(LDTR, local)
    write_flags(flags)
    if flags & VM:
        index = ES
        while index <= GS:
            set_virtual_segment(index, S[SELECTORS + index])
            index += 1
        _load_local(local)
        update_mode()
        return
    code = S[SELECTORS + CS]
    S[CPL] = code & 3
    _load_local(local)
    _load_code(code)
    update_mode()
    load_stack(S[SELECTORS + SS], S[CPL], INVALID_TSS)
    load_data(ES, S[SELECTORS + ES], INVALID_TSS)
    load_data(DS, S[SELECTORS + DS], INVALID_TSS)
    load_data(FS, S[SELECTORS + FS], INVALID_TSS)
    load_data(GS, S[SELECTORS + GS], INVALID_TSS)
    update_mode()


def _load_local(selector: int) -> None:
    """Load LDTR."""
    if (selector & 0xFFFC) == 0:
        return
    if selector & 4:
        raise_fault(INVALID_TSS, selector_error(selector))
    descriptor = read_descriptor(selector, INVALID_TSS)
    attributes = attributes_of(descriptor)
    if attributes & (NOT_SYSTEM | 15) != LDT or (attributes & PRESENT) == 0:
        raise_fault(INVALID_TSS, selector_error(selector))
    set_segment(LDTR, selector, descriptor)


def _load_code(selector: int) -> None:
    """Load CS."""
    if (selector & 0xFFFC) == 0:
        raise_fault(INVALID_TSS, selector_error(0))
    descriptor = read_descriptor(selector, INVALID_TSS)
    attributes = attributes_of(descriptor)
    level = level_of(attributes)
    wrong = 1 if attributes & (NOT_SYSTEM | CODE) != NOT_SYSTEM | CODE else 0
    if attributes & CONFORMING:
        wrong |= level > (selector & 3)
    else:
        wrong |= level != (selector & 3)
    if wrong:
        raise_fault(INVALID_TSS, selector_error(selector))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(selector))
    set_segment(CS, selector, mark_accessed(selector, descriptor, INVALID_TSS))


def link_of_task() -> int:
    """Return the TSS that the one in use returns to; raises #TS."""
    if S[SEGMENT_LIMITS + TR] < 1 or (S[SEGMENT_ATTRIBUTES + TR] & PRESENT) == 0:
        raise_fault(INVALID_TSS, selector_error(S[SELECTORS + TR]))
    return load_system(S[SEGMENT_BASES + TR], 2)
