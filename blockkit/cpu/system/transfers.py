"""Far jumps, calls and returns, and call gates (SDM volume 3, 5.8)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, raise_fault
from blockkit.cpu.state import (
    CPL,
    CS,
    EFER,
    EFER_LMA,
    INVALID_TSS,
    MODE,
    MODE_PROTECTED,
    MODE_VIRTUAL,
    NOT_PRESENT,
    PROTECTION,
    RIP,
    RSP,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SELECTORS,
    SS,
)
from blockkit.cpu.system.descriptors import (
    BIG,
    CALL_16,
    CALL_32,
    CODE,
    CONFORMING,
    EVENT,
    LONG,
    NOT_SYSTEM,
    PRESENT,
    TASK_GATE,
    TSS_16,
    TSS_32,
    attributes_of,
    level_of,
    limit_of,
    mark_accessed,
    read_descriptor,
    read_second_half,
    selector_error,
    set_segment,
)
from blockkit.cpu.system.segments import (
    check_stack,
    forget_inner_segments,
    load_stack,
    set_null_segment,
    set_virtual_segment,
    update_mode,
)
from blockkit.cpu.system.stacks import (
    check_canonical_target,
    inner_pointer,
    inner_selector,
    push_new,
    set_stack_pointer,
    stack_read,
    stack_write,
)
from blockkit.cpu.system.tasks import BY_CALL, BY_JUMP, switch_task, trap_of_task

_ALL: Final = (1 << 64) - 1


def cut_to(value: int, size: int) -> int:
    """Return the low ``size`` bytes of a number."""
    return value & (_ALL >> (64 - size * 8))


def code_descriptor(selector: int, level: int, vector: int) -> int:
    """Return the descriptor of code that a jump at a level may go to; raises ``vector`` (#GP) and #NP."""
    descriptor = read_descriptor(selector, vector)
    attributes = attributes_of(descriptor)
    if attributes & (NOT_SYSTEM | CODE) != NOT_SYSTEM | CODE:
        raise_fault(vector, selector_error(selector))
    if attributes & CONFORMING:
        if level_of(attributes) > level:
            raise_fault(vector, selector_error(selector))
    elif level_of(attributes) != level or (selector & 3) > level:
        raise_fault(vector, selector_error(selector))
    check_code_kind(selector, attributes, vector)
    return descriptor


def check_code_kind(selector: int, attributes: int, vector: int) -> None:
    """Raise what code that is neither of 32 nor of 64 bits, or not present, raises."""
    if S[EFER] & EFER_LMA and attributes & (LONG | BIG) == LONG | BIG:
        raise_fault(vector, selector_error(selector))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(selector))


def check_target(descriptor: int, offset: int) -> None:
    """Raise #GP(0) if a code segment has nothing at an offset; while an event is delivered the error code is EXT."""
    if S[EFER] & EFER_LMA and attributes_of(descriptor) & LONG:
        check_canonical_target(offset)
    elif offset > limit_of(descriptor):
        raise_fault(PROTECTION, S[EVENT])


def enter_code(selector: int, descriptor: int, level: int, offset: int) -> None:
    """Load CS and RIP, at a privilege level."""
    set_segment(CS, selector & 0xFFFC | level, mark_accessed(selector, descriptor, PROTECTION))
    S[CPL] = level
    S[RIP] = offset
    update_mode()


def load_real_code(selector: int, offset: int) -> None:
    """Load CS and IP in real and in virtual-8086 mode."""
    if S[MODE] & MODE_VIRTUAL:
        if offset > 0xFFFF:
            raise_fault(PROTECTION, 0)
        set_virtual_segment(CS, selector)
    else:
        if offset > S[SEGMENT_LIMITS + CS]:
            raise_fault(PROTECTION, 0)
        S[SELECTORS + CS] = selector & 0xFFFF
        S[SEGMENT_BASES + CS] = (selector & 0xFFFF) << 4
    S[RIP] = offset
    update_mode()


def far_jump(selector: int, offset: int, size: int, length: int) -> None:
    """JMP to another segment."""
    offset = cut_to(offset, size)
    if (S[MODE] & MODE_PROTECTED) == 0:
        load_real_code(selector, offset)
        return
    if (selector & 0xFFFC) == 0:
        raise_fault(PROTECTION, 0)
    descriptor = read_descriptor(selector, PROTECTION)
    if attributes_of(descriptor) & NOT_SYSTEM:
        descriptor = code_descriptor(selector, S[CPL], PROTECTION)
        check_target(descriptor, offset)
        enter_code(selector, descriptor, S[CPL], offset)
        return
    kind = gate_kind(selector, descriptor)
    if kind == CALL_16 or kind == CALL_32:
        _jump_through_gate(selector, kind, descriptor)
    else:
        trap_of_task(switch_task(_task_selector(selector, descriptor, kind), BY_JUMP, S[RIP] + length))


