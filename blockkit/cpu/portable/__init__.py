"""The semantics as plain Python: the reference for every other interpretation, and the one that needs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu.portable.vcpu import PortableVcpu

if TYPE_CHECKING:
    from blockkit.cpu.accelerator import GuestBus


class PythonAccelerator:
    """Runs anywhere, at a few million instructions a second."""

    name = "python"

    def create_vcpu(self, bus: GuestBus) -> PortableVcpu:
        """Return a processor after RESET."""
        return PortableVcpu(bus)
