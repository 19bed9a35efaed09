"""A machine that runs: a processor, what lies outside it, and time."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from blockkit.cpu.accelerator import Region, Stop
from blockkit.emul.clock import Clock
from blockkit.emul.spaces import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.cpu.accelerator import Accelerator

#: Nanoseconds that an access to a port takes: about what one on PCI does, and less than one on ISA.
_PORT_TIME: Final = 300
#: Nanoseconds that pass at most before somebody else gets a word in.
SLICE: Final = 10_000_000


class End(enum.Enum):
    """Why a machine stopped."""

    POWER_OFF = "power-off"
    RESET = "reset"
    EXIT = "exit"  #: the guest asked for an exit code
    SHUTDOWN = "shutdown"  #: a triple fault
    IDLE = "idle"  #: it waits for an interrupt that nothing will raise
    STOPPED = "stopped"  #: somebody called :meth:`Machine.stop`


class Bus:
    """What the processor sees outside: memory, and two spaces of devices.

    Attributes:
        memory: Windows of memory-mapped devices.
        ports: Windows of I/O ports.
        memory_changed: Called when RAM and ROM are other than before.
        acknowledge: Returns the vector of the interrupt that is taken.
    """

    def __init__(self) -> None:
        self.memory, self.ports = AddressSpace("memory"), AddressSpace("ports")
        self._regions: list[Region] = []
        self.memory_changed: Callable[[], None] = lambda: None
        self.acknowledge: Callable[[], int] = lambda: 0xFF

    def add_memory(self, region: Region) -> None:
        """Add RAM or ROM."""
        self._regions.append(region)
        self._regions.sort(key=lambda each: each.address)

    def set_memory(self, regions: Sequence[Region]) -> None:
        """Let the processor see other memory than before."""
        self._regions = list(regions)
        self.memory_changed()

    def memory_map(self) -> Sequence[Region]:
        """See :class:`blockkit.cpu.accelerator.GuestBus`."""
        return self._regions

    def mmio_read(self, address: int, size: int) -> int:
        """Read a device."""
        return self.memory.read(address, size)

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """Write one."""
        self.memory.write(address, size, value)

    def port_read(self, port: int, size: int) -> int:
        """Read a port."""
        return self.ports.read(port, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        """Write one."""
        self.ports.write(port, size, value)

    def has_port(self, port: int) -> bool:
        """Whether a device answers at a port."""
        return self.ports.find(port) is not None

    def acknowledge_interrupt(self) -> int:
        """Return the vector of the interrupt that is taken."""
        return self.acknowledge()


class Machine:
    """A processor that runs in virtual time: a nanosecond is what an instruction takes.

    Args:
        accelerator: What runs the processor.
        bus: What it sees.

    Attributes:
        slice: Nanoseconds that pass at most before others have a word.
        between: Called, in order, between two slices: whoever wants a word while the machine runs.
        execute: Runs the processor for a budget.
        idle: Called with a time before which nothing happens; returns what time it is then.
    """

    def __init__(self, accelerator: Accelerator, bus: Bus) -> None:
        self.bus = bus
        self.cpu = accelerator.create_vcpu(bus)
        self.cpu.port_time = _PORT_TIME
        bus.ports.changed = self.cpu.port_map_changed
        bus.memory_changed = self.cpu.memory_map_changed
        self.clock = Clock(lambda: self.cpu.executed, self.cpu.kick)
        self._end: End | None = None
        self.exit_code = 0
        self.slice = SLICE
        self.between: list[Callable[[], None]] = []
        self.execute: Callable[[int], Stop] = self.cpu.run
        self.idle: Callable[[int], int] = lambda at: at

    def stop(self, why: End, exit_code: int = 0) -> None:
        """Stop as soon as the instruction that runs is done."""
        self._end, self.exit_code = why, exit_code
        self.cpu.kick()

    def run(self, until: int | None = None) -> End:
        """Run, until a time at most.

        Returns:
            Why it stopped.
        """
        cpu, clock = self.cpu, self.clock
        self._end = None
        while True:
            clock.fire()
            for each in self.between:
                each()
            if self._end is not None:
                return self._end
            now, deadline = clock.now(), clock.deadline()
            if until is not None and now >= until:
                return End.STOPPED
            limits = [at for at in (deadline, until) if at is not None]
            left = min(limits) - now if limits else self.slice
            stop = self.execute(max(1, min(left, self.slice)))
            if self._end is not None:
                return self._end
            if stop is Stop.SHUTDOWN:
                return End.SHUTDOWN
            if stop is Stop.HALTED:
                limits = [at for at in (clock.deadline(), until) if at is not None]
                if not limits:
                    return End.IDLE
                cpu.skip(max(0, self.idle(min(limits)) - clock.now()))
