"""A processor that the host's own processor runs."""

from __future__ import annotations

import errno
import os
import time
from functools import cache
from importlib import import_module
from mmap import mmap
from struct import unpack_from
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.accelerator import Stop
from blockkit.cpu.kvm import cpuid as cpuids
from blockkit.cpu.kvm import exits
from blockkit.cpu.kvm import interface as kvm
from blockkit.cpu.kvm.alarm import Alarm
from blockkit.cpu.kvm.device import control, failure, runner
from blockkit.cpu.kvm.processor import Processor
from blockkit.cpu.kvm.vm import Vm
from blockkit.cpu.reset import reset
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.cpu.accelerator import GuestBus
    from blockkit.cpu.kvm.cpuid import Leaves

_SUBERRORS: Final = {
    1: "an instruction that the kernel cannot emulate",
    2: "exceptions that cannot come together",
    3: "an exit while an event was delivered",
    4: "an exit of an unexpected kind",
}
_EMULATION: Final = 1


class KvmVcpu:
    """See :class:`blockkit.cpu.accelerator.Vcpu`. The only processor of its VM.

    Units of virtual time are nanoseconds of the host. ``EXECUTED`` counts those inside :meth:`run`.

    Args:
        bus: What lies outside.
        create_irqchip: Have the kernel model the interrupt controllers and the timer of a PC. Then
            :meth:`irq_line` replaces :meth:`set_interrupt_line`, and :meth:`run` waits where a processor halts.
        cpuid: What CPUID answers, as far as the host can do it; without, all that the host can do.

    Raises:
        EmulationError: the kernel's virtual machines cannot be used here.
    """

    def __init__(self, bus: GuestBus, *, create_irqchip: bool = False, cpuid: Leaves | None = None) -> None:
        self.port_time = 0
        self.task_priority_changed: Callable[[int], None] = lambda _: None
        self._told_priority = 0
        self.bus = bus
        self._vcpu = -1
        self._alarm: Alarm | None = None
        self._page: mmap | None = None
        self._vm = Vm(interrupt_controllers=create_irqchip)
        try:
            self._vm.memory.update(bus.memory_map())
            self._vcpu = self._vm.create_vcpu()
            size = control(self._vm.device, "KVM_GET_VCPU_MMAP_SIZE", kvm.GET_VCPU_MMAP_SIZE)
            self._page = mmap(self._vcpu, size)
            self._run = kvm.Run.from_buffer(self._page)
            self._enter = runner(self._vcpu)
            self._alarm = Alarm(self._vcpu)
            can = cpuids.supported(self._vm.device)
            cpuids.tell(self._vcpu, cpuids.of_host(can) if cpuid is None else cpuids.of_model(cpuid, can))
            self._processor = Processor(self._vm, self._vcpu)
            self._executed = 0
            self._started: int | None = None
            self._kicked = False
            #: An exit has been answered, but the instruction that made it has not ended.
            self._unfinished = False
            #: A state to set when it has.
            self._later: tuple[list[int], bool] | None = None
            self._busy = False
            self._line = self._nmi = False
            self._halt = 0
            self.reset()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the VM back; a processor that is no longer referred to does so by itself."""
        if self._alarm is not None:
            self._alarm.close()
        self._run = kvm.Run()
        if self._page is not None:
            self._page.close()
        if self._vcpu >= 0:
            os.close(self._vcpu)
        self._vcpu, self._page, self._alarm = -1, None, None
        self._vm.close()

    def __del__(self) -> None:
        if hasattr(self, "_vm"):
            self.close()

    # -- what a machine calls ------------------------------------------------------------------------------

    @property
    def executed(self) -> int:
        """Nanoseconds inside :meth:`run` since the processor was made, and those skipped, also while it runs."""
        started = self._started
        return self._executed + (time.monotonic_ns() - started if started is not None else 0)

    def skip(self, units: int) -> None:
        """Let virtual time pass in which nothing runs; the TSC does not notice."""
        self._executed += units

    def set_interrupt_line(self, level: bool) -> None:
        """Raise or lower INTR; not with the kernel's interrupt controllers, which do so themselves."""
        if self._vm.interrupt_controllers:
            raise EmulationError("kvm: the kernel has the interrupt controllers, expected irq_line")
        self._line = level
        if not level:
            self._run.request_interrupt_window = 0

    def set_task_priority(self, value: int) -> None:
        """Set CR8."""
        self._run.cr8 = self._told_priority = value

    def irq_line(self, line: int, level: bool) -> None:
        """Raise or lower an input of the kernel's interrupt controllers; from any thread."""
        self._vm.irq_line(line, level)

    def inject_nmi(self) -> None:
        """Raise NMI once."""
        self._nmi = True

    def kick(self) -> None:
        """Make :meth:`run` return soon, or at once when it is next called; from any thread."""
        self._kicked = True
        if self._alarm is not None:
            self._alarm.ring()

    def reset(self) -> None:
        """Bring the processor to the state after RESET."""
        slots = state.new_state()
        reset(slots)
        self._line = self._nmi = False
        self._set(slots, clear=True)

    def get_state(self) -> list[int]:
        """Return all slots; in a callback, those before or after the instruction that called it."""
        if self._later is not None:
            return list(self._later[0])
        slots = self._processor.get(self.executed)
        if not self._vm.interrupt_controllers:
            slots[state.HALT] = self._halt
        compute_mode(slots)
        return slots

    def set_state(self, slots: Sequence[int]) -> None:
        """Set them; in a callback, after the instruction that called it."""
        self._set(list(slots))

    def general_registers(self) -> kvm.Regs:
        """Return the general registers, RIP and RFLAGS, at a tenth of the cost of everything."""
        return self._processor.general()

    def memory_map_changed(self) -> None:
        """Ask the bus for its memory again."""
        self._vm.memory.update(self.bus.memory_map())

    def port_map_changed(self) -> None:
        """Learn that other ports are answered now: nothing is remembered of them."""

    def memory_written(self, address: int, size: int) -> None:
        """Do nothing: the host's processor sees for itself."""

    def log_writes(self, address: int, on: bool) -> None:
        """Begin or end to note which pages the guest writes, in the memory that begins at ``address``."""
        self._vm.memory.log_writes(address, on)

    def written_pages(self, address: int) -> bytes:
        """Return a bit for each page the guest wrote since the last call, the first page in bit 0."""
        return self._vm.memory.written_pages(address)

    # -- running -------------------------------------------------------------------------------------------

    def run(self, budget: int) -> Stop:
        """Execute for ``budget`` nanoseconds at most, and a little more.

        Raises:
            EmulationError: the kernel cannot go on; only a reset does.
        """
        if self._started is not None:
            raise EmulationError("kvm: the processor runs already")
        if self._alarm is None:
            raise EmulationError("kvm: the processor is closed")
        if budget <= 0:
            return Stop.BUDGET
        self._processor.resume()
        self._started = time.monotonic_ns()
        try:
            with self._alarm as alarm:
                deadline = self._started + budget
                alarm.wake_at(deadline)
                stop = self._loop(alarm, deadline)
                self._settle()
                return stop
        finally:
            self._executed, self._started = self.executed, None

    def _loop(self, alarm: Alarm, deadline: int) -> Stop:
        """Enter the guest again and again, until something ends it."""
        while True:
            if self._kicked:
                self._kicked = False
                return Stop.KICKED
            if self._line or self._nmi or self._halt:
                stop = self._attend()
                if stop is not None:
                    return stop
            error = self._enter()
            self._unfinished = False
            if self._run.cr8 != self._told_priority and not self._vm.interrupt_controllers:
                self._told_priority = self._run.cr8
                self.task_priority_changed(self._told_priority)
            if not error:
                self._answer()
            elif error != errno.EINTR:
                raise failure(f"KVM_RUN at {self._processor.place()}", error)
            else:
                alarm.consume()
                if time.monotonic_ns() >= deadline:
                    return Stop.BUDGET

    def _answer(self) -> None:
        """Do what the guest left for."""
        assert self._page is not None
        reason = self._run.exit_reason
        if reason in (kvm.EXIT_IO, kvm.EXIT_MMIO):
            self._unfinished = self._busy = True
            try:
                if reason == kvm.EXIT_IO:
                    exits.do_ports(self._page, self.bus)
                else:
                    exits.do_mmio(self._page, self.bus)
            except BaseException:
                self._busy = False
                exits.give_up(self._page, reason)
                self._settle(quiet=True)
                raise
            self._busy = False
            if self._later is not None:
                self._settle()
        elif reason == kvm.EXIT_HLT:
            self._halt = state.HALTED
        elif reason == kvm.EXIT_SHUTDOWN:
            self._halt = state.SHUTDOWN
        elif reason not in (kvm.EXIT_IRQ_WINDOW_OPEN, kvm.EXIT_SET_TPR):
            raise self._error(reason)

    def _settle(self, *, quiet: bool = False) -> None:
        """Let the instruction end that left the guest, without another; then set the state that was to be set.

        It may leave again. If ``quiet``, the bus is not asked.
        """
        assert self._page is not None
        while self._unfinished:
            self._run.immediate_exit = 1
            error = self._enter()
            self._run.immediate_exit = 0
            self._unfinished = False
            if error == errno.EINTR:
                break
            if error:
                raise failure(f"KVM_RUN at {self._processor.place()}", error)
            if quiet and self._run.exit_reason in (kvm.EXIT_IO, kvm.EXIT_MMIO):
                exits.give_up(self._page, self._run.exit_reason)
                self._unfinished = True
            else:
                self._answer()
        later, self._later = self._later, None
        if later is not None:
            self._set(later[0], clear=later[1])

    def _attend(self) -> Stop | None:
        """Hand over an NMI or an interrupt, if one may be taken now; return why the processor does not go on."""
        if self._line or self._nmi:
            self._settle()
        if self._halt == state.SHUTDOWN:
            return Stop.SHUTDOWN
        if self._nmi and not (self._halt and self._processor.events().nmi_masked):
            self._nmi, self._halt = False, 0
            control(self._vcpu, "KVM_NMI", kvm.RAISE_NMI)
        elif self._line and (self._run.ready_for_interrupt_injection or (self._halt and self._run.if_flag)):
            self._halt = 0
            vector = self.bus.acknowledge_interrupt()
            control(self._vcpu, "KVM_INTERRUPT", kvm.INTERRUPT, kvm.Interrupt(irq=vector))
            self._run.ready_for_interrupt_injection = 0
        if self._halt:
            return Stop.HALTED
        self._run.request_interrupt_window = self._line
        return None

    def _set(self, slots: list[int], *, clear: bool = False) -> None:
        """Set the state, now or when the instruction has ended that asks the bus something.

        With ``clear``, what has no slots is reset too, and time goes on.
        """
        if self._busy:
            self._later = slots, clear
            return
        if clear:
            slots[state.EXECUTED] = self.executed
        self._processor.set(slots, clear=clear)
        # What the kernel takes from the page when it enters the guest, and what it says there of interrupts.
        self._run.cr8 = self._told_priority = slots[state.CR8]
        self._run.if_flag = bool(slots[state.SYSTEM_FLAGS] & state.IF)
        self._run.ready_for_interrupt_injection = 0
        self._halt = slots[state.HALT] & (state.HALTED | state.SHUTDOWN)
        if self._vm.interrupt_controllers:
            self._halt &= state.SHUTDOWN
        if not clear:
            self._executed = slots[state.EXECUTED]
            if self._started is not None:
                self._started = time.monotonic_ns()

    def _error(self, reason: int) -> EmulationError:
        """Return the error for an exit after which nothing goes on."""
        assert self._page is not None
        place = self._processor.place()
        if reason == kvm.EXIT_INTERNAL_ERROR:
            number, count = unpack_from(kvm.INTERNAL_FORMAT, self._page, kvm.RUN_EXIT)
            words = unpack_from(f"<{min(count, 16)}Q", self._page, kvm.RUN_EXIT + 8)
            told = f"suberror {number}, {_SUBERRORS.get(number, 'unknown')}"
            if number == _EMULATION and count >= 3 and words[0] & 1:
                size, code = unpack_from("<B15s", self._page, kvm.RUN_EXIT + 16)
                told += f", in {code[: min(size, 15)].hex(' ')}"
            elif words:
                told += f", data {' '.join(f'{word:#x}' for word in words)}"
            return EmulationError(f"kvm: internal error at {place}: {told}")
        (hardware,) = unpack_from(kvm.HARDWARE_FORMAT, self._page, kvm.RUN_EXIT)
        if reason == kvm.EXIT_FAIL_ENTRY:
            return EmulationError(f"kvm: the guest cannot be entered at {place}: hardware reason {hardware:#x}")
        if reason == kvm.EXIT_UNKNOWN:
            return EmulationError(f"kvm: unknown exit at {place}: hardware reason {hardware:#x}")
        return EmulationError(f"kvm: exit {reason} at {place} is not one that was asked for")


@cache
def _mode_computer() -> tuple[list[int], Callable[[], int]]:
    from blockkit.cpu.dialect import plain
    from blockkit.cpu.system import MODULES

    slots = state.new_state()
    return slots, plain.functions([import_module(name) for name in MODULES], slots, {})["update_mode"]


def compute_mode(slots: list[int]) -> None:
    """Set MODE, which the kernel does not know."""
    scratch, update = _mode_computer()
    scratch[:] = slots
    update()
    slots[state.MODE] = scratch[state.MODE]
