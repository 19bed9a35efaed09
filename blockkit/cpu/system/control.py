"""Control and debug registers, and what else is for the system alone (SDM volume 3, 2.5 and 17.2)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, flush_page, flush_tlb, raise_fault
from blockkit.cpu.state import (
    AC,
    CPL,
    CR0,
    CR0_AM,
    CR0_CD,
    CR0_EM,
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR0_WP,
    CR2,
    CR3,
    CR4,
    CR4_DE,
    CR4_FSGSBASE,
    CR4_MCE,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_PAE,
    CR4_PCE,
    CR4_PGE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    CR4_TSD,
    CR4_UMIP,
    CR8,
    CS,
    DEBUG,
    DEBUG_EXCEPTION,
    EFER,
    EFER_LMA,
    EFER_LME,
    GS,
    HALT,
    HALTED,
    KERNEL_GS_BASE,
    MODE,
    MODE_64,
    PROTECTION,
    SEGMENT_ATTRIBUTES,
    SEGMENT_BASES,
    SYSTEM_FLAGS,
    TR,
    UNDEFINED,
)
from blockkit.cpu.system.descriptors import BUSY, LONG, NOT_SYSTEM, TSS_16
from blockkit.cpu.system.paging import PHYSICAL_BITS, load_pdptes
from blockkit.cpu.system.segments import update_mode
from blockkit.cpu.system.tables import require_level_0

#: The bits there are. Those of CR0 that there are not are ignored; those of CR4 may not be set.
_CR0_BITS: Final = (
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG
)  # fmt: skip
_CR4_BITS: Final = (
    CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP
    | CR4_FSGSBASE | CR4_SMEP | CR4_SMAP
)  # fmt: skip
#: Bits whose change makes PAE paging read its PDPTEs (4.4.1), and those that empty the TLB (4.10.4.1).
_CR0_PDPTES: Final = CR0_PG | CR0_CD | CR0_NW
_CR4_PDPTES: Final = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP
_CR0_FLUSH: Final = CR0_PE | CR0_WP | CR0_PG
_CR4_FLUSH: Final = _CR4_PDPTES | CR4_SMAP
#: What LMSW sets.
_STATUS: Final = CR0_PE | CR0_MP | CR0_EM | CR0_TS

_DR6_ONES, _DR6_BITS, _DR6_ACCESS = 0xFFFF0FF0, 0xE00F, 1 << 13
_DR7_ONES, _DR7_BITS, _DR7_DETECT = 0x400, 0xFFFF23FF, 1 << 13


def read_control(number: int) -> int:
    """MOV from a control register."""
    require_level_0()
    if number == 0:
        return S[CR0]
    if number == 2:
        return S[CR2]
    if number == 3:
        return S[CR3]
    return S[CR4] if number == 4 else S[CR8]


def write_control(number: int, value: int) -> None:
    """MOV to a control register; raises #GP(0) for what it cannot hold."""
    require_level_0()
    if number == 0:
        _write_cr0(value)
    elif number == 2:
        S[CR2] = value
    elif number == 3:
        _write_cr3(value)
    elif number == 4:
        _write_cr4(value)
    else:
        if value > 15:
            raise_fault(PROTECTION, 0)
        S[CR8] = value


def _write_cr0(value: int) -> None:
    if value >> 32 or value & (CR0_PG | CR0_PE) == CR0_PG or value & (CR0_NW | CR0_CD) == CR0_NW:
        raise_fault(PROTECTION, 0)
    value = value & _CR0_BITS | CR0_ET
    changed = value ^ S[CR0]
    efer = S[EFER]
    if changed & CR0_PG:
        if value & CR0_PG:
            if efer & EFER_LME:
                _check_long_mode()
                efer |= EFER_LMA
        else:
            if S[MODE] & MODE_64:
                raise_fault(PROTECTION, 0)
            efer &= ~EFER_LMA
    if value & CR0_PG and S[CR4] & CR4_PAE and (efer & EFER_LMA) == 0 and changed & _CR0_PDPTES:
        load_pdptes(S[CR3])
    S[CR0] = value
    S[EFER] = efer
    if changed & _CR0_FLUSH:
        flush_tlb(1)
    update_mode()


