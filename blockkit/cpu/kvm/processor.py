"""A processor of the kernel, at rest: its state as slots, read and written."""

from __future__ import annotations

from ctypes import Structure, c_uint32
from struct import pack, unpack
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from blockkit.cpu import state
from blockkit.cpu.kvm import floating, registers
from blockkit.cpu.kvm import interface as kvm
from blockkit.cpu.kvm.device import control, extension
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

    from blockkit.cpu.kvm.interface import Fields
    from blockkit.cpu.kvm.vm import Vm

_MASK: Final = (1 << 64) - 1

_TSC: Final = 0x10
_MSRS: Final = {
    0x174: state.SYSENTER_CS,
    0x175: state.SYSENTER_ESP,
    0x176: state.SYSENTER_EIP,
    0x1A0: state.MISC_ENABLE,
    0x277: state.PAT,
    0xC0000081: state.STAR,
    0xC0000082: state.LSTAR,
    0xC0000083: state.CSTAR,
    0xC0000084: state.SFMASK,
    0xC0000102: state.KERNEL_GS_BASE,
    0xC0000103: state.TSC_AUX,
}
#: Slots that the kernel has no place for: they stay as they are set.
_KEPT: Final = (state.FCS, state.FDS)

#: In the first of the slots that are free: the two after it hold events the processor has taken but not delivered.
_IN_FLIGHT: Final = int.from_bytes(b"KVMEVENT", "little")

_MOST_MSRS: Final = 1024
_Kind = TypeVar("_Kind", bound=Structure)


class _MsrTable(Structure):
    _fields_: ClassVar[Fields] = [("head", kvm.Msrs), ("entries", kvm.MsrEntry * (len(_MSRS) + 1))]


class _MsrNumbers(Structure):
    _fields_: ClassVar[Fields] = [("head", kvm.MsrList), ("indices", c_uint32 * _MOST_MSRS)]


