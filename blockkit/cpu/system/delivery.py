"""Interrupts and exceptions, to their handlers (SDM volume 3, chapter 6)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load_system, raise_fault, store
from blockkit.cpu.state import (
    AC,
    CPL,
    CS,
    DEBUG_EXCEPTION,
    DOUBLE_FAULT,
    DS,
    EFER,
    EFER_LMA,
    ES,
    FS,
    GS,
    IDT_BASE,
    IDT_LIMIT,
    IF,
    INVALID_TSS,
    IOPL,
    MODE,
    MODE_PROTECTED,
    MODE_VIRTUAL,
    NOT_PRESENT,
    NT,
    OVERFLOW,
    PAGE_FAULT,
    PROTECTION,
    RF,
    RIP,
    RSP,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SELECTORS,
    SHADOW,
    SS,
    STACK_FAULT,
    SYSTEM_FLAGS,
    TF,
    TR,
    VM,
)
from blockkit.cpu.system.descriptors import (
    BIG,
    CODE,
    CONFORMING,
    EVENT,
    INTERRUPT_16,
    INTERRUPT_32,
    LONG,
    NOT_SYSTEM,
    PRESENT,
    TASK_GATE,
    TRAP_16,
    TRAP_32,
    TSS_16,
    TSS_32,
    attributes_of,
    level_of,
    mark_accessed,
    read_descriptor,
    selector_error,
    set_segment,
)
from blockkit.cpu.system.flags import read_flags
from blockkit.cpu.system.segments import check_stack, set_null_segment, update_mode
from blockkit.cpu.system.stacks import (
    inner_pointer,
    inner_selector,
    interrupt_stack,
    push_new,
    set_stack_pointer,
    stack_write,
)
from blockkit.cpu.system.tasks import BY_CALL, switch_task, trap_of_task
from blockkit.cpu.system.transfers import check_target, enter_code

#: From where: outside; an instruction that faults; INT n, INT3 and INTO, whose gates must allow it; INT1.
EXTERNAL, EXCEPTION, SOFTWARE, SOFTWARE_ANY = 0, 1, 2, 3

_SHUTDOWN: Final = 255
_IN_IDT: Final = 2


def deliver(vector: int, error: int, has_error: int, kind: int) -> None:
    """Go to the handler of an interrupt or an exception; what that raises leaves everything as it was."""
    S[EVENT] = 1
    _enter_handler(vector, error, has_error, kind, S[RIP])
    S[EVENT] = 0
    S[SHADOW] = 0


def software_interrupt(vector: int, kind: int, length: int) -> None:
    """INT n, INT3, INTO and INT1."""
    S[EVENT] = 1 if kind == SOFTWARE_ANY else 0
    _enter_handler(vector, 0, 0, kind, S[RIP] + length)
    S[EVENT] = 0


def interrupt_instruction(vector: int, length: int) -> None:
    """INT n: unlike INT3 and INTO it wants IOPL in virtual-8086 mode."""
    if S[MODE] & MODE_VIRTUAL and S[SYSTEM_FLAGS] & IOPL != IOPL:
        raise_fault(PROTECTION, 0)
    software_interrupt(vector, SOFTWARE, length)


def overflow_interrupt(overflow: int, length: int) -> None:
    """INTO."""
    if overflow:
        software_interrupt(OVERFLOW, SOFTWARE, length)
    else:
        S[RIP] = S[RIP] + length & 0xFFFFFFFF


def combine_faults(first: int, second: int) -> int:
    """Return what a second exception makes during the delivery of the first: itself, #DF, or 255 for a shutdown."""
    if first == DOUBLE_FAULT and (second == PAGE_FAULT or is_contributory(second)):
        return _SHUTDOWN
    if is_contributory(first) and is_contributory(second):
        return DOUBLE_FAULT
    if first == PAGE_FAULT and (second == PAGE_FAULT or is_contributory(second)):
        return DOUBLE_FAULT
    return second


def is_contributory(vector: int) -> int:
    """Whether an exception is of that class (table 6-4)."""
    return 1 if vector == 0 or (vector >= INVALID_TSS and vector <= PROTECTION) else 0


def _enter_handler(vector: int, error: int, has_error: int, kind: int, back: int) -> None:
    """Do it, in whatever mode."""
    if (S[MODE] & (MODE_PROTECTED | MODE_VIRTUAL)) == 0:
        _enter_real(vector, back)
    elif S[EFER] & EFER_LMA:
        _enter_long(vector, error, has_error, kind, back)
    else:
        _enter_protected(vector, error, has_error, kind, back)


