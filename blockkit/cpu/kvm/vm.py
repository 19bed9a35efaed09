"""A virtual machine of the kernel: memory, at most one set of interrupt controllers, and processors."""

from __future__ import annotations

import os
from ctypes import Structure, c_uint64
from typing import TYPE_CHECKING, ClassVar, Final

from blockkit.cpu.kvm import interface as kvm
from blockkit.cpu.kvm.device import control, extension, open_device
from blockkit.cpu.kvm.memory import Memory
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from blockkit.cpu.kvm.interface import Fields

#: Four pages that old Intel processors need for real mode: below the BIOS, where no machine has memory.
_IDENTITY_MAP: Final = 0xFEFFC000
_TSS: Final = _IDENTITY_MAP + 0x1000
#: Memory slots that every kernel has.
_FEWEST_SLOTS: Final = 32


class _Number(Structure):
    _fields_: ClassVar[Fields] = [("value", c_uint64)]


class Vm:
    """A VM, and the device it is made from.

    Args:
        interrupt_controllers: Have the kernel model two 8259, an I/O APIC, local APICs and an 8254.

    Attributes:
        device: The descriptor of the device.
        descriptor: That of the VM.
        memory: What memory it has.
        interrupt_controllers: As above.

    Raises:
        EmulationError: the device cannot be used, or the kernel refuses.
    """

    def __init__(self, *, interrupt_controllers: bool = False) -> None:
        self.device = self.descriptor = -1
        self.interrupt_controllers = interrupt_controllers
        try:
            self.device = open_device()
            self.descriptor = control(self.device, "KVM_CREATE_VM", kvm.CREATE_VM)
            most = max(_FEWEST_SLOTS, extension(self.descriptor, kvm.CAP_NR_MEMSLOTS))
            self.memory = Memory(self.descriptor, most)
            if extension(self.descriptor, kvm.CAP_SET_IDENTITY_MAP_ADDR):
                place = _Number(_IDENTITY_MAP)
                control(self.descriptor, "KVM_SET_IDENTITY_MAP_ADDR", kvm.SET_IDENTITY_MAP_ADDR, place)
            if extension(self.descriptor, kvm.CAP_SET_TSS_ADDR):
                control(self.descriptor, "KVM_SET_TSS_ADDR", kvm.SET_TSS_ADDR, _TSS)
            if interrupt_controllers:
                self._create_interrupt_controllers()
        except BaseException:
            self.close()
            raise

    def create_vcpu(self) -> int:
        """Return the descriptor of a new processor, the first and only."""
        return control(self.descriptor, "KVM_CREATE_VCPU", kvm.CREATE_VCPU, 0)

    def irq_line(self, line: int, level: bool) -> None:
        """Raise or lower an input of the kernel's interrupt controllers; from any thread."""
        if not self.interrupt_controllers:
            raise EmulationError("kvm: the kernel has no interrupt controllers, expected create_irqchip=True")
        control(self.descriptor, "KVM_IRQ_LINE", kvm.IRQ_LINE, kvm.IrqLevel(irq=line, level=level))

    def close(self) -> None:
        """Give up the VM; more than once does nothing."""
        for descriptor in (self.descriptor, self.device):
            if descriptor >= 0:
                os.close(descriptor)
        self.device = self.descriptor = -1

    def _create_interrupt_controllers(self) -> None:
        for number, name in ((kvm.CAP_IRQCHIP, "KVM_CAP_IRQCHIP"), (kvm.CAP_PIT2, "KVM_CAP_PIT2")):
            if not extension(self.descriptor, number):
                raise EmulationError(f"kvm: the kernel lacks interrupt controllers ({name})")
        control(self.descriptor, "KVM_CREATE_IRQCHIP", kvm.CREATE_IRQCHIP)
        control(self.descriptor, "KVM_CREATE_PIT2", kvm.CREATE_PIT2, kvm.PitConfig())
