"""Segments, and the mode that they and the control registers make (SDM volume 3, chapter 3)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, raise_fault
from blockkit.cpu.state import (
    CPL,
    CR0,
    CR0_EM,
    CR0_PE,
    CR0_TS,
    CR4,
    CR4_OSFXSR,
    CS,
    DEBUG,
    DS,
    EFER,
    EFER_LMA,
    ES,
    FS,
    GS,
    MODE,
    MODE_32,
    MODE_64,
    MODE_BREAK,
    MODE_FLAT,
    MODE_NO_SSE,
    MODE_NO_X87,
    MODE_PROTECTED,
    MODE_STACK_32,
    MODE_TRAP,
    MODE_VIRTUAL,
    NOT_PRESENT,
    PROTECTION,
    RSP,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SELECTORS,
    SHADOW,
    SS,
    STACK_FAULT,
    SYSTEM_FLAGS,
    TF,
    UNDEFINED,
    VM,
)
from blockkit.cpu.system.descriptors import (
    BIG,
    CODE,
    CONFORMING,
    DOWN,
    EVENT,
    LONG,
    NOT_SYSTEM,
    PRESENT,
    READABLE,
    WRITABLE,
    attributes_of,
    level_of,
    mark_accessed,
    read_descriptor,
    selector_error,
    set_segment,
)

_4_GIB: Final = 0xFFFFFFFF
#: Attributes of every segment in virtual-8086 mode: accessed data, writable, for users.
VIRTUAL_ATTRIBUTES: Final = 0xF3


def check_segment(register: int, offset: int, size: int, write: int) -> int:
    """Return the linear address of an operand in a segment; raises #GP(0) or #SS(0) (SDM volume 3, 5.3).

    While an event is delivered the error code is EXT.
    """
    mode = S[MODE]
    if mode & MODE_64:
        if register == SS and ((offset + (1 << 47)) >> 48 or (offset + size - 1 + (1 << 47)) >> 48):
            raise_fault(STACK_FAULT, S[EVENT])
        return offset + S[SEGMENT_BASES + register] if register >= FS else offset
    attributes = S[SEGMENT_ATTRIBUTES + register]
    limit = S[SEGMENT_LIMITS + register]
    last = offset + size - 1
    wrong = 1 if last > limit and limit != _4_GIB else 0
    if mode & MODE_PROTECTED:
        if (attributes & PRESENT) == 0:
            wrong = 1
        elif attributes & CODE:
            if write or (attributes & READABLE) == 0:
                wrong = 1
        else:
            if attributes & DOWN:
                top = _4_GIB if attributes & BIG else 0xFFFF
                wrong = 1 if offset <= limit or last > top else 0
            if write and (attributes & WRITABLE) == 0:
                wrong = 1
    if wrong:
        raise_fault(STACK_FAULT if register == SS else PROTECTION, S[EVENT])
    return S[SEGMENT_BASES + register] + offset & _4_GIB


def check_code_limit(offset: int) -> None:
    """Raise #GP(0) if ``offset`` is not inside CS, outside 64-bit mode."""
    if offset > S[SEGMENT_LIMITS + CS]:
        raise_fault(PROTECTION, 0)


def _is_flat(register: int) -> int:
    """Whether a segment of data begins at zero and nothing is outside it or forbidden."""
    wanted = PRESENT | NOT_SYSTEM | WRITABLE
    if S[SEGMENT_ATTRIBUTES + register] & (wanted | CODE | DOWN) != wanted:
        return 0
    return 1 if S[SEGMENT_BASES + register] == 0 and S[SEGMENT_LIMITS + register] == _4_GIB else 0


def update_mode() -> None:
    """Compute MODE; and CPL in the modes that have no privilege levels."""
    mode = 0
    if S[CR0] & CR0_PE:
        if S[SYSTEM_FLAGS] & VM:
            mode = MODE_VIRTUAL
            S[CPL] = 3
        else:
            mode = MODE_PROTECTED
    else:
        S[CPL] = 0
    code = S[SEGMENT_ATTRIBUTES + CS]
    if mode == MODE_PROTECTED and S[EFER] & EFER_LMA and code & LONG:
        mode |= MODE_64 | MODE_STACK_32 | MODE_FLAT
    else:
        if code & BIG:
            mode |= MODE_32
        if S[SEGMENT_ATTRIBUTES + SS] & BIG:
            mode |= MODE_STACK_32
        if (
            mode & MODE_PROTECTED
            and _is_flat(ES)
            and _is_flat(SS)
            and _is_flat(DS)
            and S[SEGMENT_BASES + CS] == 0
            and S[SEGMENT_LIMITS + CS] == _4_GIB
            and code & READABLE
        ):
            mode |= MODE_FLAT
    if S[SYSTEM_FLAGS] & TF:
        mode |= MODE_TRAP
    if S[DEBUG + 7] & 0xFF:
        mode |= MODE_BREAK
    if S[CR0] & (CR0_EM | CR0_TS):
        mode |= MODE_NO_X87 | MODE_NO_SSE
    elif (S[CR4] & CR4_OSFXSR) == 0:
        mode |= MODE_NO_SSE
    S[MODE] = mode


