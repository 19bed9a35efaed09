"""The x87 and SSE between the slots and the area of XSAVE (SDM volume 1, chapter 13 and section 10.5.1)."""

from __future__ import annotations

from struct import pack_into, unpack_from
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

    from blockkit.cpu.kvm.interface import Xsave

#: FCW, FSW, the abridged tags, FOP, FIP, FDP and MXCSR.
_CONTROL: Final = "<HHBxHQQI"
_ST: Final = 32
_XMM: Final = 160
_XSTATE_BV: Final = 512
#: Of XSTATE_BV: the area holds the x87; it holds SSE.
_PRESENT: Final = 3
_VALID, _ZERO, _SPECIAL, _EMPTY = range(4)
_INTEGER_BIT: Final = 1 << 63


def load(slots: MutableSequence[int], area: Xsave) -> None:
    """Set the slots; but FCS and FDS, which the area does not have."""
    region = area.region
    control, status, full, opcode, instruction, operand, mxcsr = unpack_from(_CONTROL, region)
    slots[state.FCW], slots[state.FSW], slots[state.FOP] = control, status, opcode
    slots[state.FIP], slots[state.FDP], slots[state.MXCSR] = instruction, operand, mxcsr
    top = status >> 11 & 7
    tags = 0
    for place in range(8):
        register = top + place & 7
        mantissa, exponent = unpack_from("<QH", region, _ST + 16 * place)
        slots[state.X87 + 2 * register], slots[state.X87 + 2 * register + 1] = mantissa, exponent
        tags |= (_tag(mantissa, exponent) if full >> register & 1 else _EMPTY) << 2 * register
    slots[state.FTW] = tags
    slots[state.XMM : state.XMM + 32] = unpack_from("<32Q", region, _XMM)


def store(slots: Sequence[int], area: Xsave) -> None:
    """Set the area; what has no slots in it stays."""
    region = area.region
    status, tags = slots[state.FSW], slots[state.FTW]
    full = sum(1 << register for register in range(8) if tags >> 2 * register & 3 != _EMPTY)
    pointers = slots[state.FIP], slots[state.FDP]
    pack_into(_CONTROL, region, 0, slots[state.FCW], status, full, slots[state.FOP], *pointers, slots[state.MXCSR])
    top = status >> 11 & 7
    for place in range(8):
        register = top + place & 7
        mantissa, exponent = slots[state.X87 + 2 * register], slots[state.X87 + 2 * register + 1]
        pack_into("<QH6x", region, _ST + 16 * place, mantissa, exponent)
    pack_into("<32Q", region, _XMM, *slots[state.XMM : state.XMM + 32])
    (present,) = unpack_from("<Q", region, _XSTATE_BV)
    pack_into("<Q", region, _XSTATE_BV, present | _PRESENT)


def _tag(mantissa: int, exponent: int) -> int:
    """Return the tag of a register that is not empty, as FSTENV does."""
    exponent &= 0x7FFF
    if exponent == 0 and mantissa == 0:
        return _ZERO
    if exponent in (0, 0x7FFF) or not mantissa & _INTEGER_BIT:
        return _SPECIAL
    return _VALID