def gate_kind(selector: int, descriptor: int) -> int:
    """Return the type of a gate or TSS that a jump may go through; raises #GP and #NP."""
    attributes = attributes_of(descriptor)
    kind = attributes & 15
    known = 1 if kind == CALL_32 else 0
    if (S[EFER] & EFER_LMA) == 0:
        known |= (kind == CALL_16) | (kind == TASK_GATE) | (kind == TSS_16) | (kind == TSS_32)
    level = level_of(attributes)
    if known == 0 or level < S[CPL] or level < (selector & 3):
        raise_fault(PROTECTION, selector_error(selector))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(selector))
    return kind


def _task_selector(selector: int, descriptor: int, kind: int) -> int:
    """Return the TSS that a selector leads to, of a TSS or of a task gate."""
    return descriptor >> 16 & 0xFFFF if kind == TASK_GATE else selector


def _gate_offset(selector: int, descriptor: int, kind: int) -> int:
    """Return the offset in a call gate."""
    if kind == CALL_16:
        return descriptor & 0xFFFF
    low = descriptor & 0xFFFF | descriptor >> 32 & 0xFFFF0000
    if S[EFER] & EFER_LMA:
        second = read_second_half(selector, PROTECTION)
        if second >> 40 & 0x1F:
            raise_fault(PROTECTION, selector_error(selector))
        return second << 32 | low
    return low


def _gate_target(descriptor: int, inner: int) -> int:
    """Return the descriptor of the code that a call gate leads to, which may be of an inner level for a CALL."""
    target = descriptor >> 16 & 0xFFFF
    if (target & 0xFFFC) == 0:
        raise_fault(PROTECTION, 0)
    code = read_descriptor(target, PROTECTION)
    attributes = attributes_of(code)
    if attributes & (NOT_SYSTEM | CODE) != NOT_SYSTEM | CODE or level_of(attributes) > S[CPL]:
        raise_fault(PROTECTION, selector_error(target))
    if inner == 0 and (attributes & CONFORMING) == 0 and level_of(attributes) != S[CPL]:
        raise_fault(PROTECTION, selector_error(target))
    if S[EFER] & EFER_LMA and attributes & (LONG | BIG) != LONG:
        raise_fault(PROTECTION, selector_error(target))
    if (attributes & PRESENT) == 0:
        raise_fault(NOT_PRESENT, selector_error(target))
    return code


def _jump_through_gate(selector: int, kind: int, descriptor: int) -> None:
    """JMP through a call gate: to the same level only."""
    offset = _gate_offset(selector, descriptor, kind)
    code = _gate_target(descriptor, 0)
    target = descriptor >> 16 & 0xFFFF
    check_target(code, offset)
    enter_code(target, code, S[CPL], offset)


def far_call(selector: int, offset: int, size: int, length: int) -> None:
    """CALL of another segment."""
    offset = cut_to(offset, size)
    back = S[RIP] + length
    if (S[MODE] & MODE_PROTECTED) == 0:
        pointer = S[RSP] - 2 * size
        if offset > (0xFFFF if S[MODE] & MODE_VIRTUAL else S[SEGMENT_LIMITS + CS]):
            raise_fault(PROTECTION, 0)
        stack_write(pointer + size, size, S[SELECTORS + CS])
        stack_write(pointer, size, back)
        load_real_code(selector, offset)
        set_stack_pointer(pointer)
        return
    if (selector & 0xFFFC) == 0:
        raise_fault(PROTECTION, 0)
    descriptor = read_descriptor(selector, PROTECTION)
    if attributes_of(descriptor) & NOT_SYSTEM:
        descriptor = code_descriptor(selector, S[CPL], PROTECTION)
        check_target(descriptor, offset)
        _call_same_level(selector, descriptor, offset, size, back)
        return
    kind = gate_kind(selector, descriptor)
    if kind == CALL_16 or kind == CALL_32:
        _call_through_gate(selector, kind, descriptor, back)
    else:
        trap_of_task(switch_task(_task_selector(selector, descriptor, kind), BY_CALL, back))


def _call_same_level(selector: int, code: int, offset: int, size: int, back: int) -> None:
    """Push where to return to, and go."""
    pointer = S[RSP] - 2 * size
    stack_write(pointer + size, size, S[SELECTORS + CS])
    stack_write(pointer, size, back)
    code = mark_accessed(selector, code, PROTECTION)
    set_stack_pointer(pointer)
    enter_code(selector, code, S[CPL], offset)