def set_virtual_segment(register: int, selector: int) -> None:
    """Set a segment register as virtual-8086 mode does (SDM volume 3, 20.2)."""
    S[SELECTORS + register] = selector & 0xFFFF
    S[SEGMENT_BASES + register] = (selector & 0xFFFF) << 4
    S[SEGMENT_LIMITS + register] = 0xFFFF
    S[SEGMENT_ATTRIBUTES + register] = VIRTUAL_ATTRIBUTES


def set_null_segment(register: int, selector: int) -> None:
    """Set a segment register to a null selector, which nothing can be reached by outside 64-bit mode."""
    S[SELECTORS + register] = selector & 0xFFFF
    S[SEGMENT_BASES + register] = 0
    S[SEGMENT_LIMITS + register] = 0
    S[SEGMENT_ATTRIBUTES + register] = 0


def load_segment(register: int, selector: int) -> None:
    """Load ES, SS, DS, FS or GS (MOV, POP, LDS and the like); raises #GP, #SS and #NP."""
    selector = selector & 0xFFFF
    if S[MODE] & MODE_VIRTUAL:
        set_virtual_segment(register, selector)
    elif (S[MODE] & MODE_PROTECTED) == 0:
        # Limit and attributes stay: that is how big real mode comes about.
        S[SELECTORS + register] = selector
        S[SEGMENT_BASES + register] = selector << 4
    elif register == SS:
        load_stack(selector, S[CPL], PROTECTION)
    else:
        load_data(register, selector, PROTECTION)
    update_mode()


def load_stack_segment(selector: int) -> None:
    """Load SS by MOV or POP: no interrupt, and no debug exception, is taken before the next instruction."""
    load_segment(SS, selector)
    S[SHADOW] = 2


def pop_stack_segment(selector: int, size: int) -> None:
    """POP SS, which moves the stack pointer as the SS before it says."""
    wide = S[MODE] & (MODE_STACK_32 | MODE_64)
    load_stack_segment(selector)
    if S[MODE] & MODE_64:
        S[RSP] += size
    elif wide:
        S[RSP] = S[RSP] + size & 0xFFFFFFFF
    else:
        S[RSP] = S[RSP] & ~0xFFFF | S[RSP] + size & 0xFFFF


def move_to_segment(register: int, selector: int) -> None:
    """MOV to a segment register by its number; raises #UD for CS and for those there are not."""
    if register == CS or register > GS:
        raise_fault(UNDEFINED, 0)
    if register == SS:
        load_stack_segment(selector)
    else:
        load_segment(register, selector)


def selector_of(register: int) -> int:
    """Return what is in a segment register; raises #UD for those there are not."""
    if register > GS:
        raise_fault(UNDEFINED, 0)
    return S[SELECTORS + register]


def load_stack(selector: int, level: int, vector: int) -> None:
    """Load SS for a privilege level; raises ``vector`` (#GP or #TS) and #SS."""
    if (selector & 0xFFFC) == 0:
        if (S[MODE] & MODE_64) == 0 or level == 3 or (selector & 3) != level or vector != PROTECTION:
            raise_fault(vector, selector_error(0))
        set_null_segment(SS, selector)
        S[SEGMENT_ATTRIBUTES + SS] = level << 5
        return
    descriptor = check_stack(selector, level, vector)
    set_segment(SS, selector, mark_accessed(selector, descriptor, vector))


def check_stack(selector: int, level: int, vector: int) -> int:
    """Return the descriptor of a stack for a privilege level, which is not null."""
    descriptor = read_descriptor(selector, vector)
    attributes = attributes_of(descriptor)
    wanted = NOT_SYSTEM | WRITABLE
    if attributes & (wanted | CODE) != wanted or (selector & 3) != level or level_of(attributes) != level:
        raise_fault(vector, selector_error(selector))
    if (attributes & PRESENT) == 0:
        raise_fault(STACK_FAULT, selector_error(selector))
    return descriptor


def load_data(register: int, selector: int, vector: int) -> None:
    """Load ES, DS, FS or GS in protected mode; raises ``vector`` (#GP or #TS) and #NP."""
    if (selector & 0xFFFC) == 0:
        set_null_segment(register, selector)
        return
    descriptor = read_descriptor(selector, vector)
    attributes = attributes_of(descriptor)
    if (attributes & NOT_SYSTEM) == 0 or (attributes & CODE and (attributes & READABLE) == 0):
        raise_fault(vector, selector_error(selector))
    if attributes & (CODE | CONFORMING) != CODE | CONFORMING:
        level = level_of(attributes)
        if (selector & 3) > level or S[CPL] > level:
            raise_fault(vector, selector_error(selector))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(selector))
    set_segment(register, selector, mark_accessed(selector, descriptor, vector))


def forget_inner_segments() -> None:
    """After a return to an outer level: segments of data that it may not use become null."""
    for_level = S[CPL]
    register = ES
    while register <= GS:
        if register != CS and register != SS:
            attributes = S[SEGMENT_ATTRIBUTES + register]
            if (
                attributes & PRESENT
                and attributes & (CODE | CONFORMING) != CODE | CONFORMING
                and level_of(attributes) < for_level
            ):
                set_null_segment(register, 0)
        register += 1