class Processor:
    """The state of one processor.

    Args:
        vm: What it belongs to.
        vcpu: Its descriptor.
    """

    def __init__(self, vm: Vm, vcpu: int) -> None:
        self._vcpu = vcpu
        self._controllers = vm.interrupt_controllers
        self._wide = bool(extension(vm.device, kvm.CAP_SREGS2))
        known = _known_msrs(vm.device)
        self._msrs = {number: slot for number, slot in _MSRS.items() if number in known}
        self._kept = dict.fromkeys((*_KEPT, *(slot for number, slot in _MSRS.items() if number not in known)), 0)
        #: EXECUTED and TSC_OFFSET as they were told or set. The time-stamp counter goes on while the processor rests;
        #: what has been said of it holds until it runs.
        self._tsc: tuple[int, int] | None = None

    def resume(self) -> None:
        """Learn that the processor is going to run."""
        self._tsc = None

    def get(self, executed: int) -> list[int]:
        """Return all slots, but MODE."""
        slots = state.new_state()
        registers.load_general(slots, self._read("KVM_GET_REGS", kvm.GET_REGS, kvm.Regs()))
        registers.load_system(slots, self._read_system())
        floating.load(slots, self._read("KVM_GET_XSAVE", kvm.GET_XSAVE, kvm.Xsave()))
        for entry in self._read("KVM_GET_XCRS", kvm.GET_XCRS, kvm.Xcrs()).xcrs[:1]:
            slots[state.XCR0] = entry.value
        debug = self._read("KVM_GET_DEBUGREGS", kvm.GET_DEBUGREGS, kvm.DebugRegs())
        slots[state.DEBUG : state.DEBUG + 4] = list(debug.db)
        slots[state.DEBUG + 6], slots[state.DEBUG + 7] = debug.dr6, debug.dr7
        self._get_msrs(slots, executed)
        self._get_events(slots)
        if self._controllers:
            halted = self._read("KVM_GET_MP_STATE", kvm.GET_MP_STATE, kvm.MpState()).mp_state == kvm.MP_HALTED
            slots[state.HALT] = state.HALTED if halted else 0
        for slot, value in self._kept.items():
            slots[slot] = value
        slots[state.EXECUTED] = executed
        return slots

    def set(self, slots: Sequence[int], *, clear: bool = False) -> None:
        """Set the state; what has no slots, as the upper halves of YMM registers, stays unless ``clear``."""
        system = registers.store_system(slots, kvm.Sregs2 if self._wide else kvm.Sregs)
        self._write("KVM_SET_SREGS", kvm.SET_SREGS2 if self._wide else kvm.SET_SREGS, system)
        self._write("KVM_SET_REGS", kvm.SET_REGS, registers.store_general(slots))
        area = kvm.Xsave()
        if not clear:
            self._read("KVM_GET_XSAVE", kvm.GET_XSAVE, area)
        floating.store(slots, area)
        self._write("KVM_SET_XSAVE", kvm.SET_XSAVE, area)
        xcrs = kvm.Xcrs(nr_xcrs=1)
        xcrs.xcrs[0].value = slots[state.XCR0]
        self._write("KVM_SET_XCRS", kvm.SET_XCRS, xcrs)
        self._set_msrs(slots)
        self._set_events(slots)
        debug = kvm.DebugRegs(dr6=slots[state.DEBUG + 6], dr7=slots[state.DEBUG + 7])
        for number in range(4):
            debug.db[number] = slots[state.DEBUG + number]
        self._write("KVM_SET_DEBUGREGS", kvm.SET_DEBUGREGS, debug)
        if self._controllers:
            halted = slots[state.HALT] == state.HALTED
            activity = kvm.MpState(mp_state=kvm.MP_HALTED if halted else kvm.MP_RUNNABLE)
            self._write("KVM_SET_MP_STATE", kvm.SET_MP_STATE, activity)
        for slot in self._kept:
            self._kept[slot] = slots[slot]

    def place(self) -> str:
        """Return where the processor is, for an error."""
        selector = self._read_system().cs.selector
        return f"{selector:04x}:{self.instruction():x}"

    def general(self) -> kvm.Regs:
        """Return the general registers, RIP and RFLAGS."""
        return self._read("KVM_GET_REGS", kvm.GET_REGS, kvm.Regs())

    def instruction(self) -> int:
        """Return RIP."""
        return int(self.general().rip)

    def events(self) -> kvm.VcpuEvents:
        """Return the state of exceptions and interrupts."""
        return self._read("KVM_GET_VCPU_EVENTS", kvm.GET_VCPU_EVENTS, kvm.VcpuEvents())

    # -- model-specific registers ------------------------------------------------------------------------------

    def _get_msrs(self, slots: MutableSequence[int], executed: int) -> None:
        numbers = [*self._msrs, _TSC]
        table = _msr_table(numbers, [0] * len(numbers))
        got = control(self._vcpu, "KVM_GET_MSRS", kvm.GET_MSRS, table)
        if got != len(numbers):
            raise EmulationError(f"kvm: MSR {numbers[got]:#x} cannot be read")
        for entry, slot in zip(table.entries, self._msrs.values(), strict=False):
            slots[slot] = entry.data
        if self._tsc is None:
            self._tsc = executed, table.entries[got - 1].data - executed & _MASK
        slots[state.TSC_OFFSET] = self._tsc[1]

    def _set_msrs(self, slots: Sequence[int]) -> None:
        numbers, values = list(self._msrs), [slots[slot] for slot in self._msrs.values()]
        time = slots[state.EXECUTED], slots[state.TSC_OFFSET]
        if time != self._tsc:
            numbers.append(_TSC)
            values.append(sum(time) & _MASK)
        self._tsc = time
        table = _msr_table(numbers, values)
        done = control(self._vcpu, "KVM_SET_MSRS", kvm.SET_MSRS, table)
        if done != len(numbers):
            raise EmulationError(f"kvm: MSR {numbers[done]:#x} cannot be set to {values[done]:#x}")

    # -- exceptions and interrupts ---------------------------------------------------------------------------------

    def _get_events(self, slots: MutableSequence[int]) -> None:
        events = self.events()
        slots[state.NMI_BLOCKED] = events.nmi_masked
        shadow = events.interrupt_shadow
        slots[state.SHADOW] = 2 if shadow == kvm.SHADOW_MOV_SS else int(shadow != 0)
        exception = events.exception_injected or events.exception_pending
        if exception or events.interrupt_injected or events.nmi_injected or events.nmi_pending:
            raw = bytes(events)
            slots[state.OWN : state.OWN + 3] = _IN_FLIGHT, *unpack("<QQ", raw[:16])

    def _set_events(self, slots: Sequence[int]) -> None:
        events = kvm.VcpuEvents()
        if slots[state.OWN] == _IN_FLIGHT:
            events = kvm.VcpuEvents.from_buffer_copy(
                pack("<QQ", *slots[state.OWN + 1 : state.OWN + 3]).ljust(kvm.SIZES[kvm.VcpuEvents], b"\0")
            )
        events.nmi_masked = bool(slots[state.NMI_BLOCKED])
        events.interrupt_shadow = (0, kvm.SHADOW_STI, kvm.SHADOW_MOV_SS)[min(slots[state.SHADOW], 2)]
        events.flags = kvm.EVENT_VALID_NMI_PENDING | kvm.EVENT_VALID_SHADOW
        self._write("KVM_SET_VCPU_EVENTS", kvm.SET_VCPU_EVENTS, events)

    # -- the kernel --------------------------------------------------------------------------------------------------

    def _read_system(self) -> kvm.Sregs | kvm.Sregs2:
        if self._wide:
            return self._read("KVM_GET_SREGS2", kvm.GET_SREGS2, kvm.Sregs2())
        return self._read("KVM_GET_SREGS", kvm.GET_SREGS, kvm.Sregs())

    def _read(self, name: str, request: int, into: _Kind) -> _Kind:
        control(self._vcpu, name, request, into)
        return into

    def _write(self, name: str, request: int, structure: Structure) -> None:
        control(self._vcpu, name, request, structure)


def _msr_table(numbers: Sequence[int], values: Sequence[int]) -> _MsrTable:
    table = _MsrTable(head=kvm.Msrs(nmsrs=len(numbers)))
    for entry, number, value in zip(table.entries, numbers, values, strict=False):
        entry.index, entry.data = number, value
    return table


def _known_msrs(device: int) -> frozenset[int]:
    """Return the numbers of all MSRs the kernel saves and restores."""
    numbers = _MsrNumbers(head=kvm.MsrList(nmsrs=_MOST_MSRS))
    control(device, "KVM_GET_MSR_INDEX_LIST", kvm.GET_MSR_INDEX_LIST, numbers)
    return frozenset(numbers.indices[: numbers.head.nmsrs])
