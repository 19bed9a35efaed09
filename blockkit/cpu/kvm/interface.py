"""What the kernel and a program say to each other about virtual machines: numbers and structures of ``linux/kvm.h``."""

from __future__ import annotations

from ctypes import Structure, c_char, c_uint8, c_uint16, c_uint32, c_uint64, sizeof
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    #: What a structure consists of.
    Fields = Sequence[tuple[str, type[Any]] | tuple[str, type[Any], int]]

_WRITE, _READ = 1, 2
_KVMIO: Final = 0xAE


def _io(number: int, direction: int = 0, size: int = 0) -> int:
    """Return an ioctl's number: direction in bits 30 and 31, size from bit 16, then the type and the number."""
    return direction << 30 | size << 16 | _KVMIO << 8 | number


def _ior(number: int, structure: type[Structure]) -> int:
    return _io(number, _READ, sizeof(structure))


def _iow(number: int, structure: type[Structure]) -> int:
    return _io(number, _WRITE, sizeof(structure))


def _iowr(number: int, structure: type[Structure]) -> int:
    return _io(number, _READ | _WRITE, sizeof(structure))


# -- structures --------------------------------------------------------------------------------------------


class Regs(Structure):
    """``kvm_regs``."""

    _fields_: ClassVar[Fields] = [
        (name, c_uint64)
        for name in (
            *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
            *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"),
        )
    ]


class Segment(Structure):
    """``kvm_segment``."""

    _fields_: ClassVar[Fields] = [
        ("base", c_uint64),
        ("limit", c_uint32),
        ("selector", c_uint16),
        *((name, c_uint8) for name in ("type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable", "padding")),
    ]


class Table(Structure):
    """``kvm_dtable``."""

    _fields_: ClassVar[Fields] = [("base", c_uint64), ("limit", c_uint16), ("padding", c_uint16 * 3)]


