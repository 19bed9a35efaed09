"""The 8254 timer (Intel 8254 data sheet), and port 61h, which gates its third counter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.fields import load_fields, save_fields

if TYPE_CHECKING:
    from blockkit.emul.clock import Clock, Timer
    from blockkit.emul.lines import Line

#: Counts in a second.
FREQUENCY: Final = 1_193_182
_SECOND: Final = 1_000_000_000
_LATCH, _LOW, _HIGH, _BOTH = range(4)
_READ_BACK: Final = 3
_SAVED: Final = (
    *("gate", "mode", "_access", "_count", "_bcd", "_next?", "_start?", "_held?", "_low?", "_reads_high", "_latched"),
)
#: Modes that begin with a rising edge of GATE, and those that go round.
_TRIGGERED, _ROUND = (1, 5), (2, 3)
_MODES: Final = 6
_MOST: Final = 0x10000


class Counter:
    """One of three.

    Args:
        clock: The time.
        line: What OUT drives, if anything listens.
        gate: Whether it may count.
    """

    def __init__(self, clock: Clock, line: Line | None, gate: bool = True) -> None:
        self._clock, self._line, self.gate = clock, line, gate
        self.mode, self._access = 3, _BOTH
        self._count = _MOST
        self._bcd = False
        #: The count that was written, which may not be in use yet; None before there is one.
        self._next: int | None = None
        #: When counting began, in counts; None before it did.
        self._start: int | None = None
        #: Since when it stands still because GATE is low, in counts; None while it does not.
        self._held: int | None = None
        self._low: int | None = None
        self._reads_high = False
        self._latched: list[int] = []
        self._timer: Timer | None = None

    def _ticks(self) -> int:
        return self._clock.now() * FREQUENCY // _SECOND

    def program(self, access: int, mode: int, bcd: bool) -> None:
        """Take a control word."""
        self.mode, self._access, self._bcd = (mode & 3 if mode > 5 else mode), access, bcd
        self._next = self._start = self._held = self._low = None
        self._reads_high = False
        self._latched.clear()
        self._schedule()

    def write(self, value: int) -> None:
        """Take a byte of the count."""
        if self._access == _LOW:
            self._load(value)
        elif self._access == _HIGH:
            self._load(value << 8)
        elif self._low is None:
            self._low = value
        else:
            whole, self._low = value << 8 | self._low, None
            self._load(whole)

    def _load(self, count: int) -> None:
        if self._bcd:
            count = sum((count >> 4 * digit & 15) * 10**digit for digit in range(4))
        self._next = count or (10_000 if self._bcd else _MOST)
        if self.mode not in _TRIGGERED:
            self._begin()

    def _begin(self) -> None:
        """Count from what was written."""
        if self._next is not None:
            self._count, self._start = self._next, self._ticks()
            self._held = None if self.gate or self.mode in _TRIGGERED else self._start
            self._schedule()

    def set_gate(self, gate: bool) -> None:
        """Drive GATE: modes 0 and 4 stand still while it is low, the others begin anew when it rises."""
        before, self.gate = self.gate, gate
        if gate == before or self._next is None:
            return
        if gate and self.mode in (*_TRIGGERED, *_ROUND):
            self._begin()
        elif self._start is not None and self.mode not in _TRIGGERED:
            if not gate:
                self._held = self._ticks()
            elif self._held is not None:
                self._start, self._held = self._start + self._ticks() - self._held, None
            self._schedule()

    def _elapsed(self) -> int:
        if self._start is None:
            return 0
        return (self._ticks() if self._held is None else self._held) - self._start

    def value(self) -> int:
        """Return what it has counted down to."""
        if self._start is None:
            return 0
        gone = self._elapsed()
        if self.mode in _ROUND:
            gone %= self._count
            left = self._count - (gone * 2 % self._count if self.mode == 3 else gone)
        else:
            left = self._count - gone
        left %= 10_000 if self._bcd else _MOST
        if self._bcd:
            return sum((left // 10**digit % 10) << 4 * digit for digit in range(4))
        return left

    def output(self) -> bool:
        """Return the level of OUT."""
        if self._start is None or (self.mode in _ROUND and self._held is not None):
            return self.mode != 0
        gone = self._elapsed()
        if self.mode == 2:
            return gone % self._count != self._count - 1
        if self.mode == 3:
            return gone % self._count < (self._count + 1) // 2
        if self.mode in (4, 5):
            # A strobe of one count.
            return gone != self._count
        return gone >= self._count

    def latch(self) -> None:
        """Keep the count until it is read."""
        if not self._latched:
            self._latched = self._bytes(self.value())

    def latch_status(self) -> None:
        """Keep the status until it is read, before the count."""
        status = self.output() << 7 | (self._start is None) << 6 | self._access << 4 | self.mode << 1 | self._bcd
        self._latched.insert(0, status)

    def _bytes(self, value: int) -> list[int]:
        low, high = value & 0xFF, value >> 8
        return {_LOW: [low], _HIGH: [high]}.get(self._access, [low, high])

    def read(self) -> int:
        """Return a byte of the count."""
        if self._latched:
            return self._latched.pop(0)
        several = self._bytes(self.value())
        if len(several) == 1:
            return several[0]
        self._reads_high = not self._reads_high
        return several[0 if self._reads_high else 1]

    def _schedule(self) -> None:
        """Drive OUT, and come back when it rises next."""
        if self._line is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._line.set(self.output())
        if self._start is None or self._held is not None:
            return
        gone = self._elapsed()
        if self.mode in _ROUND:
            turns = gone // self._count
            middle = self._count - 1 if self.mode == 2 else (self._count + 1) // 2
            into = gone - turns * self._count
            after = turns * self._count + (middle if into < middle else self._count)
        elif gone < self._count:
            after = self._count
        elif gone == self._count and self.mode in (4, 5):
            after = self._count + 1
        else:
            return
        at = -(-(self._start + after) * _SECOND // FREQUENCY)
        self._timer = self._clock.call_at(at, self._schedule)

    def save(self) -> dict[str, Any]:
        """Return what it holds."""
        return save_fields(self, _SAVED)

    def load(self, saved: dict[str, Any]) -> None:
        """Hold what was saved; the time is what it was then."""
        load_fields(self, _SAVED, saved)
        counts = [self._count, *([] if self._next is None else [self._next])]
        if not all(1 <= each <= _MOST for each in counts) or not 0 <= self.mode < _MODES:
            raise ValueError("a count or a mode is impossible")
        self._schedule()


class Pit:
    """All three counters, and their control register.

    Args:
        clock: The time.
        line: What the first one drives.
    """

    def __init__(self, clock: Clock, line: Line) -> None:
        self.counters = [Counter(clock, line), Counter(clock, None), Counter(clock, None, gate=False)]

    def read(self, offset: int, size: int) -> int:
        """Read a counter; the control register cannot be."""
        return self.counters[offset].read() if offset < 3 else 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a counter, or a control word."""
        value &= 0xFF
        if offset < 3:
            self.counters[offset].write(value)
            return
        number, access = value >> 6, value >> 4 & 3
        if number == _READ_BACK:
            for each, counter in enumerate(self.counters):
                if value >> each + 1 & 1:
                    if not value & 0x20:
                        counter.latch()
                    if not value & 0x10:
                        counter.latch_status()
        elif access == _LATCH:
            self.counters[number].latch()
        else:
            self.counters[number].program(access, value >> 1 & 7, bool(value & 1))

    def save(self) -> dict[str, Any]:
        """Return what the counters hold."""
        return {str(number): counter.save() for number, counter in enumerate(self.counters)}

    def load(self, saved: dict[str, Any]) -> None:
        """Hold what was saved."""
        for number, counter in enumerate(self.counters):
            counter.load(saved[str(number)])


class Port61:
    """The gate of the third counter and the speaker, the counter's output, and the refresh bit that toggles."""

    def __init__(self, pit: Pit) -> None:
        self._counter, self._kept, self._toggle = pit.counters[2], 0, 0

    def read(self, offset: int, size: int) -> int:
        """Read it."""
        self._toggle ^= 0x10
        return self._kept | self._toggle | self._counter.output() << 5

    def write(self, offset: int, size: int, value: int) -> None:
        """Write its two writable bits, and those that are kept."""
        self._kept = value & 0x0F
        self._counter.set_gate(bool(value & 1))

    def save(self) -> dict[str, Any]:
        """Return what it holds."""
        return save_fields(self, ("_kept", "_toggle"))

    def load(self, saved: dict[str, Any]) -> None:
        """Hold what was saved."""
        load_fields(self, ("_kept", "_toggle"), saved)
