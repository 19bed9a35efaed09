"""Whether the kernel's virtual machines are worth using: some only emulate what the guest's kernel does.

That is so where the machine is itself virtual and its host passes no virtualization on. A million instructions a second
is less than what this package does by itself.
"""

from __future__ import annotations

from mmap import PAGESIZE, mmap
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.accelerator import Region, Stop
from blockkit.cpu.reset import reset
from blockkit.errors import BlockkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Nanoseconds for which the guest counts.
_TIME: Final = 3_000_000
#: Instructions a second: far more than an emulation does, and far less than a processor, even a busy one.
WORTHWHILE: Final = 50_000_000

#: INC EAX; JMP to it: flat 32-bit code of the highest privilege. Old Intel processors emulate real mode, but not this.
_CODE: Final = bytes.fromhex("40 ebfd")
_INSTRUCTIONS: Final = 2


class Probe(NamedTuple):
    """What was found.

    Attributes:
        usable: Whether to use it.
        why: One line.
        rate: Instructions a second in the guest's kernel mode; 0 if none ran.
    """

    usable: bool
    why: str
    rate: int = 0


class _Bus:
    """One page of memory, and nothing else."""

    def __init__(self) -> None:
        self._page = mmap(-1, PAGESIZE)
        self._page[: len(_CODE)] = _CODE

    def memory_map(self) -> Sequence[Region]:
        return [Region(0, memoryview(self._page))]

    def mmio_read(self, address: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def mmio_write(self, address: int, size: int, value: int) -> None:
        pass

    def port_read(self, port: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def port_write(self, port: int, size: int, value: int) -> None:
        pass

    def has_port(self, port: int) -> bool:
        """See :class:`blockkit.cpu.accelerator.GuestBus`."""
        return True

    def acknowledge_interrupt(self) -> int:
        return 0


def probe() -> Probe:
    """Run a guest for some milliseconds and see how far it comes; what goes wrong speaks against it."""
    try:
        return _measure()
    except BlockkitError as error:
        return Probe(False, str(error))
    except (OSError, ImportError, AttributeError) as error:
        return Probe(False, f"kvm: the host has no such interface: {str(error).lower()}")


def judge(count: int, nanoseconds: int) -> Probe:
    """Return what it means that so many instructions ran in so much time."""
    rate = count * 1_000_000_000 // max(1, nanoseconds)
    speed = f"{rate / 1_000_000:.1f} million instructions a second in the guest's kernel mode"
    if rate < WORTHWHILE:
        return Probe(False, f"kvm: the kernel emulates: {speed}, expected {WORTHWHILE // 1_000_000} at least", rate)
    return Probe(True, f"kvm: {speed}", rate)


def _measure() -> Probe:
    from blockkit.cpu.kvm.vcpu import KvmVcpu

    vcpu = KvmVcpu(_Bus())
    try:
        slots = state.new_state()
        reset(slots)
        for segment in range(6):
            code = segment == state.CS
            slots[state.SELECTORS + segment] = 8 if code else 16
            slots[state.SEGMENT_BASES + segment] = 0
            slots[state.SEGMENT_LIMITS + segment] = 0xFFFFFFFF
            slots[state.SEGMENT_ATTRIBUTES + segment] = 0xC09B if code else 0xC093
        slots[state.CR0] |= state.CR0_PE
        slots[state.RIP] = slots[state.RAX] = 0
        vcpu.set_state(slots)
        stop = vcpu.run(_TIME)
        if stop is not Stop.BUDGET:
            return Probe(False, f"kvm: a loop ended by itself: {stop.value}")
        return judge(_INSTRUCTIONS * vcpu.general_registers().rax, vcpu.executed)
    finally:
        vcpu.close()
