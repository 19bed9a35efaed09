"""The local APIC of the processor (SDM volume 3, chapter 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.registers import Register, RegisterBank

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.clock import Clock, Timer

BASE, SIZE = 0xFEE00000, 0x1000
_SOFTWARE_ENABLE: Final = 1 << 8
_MASKED: Final = 1 << 16
_PERIODIC: Final = 1 << 17
_FIXED, _LOWEST, _NMI, _EXTERNAL = 0, 1, 4, 7
#: Destination shorthands of the ICR: none, self, all, all but self.
_NO_SHORTHAND, _SELF, _ALL, _OTHERS = range(4)
_LEVEL_TRIGGERED: Final = 1 << 15
#: The error status: an illegal vector was sent or received.
_ILLEGAL_RECEIVED: Final = 1 << 6
_FIRST_LEGAL: Final = 16
_NONE: Final = -1


class LocalApic(RegisterBank):
    """One processor's interrupts: those of the I/O APIC, messages, and its timer; and, through LINT0, the 8259's.

    Its timer counts nanoseconds before they are divided.

    Args:
        clock: The time.
        output: Called with the level of INTR whenever it may have changed.
        external: Returns the vector of the 8259's interrupt.
        ended: Called with the vector of a level-triggered interrupt that has ended.
    """

    # fmt: off
    identity  = Register(0x020, width=4, writable=0xFF000000)
    version   = Register(0x030, "r", width=4, reset=0x00050014)
    task      = Register(0x080, width=4, writable=0xFF)                 # TPR, 11.8.3.1
    processor = Register(0x0A0, "r", width=4)                           # PPR
    end       = Register(0x0B0, "w", width=4)                           # EOI, 11.8.5
    logical   = Register(0x0D0, width=4, writable=0xFF000000)           # LDR
    format    = Register(0x0E0, width=4, reset=0xFFFFFFFF, writable=0xF0000000)
    spurious  = Register(0x0F0, width=4, reset=0xFF, writable=0x3FF)    # SVR, 11.9
    errors    = Register(0x280, width=4, writable=0)                    # ESR, 11.5.3
    command   = Register(0x300, width=4, writable=0xCCFFF)              # ICR, 11.6.1
    target    = Register(0x310, width=4, writable=0xFF000000)
    timer     = Register(0x320, width=4, reset=_MASKED, writable=0x300FF)   # LVT, 11.5.1
    thermal   = Register(0x330, width=4, reset=_MASKED, writable=0x107FF)
    counters  = Register(0x340, width=4, reset=_MASKED, writable=0x107FF)
    lint0     = Register(0x350, width=4, reset=0x700, writable=0x1A7FF)
    lint1     = Register(0x360, width=4, reset=0x400, writable=0x1A7FF)
    failure   = Register(0x370, width=4, reset=_MASKED, writable=0x100FF)
    initial   = Register(0x380, width=4)                                # 11.5.4
    current   = Register(0x390, "r", width=4)
    divide    = Register(0x3E0, width=4, writable=0x0B)
    # fmt: on

    def __init__(
        self,
        clock: Clock,
        output: Callable[[bool], None],
        external: Callable[[], int],
        ended: Callable[[int], None],
    ) -> None:
        self._clock, self._output, self._external, self._ended = clock, output, external, ended
        #: Called with the class of the task priority when it is written here: the processor has it as CR8.
        self.priority_written: Callable[[int], None] = lambda _: None
        self._alarm: Timer | None = None
        self._external_level = False
        super().__init__()

    def reset(self) -> None:
        """Become as after power-on, but with the 8259 connected, as firmware leaves it (virtual wire mode)."""
        super().reset()
        self._requests = self._service = self._levels = 0
        self._pending_errors = 0
        self._start = 0
        self._schedule()
        self._update()

    # -- what interrupts -----------------------------------------------------------------------------------

    def accept(self, vector: int, *, level: bool = False) -> None:
        """Take an interrupt."""
        if vector < _FIRST_LEGAL:
            self._pending_errors |= _ILLEGAL_RECEIVED
            return
        if not self.spurious & _SOFTWARE_ENABLE:
            return
        self._requests |= 1 << vector
        self._levels = self._levels & ~(1 << vector) | (int(level) << vector)
        self._update()

    def message(self, address: int, data: int) -> None:
        """Take a message-signalled interrupt (11.11)."""
        if address >> 20 == BASE >> 20 and data >> 8 & 7 in (_FIXED, _LOWEST):
            self.accept(data & 0xFF, level=bool(data & _LEVEL_TRIGGERED))

    def set_external(self, level: bool) -> None:
        """Drive LINT0, which is the 8259's output."""
        self._external_level = level
        self._update()

    def _priority(self) -> int:
        """Return PPR."""
        served = self._service.bit_length() - 1
        in_service = served & 0xF0 if served > 0 else 0
        return self.task if self.task & 0xF0 >= in_service else in_service

    def _ready(self) -> int:
        """Return the vector that is to be served now; negative for none."""
        vector = self._requests.bit_length() - 1
        return vector if vector >= 0 and vector & 0xF0 > self._priority() & 0xF0 else _NONE

    def _has_external(self) -> bool:
        return self._external_level and not self.lint0 & _MASKED and self.lint0 >> 8 & 7 == _EXTERNAL

    def _update(self) -> None:
        self._output(self._ready() >= 0 or self._has_external())

    def acknowledge(self) -> int:
        """Return the vector of the interrupt that is taken, and serve it."""
        vector = self._ready()
        if vector < 0:
            return self._external() if self._has_external() else self.spurious & 0xFF
        self._requests &= ~(1 << vector)
        self._service |= 1 << vector
        self._update()
        return vector

    # -- registers -----------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Read a register; ISR, TMR and IRR are eight each."""
        if 0x100 <= offset < 0x280:
            number = (offset & 0x70) >> 4
            bits = (self._service, self._levels, self._requests)[(offset - 0x100) >> 7]
            return bits >> 32 * number & 0xFFFFFFFF if not offset & 0xF else 0
        found = super().read(offset, size)
        return found if offset in self._for_reading else 0

    @processor.on_read
    def _read_processor(self) -> int:
        return self._priority()

    @task.on_write
    def _task(self, value: int) -> None:
        self.priority_written(value >> 4 & 15)
        self._update()

    def set_task_priority(self, value: int) -> None:
        """Take the task priority's class from the processor (11.8.6): the lower half of the register is zero then."""
        self.task = value << 4
        self._update()

    @end.on_write
    def _end(self, value: int) -> None:
        served = self._service.bit_length() - 1
        if served < 0:
            return
        self._service &= ~(1 << served)
        if self._levels >> served & 1:
            self._ended(served)
        self._update()

    @spurious.on_write
    def _spurious(self, value: int) -> None:
        if not value & _SOFTWARE_ENABLE:
            for name in ("timer", "thermal", "counters", "lint0", "lint1", "failure"):
                self.values[name] |= _MASKED
        self._update()

    @errors.on_write
    def _errors(self, value: int) -> None:
        self.errors, self._pending_errors = self._pending_errors, 0

    @command.on_write
    def _command(self, value: int) -> None:
        shorthand = value >> 18 & 3
        to_self = shorthand in (_SELF, _ALL) or (shorthand == _NO_SHORTHAND and self._is_target(value))
        if to_self and value >> 8 & 7 in (_FIXED, _LOWEST):
            self.accept(value & 0xFF)

    def _is_target(self, command: int) -> bool:
        wanted = self.target >> 24
        if not command >> 11 & 1:
            return wanted in (self.identity >> 24, 0xFF)
        own = self.logical >> 24
        if self.format >> 28 == 0:
            return own >> 4 == wanted >> 4 and bool(own & wanted & 15)
        return bool(own & wanted)

    @lint0.on_write
    def _lint0(self, value: int) -> None:
        self._update()

    # -- the timer -----------------------------------------------------------------------------------------

    def _divisor(self) -> int:
        code = self.divide & 3 | self.divide >> 1 & 4
        return 1 if code == 7 else 2 << code

    @timer.on_write
    def _timer(self, value: int) -> None:
        self._schedule()

    @divide.on_write
    def _divide(self, value: int) -> None:
        self._start = self._clock.now()
        self._schedule()

    @initial.on_write
    def _initial(self, value: int) -> None:
        self._start = self._clock.now()
        self._schedule()

    @current.on_read
    def _current(self) -> int:
        if not self.initial:
            return 0
        gone = (self._clock.now() - self._start) // self._divisor()
        if self.timer & _PERIODIC:
            return self.initial - gone % self.initial
        return max(self.initial - gone, 0)

    def _schedule(self) -> None:
        """Come back when the count is at its end."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.initial:
            whole = self.initial * self._divisor()
            now = self._clock.now()
            turns = (now - self._start) // whole + 1 if self.timer & _PERIODIC else 1
            at = self._start + turns * whole
            if at > now:
                self._alarm = self._clock.call_at(at, self._expired)

    def _expired(self) -> None:
        if not self.timer & _MASKED:
            self.accept(self.timer & 0xFF)
        self._alarm = None
        if self.timer & _PERIODIC:
            self._schedule()

    # -- saving --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return the state."""
        bits = [f"{each:x}" for each in (self._requests, self._service, self._levels)]
        more = [self._pending_errors, self._start, int(self._external_level)]
        return {"values": dict(self.values), "bits": bits, "more": more}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        for name in self.values:
            self.values[name] = int(saved["values"][name]) & 0xFFFFFFFF
        self._requests, self._service, self._levels = (int(each, 16) & (1 << 256) - 1 for each in saved["bits"])
        self._pending_errors, self._start, external = (int(each) for each in saved["more"])
        self._external_level = bool(external)
        self._schedule()
        self._update()
