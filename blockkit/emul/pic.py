"""The two 8259A interrupt controllers of a PC (Intel 8259A data sheet; ELCR: 82371SB data sheet, 2.5.3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.fields import load_fields, save_fields
from blockkit.emul.lines import Line

if TYPE_CHECKING:
    from collections.abc import Callable

_CASCADE: Final = 2
_SPURIOUS: Final = 7
#: ICW1 and the command words that are written to the same port.
_ICW1, _OCW3 = 0x10, 0x08
_ICW1_NEED_4, _ICW1_SINGLE, _ICW1_LEVEL = 0x01, 0x02, 0x08
_ICW4_AUTO_END: Final = 0x02
_OCW3_POLL, _OCW3_READ_ISR, _OCW3_READ = 0x04, 0x01, 0x02
_OCW3_MASK_MODE, _OCW3_SET_MASK_MODE = 0x40, 0x20
_SAVED: Final = (
    *("levels", "level_triggered", "_request", "_service", "_mask", "_base", "_lowest", "_expects", "_single"),
    *("_needs_4", "_auto_end", "_rotate", "_reads_service", "_polls", "_special"),
)


class Pic:
    """One controller.

    Args:
        output: Called with the level of INT whenever it may have changed.

    Attributes:
        levels: The lines that are high, a bit each.
        level_triggered: Those that interrupt while they are high rather than when they rise.
    """

    def __init__(self, output: Callable[[bool], None]) -> None:
        self._output = output
        self.levels = 0
        self.level_triggered = 0
        self.reset()

    def reset(self) -> None:
        """Become as after power-on."""
        self._request = self._service = 0
        self._mask = 0xFF
        self._base, self._lowest = 0, 7
        self._expects, self._single = 0, False
        self._needs_4 = self._auto_end = self._rotate = self._reads_service = self._polls = self._special = False

    def set_level(self, number: int, level: bool) -> None:
        """Drive one of the eight inputs."""
        bit = 1 << number
        if level:
            if not self.levels & bit:
                self._request |= bit
            self.levels |= bit
        else:
            self.levels &= ~bit
            # An edge that goes away before it is acknowledged is lost.
            self._request &= ~bit
        self._update()

    def _pending(self) -> int:
        return (self._request | self.levels & self.level_triggered) & ~self._mask

    def _first(self, bits: int) -> int:
        """Return which of some requests is served first, as a rank: 0 the highest, 8 for none."""
        for rank in range(8):
            if bits >> (self._lowest + 1 + rank & 7) & 1:
                return rank
        return 8

    def _ready(self) -> int | None:
        """Return the request that is to be served now."""
        pending = self._pending()
        if not pending:
            return None
        if self._special:
            pending &= ~self._service
            rank = self._first(pending)
        else:
            rank = self._first(pending)
            if rank >= self._first(self._service):
                return None
        return self._lowest + 1 + rank & 7 if rank < 8 else None

    def _update(self) -> None:
        self._output(self._ready() is not None)

    def acknowledge(self) -> int:
        """Begin to serve the first request; return which: 7, without serving anything, if it went away."""
        number = self._ready()
        if number is None:
            return _SPURIOUS
        bit = 1 << number
        self._request &= ~bit
        if self._auto_end:
            if self._rotate:
                self._lowest = number
        else:
            self._service |= bit
        self._update()
        return number

    def vector(self, number: int) -> int:
        """Return the vector of a request."""
        return self._base | number

    def read(self, offset: int, size: int) -> int:
        """Read IMR, or IRR or ISR, or poll."""
        if self._polls:
            self._polls = False
            if self._ready() is None:
                return 0
            return 0x80 | self.acknowledge()
        if offset:
            return self._mask
        return self._service if self._reads_service else self._request | self.levels & self.level_triggered

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a command word."""
        value &= 0xFF
        if offset:
            self._write_data(value)
        elif value & _ICW1:
            self._request = self._service = self._mask = 0
            self._lowest = 7
            self._auto_end = self._rotate = self._reads_service = self._special = False
            self._needs_4 = bool(value & _ICW1_NEED_4)
            self._single = bool(value & _ICW1_SINGLE)
            self._expects = 2
        elif value & _OCW3:
            if value & _OCW3_POLL:
                self._polls = True
            elif value & _OCW3_READ:
                self._reads_service = bool(value & _OCW3_READ_ISR)
            if value & _OCW3_MASK_MODE:
                self._special = bool(value & _OCW3_SET_MASK_MODE)
        else:
            self._end(value >> 5, value & 7)
        self._update()

    def _write_data(self, value: int) -> None:
        if self._expects == 2:
            self._base = value & 0xF8
            self._expects = 4 if self._single and self._needs_4 else 0 if self._single else 3
        elif self._expects == 3:
            self._expects = 4 if self._needs_4 else 0
        elif self._expects == 4:
            self._auto_end = bool(value & _ICW4_AUTO_END)
            self._expects = 0
        else:
            self._mask = value

    def _end(self, command: int, number: int) -> None:
        """OCW2: ends of interrupts, and rotation."""
        if command in (0, 4):
            self._rotate = command == 4
        elif command in (1, 5):
            rank = self._first(self._service)
            if rank < 8:
                ended = self._lowest + 1 + rank & 7
                self._service &= ~(1 << ended)
                if command == 5:
                    self._lowest = ended
        elif command in (3, 7):
            self._service &= ~(1 << number)
            if command == 7:
                self._lowest = number
        elif command == 6:
            self._lowest = number

    def save(self) -> dict[str, Any]:
        """Return what it holds."""
        return save_fields(self, _SAVED)

    def load(self, saved: dict[str, Any]) -> None:
        """Hold what was saved."""
        load_fields(self, _SAVED, saved)
        self._update()


class PicPair:
    """Both, the second one behind input 2 of the first.

    Args:
        output: Called with the level of INTR whenever it may have changed.
    """

    def __init__(self, output: Callable[[bool], None]) -> None:
        self.first = Pic(output)
        self.second = Pic(partial(self.first.set_level, _CASCADE))

    def line(self, number: int) -> Line:
        """Return one of the sixteen inputs."""
        pic = self.second if number >= 8 else self.first
        return Line(partial(pic.set_level, number & 7))

    def acknowledge(self) -> int:
        """Return the vector of the interrupt that is served."""
        number = self.first.acknowledge()
        if number != _CASCADE:
            return self.first.vector(number)
        return self.second.vector(self.second.acknowledge())

    def read(self, offset: int, size: int) -> int:
        """Read one of the edge/level control registers."""
        return (self.second if offset else self.first).level_triggered

    def write(self, offset: int, size: int, value: int) -> None:
        """Write one; the inputs that are fixed stay edge-triggered."""
        pic, fixed = (self.second, 0x21) if offset else (self.first, 0x07)
        pic.level_triggered = value & 0xFF & ~fixed

    def reset(self) -> None:
        """Become as after power-on."""
        for pic in (self.first, self.second):
            pic.reset()
            pic.level_triggered = 0

    def save(self) -> dict[str, Any]:
        """Return what both hold."""
        return {"first": self.first.save(), "second": self.second.save()}

    def load(self, saved: dict[str, Any]) -> None:
        """Hold what was saved; after the devices that drive the inputs."""
        # The second one drives an input of the first.
        self.second.load(saved["second"])
        self.first.load(saved["first"])
