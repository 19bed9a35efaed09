"""A machine while it is used: running or paused, told what to do by other threads, and why it ended.

One thread runs the machine: whoever calls :meth:`Session.run`. All others hand it functions, which it calls between
two slices; so devices are only ever touched by one thread.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from blockkit.cpu import state
from blockkit.cpu.accelerator import Stop
from blockkit.emul.machine import SLICE, End

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.emul.build import Built
    from blockkit.emul.observe.counts import AccessCounts
    from blockkit.emul.pc import Pc

    #: Called with the name of an event and its data.
    Listener = Callable[[str, dict[str, Any]], None]

_SECOND: Final = 1_000_000_000
#: Virtual nanoseconds between two looks at what is waited for, and the same where an instruction takes long.
_LOOK: Final = 1_000_000
_LOOK_SLOWLY: Final = 100_000


class Status(enum.Enum):
    """What a machine does, as QMP names it."""

    RUNNING = "running"
    PAUSED = "paused"
    IO_ERROR = "io-error"
    SHUTDOWN = "shutdown"
    DEBUG = "debug"


class Outcome(enum.Enum):
    """Why :meth:`Session.run` came back."""

    POWER_OFF = "the guest powered off"
    EXIT = "the guest gave an exit code"
    RESET = "the guest reset the machine"
    TRIPLE_FAULT = "a triple fault"
    IDLE = "the guest waits for an interrupt that nothing will raise"
    IO_ERROR = "a request failed that the host could not do"
    QUIT = "somebody asked to quit"
    TIMEOUT = "the time is over"
    REACHED = "what was waited for has come"
    PAUSED = "the machine is paused"


#: After these the machine does not go on.
FINAL: Final = frozenset((Outcome.POWER_OFF, Outcome.EXIT, Outcome.RESET, Outcome.TRIPLE_FAULT, Outcome.QUIT))


class Session:
    """A machine that is run.

    Args:
        built: The machine.

    Attributes:
        status: What it does.
        outcome: Why it ended; None while it may go on.
        exit_code: The guest's.
        listeners: Told of events, in the thread that runs the machine.
        accesses: Counts what the guest does to devices, if anybody wants to know.
        breakpoints: Linear addresses before whose instructions the machine stops.
        inputs: How many ways there are in which something may come from outside: an idle machine waits for them.
    """

    def __init__(self, built: Built) -> None:
        self.built = built
        self.pc: Pc = built.pc
        self.status = Status.RUNNING
        self.outcome: Outcome | None = None
        self.exit_code = 0
        self.listeners: list[Listener] = []
        self.accesses: AccessCounts | None = None
        self.breakpoints: frozenset[int] = frozenset()
        self.inputs = 0
        self._inbox: deque[Callable[[], None]] = deque()
        self._posted = threading.Event()
        self._wanted: Outcome | None = None
        self._until: Callable[[], bool] | None = None
        self.pc.between.append(self._attend)
        self._started = time.monotonic_ns() - self.pc.clock.now()
        if built.config.realtime:
            self.pc.idle = self._wait_until

    # -- from any thread -----------------------------------------------------------------------------------

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have a function called by the thread that runs the machine, as soon as it can."""
        self._inbox.append(function)
        self.pc.cpu.kick()
        self._posted.set()

    # -- in the machine's thread, or before it runs ----------------------------------------------------------

    def tell(self, event: str, **data: Any) -> None:
        """Tell all listeners."""
        for each in list(self.listeners):
            each(event, data)

    def stop(self, status: Status = Status.PAUSED) -> None:
        """Let the machine stand still."""
        if self.status is Status.RUNNING:
            self.status = status
            self.pc.stop(End.STOPPED)
            self.tell("STOP")

    def cont(self) -> None:
        """Let it go on; what failed and stopped it is tried again."""
        if self.status in (Status.RUNNING, Status.SHUTDOWN):
            return
        self.status = Status.RUNNING
        self._started = time.monotonic_ns() - self.pc.clock.now()
        self.tell("RESUME")
        for drive in self.built.drives:
            drive.disk.resume()
        if any(drive.disk.failures for drive in self.built.drives):
            self._stop_for_error()

    def quit(self) -> None:
        """End it."""
        self._end_with(Outcome.QUIT)

    @property
    def can_break(self) -> bool:
        """Whether there can be breakpoints: whether the processor can be told to execute one instruction."""
        return self.built.accelerator != "kvm"

    def set_breakpoints(self, addresses: frozenset[int]) -> None:
        """Stop before these instructions; while there are any, the processor is run one instruction at a time."""
        self.breakpoints = addresses
        self.pc.execute = self._execute_watching if addresses else self.pc.cpu.run

    def _execute_watching(self, budget: int) -> Stop:
        cpu = self.pc.cpu
        end = cpu.executed + budget
        while cpu.executed < end:
            found = cpu.run(1)
            if found is not Stop.BUDGET:
                return found
            if self._position() in self.breakpoints:
                self.stop(Status.DEBUG)
                return Stop.KICKED
        return Stop.BUDGET

    def _position(self) -> int:
        """Return the linear address of the next instruction."""
        slots: Sequence[int] = getattr(self.pc.cpu, "slots", None) or self.pc.cpu.get_state()
        if slots[state.MODE] & state.MODE_64:
            return slots[state.RIP]
        return slots[state.SEGMENT_BASES + state.CS] + slots[state.RIP] & 0xFFFFFFFF

    def step(self) -> None:
        """Execute one instruction, of a machine that stands still."""
        if self.status is Status.SHUTDOWN:
            return
        end = self.pc.run(self.pc.clock.now() + 1)
        self._wanted = self._wanted or self._after(end, None, wait=True)

    def _end_with(self, outcome: Outcome) -> None:
        self._wanted = self._wanted or outcome
        self.pc.stop(End.STOPPED)

    def reach(self) -> None:
        """Make :meth:`run` return, since what was waited for is there."""
        self._end_with(Outcome.REACHED)

    def press_power_button(self) -> None:
        """Ask the guest to shut down."""
        self.pc.power.registers.press_power_button()
        self.tell("POWERDOWN")

    def reset(self) -> None:
        """Press the reset button."""
        self.built.reset()
        self.tell("RESET", guest=False, reason="host-qmp-system-reset")

    # -- running -------------------------------------------------------------------------------------------

    def run(
        self,
        *,
        until: int | None = None,
        timeout: float | None = None,
        reached: Callable[[], bool] | None = None,
        wait: bool = True,
    ) -> Outcome:
        """Run the machine.

        Args:
            until: Virtual time, in nanoseconds, at which to come back.
            timeout: Seconds of the host after which to come back.
            reached: Asked between two slices; True comes back.
            wait: While the machine is paused, or idles and something may come from outside, wait for that.

        Returns:
            Why it came back.
        """
        if self.outcome is not None:
            return self.outcome
        self._wanted, self._until = None, reached
        is_slow = self.built.accelerator == "python"
        self.pc.slice = _LOOK_SLOWLY if is_slow else SLICE if reached is None else _LOOK
        self._started = time.monotonic_ns() - self.pc.clock.now()
        timer: threading.Timer | None = None
        deadline = None if timeout is None else time.monotonic() + timeout
        if timeout is not None:
            timer = threading.Timer(timeout, lambda: self.call_soon(lambda: self._expire(deadline)))
            timer.daemon = True
            timer.start()
        try:
            found = self._run(until, wait)
        finally:
            self._until = None
            if timer is not None:
                timer.cancel()
        if found in FINAL:
            self.outcome, self.status = found, Status.SHUTDOWN
        return found

    def _expire(self, deadline: float | None) -> None:
        # A timer of an earlier run may still come.
        if deadline is not None and time.monotonic() >= deadline:
            self._end_with(Outcome.TIMEOUT)

    def _run(self, until: int | None, wait: bool) -> Outcome:
        while True:
            self._attend()
            if self._wanted is not None:
                return self._wanted
            if self.status is not Status.RUNNING:
                if not wait:
                    return Outcome.IO_ERROR if self.status is Status.IO_ERROR else Outcome.PAUSED
                self._wait(None)
                continue
            end = self.pc.run(until)
            if self._wanted is not None:
                return self._wanted
            found = self._after(end, until, wait)
            if found is not None:
                return found

    def _after(self, end: End, until: int | None, wait: bool) -> Outcome | None:
        """Do what comes after the machine stopped; None to go on."""
        if end is End.STOPPED:
            if self.status is Status.RUNNING and any(drive.disk.failures for drive in self.built.drives):
                self._stop_for_error()
            return Outcome.REACHED if until is not None and self.pc.clock.now() >= until else None
        if end is End.IDLE:
            if self.status is not Status.RUNNING:
                return None
            if wait and self.inputs:
                self._wait(None)
                return None
            return Outcome.IDLE
        if end is End.POWER_OFF:
            self.tell("SHUTDOWN", guest=True, reason="guest-shutdown")
            return Outcome.POWER_OFF
        if end is End.EXIT:
            self.exit_code = self.pc.exit_code
            self.tell("SHUTDOWN", guest=True, reason="guest-shutdown")
            return Outcome.EXIT
        if self.built.config.reboot:
            self.built.reset()
            self.tell("RESET", guest=True, reason="guest-reset")
            return None
        self.tell("SHUTDOWN", guest=True, reason="guest-reset")
        return Outcome.TRIPLE_FAULT if end is End.SHUTDOWN else Outcome.RESET

    def _stop_for_error(self) -> None:
        for drive in self.built.drives:
            for request in drive.disk.failures:
                self.tell(
                    "BLOCK_IO_ERROR",
                    device=drive.name,
                    operation="read" if request.operation.value == "read" else "write",
                    action="stop",
                    reason="the host could not do it",
                )
        self.stop(Status.IO_ERROR)

    def _attend(self) -> None:
        """Do what others asked for, and look whether what is waited for has come."""
        self._posted.clear()
        while self._inbox:
            self._inbox.popleft()()
        if self._until is not None and self._until():
            self.reach()

    def _wait(self, seconds: float | None) -> None:
        """Wait until somebody asks for something; before that, the others have their word."""
        for each in self.pc.between:
            if each != self._attend:
                each()
        if not self._inbox:
            self._posted.wait(seconds)

    def _wait_until(self, at: int) -> int:
        """Wait until the host's clock has come to a virtual time, or somebody asks for something."""
        while (left := at - (time.monotonic_ns() - self._started)) > 0:
            if self._inbox:
                return min(at, max(self.pc.clock.now(), time.monotonic_ns() - self._started))
            self._wait(left / _SECOND)
            self._posted.clear()
        return at
