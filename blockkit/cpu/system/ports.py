"""Input and output, and who may do them (SDM volume 1, chapter 19)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load_system, port_in, port_out, raise_fault
from blockkit.cpu.state import (
    CPL,
    EFER,
    EFER_LMA,
    IOPL,
    MODE,
    MODE_PROTECTED,
    MODE_VIRTUAL,
    PROTECTION,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SYSTEM_FLAGS,
    TR,
)
from blockkit.cpu.system.descriptors import BUSY, NOT_SYSTEM, PRESENT, TSS_32

_TYPE: Final = 0xF
#: Where a TSS says where its map of ports is.
_MAP: Final = 102


def check_io(port: int, size: int) -> None:
    """Raise #GP(0) if ports may not be used: CPL is above IOPL, and the map of the TSS has a bit set for one of them.

    Args:
        port: The first one.
        size: How many: 1, 2 or 4.
    """
    mode = S[MODE]
    if (mode & MODE_VIRTUAL) == 0 and ((mode & MODE_PROTECTED) == 0 or S[CPL] <= (S[SYSTEM_FLAGS] & IOPL) >> 12):
        return
    attributes = S[SEGMENT_ATTRIBUTES + TR]
    if attributes & (PRESENT | NOT_SYSTEM | _TYPE & ~BUSY) != PRESENT | TSS_32:
        raise_fault(PROTECTION, 0)
    limit = S[SEGMENT_LIMITS + TR]
    if limit < _MAP + 1:
        raise_fault(PROTECTION, 0)
    # Two bytes are read, whatever the size: there is one of ones behind the map.
    place = _task_word(_MAP) + (port >> 3)
    if place + 1 > limit:
        raise_fault(PROTECTION, 0)
    if _task_word(place) >> (port & 7) & (1 << size) - 1:
        raise_fault(PROTECTION, 0)


def _task_word(offset: int) -> int:
    """Read two bytes of the TSS."""
    place = S[SEGMENT_BASES + TR] + offset
    return load_system(place if S[EFER] & EFER_LMA else place & 0xFFFFFFFF, 2)


def read_port(port: int, size: int) -> int:
    """IN."""
    check_io(port, size)
    return port_in(port, size)


def write_port(port: int, size: int, value: int) -> None:
    """OUT."""
    check_io(port, size)
    port_out(port, size, value)
