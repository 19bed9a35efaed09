"""The I/O APIC (82093AA data sheet)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.lapic import LocalApic

BASE, SIZE = 0xFEC00000, 0x1000
PINS: Final = 24
_SELECT, _WINDOW = 0x00, 0x10
_ID, _VERSION, _ARBITRATION, _TABLE = 0, 1, 2, 0x10
_LEVEL, _REMOTE_IRR, _MASKED = 1 << 15, 1 << 14, 1 << 16
#: Delivery status and Remote IRR are the chip's.
_WRITABLE: Final = (0xFF << 56) | 0x1AFFF
_FIXED, _LOWEST = 0, 1


class IoApic:
    """24 inputs, each with an entry of the redirection table.

    Args:
        local: Whom it tells.
    """

    def __init__(self, local: LocalApic) -> None:
        self._local = local
        self._levels = 0
        self.reset()

    def reset(self) -> None:
        """Become as after power-on; the inputs stay what they are."""
        self._index = self._identity = 0
        self._entries = [_MASKED] * PINS

    def line(self, pin: int) -> Callable[[bool], None]:
        """Return what drives an input."""
        return partial(self._set, pin)

    def _set(self, pin: int, level: bool) -> None:
        before = self._levels >> pin & 1
        self._levels = self._levels & ~(1 << pin) | int(level) << pin
        entry = self._entries[pin]
        # An edge while the entry is masked is lost (3.2.4).
        if level and not entry & _MASKED and (entry & _LEVEL or not before):
            self._deliver(pin)

    def _deliver(self, pin: int) -> None:
        entry = self._entries[pin]
        if entry & _LEVEL:
            if entry & _REMOTE_IRR:
                return
            self._entries[pin] |= _REMOTE_IRR
        if entry >> 8 & 7 in (_FIXED, _LOWEST):
            self._local.accept(entry & 0xFF, level=bool(entry & _LEVEL))

    def end(self, vector: int) -> None:
        """Learn that the processor has served a level-triggered interrupt."""
        for pin, entry in enumerate(self._entries):
            if entry & _LEVEL and entry & 0xFF == vector and entry & _REMOTE_IRR:
                self._entries[pin] &= ~_REMOTE_IRR
                if self._levels >> pin & 1 and not entry & _MASKED:
                    self._deliver(pin)

    def read(self, offset: int, size: int) -> int:
        """Read the index, or what it points to."""
        if offset == _SELECT:
            return self._index
        if offset != _WINDOW:
            return 0
        if self._index == _VERSION:
            return (PINS - 1) << 16 | 0x11
        if self._index in (_ID, _ARBITRATION):
            return self._identity
        number, half = divmod(self._index - _TABLE, 2)
        return self._entries[number] >> 32 * half & 0xFFFFFFFF if 0 <= number < PINS else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write them."""
        if offset == _SELECT:
            self._index = value & 0xFF
        elif offset == _WINDOW and self._index == _ID:
            self._identity = value & 0x0F000000
        elif offset == _WINDOW and self._index >= _TABLE:
            number, half = divmod(self._index - _TABLE, 2)
            if number < PINS:
                self._write_entry(number, half, value)

    def _write_entry(self, number: int, half: int, value: int) -> None:
        touched = 0xFFFFFFFF << 32 * half & _WRITABLE
        entry = self._entries[number] & ~touched | value << 32 * half & touched
        if not entry & _LEVEL:
            entry &= ~_REMOTE_IRR
        self._entries[number] = entry
        if entry & _LEVEL and self._levels >> number & 1 and not entry & _MASKED:
            self._deliver(number)

    def save(self) -> dict[str, Any]:
        """Return the state."""
        return {"index": self._index, "identity": self._identity, "entries": self._entries, "levels": self._levels}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self._index, self._identity = int(saved["index"]) & 0xFF, int(saved["identity"])
        entries = [int(each) & _WRITABLE | int(each) & _REMOTE_IRR for each in saved["entries"]]
        if len(entries) != PINS:
            raise ValueError(f"{len(entries)} entries, expected {PINS}")
        self._entries, self._levels = entries, int(saved["levels"]) & (1 << PINS) - 1
