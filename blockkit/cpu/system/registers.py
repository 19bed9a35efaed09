"""Model-specific registers and the counters (SDM volume 4, chapter 2; volume 3, 17.17)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, flush_tlb, raise_fault
from blockkit.cpu.state import (
    APIC_BASE,
    CPL,
    CR0,
    CR0_PG,
    CR4,
    CR4_TSD,
    CSTAR,
    EFER,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    EXECUTED,
    FS,
    GS,
    KERNEL_GS_BASE,
    LSTAR,
    MISC_ENABLE,
    PAT,
    PROTECTION,
    RANDOM,
    RAX,
    RCX,
    RDX,
    SEGMENT_BASES,
    SFMASK,
    STAR,
    SYSENTER_CS,
    SYSENTER_EIP,
    SYSENTER_ESP,
    TSC_AUX,
    TSC_OFFSET,
)
from blockkit.cpu.system.paging import PHYSICAL_BITS
from blockkit.cpu.system.tables import require_level_0

_TSC, _APIC_BASE, _MISC_ENABLE, _PAT = 0x10, 0x1B, 0x1A0, 0x277
_SYSENTER_CS, _SYSENTER_ESP, _SYSENTER_EIP = 0x174, 0x175, 0x176
_EFER, _STAR, _LSTAR, _CSTAR, _SFMASK = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
_FS_BASE, _GS_BASE, _KERNEL_GS_BASE, _TSC_AUX = 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103

#: Those that hold zero whatever is written: the platform, the revision of microcode, machine checks, debug control, and
#: memory types, of which CPUID and the number of variable ranges say that there are none.
_ZEROS: Final = (0x17, 0x8B, 0xFE, 0x179, 0x17A, 0x17B, 0x1D9, 0x250, 0x258, 0x259, 0x2FF)
_ZERO_COUNT: Final = len(_ZEROS)

_EFER_BITS: Final = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE
#: BSP, enabled, and the address.
_APIC_BITS: Final = 1 << 8 | 1 << 11 | (1 << PHYSICAL_BITS) - (1 << 12)
#: Memory types that there are (11.3), a bit each.
_TYPES: Final = 0b11110011

_SEED: Final = 0x9E3779B97F4A7C15


def _is_zero(number: int) -> int:
    """Whether a register holds nothing but zero."""
    if number - 0x200 < 0x10 or number - 0x268 < 8:
        return 1
    index = 0
    while index < _ZERO_COUNT:
        if _ZEROS[index] == number:
            return 1
        index += 1
    return 0


def _slot_of(number: int) -> int:
    """Return the slot of a register that is one; 0 for all others."""
    if number == _FS_BASE:
        return SEGMENT_BASES + FS
    if number == _GS_BASE:
        return SEGMENT_BASES + GS
    if number == _KERNEL_GS_BASE:
        return KERNEL_GS_BASE
    if number == _LSTAR:
        return LSTAR
    if number == _CSTAR:
        return CSTAR
    if number == _SYSENTER_ESP:
        return SYSENTER_ESP
    if number == _SYSENTER_EIP:
        return SYSENTER_EIP
    if number == _STAR:
        return STAR
    if number == _SFMASK:
        return SFMASK
    if number == _SYSENTER_CS:
        return SYSENTER_CS
    if number == _TSC_AUX:
        return TSC_AUX
    if number == _EFER:
        return EFER
    if number == _PAT:
        return PAT
    if number == _APIC_BASE:
        return APIC_BASE
    return MISC_ENABLE if number == _MISC_ENABLE else 0


def _tell(value: int) -> None:
    """Return a number in EDX and EAX."""
    S[RAX] = value & 0xFFFFFFFF
    S[RDX] = value >> 32


def read_register() -> None:
    """RDMSR."""
    require_level_0()
    number = S[RCX] & 0xFFFFFFFF
    slot = _slot_of(number)
    if slot:
        _tell(S[slot])
    elif number == _TSC:
        _tell(S[EXECUTED] + S[TSC_OFFSET])
    elif _is_zero(number):
        _tell(0)
    else:
        raise_fault(PROTECTION, 0)


def write_register() -> None:
    """WRMSR; raises #GP(0) for registers there are not, and for what one cannot hold."""
    require_level_0()
    number = S[RCX] & 0xFFFFFFFF
    value = (S[RDX] & 0xFFFFFFFF) << 32 | S[RAX] & 0xFFFFFFFF
    slot = _slot_of(number)
    if slot == EFER:
        _write_efer(value)
        return
    if slot:
        _check_register(number, value)
        S[slot] = value
    elif number == _TSC:
        S[TSC_OFFSET] = value - S[EXECUTED]
    elif _is_zero(number) == 0:
        raise_fault(PROTECTION, 0)


def _check_register(number: int, value: int) -> None:
    """Raise #GP(0) if a register cannot hold a value."""
    wrong = 0
    if number == _STAR or number == _MISC_ENABLE:
        return
    if number == _SYSENTER_CS or number == _SFMASK or number == _TSC_AUX:
        wrong = value >> 32
    elif number == _APIC_BASE:
        wrong = value & ~_APIC_BITS
    elif number == _PAT:
        shift = 0
        while shift < 64:
            kind = value >> shift & 0xFF
            if kind > 7 or (_TYPES >> (kind & 7) & 1) == 0:
                wrong = 1
            shift += 8
    else:
        # All others are linear addresses, which must be canonical.
        wrong = (value + (1 << 47)) >> 48
    if wrong:
        raise_fault(PROTECTION, 0)


def _write_efer(value: int) -> None:
    before = S[EFER]
    if value & ~_EFER_BITS or ((value ^ before) & EFER_LME and S[CR0] & CR0_PG):
        raise_fault(PROTECTION, 0)
    # The processor alone sets LMA.
    value = value & ~EFER_LMA | before & EFER_LMA
    S[EFER] = value
    if (value ^ before) & EFER_NXE:
        flush_tlb(1)


def _read_counter() -> None:
    """Return the time in EDX and EAX; raises #GP(0) where users may not know it."""
    if S[CR4] & CR4_TSD and S[CPL]:
        raise_fault(PROTECTION, 0)
    _tell(S[EXECUTED] + S[TSC_OFFSET])


def read_time() -> None:
    """RDTSC: one for each instruction."""
    _read_counter()


def read_time_and_processor() -> None:
    """RDTSCP."""
    _read_counter()
    S[RCX] = S[TSC_AUX] & 0xFFFFFFFF


def read_performance() -> None:
    """RDPMC: there are no counters."""
    raise_fault(PROTECTION, 0)


def next_random() -> int:
    """Return the next number of RDRAND: the same ones after each start."""
    number = S[RANDOM]
    if number == 0:
        number = _SEED
    number ^= number << 13
    number ^= number >> 7
    number ^= number << 17
    S[RANDOM] = number
    return number
