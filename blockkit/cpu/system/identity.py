"""CPUID (SDM volume 2)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.cpuid import LAST_BASIC, LAST_EXTENDED, LAST_HYPERVISOR, MODEL, WITH_SUBLEAVES
from blockkit.cpu.dialect import S, raise_fault
from blockkit.cpu.state import APIC_BASE, CPUID_CHANGES, RAX, RBX, RCX, RDX, UNDEFINED

_HYPERVISOR_RANGE, _EXTENDED_RANGE = 0x40000000, 0x80000000
#: Leaf, subleaf, EAX, EBX, ECX and EDX, one after the other.
_ROWS: Final = tuple(number for key, values in MODEL.items() for number in key + values)
_ROW: Final = 6
_COUNT: Final = len(_ROWS)
#: Bit n: leaf n looks at ECX.
_INDEXED: Final = sum(1 << leaf for leaf in WITH_SUBLEAVES)
_TOPOLOGY: Final = 0xB
_APIC_FEATURE: Final = 1 << 9
_APIC_ENABLED: Final = 1 << 11


def identify() -> None:
    """CPUID."""
    leaf = S[RAX] & 0xFFFFFFFF
    subleaf = S[RCX] & 0xFFFFFFFF
    if leaf >= _EXTENDED_RANGE:
        if leaf > LAST_EXTENDED:
            leaf = LAST_BASIC
    elif leaf > LAST_BASIC and (leaf < _HYPERVISOR_RANGE or leaf > LAST_HYPERVISOR + 0xFF):
        # What is in no range is the last of the basic ones.
        leaf = LAST_BASIC
    wanted = subleaf if leaf < 32 and _INDEXED >> (leaf & 31) & 1 else 0
    S[RAX] = 0
    S[RBX] = 0
    # Topology tells which subleaf was asked for, also where there is none.
    S[RCX] = subleaf & 0xFF if leaf == _TOPOLOGY else 0
    S[RDX] = 0
    at = 0
    while at < _COUNT:
        if _ROWS[at] == leaf and _ROWS[at + 1] == wanted:
            S[RAX] = _ROWS[at + 2]
            S[RBX] = _ROWS[at + 3]
            S[RCX] = _ROWS[at + 4]
            S[RDX] = _ROWS[at + 5]
            break
        at += _ROW
    if leaf == 1:
        S[RCX] ^= S[CPUID_CHANGES] & 0xFFFFFFFF
        S[RDX] ^= S[CPUID_CHANGES] >> 32
    if leaf == 7 and wanted == 0:
        S[RBX] ^= S[CPUID_CHANGES + 1] & 0xFFFFFFFF
        S[RCX] ^= S[CPUID_CHANGES + 1] >> 32
    if leaf == 0x80000001:
        S[RCX] ^= S[CPUID_CHANGES + 2] & 0xFFFFFFFF
        S[RDX] ^= S[CPUID_CHANGES + 2] >> 32
    if leaf == 1 and (S[APIC_BASE] & _APIC_ENABLED) == 0:
        S[RDX] &= ~_APIC_FEATURE


def has_option(register: int, bit: int) -> int:
    """Whether the processor has a feature that the model has not; see :data:`blockkit.cpu.cpuid.OPTIONAL`."""
    return S[CPUID_CHANGES + (register >> 1)] >> ((register & 1) * 32 + bit) & 1


def require_option(register: int, bit: int) -> None:
    """Raise #UD without it."""
    if has_option(register, bit) == 0:
        raise_fault(UNDEFINED, 0)
