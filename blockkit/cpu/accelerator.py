"""What a machine sees of a processor, and a processor of the machine; the same for every accelerator."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Stop(enum.Enum):
    """Why :meth:`Vcpu.run` came back."""

    BUDGET = "budget"  #: the budget is used up
    HALTED = "halted"  #: HLT with nothing to wake it; an interrupt, an NMI or a reset goes on
    KICKED = "kicked"  #: somebody called :meth:`Vcpu.kick`
    SHUTDOWN = "shutdown"  #: a triple fault; only a reset goes on


class Region(NamedTuple):
    """A stretch of physical addresses that is memory: whole pages.

    Attributes:
        address: The first.
        memory: The bytes, shared with whoever else looks at them: a writable buffer, from ``mmap`` for instance.
        writable: False for ROM, whose writes are :meth:`GuestBus.mmio_write`'s.
    """

    address: int
    memory: memoryview
    writable: bool = True


class GuestBus(Protocol):
    """What lies outside the processor. Sizes are bytes; numbers are little-endian. Nothing here raises."""

    def memory_map(self) -> Sequence[Region]:
        """Return all memory, by rising address, without overlaps; all else is MMIO."""
        ...

    def mmio_read(self, address: int, size: int) -> int:
        """Read 1, 2, 4 or 8 bytes where no memory is."""
        ...

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """Write them; also where ROM is."""
        ...

    def port_read(self, port: int, size: int) -> int:
        """Read an I/O port, 1, 2 or 4 bytes wide."""
        ...

    def port_write(self, port: int, size: int, value: int) -> None:
        """Write one."""
        ...

    def has_port(self, port: int) -> bool:
        """Whether anything answers at a port; where nothing does, reads give ones, and writes need not be told."""
        ...

    def acknowledge_interrupt(self) -> int:
        """Return the vector of the interrupt that is taken; the interrupt line was raised."""
        ...


class Vcpu(Protocol):
    """One processor. All but :meth:`kick` is for the thread that runs it, and for callbacks of its bus.

    Attributes:
        port_time: Units of virtual time that an access to a port takes beside those of its instruction; 0 at first.
            Without, a guest that waits for a timer by looking at it does so millions of times.
    """

    port_time: int
    #: Called with CR8 when the guest has changed it: interrupts of that class and below are to wait.
    task_priority_changed: Callable[[int], None]

    def run(self, budget: int) -> Stop:
        """Execute up to ``budget`` units of virtual time: instructions, or nanoseconds where they are not counted.

        An exception of a callback ends it and is raised here.
        """
        ...

    @property
    def executed(self) -> int:
        """Units of virtual time since the processor was made, also while it runs."""
        ...

    def skip(self, units: int) -> None:
        """Let virtual time pass in which the processor does nothing; it is halted."""
        ...

    def set_interrupt_line(self, level: bool) -> None:
        """Raise or lower INTR."""
        ...

    def set_task_priority(self, value: int) -> None:
        """Set CR8, which is what a local APIC calls the task priority, without a word about it."""
        ...

    def inject_nmi(self) -> None:
        """Raise NMI once."""
        ...

    def kick(self) -> None:
        """Make :meth:`run` return soon, or at once when it is next called; from any thread."""
        ...

    def reset(self) -> None:
        """Bring the processor to the state after RESET (SDM volume 3, table 9-1)."""
        ...

    def get_state(self) -> list[int]:
        """Return all slots of :mod:`blockkit.cpu.state`, the arithmetic flags as ``pack_flags`` makes them."""
        ...

    def set_state(self, slots: Sequence[int]) -> None:
        """Set them."""
        ...

    def memory_map_changed(self) -> None:
        """Ask the bus for its memory again."""
        ...

    def port_map_changed(self) -> None:
        """Learn that :meth:`GuestBus.has_port` has other answers now."""
        ...

    def memory_written(self, address: int, size: int) -> None:
        """Learn that somebody else (a device) wrote memory, in which code may lie."""
        ...


class Accelerator(Protocol):
    """A way to run a processor.

    Attributes:
        name: ``python``, ``jit`` or ``kvm``.
    """

    name: str

    def create_vcpu(self, bus: GuestBus) -> Vcpu:
        """Return a processor after RESET."""
        ...
