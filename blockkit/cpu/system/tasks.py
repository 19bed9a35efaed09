"""Task switches (SDM volume 3, chapter 7)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, flush_tlb, load_system, raise_fault, store_system
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
    MODE,
    MODE_VIRTUAL,
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
    TSS_16,
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
#: Where things are in a TSS of 32 and of 16 bits (figures 7-2 and 7-10): the first of the eight general registers and
#: of the segments. The smaller one has no CR3, FS, GS and T.
_CR3, _EIP, _EFLAGS, _REGISTERS, _SEGMENTS, _LDT, _TRAP, _SMALLEST = 0x1C, 0x20, 0x24, 0x28, 0x48, 0x60, 0x64, 0x67
_IP_16, _FLAGS_16, _REGISTERS_16, _SEGMENTS_16, _LDT_16, _SMALLEST_16 = 0x0E, 0x10, 0x12, 0x22, 0x2A, 0x2B
#: Flags that there are, and what of DR7 is the task's (17.2.4): L0 to L3 and LE.
_FLAGS: Final = 0x3F7FD5
_LOCAL_BREAKPOINTS: Final = 0x155
_SINGLE_TASK: Final = 1 << 15
_WIDE: Final = 8


def switch_task(selector: int, by: int, back: int) -> int:
    """Switch to the task of a TSS.

    Args:
        selector: The TSS.
        by: BY_JUMP, BY_CALL or BY_RETURN.
        back: Where the old task goes on.

    Returns:
        Whether T of the TSS is set: then comes :func:`trap_of_task`.
    """
    vector = INVALID_TSS if by == BY_RETURN else PROTECTION
    descriptor = _check_tss(selector, by, vector)
    wide = descriptor >> 40 & _WIDE
    base = base_of(descriptor)
    old = S[SEGMENT_BASES + TR]
    old_selector = S[SELECTORS + TR]
    # All that is read or written may fault at first only: then the old task is still whole.
    if by != BY_RETURN:
        _touch(descriptor_place(selector, vector) + 5, 1)
    if by != BY_CALL:
        _touch(descriptor_place(old_selector, vector) + 5, 1)
    if S[SEGMENT_ATTRIBUTES + TR] & _WIDE:
        _touch(old + _EIP, 4)
        _touch(old + _SEGMENTS + 20, 2)
    else:
        _touch(old + _IP_16, 2)
        _touch(old + _SEGMENTS_16 + 6, 2)
    if by == BY_CALL:
        _touch(base, 2)
    load_system(base + (_CR3 if wide else _IP_16), 2)
    load_system(base + (_TRAP if wide else _LDT_16), 2)
    _save(old, back, by)
    if by == BY_CALL:
        store_system(base, 2, old_selector)
    else:
        _set_busy(old_selector, 0)
    if by != BY_RETURN:
        _set_busy(selector, 1)
    set_segment(TR, selector, descriptor | BUSY << 40)
    S[CR0] |= CR0_TS
    S[DEBUG + 7] &= ~_LOCAL_BREAKPOINTS
    table = load_system(base + _CR3, 4) if wide else S[CR3]
    local = load_system(base + (_LDT if wide else _LDT_16), 2)
    trap = load_system(base + _TRAP, 2) & 1 if wide else 0
    _load_registers(base, wide, by)
    if S[CR0] & CR0_PG and table != S[CR3]:
        if S[CR4] & CR4_PAE:
            load_pdptes(table)
        S[CR3] = table
        flush_tlb(0)
    _load_segments(local)
    return trap


def trap_of_task(trap: int) -> None:
    """Raise #DB if it is wanted, before the first instruction of a task (7.3)."""
    if trap:
        S[DEBUG + 6] |= _SINGLE_TASK
        raise_fault(DEBUG_EXCEPTION, 0)