def _call_through_gate(selector: int, kind: int, descriptor: int, back: int) -> None:
    """CALL through a call gate, to the same or to an inner level (5.8.4)."""
    offset = _gate_offset(selector, descriptor, kind)
    code = _gate_target(descriptor, 1)
    target = descriptor >> 16 & 0xFFFF
    attributes = attributes_of(code)
    level = level_of(attributes)
    long = S[EFER] & EFER_LMA
    size = 8 if long else 2 if kind == CALL_16 else 4
    check_target(code, offset)
    if attributes & CONFORMING or level == S[CPL]:
        _call_same_level(target, code, offset, size, back)
        return
    pointer = inner_pointer(level)
    inner = 0
    stack = 0
    if long == 0:
        inner = inner_selector(level)
        if (inner & 0xFFFC) == 0:
            raise_fault(INVALID_TSS, selector_error(inner))
        stack = check_stack(inner, level, INVALID_TSS)
    else:
        inner = level
    count = 0 if long else descriptor >> 32 & 31
    place = pointer - size
    push_new(stack, inner, place, size, S[SELECTORS + SS])
    place -= size
    push_new(stack, inner, place, size, S[RSP])
    index = count
    while index:
        index -= 1
        place -= size
        push_new(stack, inner, place, size, stack_read(index * size, size))
    place -= size
    push_new(stack, inner, place, size, S[SELECTORS + CS])
    place -= size
    push_new(stack, inner, place, size, back)
    code = mark_accessed(target, code, PROTECTION)
    if long:
        set_null_segment(SS, level)
        S[SEGMENT_ATTRIBUTES + SS] = level << 5
    else:
        set_segment(SS, inner, mark_accessed(inner, stack, INVALID_TSS))
    enter_code(target, code, level, offset)
    set_stack_pointer(place)


def far_return(size: int, drop: int) -> None:
    """RET to another segment, dropping bytes of parameters."""
    offset = stack_read(0, size)
    selector = stack_read(size, size) & 0xFFFF
    if (S[MODE] & MODE_PROTECTED) == 0:
        pointer = S[RSP] + 2 * size + drop
        load_real_code(selector, offset)
        set_stack_pointer(pointer)
        return
    level = selector & 3
    code = return_descriptor(selector)
    check_target(code, offset)
    if level == S[CPL]:
        code = mark_accessed(selector, code, PROTECTION)
        # As wide as it was before the return, which may leave 64-bit mode.
        set_stack_pointer(S[RSP] + 2 * size + drop)
        enter_code(selector, code, level, offset)
        return
    pointer = stack_read(2 * size + drop, size)
    outer = stack_read(3 * size + drop, size) & 0xFFFF
    return_outward(selector, code, offset, outer, pointer, drop)


def return_descriptor(selector: int) -> int:
    """Return the descriptor of a code segment that a return may go to; raises #GP and #NP."""
    if (selector & 0xFFFC) == 0:
        raise_fault(PROTECTION, 0)
    code = read_descriptor(selector, PROTECTION)
    attributes = attributes_of(code)
    level = selector & 3
    if attributes & (NOT_SYSTEM | CODE) != NOT_SYSTEM | CODE or level < S[CPL]:
        raise_fault(PROTECTION, selector_error(selector))
    if attributes & CONFORMING:
        if level_of(attributes) > level:
            raise_fault(PROTECTION, selector_error(selector))
    elif level_of(attributes) != level:
        raise_fault(PROTECTION, selector_error(selector))
    check_code_kind(selector, attributes, PROTECTION)
    return code


def return_outward(selector: int, code: int, offset: int, outer: int, pointer: int, drop: int) -> None:
    """Go to an outer level, with its stack."""
    level = selector & 3
    code = mark_accessed(selector, code, PROTECTION)
    load_return_stack(outer, level, code)
    enter_code(selector, code, level, offset)
    set_stack_pointer(pointer + drop)
    forget_inner_segments()
    update_mode()


def load_return_stack(outer: int, level: int, code: int) -> None:
    """Load SS on the way to a level; a null selector will do in 64-bit mode, but at level 3; raises #GP and #SS."""
    if (outer & 0xFFFC) == 0 and S[EFER] & EFER_LMA and attributes_of(code) & LONG and level != 3:
        if (outer & 3) != level:
            raise_fault(PROTECTION, 0)
        set_null_segment(SS, outer)
        S[SEGMENT_ATTRIBUTES + SS] = level << 5
        return
    if (outer & 0xFFFC) == 0:
        raise_fault(PROTECTION, 0)
    load_stack(outer, level, PROTECTION)