def _enter_real(vector: int, back: int) -> None:
    """Through the table of vectors (20.1.4)."""
    if vector * 4 + 3 > S[IDT_LIMIT]:
        raise_fault(PROTECTION, 0)
    entry = load_system(S[IDT_BASE] + vector * 4, 4)
    pointer = S[RSP]
    stack_write(pointer - 2, 2, read_flags())
    stack_write(pointer - 4, 2, S[SELECTORS + CS])
    stack_write(pointer - 6, 2, back)
    set_stack_pointer(pointer - 6)
    S[SYSTEM_FLAGS] &= ~(IF | TF | AC | RF)
    S[SELECTORS + CS] = entry >> 16
    S[SEGMENT_BASES + CS] = entry >> 16 << 4
    S[RIP] = entry & 0xFFFF
    update_mode()


def _gate_error(vector: int) -> int:
    """Return the error code that names a gate."""
    return vector << 3 | _IN_IDT | S[EVENT]


def _check_gate(vector: int, attributes: int, kind: int) -> None:
    """Raise what a gate raises that may not be used so, or is not there."""
    if kind == SOFTWARE and level_of(attributes) < S[CPL]:
        raise_fault(PROTECTION, _gate_error(vector))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, _gate_error(vector))


def _handler_descriptor(selector: int) -> int:
    """Return the descriptor of a handler's code."""
    if (selector & 0xFFFC) == 0:
        raise_fault(PROTECTION, S[EVENT])
    code = read_descriptor(selector, PROTECTION)
    attributes = attributes_of(code)
    if attributes & (NOT_SYSTEM | CODE) != NOT_SYSTEM | CODE or level_of(attributes) > S[CPL]:
        raise_fault(PROTECTION, selector_error(selector))
    if S[EFER] & EFER_LMA and attributes & (LONG | BIG) != LONG:
        raise_fault(PROTECTION, selector_error(selector))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(selector))
    return code


def _flags_to_push(vector: int, kind: int) -> int:
    """Return RFLAGS as the handler finds them: RF is set for faults (17.3.1.1)."""
    flags = read_flags()
    return flags | RF if kind == EXCEPTION and vector != DEBUG_EXCEPTION else flags & ~RF


def _leave_flags(interrupt: int) -> None:
    """Clear what a handler begins without."""
    S[SYSTEM_FLAGS] &= ~(TF | NT | RF | VM)
    if interrupt:
        S[SYSTEM_FLAGS] &= ~IF


def _enter_protected(vector: int, error: int, has_error: int, kind: int, back: int) -> None:
    """Through a gate of the IDT, outside long mode (6.12.1)."""
    if vector * 8 + 7 > S[IDT_LIMIT]:
        raise_fault(PROTECTION, _gate_error(vector))
    gate = load_system(S[IDT_BASE] + vector * 8, 8)
    attributes = attributes_of(gate)
    gate_type = attributes & (NOT_SYSTEM | 15)
    if (
        gate_type != INTERRUPT_32
        and gate_type != TRAP_32
        and gate_type != INTERRUPT_16
        and gate_type != TRAP_16
        and gate_type != TASK_GATE
    ):
        raise_fault(PROTECTION, _gate_error(vector))
    _check_gate(vector, attributes, kind)
    selector = gate >> 16 & 0xFFFF
    if gate_type == TASK_GATE:
        trap = switch_task(selector, BY_CALL, back)
        if has_error:
            # As wide as the TSS.
            size = 4 if S[SEGMENT_ATTRIBUTES + TR] & TSS_32 & ~TSS_16 else 2
            stack_write(S[RSP] - size, size, error)
            set_stack_pointer(S[RSP] - size)
        trap_of_task(trap)
        return
    size = 2 if gate_type == INTERRUPT_16 or gate_type == TRAP_16 else 4
    offset = gate & 0xFFFF
    if size == 4:
        offset |= gate >> 32 & 0xFFFF0000
    code = _handler_descriptor(selector)
    level = level_of(attributes_of(code))
    if attributes_of(code) & CONFORMING:
        level = S[CPL]
    if S[MODE] & MODE_VIRTUAL and level:
        raise_fault(PROTECTION, selector_error(selector))
    check_target(code, offset)
    flags = _flags_to_push(vector, kind)
    if level < S[CPL]:
        _push_inner(selector, code, level, size, flags, error, has_error, back)
    else:
        pointer = S[RSP]
        count = 3
        stack_write(pointer - size, size, flags)
        stack_write(pointer - 2 * size, size, S[SELECTORS + CS])
        stack_write(pointer - 3 * size, size, back)
        if has_error:
            count = 4
            stack_write(pointer - 4 * size, size, error)
        code = mark_accessed(selector, code, PROTECTION)
        set_stack_pointer(pointer - count * size)
    _leave_flags(1 if gate_type == INTERRUPT_32 or gate_type == INTERRUPT_16 else 0)
    enter_code(selector, code, level, offset)