def _check_long_mode() -> None:
    """Raise #GP(0) where long mode cannot begin (9.8.5)."""
    task = S[SEGMENT_ATTRIBUTES + TR] & (NOT_SYSTEM | 0xF)
    if (S[CR4] & CR4_PAE) == 0 or S[SEGMENT_ATTRIBUTES + CS] & LONG or task & ~BUSY == TSS_16:
        raise_fault(PROTECTION, 0)


def _write_cr3(value: int) -> None:
    if S[EFER] & EFER_LMA:
        if value >> PHYSICAL_BITS:
            raise_fault(PROTECTION, 0)
    elif S[CR0] & CR0_PG and S[CR4] & CR4_PAE:
        load_pdptes(value)
    S[CR3] = value
    flush_tlb(0)


def _write_cr4(value: int) -> None:
    if value & ~_CR4_BITS or (S[EFER] & EFER_LMA and (value & CR4_PAE) == 0):
        raise_fault(PROTECTION, 0)
    changed = value ^ S[CR4]
    if S[CR0] & CR0_PG and value & CR4_PAE and (S[EFER] & EFER_LMA) == 0 and changed & _CR4_PDPTES:
        load_pdptes(S[CR3])
    S[CR4] = value
    if changed & _CR4_FLUSH:
        flush_tlb(1)
    update_mode()


def load_machine_status(value: int) -> None:
    """LMSW, which can set PE but not clear it."""
    _write_cr0(S[CR0] & ~(_STATUS & ~CR0_PE) | value & _STATUS)


def machine_status() -> int:
    """SMSW."""
    if S[CPL] and S[CR4] & CR4_UMIP:
        raise_fault(PROTECTION, 0)
    return S[CR0]


def clear_task_switched() -> None:
    """CLTS."""
    require_level_0()
    S[CR0] &= ~CR0_TS
    update_mode()


def halt() -> None:
    """HLT."""
    require_level_0()
    S[HALT] = HALTED


def invalidate_page(address: int) -> None:
    """INVLPG."""
    flush_page(address)


def allow_user_pages(allowed: int) -> None:
    """STAC and CLAC."""
    if S[CPL]:
        raise_fault(UNDEFINED, 0)
    S[SYSTEM_FLAGS] = S[SYSTEM_FLAGS] | AC if allowed else S[SYSTEM_FLAGS] & ~AC


def _debug_register(number: int) -> int:
    """Return which debug register is meant; raises what looking at any raises (17.2.2 and 17.2.4)."""
    if number == 4 or number == 5:
        if S[CR4] & CR4_DE:
            raise_fault(UNDEFINED, 0)
        number += 2
    require_level_0()
    if S[DEBUG + 7] & _DR7_DETECT:
        # The handler may look at them.
        S[DEBUG + 7] &= ~_DR7_DETECT
        S[DEBUG + 6] |= _DR6_ACCESS
        raise_fault(DEBUG_EXCEPTION, 0)
    return number


def read_debug(number: int) -> int:
    """MOV from a debug register."""
    return S[DEBUG + _debug_register(number)]


def write_debug(number: int, value: int) -> None:
    """MOV to a debug register."""
    number = _debug_register(number)
    if number >= 6:
        if value >> 32:
            raise_fault(PROTECTION, 0)
        value = value & _DR6_BITS | _DR6_ONES if number == 6 else value & _DR7_BITS | _DR7_ONES
    S[DEBUG + number] = value
    # Whether there are breakpoints is part of MODE.
    update_mode()


def require_base_instructions() -> None:
    """Raise #UD where RDFSBASE and the like are not enabled."""
    if (S[CR4] & CR4_FSGSBASE) == 0:
        raise_fault(UNDEFINED, 0)


def write_base(register: int, value: int) -> None:
    """WRFSBASE and WRGSBASE."""
    require_base_instructions()
    if (value + (1 << 47)) >> 48:
        raise_fault(PROTECTION, 0)
    S[SEGMENT_BASES + register] = value


def swap_base() -> None:
    """SWAPGS."""
    require_level_0()
    other = S[KERNEL_GS_BASE]
    S[KERNEL_GS_BASE] = S[SEGMENT_BASES + GS]
    S[SEGMENT_BASES + GS] = other
