"""From linear to physical addresses (SDM volume 3, chapter 4)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, raise_fault, read_physical, write_physical
from blockkit.cpu.state import (
    AC,
    CPL,
    CR0,
    CR0_PG,
    CR0_WP,
    CR2,
    CR3,
    CR4,
    CR4_PAE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    EFER,
    EFER_LMA,
    EFER_NXE,
    PAGE_FAULT,
    PDPTES,
    PROTECTION,
    SYSTEM_FLAGS,
)

#: What an access is for, and with whose rights: those of the supervisor, of a user, of the supervisor on behalf of the
#: processor itself, or of a supervisor who may use what is the users' (SMAP, with AC set).
READ, WRITE, FETCH = 0, 1, 2
SUPERVISOR, USER, IMPLICIT, ALLOWED = 0, 1, 2, 3

#: Bits of a physical address, which CPUID tells.
PHYSICAL_BITS: Final = 40

_PRESENT, _WRITABLE, _USER, _ACCESSED, _DIRTY, _LARGE = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7
_NO_EXECUTE: Final = 1 << 63
_RIGHTS: Final = _WRITABLE | _USER
_FRAME: Final = ((1 << PHYSICAL_BITS) - 1) & ~0xFFF
#: Bits above physical addresses and below those that are ignored: reserved in every entry of eight bytes.
_ABOVE: Final = ((1 << 52) - 1) & ~((1 << PHYSICAL_BITS) - 1)
_PROTECTED, _RESERVED = 1, 8
#: Bits of a PDPTE of PAE paging that are reserved: 1, 2, 5 to 8, and all above addresses.
_PDPTE_RESERVED: Final = 0x1E6 | (((1 << 64) - 1) & ~((1 << PHYSICAL_BITS) - 1))


def rights_now() -> int:
    """Return whose rights the loads and stores of instructions have."""
    if S[CPL] == 3:
        return USER
    return ALLOWED if S[CR4] & CR4_SMAP and S[SYSTEM_FLAGS] & AC else SUPERVISOR


def walk(address: int, access: int, rights: int) -> int:
    """Return the physical address of a linear one, setting accessed and dirty bits; raises #PF.

    Args:
        address: Canonical in 64-bit mode, and below 4 GiB elsewhere.
        access: READ, WRITE or FETCH.
        rights: SUPERVISOR, USER, IMPLICIT or ALLOWED.
    """
    if (S[CR0] & CR0_PG) == 0:
        return address
    if S[CR4] & CR4_PAE:
        return _walk_wide(address, access, rights)
    return _walk_narrow(address, access, rights)


def _walk_wide(address: int, access: int, rights: int) -> int:
    """Walk tables with entries of eight bytes: four levels in long mode, else two below the PDPTEs."""
    shift = 39
    table = S[CR3] & _FRAME
    allowed = _RIGHTS
    never = 0
    reserved = _ABOVE if S[EFER] & EFER_NXE else _ABOVE | _NO_EXECUTE
    if (S[EFER] & EFER_LMA) == 0:
        entry = S[PDPTES + (address >> 30 & 3)]
        if (entry & _PRESENT) == 0:
            _page_fault(address, access, rights, 0)
        table = entry & _FRAME
        shift = 21
        # Bits 52 to 62 of these entries are reserved without long mode.
        reserved |= 0x7FF << 52
    while 1:
        place = table + (address >> shift & 511) * 8
        entry = read_physical(place, 8)
        if (entry & _PRESENT) == 0:
            _page_fault(address, access, rights, 0)
        if entry & reserved:
            _page_fault(address, access, rights, _PROTECTED | _RESERVED)
        allowed &= entry
        never |= entry & _NO_EXECUTE
        if shift == 12:
            break
        if entry & _LARGE:
            # A page of 1 GiB or 2 MiB: the bits of the frame below its size are reserved, but bit 12 (PAT).
            if shift == 39 or entry & ((1 << shift) - 1) & ~0x1FFF:
                _page_fault(address, access, rights, _PROTECTED | _RESERVED)
            break
        if (entry & _ACCESSED) == 0:
            write_physical(place, 8, entry | _ACCESSED)
        table = entry & _FRAME
        shift -= 9
    _check(address, access, rights, allowed, never)
    used = entry | _ACCESSED
    if access == WRITE:
        used |= _DIRTY
    if used != entry:
        write_physical(place, 8, used)
    inside = (1 << shift) - 1
    return entry & _FRAME & ~inside | address & inside


def _walk_narrow(address: int, access: int, rights: int) -> int:
    """Walk the two levels with entries of four bytes."""
    place = (S[CR3] & 0xFFFFF000) + (address >> 22 & 1023) * 4
    entry = read_physical(place, 4)
    if (entry & _PRESENT) == 0:
        _page_fault(address, access, rights, 0)
    allowed = entry & _RIGHTS
    inside = 0xFFF
    frame = entry
    if entry & _LARGE and S[CR4] & CR4_PSE:
        # Bits 13 to 20 are bits 32 to 39 of the frame; bit 21 is reserved.
        if entry & 0x200000:
            _page_fault(address, access, rights, _PROTECTED | _RESERVED)
        frame = entry & 0xFFC00000 | (entry >> 13 & 0xFF) << 32
        inside = 0x3FFFFF
    else:
        if (entry & _ACCESSED) == 0:
            write_physical(place, 4, entry | _ACCESSED)
        place = (entry & 0xFFFFF000) + (address >> 12 & 1023) * 4
        entry = read_physical(place, 4)
        if (entry & _PRESENT) == 0:
            _page_fault(address, access, rights, 0)
        allowed &= entry
        frame = entry & 0xFFFFF000
    _check(address, access, rights, allowed, 0)
    used = entry | _ACCESSED
    if access == WRITE:
        used |= _DIRTY
    if used != entry:
        write_physical(place, 4, used)
    return frame & ~inside | address & inside


def _check(address: int, access: int, rights: int, allowed: int, never: int) -> None:
    """Raise #PF if a page may not be used so (4.6)."""
    denied = 0
    if rights == USER:
        if (allowed & _USER) == 0 or (access == WRITE and (allowed & _WRITABLE) == 0):
            denied = 1
    else:
        if access == WRITE and (allowed & _WRITABLE) == 0 and S[CR0] & CR0_WP:
            denied = 1
        if allowed & _USER:
            if access == FETCH:
                if S[CR4] & CR4_SMEP:
                    denied = 1
            elif S[CR4] & CR4_SMAP and rights != ALLOWED:
                denied = 1
    if access == FETCH and never and S[EFER] & EFER_NXE:
        denied = 1
    if denied:
        _page_fault(address, access, rights, _PROTECTED)


def _page_fault(address: int, access: int, rights: int, error: int) -> None:
    """Raise #PF."""
    S[CR2] = address
    if access == WRITE:
        error |= 2
    if rights == USER:
        error |= 4
    if access == FETCH and (S[CR4] & CR4_SMEP or (S[CR4] & CR4_PAE and S[EFER] & EFER_NXE)):
        error |= 16
    raise_fault(PAGE_FAULT, error)


def load_pdptes(table: int) -> None:
    """Read the four PDPTEs of PAE paging that CR3 is going to point to; #GP(0) if one has reserved bits set (4.4.1)."""
    base = table & 0xFFFFFFE0
    index = 0
    while index < 4:
        entry = read_physical(base + index * 8, 8)
        if entry & _PRESENT and entry & _PDPTE_RESERVED:
            raise_fault(PROTECTION, 0)
        index += 1
    index = 0
    while index < 4:
        S[PDPTES + index] = read_physical(base + index * 8, 8)
        index += 1
