"""The high precision event timers (IA-PC HPET specification 1.0a): a counter, and three timers that compare with it.

The counter counts virtual time in units of 10 ns.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.lines import Line, SharedLine
from blockkit.emul.registers import Register, RegisterBank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from blockkit.emul.clock import Clock, Timer

BASE: Final = 0xFED00000
#: Bytes of the block's own registers and of those of each timer, which are behind them.
SIZE, TIMER_SIZE = 0x100, 0x20
TIMERS: Final = 3
#: Nanoseconds of a count; the same in femtoseconds.
TICK: Final = 10
_PERIOD: Final = TICK * 1_000_000
_VENDOR, _REVISION = 0x8086, 1
_LEGACY_CAPABLE, _COUNTER_64 = 1 << 15, 1 << 13
#: What identifies the block, here and in ACPI's table.
IDENTITY: Final = _VENDOR << 16 | _LEGACY_CAPABLE | _COUNTER_64 | TIMERS - 1 << 8 | _REVISION
#: The counter runs; two timers take over the lines of the 8254 and the real-time clock (2.3.5).
_ENABLE, _LEGACY = 1 << 0, 1 << 1
#: Configuration of a timer (2.3.8).
_LEVEL, _INTERRUPT, _PERIODIC, _PERIODIC_CAPABLE, _64_CAPABLE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
_SET_VALUE, _AS_32 = 1 << 6, 1 << 8
_ROUTE_SHIFT, _ROUTE = 9, 0x1F << 9
#: The inputs of the I/O APIC that timers may drive: nothing else does.
PINS: Final = (20, 21, 22, 23)
_ALL, _LOW_HALF = (1 << 64) - 1, (1 << 32) - 1
#: What is further away, over a thousand years, is not waited for.
_NEVER: Final = 1 << 62


class HpetTimer(RegisterBank):
    """One of the timers.

    Args:
        number: Which.
        block: What it belongs to.
        lines: The inputs of the I/O APIC that it may drive.
    """

    # fmt: off
    control    = Register(                                                          # 2.3.8
        0x00, width=8, reset=sum(1 << pin for pin in PINS) << 32 | _PERIODIC_CAPABLE | _64_CAPABLE,
        writable=_LEVEL | _INTERRUPT | _PERIODIC | _SET_VALUE | _AS_32 | _ROUTE,
    )
    comparator = Register(0x08, width=8, reset=_ALL)                                # 2.3.9
    message    = Register(0x10, "r", width=8)                                       # 2.3.10: not supported
    # fmt: on

    def __init__(self, number: int, block: Hpet, lines: Mapping[int, Line]) -> None:
        self.name = f"hpet.{number}"
        self._number, self._block, self._lines = number, block, lines
        self._line: Line | None = None
        self._alarm: Timer | None = None
        super().__init__()

    def reset(self) -> None:
        """Become as after power-on."""
        super().reset()
        self._before = self.control
        #: What the counter is at the next match. It goes on above the comparator's width.
        self._next = _ALL

    @property
    def _mask(self) -> int:
        return _LOW_HALF if self.control & _AS_32 else _ALL

    @control.on_write
    def _configure(self, value: int) -> None:
        if (value & _ROUTE) >> _ROUTE_SHIFT not in PINS:
            # A route that is not possible is not taken, which software sees by reading it.
            value = self.control = value & ~_ROUTE | self._before & _ROUTE
        self.forget()
        changed, self._before = value ^ self._before, value
        if changed & _AS_32:
            self.aim(self._next & _ALL)
        if not value & _LEVEL:
            self._block.status &= ~(1 << self._number)
        self.update()

    @comparator.on_read
    def _comparator(self) -> int:
        self._pass_by()
        return self._next & self._mask

    @comparator.on_write
    def _compare(self, value: int) -> None:
        # The register keeps what was written last: a periodic timer's period (2.3.9.2.2).
        if not self.control & _PERIODIC or self.control & _SET_VALUE:
            self.aim(value)
        self.control &= ~_SET_VALUE
        self._before = self.control
        self.update()

    def target(self) -> int:
        """Return the comparator's value, all of it."""
        self._pass_by()
        return self._next & _ALL

    def aim(self, value: int) -> None:
        """Wait until the counter is ``value``, from now on."""
        count = self._block.count()
        self._next = count + (value - count & self._mask)

    def _pass_by(self) -> bool:
        """Go on to the next match if the counter is at this one or behind it; whether it was."""
        late = self._block.count() - self._next
        if late < 0 or not self._block.is_running:
            return False
        step = self.comparator & self._mask if self.control & _PERIODIC else 0
        step = step or self._mask + 1
        self._next += (late // step + 1) * step
        return True

    def forget(self) -> None:
        """Leave a match behind that nobody waited for."""
        if self._alarm is None:
            self._pass_by()

    def update(self) -> None:
        """Drive the line that it has now, and come back when the counter is where it waits for."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._drive()
        # Otherwise nobody learns of a match.
        if self._block.is_running and self.control & (_INTERRUPT | _LEVEL):
            left = self._next - self._block.count()
            if left < _NEVER:
                self._alarm = self._block.call_after(left, self._match)

    def _match(self) -> None:
        self._alarm = None
        if self._pass_by():
            if self.control & _LEVEL:
                self._block.status |= 1 << self._number
            self._drive(edge=True)
        self.update()

    def _drive(self, *, edge: bool = False) -> None:
        line = self._block.legacy_line(self._number) or self._lines.get((self.control & _ROUTE) >> _ROUTE_SHIFT)
        if not self._block.is_running or not self.control & _INTERRUPT:
            line = None
        if self._line is not None and self._line is not line:
            self._line.set(False)
        self._line = line
        if line is None:
            return
        if self.control & _LEVEL:
            line.set(bool(self._block.status >> self._number & 1))
        elif edge:
            # It stays high, as the 8259s lose an edge that goes away before they have told of it.
            line.set(False)
            line.set(True)

    def save(self) -> dict[str, Any]:
        """Return the state."""
        self._pass_by()
        return {"values": dict(self.values), "next": self._next, "high": self._line is not None and self._line.level}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back, after the block has its own."""
        for name in self.values:
            self.values[name] = int(saved["values"][name]) & _ALL
        self._before = self.control
        self._next = max(int(saved["next"]), 0) & (1 << 65) - 1
        self.update()
        if self._line is not None:
            self._line.set(bool(saved["high"]))


class Hpet(RegisterBank):
    """The block of timers.

    Args:
        clock: The time.
        legacy: The lines of the 8254 and of the real-time clock.
        pins: What drives the inputs of the I/O APIC, by number.

    Attributes:
        timers: They; each is a device of its own.
        displaced: What the 8254 and the real-time clock drive: it goes to their lines unless timers have taken these.
    """

    name = "hpet"

    # fmt: off
    identity = Register(0x000, "r", width=8, reset=_PERIOD << 32 | IDENTITY)        # 2.3.4
    control  = Register(0x010, width=8, writable=_ENABLE | _LEGACY)                 # 2.3.5
    status   = Register(0x020, width=8, writable=0, clear_by_one=(1 << TIMERS) - 1) # 2.3.6
    counter  = Register(0x0F0, width=8)                                             # 2.3.7
    # fmt: on

    def __init__(self, clock: Clock, legacy: Sequence[Line], pins: Mapping[int, Callable[[bool], None]]) -> None:
        self._clock, self._legacy = clock, legacy
        self._taken = [Line(partial(self._pass_on, number)) for number in range(len(legacy))]
        self.displaced = [Line(partial(self._pass_on, number)) for number in range(len(legacy))]
        shared = {number: SharedLine(pins[number]) for number in PINS}
        self.is_running = False
        self.timers: list[HpetTimer] = []
        super().__init__()
        for number in range(TIMERS):
            self.timers.append(HpetTimer(number, self, {pin: line.source() for pin, line in shared.items()}))

    def reset(self) -> None:
        """Become as after power-on."""
        super().reset()
        self.is_running = False
        #: The counter while it stands still; while it runs, what it was at a time, in counts.
        self._held = self._began = 0
        for timer in self.timers:
            timer.reset()
        self._update()

    def count(self) -> int:
        """Return the counter, not cut off at 64 bits."""
        return self._held + (self._ticks() - self._began if self.is_running else 0)

    def _ticks(self) -> int:
        return self._clock.now() // TICK

    def call_after(self, counts: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` when so many counts from now begin."""
        return self._clock.call_at((self._ticks() + counts) * TICK, callback)

    def legacy_line(self, number: int) -> Line | None:
        """Return the line that a timer has taken over, if it has."""
        return self._taken[number] if self.control & _LEGACY and number < len(self._taken) else None

    def _pass_on(self, number: int, _: bool = False) -> None:
        source = self._taken if self.control & _LEGACY else self.displaced
        self._legacy[number].set(source[number].level)

    def _update(self) -> None:
        for timer in self.timers:
            timer.update()
        for number in range(len(self._legacy)):
            self._pass_on(number)

    @control.on_write
    def _control(self, value: int) -> None:
        for timer in self.timers:
            timer.forget()
        self._held, self._began = self.count(), self._ticks()
        self.is_running = bool(value & _ENABLE)
        self._update()

    @counter.on_read
    def _counter(self) -> int:
        return self.count() & _ALL

    @counter.on_write
    def _set_counter(self, value: int) -> None:
        targets = [timer.target() for timer in self.timers]
        self._held, self._began = value, self._ticks()
        for timer, target in zip(self.timers, targets, strict=True):
            timer.aim(target)
        self._update()

    @status.on_write
    def _cleared(self, _: int) -> None:
        self._update()

    def save(self) -> dict[str, Any]:
        """Return the state."""
        timers = [timer.save() for timer in self.timers]
        return {"values": dict(self.values), "count": self.count(), "timers": timers}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back; the time is what it was then."""
        for name in self.values:
            self.values[name] = int(saved["values"][name]) & _ALL
        self.is_running = bool(self.control & _ENABLE)
        self._held, self._began = max(int(saved["count"]), 0) & (1 << 65) - 1, self._ticks()
        for timer, state in zip(self.timers, saved["timers"], strict=True):
            timer.load(state)
        self._update()
