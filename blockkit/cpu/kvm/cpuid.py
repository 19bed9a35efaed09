"""What CPUID tells the guest: a model as far as the host can do it, or all that the host can do."""

from __future__ import annotations

from ctypes import Structure
from typing import TYPE_CHECKING, ClassVar, Final

from blockkit.cpu.kvm import interface as kvm
from blockkit.cpu.kvm.device import control

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blockkit.cpu.kvm.interface import Fields

    #: EAX, EBX, ECX and EDX by leaf and subleaf.
    Leaves = Mapping[tuple[int, int], tuple[int, int, int, int]]

#: The kernel keeps no more.
_MOST: Final = 256

_EAX, _EBX, _ECX, _EDX = range(4)
#: Registers in which each bit is something the processor can do.
_FEATURES: Final = {
    (1, 0): (_ECX, _EDX),
    (7, 0): (_EBX, _ECX, _EDX),
    (7, 1): (_EAX, _EBX, _ECX, _EDX),
    (0xD, 1): (_EAX,),
    (0x80000001, 0): (_ECX, _EDX),
    (0x80000007, 0): (_EDX,),
    (0x80000008, 0): (_EBX,),
}
#: Leaves whose answer depends on ECX.
_WITH_SUBLEAVES: Final = frozenset((4, 7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1D, 0x1E, 0x1F, 0x8000001D))

#: Of (1, 0) ECX: MONITOR, VMX, x2APIC and the TSC deadline, which nobody here provides.
_UNPROVIDED: Final = 1 << 3 | 1 << 5 | 1 << 21 | 1 << 24
#: Of (1, 0) ECX: OSXSAVE, which the kernel sets by CR4, and the one that says that there is a hypervisor.
_FREE: Final = 1 << 27 | 1 << 31
_NESTED_SVM: Final = 1 << 2
#: Leaves about what this accelerator does not have: counters of performance, and more than one processor.
_ABSENT: Final = frozenset((0xA, 0xB, 0x1F, 0x8000001E))
_HYPERVISOR: Final = range(0x40000000, 0x50000000)
_ADDRESS_SIZES: Final = (0x80000008, 0)


class Table(Structure):
    """``kvm_cpuid2`` with room for entries."""

    _fields_: ClassVar[Fields] = [("head", kvm.Cpuid2), ("entries", kvm.CpuidEntry2 * _MOST)]


def supported(device: int) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """Return what the kernel and the host can do together."""
    table = Table(head=kvm.Cpuid2(nent=_MOST))
    control(device, "KVM_GET_SUPPORTED_CPUID", kvm.GET_SUPPORTED_CPUID, table)
    return {
        (entry.function, entry.index): (entry.eax, entry.ebx, entry.ecx, entry.edx)
        for entry in table.entries[: table.head.nent]
    }


def of_host(can: Leaves) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """Return all that ``can`` be done, for one processor and without the kernel's own inventions."""
    found = {}
    for (leaf, index), (eax, ebx, ecx, edx) in can.items():
        if leaf in _HYPERVISOR or leaf in _ABSENT:
            continue
        if leaf == 1:
            ebx &= 0xFFFF
            ecx &= ~_UNPROVIDED
        elif leaf == 0x80000001:
            ecx &= ~_NESTED_SVM
        elif leaf in (4, 0x8000001D):
            eax &= 0x3FFF
        elif leaf == 0x80000008:
            ecx = 0
        found[leaf, index] = (eax, ebx, ecx, edx)
    return found


def of_model(model: Leaves, can: Leaves) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """Return ``model`` without what cannot be done."""
    found = {}
    for key, values in model.items():
        registers = list(values)
        host = can.get(key, (0, 0, 0, 0))
        for register in _FEATURES.get(key, ()):
            free = _FREE if key == (1, 0) and register == _ECX else 0
            registers[register] &= host[register] | free
        if key == _ADDRESS_SIZES:
            bits = min(registers[_EAX] & 0xFF, host[_EAX] & 0xFF or 36)
            registers[_EAX] = registers[_EAX] & ~0xFF | bits
        found[key] = (registers[0], registers[1], registers[2], registers[3])
    return found


def tell(vcpu: int, leaves: Leaves) -> None:
    """Have a processor, which has not run yet, answer CPUID with ``leaves``."""
    indexed = {leaf for leaf, index in leaves if index} | _WITH_SUBLEAVES
    table = Table(head=kvm.Cpuid2(nent=len(leaves)))
    for entry, ((leaf, index), values) in zip(table.entries, sorted(leaves.items()), strict=False):
        entry.function, entry.index = leaf, index
        entry.flags = kvm.CPUID_SIGNIFICANT_INDEX if leaf in indexed else 0
        entry.eax, entry.ebx, entry.ecx, entry.edx = values
    control(vcpu, "KVM_SET_CPUID2", kvm.SET_CPUID2, table)