_COMMON_SREGS: Final = [
    *((name, Segment) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")),
    *((name, Table) for name in ("gdt", "idt")),
    *((name, c_uint64) for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")),
]


class Sregs(Structure):
    """``kvm_sregs``."""

    _fields_: ClassVar[Fields] = [*_COMMON_SREGS, ("interrupt_bitmap", c_uint64 * 4)]


class Sregs2(Structure):
    """``kvm_sregs2``: with the PDPTEs."""

    _fields_: ClassVar[Fields] = [*_COMMON_SREGS, ("flags", c_uint64), ("pdptrs", c_uint64 * 4)]


class Xsave(Structure):
    """``kvm_xsave``: the area of the XSAVE instruction, in the standard format."""

    _fields_: ClassVar[Fields] = [("region", c_uint8 * 4096)]


class Xcr(Structure):
    """``kvm_xcr``."""

    _fields_: ClassVar[Fields] = [("xcr", c_uint32), ("reserved", c_uint32), ("value", c_uint64)]


class Xcrs(Structure):
    """``kvm_xcrs``."""

    _fields_: ClassVar[Fields] = [
        ("nr_xcrs", c_uint32),
        ("flags", c_uint32),
        ("xcrs", Xcr * 16),
        ("padding", c_uint64 * 16),
    ]


class Msrs(Structure):
    """The head of ``kvm_msrs``."""

    _fields_: ClassVar[Fields] = [("nmsrs", c_uint32), ("pad", c_uint32)]


class MsrEntry(Structure):
    """``kvm_msr_entry``."""

    _fields_: ClassVar[Fields] = [("index", c_uint32), ("reserved", c_uint32), ("data", c_uint64)]


class MsrList(Structure):
    """The head of ``kvm_msr_list``."""

    _fields_: ClassVar[Fields] = [("nmsrs", c_uint32)]


class Cpuid2(Structure):
    """The head of ``kvm_cpuid2``."""

    _fields_: ClassVar[Fields] = [("nent", c_uint32), ("padding", c_uint32)]


class CpuidEntry2(Structure):
    """``kvm_cpuid_entry2``."""

    _fields_: ClassVar[Fields] = [
        *((name, c_uint32) for name in ("function", "index", "flags", "eax", "ebx", "ecx", "edx")),
        ("padding", c_uint32 * 3),
    ]


class VcpuEvents(Structure):
    """``kvm_vcpu_events``."""

    _fields_: ClassVar[Fields] = [
        *((f"exception_{name}", c_uint8) for name in ("injected", "nr", "has_error_code", "pending")),
        ("exception_error_code", c_uint32),
        *((f"interrupt_{name}", c_uint8) for name in ("injected", "nr", "soft", "shadow")),
        *((f"nmi_{name}", c_uint8) for name in ("injected", "pending", "masked", "pad")),
        ("sipi_vector", c_uint32),
        ("flags", c_uint32),
        *((f"smi_{name}", c_uint8) for name in ("smm", "pending", "smm_inside_nmi", "latched_init")),
        ("triple_fault_pending", c_uint8),
        ("reserved", c_uint8 * 26),
        ("exception_has_payload", c_uint8),
        ("exception_payload", c_uint64),
    ]


class DebugRegs(Structure):
    """``kvm_debugregs``."""

    _fields_: ClassVar[Fields] = [
        ("db", c_uint64 * 4),
        *((name, c_uint64) for name in ("dr6", "dr7", "flags")),
        ("reserved", c_uint64 * 9),
    ]


class MpState(Structure):
    """``kvm_mp_state``."""

    _fields_: ClassVar[Fields] = [("mp_state", c_uint32)]


class MemoryRegion(Structure):
    """``kvm_userspace_memory_region``."""

    _fields_: ClassVar[Fields] = [
        *((name, c_uint32) for name in ("slot", "flags")),
        *((name, c_uint64) for name in ("guest_phys_addr", "memory_size", "userspace_addr")),
    ]


class DirtyLog(Structure):
    """``kvm_dirty_log``."""

    _fields_: ClassVar[Fields] = [("slot", c_uint32), ("padding", c_uint32), ("dirty_bitmap", c_uint64)]


class IrqLevel(Structure):
    """``kvm_irq_level``."""

    _fields_: ClassVar[Fields] = [("irq", c_uint32), ("level", c_uint32)]


class PitConfig(Structure):
    """``kvm_pit_config``."""

    _fields_: ClassVar[Fields] = [("flags", c_uint32), ("pad", c_uint32 * 15)]


class Interrupt(Structure):
    """``kvm_interrupt``."""

    _fields_: ClassVar[Fields] = [("irq", c_uint32)]


class SignalMask(Structure):
    """``kvm_signal_mask`` with the signal set of the kernel, whose size alone is counted in ``len``."""

    _pack_ = 4
    _fields_: ClassVar[Fields] = [("len", c_uint32), ("sigset", c_uint64)]


class Run(Structure):
    """``kvm_run`` as far as every exit has it; what differs begins at RUN_EXIT."""

    _fields_: ClassVar[Fields] = [
        ("request_interrupt_window", c_uint8),
        ("immediate_exit", c_uint8),
        ("padding", c_uint8 * 6),
        ("exit_reason", c_uint32),
        ("ready_for_interrupt_injection", c_uint8),
        ("if_flag", c_uint8),
        ("flags", c_uint16),
        ("cr8", c_uint64),
        ("apic_base", c_uint64),
        ("exit", c_char * 256),
        ("kvm_valid_regs", c_uint64),
        ("kvm_dirty_regs", c_uint64),
        ("sync_regs", c_char * 2048),
    ]


RUN_EXIT: Final = Run.exit.offset
#: At RUN_EXIT. EXIT_IO: direction, size, port, count, where the data is in the mapping.
IO_FORMAT: Final = "<BBHIQ"
#: EXIT_MMIO: address, data, length, whether it is a write.
MMIO_FORMAT: Final = "<Q8sIB"
#: EXIT_INTERNAL_ERROR: the suberror, and how many numbers of 64 bits follow.
INTERNAL_FORMAT: Final = "<II"
#: EXIT_FAIL_ENTRY and EXIT_UNKNOWN: the hardware's reason.
HARDWARE_FORMAT: Final = "<Q"

#: What the kernel's own compiler makes of the structures (x86-64).
SIZES: Final[dict[type[Structure], int]] = {
    Regs: 144,
    Segment: 24,
    Table: 16,
    Sregs: 312,
    Sregs2: 320,
    Xsave: 4096,
    Xcrs: 392,
    Msrs: 8,
    MsrEntry: 16,
    MsrList: 4,
    Cpuid2: 8,
    CpuidEntry2: 40,
    VcpuEvents: 64,
    DebugRegs: 128,
    MpState: 4,
    MemoryRegion: 32,
    DirtyLog: 16,
    IrqLevel: 8,
    PitConfig: 64,
    Interrupt: 4,
    SignalMask: 12,
    Run: 2352,
}
for _structure, _size in SIZES.items():
    assert sizeof(_structure) == _size, f"{_structure.__name__} has {sizeof(_structure)} bytes, expected {_size}"

# -- numbers -----------------------------------------------------------------------------------------------

API_VERSION: Final = 12

GET_API_VERSION: Final = _io(0x00)
CREATE_VM: Final = _io(0x01)
GET_MSR_INDEX_LIST: Final = _iowr(0x02, MsrList)
CHECK_EXTENSION: Final = _io(0x03)
GET_VCPU_MMAP_SIZE: Final = _io(0x04)
GET_SUPPORTED_CPUID: Final = _iowr(0x05, Cpuid2)

CREATE_VCPU: Final = _io(0x41)
GET_DIRTY_LOG: Final = _iow(0x42, DirtyLog)
SET_USER_MEMORY_REGION: Final = _iow(0x46, MemoryRegion)
SET_TSS_ADDR: Final = _io(0x47)
#: Its argument is the address of a number of 64 bits.
SET_IDENTITY_MAP_ADDR: Final = _io(0x48, _WRITE, 8)
CREATE_IRQCHIP: Final = _io(0x60)
IRQ_LINE: Final = _iow(0x61, IrqLevel)
CREATE_PIT2: Final = _iow(0x77, PitConfig)

RUN: Final = _io(0x80)
GET_REGS, SET_REGS = _ior(0x81, Regs), _iow(0x82, Regs)
GET_SREGS, SET_SREGS = _ior(0x83, Sregs), _iow(0x84, Sregs)
INTERRUPT: Final = _iow(0x86, Interrupt)
GET_MSRS, SET_MSRS = _iowr(0x88, Msrs), _iow(0x89, Msrs)
#: The structure that is counted has no room for the set.
SET_SIGNAL_MASK: Final = _io(0x8B, _WRITE, 4)
SET_CPUID2: Final = _iow(0x90, Cpuid2)
GET_MP_STATE, SET_MP_STATE = _ior(0x98, MpState), _iow(0x99, MpState)
RAISE_NMI: Final = _io(0x9A)
GET_VCPU_EVENTS, SET_VCPU_EVENTS = _ior(0x9F, VcpuEvents), _iow(0xA0, VcpuEvents)
GET_DEBUGREGS, SET_DEBUGREGS = _ior(0xA1, DebugRegs), _iow(0xA2, DebugRegs)
GET_XSAVE, SET_XSAVE = _ior(0xA4, Xsave), _iow(0xA5, Xsave)
GET_XCRS, SET_XCRS = _ior(0xA6, Xcrs), _iow(0xA7, Xcrs)
GET_SREGS2, SET_SREGS2 = _ior(0xCC, Sregs2), _iow(0xCD, Sregs2)

CAP_IRQCHIP, CAP_USER_MEMORY, CAP_SET_TSS_ADDR, CAP_EXT_CPUID, CAP_NR_MEMSLOTS, CAP_MP_STATE = 0, 3, 4, 7, 10, 14
CAP_DESTROY_MEMORY_REGION_WORKS, CAP_USER_NMI, CAP_PIT2, CAP_SET_IDENTITY_MAP_ADDR = 21, 22, 33, 37
CAP_VCPU_EVENTS, CAP_DEBUGREGS, CAP_XSAVE, CAP_XCRS, CAP_READONLY_MEM = 41, 50, 55, 56, 81
CAP_IMMEDIATE_EXIT, CAP_SREGS2 = 136, 200

EXIT_UNKNOWN, EXIT_IO, EXIT_HLT, EXIT_MMIO, EXIT_IRQ_WINDOW_OPEN, EXIT_SHUTDOWN, EXIT_FAIL_ENTRY = 0, 2, 5, 6, 7, 8, 9
EXIT_SET_TPR, EXIT_INTERNAL_ERROR = 11, 17

MEM_LOG_DIRTY_PAGES, MEM_READONLY = 1, 2

EVENT_VALID_NMI_PENDING, EVENT_VALID_SHADOW = 1, 4
SHADOW_MOV_SS, SHADOW_STI = 1, 2

MP_RUNNABLE, MP_HALTED = 0, 3

CPUID_SIGNIFICANT_INDEX: Final = 1

SREGS2_PDPTRS_VALID: Final = 1
