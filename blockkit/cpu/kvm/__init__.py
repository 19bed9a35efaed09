"""The processor of the host, by way of Linux KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu.kvm.vcpu import KvmVcpu

if TYPE_CHECKING:
    from blockkit.cpu.accelerator import GuestBus
    from blockkit.cpu.kvm.cpuid import Leaves


class KvmAccelerator:
    """Runs at the speed of the host, which must be Linux on x86-64 and allow it.

    Args:
        create_irqchip: Have the kernel model the interrupt controllers and the timer.
        cpuid: What CPUID answers: EAX, EBX, ECX and EDX by leaf and subleaf, as far as the host can do it.
    """

    name = "kvm"

    def __init__(self, *, create_irqchip: bool = False, cpuid: Leaves | None = None) -> None:
        self._create_irqchip, self._cpuid = create_irqchip, cpuid

    def create_vcpu(self, bus: GuestBus) -> KvmVcpu:
        """Return a processor after RESET.

        Raises:
            EmulationError: the kernel's virtual machines cannot be used here.
        """
        return KvmVcpu(bus, create_irqchip=self._create_irqchip, cpuid=self._cpuid)
