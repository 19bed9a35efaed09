"""What handlers call, in the dialect."""

from __future__ import annotations

from blockkit.cpu.dialect import S, host_read
from blockkit.cpu.jit.blocks import end_early, header_of, jump_entry, locate, resolve
from blockkit.cpu.jit.layout import (
    ADDRESS_SHIFT,
    BASE,
    DISPLACEMENT,
    HEADER_OFFSET,
    INDEX,
    LIMIT,
    NO_PAGE,
    SCALE,
    SEGMENT_SHIFT,
)
from blockkit.cpu.jit.memory import load, probe_store, store
from blockkit.cpu.state import (
    ALIGNMENT,
    ATTENTION,
    DOUBLE_FAULT,
    FAULT_ERROR,
    FAULT_VECTOR,
    HALT,
    INVALID_TSS,
    MODE,
    MODE_64,
    NMI,
    PAGE_FAULT,
    SEGMENT_BASES,
    SHUTDOWN,
)
from blockkit.cpu.system.delivery import EXCEPTION, combine_faults
from blockkit.cpu.system.segments import check_segment


def slow_read(record: int, left: int, address: int, size: int) -> int:
    """Read where the TLB knows nothing."""
    locate(record, left, S[LIMIT])
    value = load(address, size)
    if S[ATTENTION]:
        end_early(record)
    return value


def slow_write(record: int, left: int, address: int, size: int, value: int) -> None:
    """Write there."""
    locate(record, left, S[LIMIT])
    store(address, size, value)
    if S[ATTENTION]:
        end_early(record)


def slow_write_16(record: int, left: int, address: int, low: int, high: int) -> None:
    """Write 16 bytes there."""
    locate(record, left, S[LIMIT])
    if (address & 4095) > 4080:
        probe_store(address, 16)
    store(address, 8, low)
    store(address + 8, 8, high)
    if S[ATTENTION]:
        end_early(record)


def after_system(record: int) -> None:
    """End the block where system code did something that others have to know."""
    if S[ATTENTION]:
        end_early(record)


def any_offset(record: int) -> int:
    """Return the effective address of an operand, whatever its form."""
    scale = host_read(record + SCALE, 1)
    offset = S[host_read(record + BASE, 1) >> 3] + (S[host_read(record + INDEX, 1) >> 3] << (scale & 3))
    return cut_offset(offset + host_read(record + DISPLACEMENT, 8), scale >> ADDRESS_SHIFT & 3)


def cut_offset(offset: int, width: int) -> int:
    """Cut an offset to the address size: 0 for two bytes, 1 for four, 2 for eight."""
    if width == 2:
        return offset
    return offset & 0xFFFFFFFF if width == 1 else offset & 0xFFFF


def any_address(record: int, more: int, size: int, write: int) -> int:
    """Return the linear address of an operand, whatever its form and its segment, ``more`` bytes on."""
    scale = host_read(record + SCALE, 1)
    offset = cut_offset(any_offset(record) + more, scale >> ADDRESS_SHIFT & 3)
    segment = scale >> SEGMENT_SHIFT & 7
    if S[MODE] & MODE_64:
        return offset + S[SEGMENT_BASES + segment] if segment >= 4 else offset
    return check_segment(segment, offset, size, write)


def has_error_code(vector: int, kind: int) -> int:
    """Whether an event has an error code."""
    if kind != EXCEPTION:
        return 0
    return 1 if vector == DOUBLE_FAULT or (vector >= INVALID_TSS and vector <= PAGE_FAULT) or vector == ALIGNMENT else 0


def second_fault(first: int, kind: int) -> int:
    """Return what to deliver after an exception during the delivery of another event; 255, and halt, for a shutdown."""
    vector = combine_faults(first if kind == EXCEPTION else NMI, S[FAULT_VECTOR] & 0xFF)
    S[FAULT_VECTOR] = 0
    if vector == DOUBLE_FAULT:
        S[FAULT_ERROR] = 0
    if vector == 255:
        S[HALT] = SHUTDOWN
    return vector


def revive(record: int) -> int:
    """Return where a block is that was forgotten."""
    offset = host_read(header_of(record) + HEADER_OFFSET, 8)
    S[jump_entry(offset)] = NO_PAGE
    return resolve(offset)
