"""Stacks that are not the one in use yet, or that have just been left (SDM volume 3, 6.12.1 and 5.8.5)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load, load_system, raise_fault, store, store_system
from blockkit.cpu.state import (
    EFER,
    EFER_LMA,
    INVALID_TSS,
    MODE,
    MODE_64,
    MODE_STACK_32,
    PROTECTION,
    RSP,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SELECTORS,
    SS,
    STACK_FAULT,
    TR,
)
from blockkit.cpu.system.descriptors import BIG, DOWN, EVENT, base_of, limit_of, selector_error
from blockkit.cpu.system.segments import check_segment

_4_GIB: Final = 0xFFFFFFFF


def stack_mask() -> int:
    """Return the bits of RSP that the stack in use has."""
    mode = S[MODE]
    if mode & MODE_64:
        return (1 << 64) - 1
    return 0xFFFFFFFF if mode & MODE_STACK_32 else 0xFFFF


def set_stack_pointer(value: int) -> None:
    """Set the part of RSP that is the stack pointer."""
    mask = stack_mask()
    if mask == 0xFFFF:
        S[RSP] = S[RSP] & ~mask | value & mask
    else:
        S[RSP] = value & mask


def stack_read(distance: int, size: int) -> int:
    """Read what is so many bytes above the top of the stack."""
    return load(check_segment(SS, S[RSP] + distance & stack_mask(), size, 0), size)


def stack_write(pointer: int, size: int, value: int) -> None:
    """Write to the stack in use, at an offset that may have wrapped round."""
    store(check_segment(SS, pointer & stack_mask(), size, 1), size, value & (0xFFFFFFFFFFFFFFFF >> (64 - size * 8)))


def inner_pointer(level: int) -> int:
    """Return the stack pointer that the TSS has for a privilege level; raises #TS."""
    if S[EFER] & EFER_LMA:
        return load_system(_in_tss(4 + 8 * level, 8), 8)
    if S[SEGMENT_ATTRIBUTES + TR] & 8:
        return load_system(_in_tss(4 + 8 * level, 6), 4)
    return load_system(_in_tss(2 + 4 * level, 4), 2)


def inner_selector(level: int) -> int:
    """Return the SS that it has, outside long mode; raises #TS."""
    if S[SEGMENT_ATTRIBUTES + TR] & 8:
        return load_system(_in_tss(4 + 8 * level, 6) + 4, 2)
    return load_system(_in_tss(2 + 4 * level, 4) + 2, 2)


def interrupt_stack(number: int) -> int:
    """Return one of the seven stacks for interrupts in long mode; raises #TS."""
    return load_system(_in_tss(0x1C + 8 * number, 8), 8)


def _in_tss(offset: int, size: int) -> int:
    """Return the linear address of something in the TSS."""
    if offset + size - 1 > S[SEGMENT_LIMITS + TR]:
        raise_fault(INVALID_TSS, selector_error(S[SELECTORS + TR]))
    return S[SEGMENT_BASES + TR] + offset


def push_new(descriptor: int, selector: int, pointer: int, size: int, value: int) -> None:
    """Write to a stack of an inner level, at an offset below what it holds; raises #SS.

    Args:
        descriptor: Of the new SS; 0 in long mode, where there is no limit.
        selector: The new SS, for the error code.
        pointer: Where; it may have wrapped round.
        size: 2, 4 or 8 bytes.
        value: What.
    """
    kept = value & (0xFFFFFFFFFFFFFFFF >> (64 - size * 8))
    if descriptor == 0:
        if (pointer + (1 << 47)) >> 48:
            raise_fault(STACK_FAULT, S[EVENT])
        store_system(pointer, size, kept)
        return
    attributes = descriptor >> 40 & 0xF0FF
    offset = pointer & (_4_GIB if attributes & BIG else 0xFFFF)
    limit = limit_of(descriptor)
    last = offset + size - 1
    if attributes & DOWN:
        wrong = 1 if offset <= limit or last > (_4_GIB if attributes & BIG else 0xFFFF) else 0
    else:
        wrong = 1 if last > limit and limit != _4_GIB else 0
    if wrong:
        raise_fault(STACK_FAULT, selector_error(selector))
    store_system(base_of(descriptor) + offset & _4_GIB, size, kept)


def check_canonical_target(offset: int) -> None:
    """Raise #GP(0) if code cannot be there in 64-bit mode; while an event is delivered the error code is EXT."""
    if (offset + (1 << 47)) >> 48:
        raise_fault(PROTECTION, S[EVENT])
