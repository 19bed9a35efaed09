"""The state of a processor after RESET (SDM volume 3, table 9-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state

if TYPE_CHECKING:
    from collections.abc import MutableSequence

#: Family, model and stepping, which RDX holds after RESET.
SIGNATURE: Final = 0x000306A9

_DATA, _CODE, _LDT, _BUSY_TSS = 0x93, 0x9B, 0x82, 0x8B


def reset(slots: MutableSequence[int]) -> None:
    """Set every slot as RESET does, EXECUTED too."""
    for number, value in enumerate(state.new_state()):
        slots[number] = value
    for segment in range(8):
        slots[state.SEGMENT_LIMITS + segment] = 0xFFFF
        slots[state.SEGMENT_ATTRIBUTES + segment] = _DATA
    slots[state.SEGMENT_ATTRIBUTES + state.CS] = _CODE
    slots[state.SEGMENT_ATTRIBUTES + state.LDTR] = _LDT
    slots[state.SEGMENT_ATTRIBUTES + state.TR] = _BUSY_TSS
    slots[state.SELECTORS + state.CS] = 0xF000
    slots[state.SEGMENT_BASES + state.CS] = 0xFFFF0000
    slots[state.RIP] = 0xFFF0
    slots[state.RDX] = SIGNATURE
    slots[state.GDT_LIMIT] = slots[state.IDT_LIMIT] = 0xFFFF
    slots[state.CR0] = state.CR0_ET | state.CR0_NW | state.CR0_CD
    slots[state.XCR0] = 1
    slots[state.DEBUG + 6], slots[state.DEBUG + 7] = 0xFFFF0FF0, 0x400
    slots[state.PAT] = 0x0007040600070406
    slots[state.APIC_BASE] = 0xFEE00900
    slots[state.MISC_ENABLE] = 1
    slots[state.FCW], slots[state.FTW], slots[state.MXCSR] = 0x40, 0x5555, 0x1F80
