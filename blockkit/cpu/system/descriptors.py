"""Descriptors and selectors (SDM volume 3, 3.4)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load_system, raise_fault, store_system
from blockkit.cpu.state import (
    GDT_BASE,
    GDT_LIMIT,
    LDTR,
    OWN,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SELECTORS,
)

#: Bits of attributes: see :data:`blockkit.cpu.state.SEGMENT_ATTRIBUTES`.
ACCESSED, WRITABLE, READABLE, DOWN, CONFORMING, CODE, NOT_SYSTEM = 1, 2, 2, 4, 4, 8, 16
PRESENT, LONG, BIG = 0x80, 0x2000, 0x4000
_FINE: Final = 0x8000
#: Types of descriptors of the system.
TSS_16, LDT, CALL_16, TASK_GATE, INTERRUPT_16, TRAP_16 = 1, 2, 4, 5, 6, 7
TSS_32, BUSY, CALL_32, INTERRUPT_32, TRAP_32 = 9, 2, 12, 14, 15

#: 1 while an event is delivered that no instruction asked for: EXT of error codes (6.13).
EVENT: Final = OWN + 2


def attributes_of(descriptor: int) -> int:
    """Return the attributes in a descriptor."""
    return descriptor >> 40 & 0xF0FF


def level_of(attributes: int) -> int:
    """Return DPL."""
    return attributes >> 5 & 3


def base_of(descriptor: int) -> int:
    """Return the base."""
    return descriptor >> 16 & 0xFFFFFF | descriptor >> 32 & 0xFF000000


def limit_of(descriptor: int) -> int:
    """Return the limit in bytes."""
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF0000
    return limit << 12 | 0xFFF if attributes_of(descriptor) & _FINE else limit


def selector_error(selector: int) -> int:
    """Return the error code that names a selector."""
    return selector & 0xFFFC | S[EVENT]


def descriptor_place(selector: int, vector: int) -> int:
    """Return the linear address of the descriptor of a selector; raises ``vector`` if it is in no table."""
    last = (selector & 0xFFF8) + 7
    if selector & 4:
        if (S[SEGMENT_ATTRIBUTES + LDTR] & PRESENT) == 0 or last > S[SEGMENT_LIMITS + LDTR]:
            raise_fault(vector, selector_error(selector))
        return S[SEGMENT_BASES + LDTR] + last - 7
    if last > S[GDT_LIMIT]:
        raise_fault(vector, selector_error(selector))
    return S[GDT_BASE] + last - 7


def read_descriptor(selector: int, vector: int) -> int:
    """Return the descriptor of a selector."""
    return load_system(descriptor_place(selector, vector), 8)


def read_second_half(selector: int, vector: int) -> int:
    """Return the second eight bytes of a descriptor of long mode; raises ``vector`` if they are in no table."""
    place = descriptor_place(selector, vector)
    if (selector & 0xFFF8) + 15 > (S[SEGMENT_LIMITS + LDTR] if selector & 4 else S[GDT_LIMIT]):
        raise_fault(vector, selector_error(selector))
    return load_system(place + 8, 8)


def mark_accessed(selector: int, descriptor: int, vector: int) -> int:
    """Set the accessed bit of a descriptor, in its table too, and return it."""
    if (descriptor >> 40 & ACCESSED) == 0:
        descriptor |= ACCESSED << 40
        store_system(descriptor_place(selector, vector) + 5, 1, descriptor >> 40 & 0xFF)
    return descriptor


def set_segment(register: int, selector: int, descriptor: int) -> None:
    """Set a segment register to a descriptor."""
    S[SELECTORS + register] = selector & 0xFFFF
    S[SEGMENT_BASES + register] = base_of(descriptor)
    S[SEGMENT_LIMITS + register] = limit_of(descriptor)
    S[SEGMENT_ATTRIBUTES + register] = attributes_of(descriptor)