def _check_tss(selector: int, by: int, vector: int) -> int:
    """Return the descriptor of a TSS that can be switched to."""
    if selector & 4 or (selector & 0xFFFC) == 0:
        raise_fault(vector, selector_error(selector))
    descriptor = read_descriptor(selector, vector)
    attributes = attributes_of(descriptor)
    if attributes & (NOT_SYSTEM | 15 & ~_WIDE) != (TSS_16 | BUSY if by == BY_RETURN else TSS_16):
        raise_fault(vector, selector_error(selector))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(selector))
    if limit_of(descriptor) < (_SMALLEST if attributes & _WIDE else _SMALLEST_16):
        raise_fault(INVALID_TSS, selector_error(selector))
    return descriptor


def _touch(place: int, size: int) -> None:
    """Fault as a write by the processor itself would."""
    store_system(place, size, load_system(place, size))


def _save(base: int, back: int, by: int) -> None:
    """Write what the old task is to its TSS."""
    flags = read_flags()
    if by == BY_RETURN:
        flags &= ~NT
    index = 0
    if S[SEGMENT_ATTRIBUTES + TR] & _WIDE:
        store_system(base + _EIP, 4, back & 0xFFFFFFFF)
        store_system(base + _EFLAGS, 4, flags)
        while index < 8:
            store_system(base + _REGISTERS + index * 4, 4, S[index] & 0xFFFFFFFF)
            index += 1
        index = ES
        while index <= GS:
            store_system(base + _SEGMENTS + index * 4, 2, S[SELECTORS + index])
            index += 1
        return
    store_system(base + _IP_16, 2, back & 0xFFFF)
    store_system(base + _FLAGS_16, 2, flags & 0xFFFF)
    while index < 8:
        store_system(base + _REGISTERS_16 + index * 2, 2, S[index] & 0xFFFF)
        index += 1
    index = ES
    while index <= DS:
        store_system(base + _SEGMENTS_16 + index * 2, 2, S[SELECTORS + index])
        index += 1


def _set_busy(selector: int, busy: int) -> None:
    """Mark a TSS as busy or not, in the GDT."""
    place = descriptor_place(selector, PROTECTION) + 5
    kept = load_system(place, 1)
    store_system(place, 1, kept | BUSY if busy else kept & ~BUSY)


def _load_registers(base: int, wide: int, by: int) -> None:
    """Load all that cannot be wrong: registers, flags, selectors; nothing can be reached by segments for now."""
    index = 0
    if wide:
        while index < 8:
            S[index] = load_system(base + _REGISTERS + index * 4, 4)
            index += 1
        S[RIP] = load_system(base + _EIP, 4)
        flags = load_system(base + _EFLAGS, 4) & _FLAGS
    else:
        while index < 8:
            # The upper halves are set, as the 80386 does it.
            S[index] = load_system(base + _REGISTERS_16 + index * 2, 2) | 0xFFFF0000
            index += 1
        S[RIP] = load_system(base + _IP_16, 2)
        flags = load_system(base + _FLAGS_16, 2) & _FLAGS
    index = ES
    while index <= GS:
        if wide:
            set_null_segment(index, load_system(base + _SEGMENTS + index * 4, 2))
        else:
            set_null_segment(index, load_system(base + _SEGMENTS_16 + index * 2, 2) if index <= DS else 0)
        index += 1
    write_flags(flags | NT if by == BY_CALL else flags)
    S[CPL] = S[SELECTORS + CS] & 3
    if flags & VM:
        index = ES
        while index <= GS:
            set_virtual_segment(index, S[SELECTORS + index])
            index += 1
    update_mode()


def _load_segments(local: int) -> None:
    """Load LDTR and the segments of the new task, whose faults are its own (#TS, #NP, #SS)."""
    set_null_segment(LDTR, local)
    _load_local(local)
    if S[MODE] & MODE_VIRTUAL:
        return
    _load_code(S[SELECTORS + CS])
    update_mode()
    load_stack(S[SELECTORS + SS], S[CPL], INVALID_TSS)
    update_mode()
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
