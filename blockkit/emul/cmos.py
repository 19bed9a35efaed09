"""The real-time clock and its memory (Motorola MC146818A data sheet)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.fields import load_fields, save_fields
from blockkit.emul.memory import LOW_END

if TYPE_CHECKING:
    from blockkit.emul.clock import Clock, Timer
    from blockkit.emul.lines import Line

_A, _B, _C, _D = 0x0A, 0x0B, 0x0C, 0x0D
_CENTURY: Final = 0x32
_A_UPDATING: Final = 0x80
_B_SET, _B_PERIODIC, _B_ALARM, _B_UPDATED, _B_BINARY, _B_24_HOURS = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
_C_ANY, _C_PERIODIC, _C_ALARM, _C_UPDATED = 0x80, 0x40, 0x20, 0x10
_D_VALID: Final = 0x80
#: For firmware: units of 64 KiB above 4 GiB, what is started from, and how cylinders are counted.
_HIGH_MEMORY, _BOOT_ORDER, _TRANSLATION = 0x5B, 0x3D, 0x39
_DISK_THEN_CD, _LBA_TRANSLATION = 0x32, 0x55
_SECOND: Final = 1_000_000_000
#: UIP goes up so long before the second changes, in nanoseconds.
_WARNING: Final = 244_000
_FIELDS: Final = {0: "second", 2: "minute", 4: "hour", 6: "weekday", 7: "day", 8: "month", 9: "year", 0x32: "century"}


class Cmos:
    """Clock and memory behind ports 70h and 71h.

    Args:
        clock: The time.
        line: Its interrupt.
        start: What time it was when the machine began.
        memory: Bytes of memory the machine has, for firmware that asks here.
    """

    def __init__(self, clock: Clock, line: Line, start: datetime, memory: int) -> None:
        self._clock, self._line = clock, line
        self._start = start.astimezone(UTC)
        self._index = 0
        self._bytes = bytearray(128)
        self._bytes[_A], self._bytes[_B] = 0x26, _B_24_HOURS
        self._causes = 0
        self._timer: Timer | None = None
        self._set_memory(memory)

    def _set_memory(self, memory: int) -> None:
        low = min(memory, LOW_END)
        above_1 = min(low - (1 << 20) >> 10, 0xFFFF) if low > 1 << 20 else 0
        above_16 = max(low - (16 << 20), 0) >> 16
        for at, value in ((0x15, 640), (0x17, above_1), (0x30, above_1), (0x34, above_16)):
            self._bytes[at : at + 2] = value.to_bytes(2, "little")
        self._bytes[_HIGH_MEMORY : _HIGH_MEMORY + 3] = (memory - low >> 16).to_bytes(3, "little")
        self._bytes[0x14] = 0x06
        self._bytes[_BOOT_ORDER], self._bytes[_TRANSLATION] = _DISK_THEN_CD, _LBA_TRANSLATION

    def _now(self) -> datetime:
        return self._start + timedelta(microseconds=self._clock.now() // 1000)

    def _time(self, at: int) -> int:
        """Return a field of the time as the guest has chosen to see it."""
        now, name = self._now(), _FIELDS[at]
        if name == "weekday":
            value = now.isoweekday() % 7 + 1
        elif name == "year":
            value = now.year % 100
        elif name == "century":
            value = now.year // 100
        else:
            value = int(getattr(now, name))
        afternoon = 0
        if name == "hour" and not self._bytes[_B] & _B_24_HOURS:
            afternoon = 0x80 if value >= 12 else 0
            value = value % 12 or 12
        if not self._bytes[_B] & _B_BINARY:
            value = value // 10 << 4 | value % 10
        return value | afternoon

    def read(self, offset: int, size: int) -> int:
        """Read what the index points to; the index itself cannot be."""
        if offset == 0:
            return 0xFF
        at = self._index
        if at in _FIELDS:
            return self._time(at)
        if at == _A:
            left = _SECOND - self._clock.now() % _SECOND
            return self._bytes[_A] & 0x7F | (_A_UPDATING if left <= _WARNING else 0)
        if at == _C:
            causes, self._causes = self._causes, 0
            self._line.set(False)
            return causes
        if at == _D:
            return _D_VALID
        return self._bytes[at]

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the index, or what it points to; the time of day stays what it is."""
        if offset == 0:
            self._index = value & 0x7F
        elif self._index not in (_C, _D) and self._index not in _FIELDS:
            self._bytes[self._index] = value & 0xFF
            if self._index in (_A, _B):
                self._schedule()

    def save(self) -> dict[str, Any]:
        """Return what it holds."""
        start = self._start.isoformat()
        return {**save_fields(self, ("_index", "_causes")), "bytes": self._bytes.hex(), "start": start}

    def load(self, saved: dict[str, Any]) -> None:
        """Hold what was saved; the time is what it was then."""
        load_fields(self, ("_index", "_causes"), saved)
        data, start = bytes.fromhex(saved["bytes"]), datetime.fromisoformat(saved["start"])
        if len(data) != len(self._bytes) or not 0 <= self._index < len(data) or start.tzinfo is None:
            raise ValueError("its memory is impossible")
        self._bytes[:], self._start = data, start.astimezone(UTC)
        self._line.set(bool(self._causes & _C_ANY))
        self._schedule()

    def _schedule(self) -> None:
        """Come back when the next interrupt is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, ats = self._clock.now(), []
        rate = self._bytes[_A] & 0x0F
        if self._bytes[_B] & _B_PERIODIC and rate:
            period = _SECOND * (1 << (rate + 6 if rate < 3 else rate - 1)) // 32768
            ats.append((now // period + 1) * period)
        if self._bytes[_B] & (_B_UPDATED | _B_ALARM):
            ats.append((now // _SECOND + 1) * _SECOND)
        if ats:
            self._timer = self._clock.call_at(min(ats), self._tick)

    def _tick(self) -> None:
        if self._bytes[_B] & _B_PERIODIC:
            self._causes |= _C_PERIODIC
        if self._clock.now() % _SECOND < _WARNING:
            self._causes |= _C_UPDATED
            if all(self._bytes[at + 1] >= 0xC0 or self._bytes[at + 1] == self._time(at) for at in (0, 2, 4)):
                self._causes |= _C_ALARM
        if self._causes & self._bytes[_B] & 0x70:
            self._causes |= _C_ANY
            self._line.set(True)
        self._schedule()