def _push_inner(
    selector: int, code: int, level: int, size: int, flags: int, error: int, has_error: int, back: int
) -> None:
    """Change to the stack of an inner level, and push everything there."""
    place = inner_pointer(level)
    inner = inner_selector(level)
    if (inner & 0xFFFC) == 0:
        raise_fault(INVALID_TSS, selector_error(inner))
    stack = check_stack(inner, level, INVALID_TSS)
    mark_accessed(selector, code, PROTECTION)
    stack = mark_accessed(inner, stack, INVALID_TSS)
    if S[MODE] & MODE_VIRTUAL:
        place -= size
        push_new(stack, inner, place, size, S[SELECTORS + GS])
        place -= size
        push_new(stack, inner, place, size, S[SELECTORS + FS])
        place -= size
        push_new(stack, inner, place, size, S[SELECTORS + DS])
        place -= size
        push_new(stack, inner, place, size, S[SELECTORS + ES])
    place -= size
    push_new(stack, inner, place, size, S[SELECTORS + SS])
    place -= size
    push_new(stack, inner, place, size, S[RSP])
    place -= size
    push_new(stack, inner, place, size, flags)
    place -= size
    push_new(stack, inner, place, size, S[SELECTORS + CS])
    place -= size
    push_new(stack, inner, place, size, back)
    if has_error:
        place -= size
        push_new(stack, inner, place, size, error)
    if S[MODE] & MODE_VIRTUAL:
        set_null_segment(ES, 0)
        set_null_segment(DS, 0)
        set_null_segment(FS, 0)
        set_null_segment(GS, 0)
    set_segment(SS, inner, stack)
    S[RSP] = S[RSP] & ~0xFFFF | place & 0xFFFF if (attributes_of(stack) & BIG) == 0 else place & 0xFFFFFFFF


def _enter_long(vector: int, error: int, has_error: int, kind: int, back: int) -> None:
    """Through a gate of long mode, to 64-bit code (6.14)."""
    if vector * 16 + 15 > S[IDT_LIMIT]:
        raise_fault(PROTECTION, _gate_error(vector))
    gate = load_system(S[IDT_BASE] + vector * 16, 8)
    attributes = attributes_of(gate)
    gate_type = attributes & (NOT_SYSTEM | 15)
    if gate_type != INTERRUPT_32 and gate_type != TRAP_32:
        raise_fault(PROTECTION, _gate_error(vector))
    _check_gate(vector, attributes, kind)
    selector = gate >> 16 & 0xFFFF
    offset = gate & 0xFFFF | gate >> 32 & 0xFFFF0000 | load_system(S[IDT_BASE] + vector * 16 + 8, 4) << 32
    code = _handler_descriptor(selector)
    level = level_of(attributes_of(code))
    if attributes_of(code) & CONFORMING:
        level = S[CPL]
    check_target(code, offset)
    stack = gate >> 32 & 7
    if stack:
        place = interrupt_stack(stack)
    elif level < S[CPL]:
        place = inner_pointer(level)
    else:
        place = S[RSP]
    place = (place & ~15) - 8
    push_long(level, place, S[SELECTORS + SS])
    push_long(level, place - 8, S[RSP])
    push_long(level, place - 16, _flags_to_push(vector, kind))
    push_long(level, place - 24, S[SELECTORS + CS])
    place -= 32
    push_long(level, place, back)
    if has_error:
        place -= 8
        push_long(level, place, error)
    code = mark_accessed(selector, code, PROTECTION)
    if level < S[CPL]:
        set_null_segment(SS, level)
        S[SEGMENT_ATTRIBUTES + SS] = level << 5
    S[RSP] = place
    _leave_flags(1 if gate_type == INTERRUPT_32 else 0)
    enter_code(selector, code, level, offset)


def push_long(level: int, place: int, value: int) -> None:
    """Write to the stack of a handler in long mode; raises #SS(0) where no address can be."""
    if level == 3:
        if (place + (1 << 47)) >> 48:
            raise_fault(STACK_FAULT, S[EVENT])
        store(place, 8, value)
    else:
        push_new(0, 0, place, 8, value)
