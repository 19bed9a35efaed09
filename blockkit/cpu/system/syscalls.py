"""SYSCALL, SYSRET, SYSENTER and SYSEXIT (SDM volume 3, 5.8.7 and 5.8.8)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, raise_fault
from blockkit.cpu.state import (
    CPL,
    CR0,
    CR0_PE,
    CS,
    EFER,
    EFER_LMA,
    EFER_SCE,
    IF,
    LSTAR,
    MODE,
    MODE_64,
    PROTECTION,
    RCX,
    RDX,
    RF,
    RIP,
    RSP,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SELECTORS,
    SFMASK,
    SS,
    STAR,
    SYSENTER_CS,
    SYSENTER_EIP,
    SYSENTER_ESP,
    SYSTEM_FLAGS,
    UNDEFINED,
    VM,
)
from blockkit.cpu.system.flags import read_flags, write_flags
from blockkit.cpu.system.segments import update_mode
from blockkit.cpu.system.stacks import check_canonical_target

_R11: Final = 11
#: Attributes of code of 64 and of 32 bits, and of data, at level 0.
_CODE_64, _CODE_32, _DATA = 0xA09B, 0xC09B, 0xC093
#: What SYSRET takes from R11.
_RETURNED: Final = 0x3C7FD7


def _set_flat(register: int, selector: int, attributes: int, level: int) -> None:
    """Set a segment register as these instructions do, without looking at any descriptor."""
    S[SELECTORS + register] = selector & 0xFFFC | level
    S[SEGMENT_BASES + register] = 0
    S[SEGMENT_LIMITS + register] = 0xFFFFFFFF
    S[SEGMENT_ATTRIBUTES + register] = attributes | level << 5


def system_call(length: int) -> None:
    """SYSCALL: in 64-bit mode only."""
    if (S[EFER] & EFER_SCE) == 0 or (S[MODE] & MODE_64) == 0:
        raise_fault(UNDEFINED, 0)
    S[RCX] = S[RIP] + length
    flags = read_flags()
    S[_R11] = flags
    write_flags(flags & ~(S[SFMASK] | RF))
    selector = S[STAR] >> 32
    S[CPL] = 0
    _set_flat(CS, selector & 0xFFFC, _CODE_64, 0)
    _set_flat(SS, (selector & 0xFFFC) + 8, _DATA, 0)
    S[RIP] = S[LSTAR]
    update_mode()


def system_return(size: int) -> None:
    """SYSRET."""
    if (S[EFER] & EFER_SCE) == 0 or (S[MODE] & MODE_64) == 0:
        raise_fault(UNDEFINED, 0)
    if S[CPL]:
        raise_fault(PROTECTION, 0)
    selector = S[STAR] >> 48
    target = S[RCX]
    if size == 8:
        check_canonical_target(target)
        _set_flat(CS, selector + 16, _CODE_64, 3)
    else:
        target = target & 0xFFFFFFFF
        _set_flat(CS, selector, _CODE_32, 3)
    _set_flat(SS, selector + 8, _DATA, 3)
    S[CPL] = 3
    S[RIP] = target
    write_flags(S[_R11] & _RETURNED)
    update_mode()


def fast_enter() -> None:
    """SYSENTER."""
    if (S[CR0] & CR0_PE) == 0 or (S[SYSENTER_CS] & 0xFFFC) == 0:
        raise_fault(PROTECTION, 0)
    long = S[EFER] & EFER_LMA
    S[SYSTEM_FLAGS] &= ~(VM | IF | RF)
    S[CPL] = 0
    _set_flat(CS, S[SYSENTER_CS], _CODE_64 if long else _CODE_32, 0)
    _set_flat(SS, (S[SYSENTER_CS] & 0xFFFC) + 8, _DATA, 0)
    S[RSP] = S[SYSENTER_ESP] if long else S[SYSENTER_ESP] & 0xFFFFFFFF
    S[RIP] = S[SYSENTER_EIP] if long else S[SYSENTER_EIP] & 0xFFFFFFFF
    update_mode()


def fast_exit(size: int) -> None:
    """SYSEXIT."""
    selector = S[SYSENTER_CS] & 0xFFFC
    if (S[CR0] & CR0_PE) == 0 or selector == 0 or S[CPL]:
        raise_fault(PROTECTION, 0)
    target = S[RDX]
    pointer = S[RCX]
    if size == 8:
        check_canonical_target(target)
        check_canonical_target(pointer)
        _set_flat(CS, selector + 32, _CODE_64, 3)
        _set_flat(SS, selector + 40, _DATA, 3)
    else:
        target = target & 0xFFFFFFFF
        pointer = pointer & 0xFFFFFFFF
        _set_flat(CS, selector + 16, _CODE_32, 3)
        _set_flat(SS, selector + 24, _DATA, 3)
    S[CPL] = 3
    S[RSP] = pointer
    S[RIP] = target
    update_mode()
