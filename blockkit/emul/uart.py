"""A 16550A UART (National PC16550D data sheet)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.fields import load_fields, save_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.lines import Line

(_DATA, _IER, _IIR, _LCR, _MCR, _LSR, _MSR, _SCR) = range(8)
_IER_DATA, _IER_EMPTY, _IER_LINE, _IER_MODEM = 1, 2, 4, 8
_LCR_DLAB: Final = 0x80
_MCR_DTR, _MCR_RTS, _MCR_OUT1, _MCR_OUT2, _MCR_LOOP = 1, 2, 4, 8, 16
_LSR_DATA, _LSR_OVERRUN, _LSR_EMPTY, _LSR_IDLE = 1, 2, 0x20, 0x40
_MSR_CTS, _MSR_DSR, _MSR_RI, _MSR_DCD = 0x10, 0x20, 0x40, 0x80
_IIR_NONE, _IIR_MODEM, _IIR_EMPTY, _IIR_DATA, _IIR_LINE, _IIR_TIMEOUT = 1, 0, 2, 4, 6, 0xC
_FIFO: Final = 16
_SAVED: Final = (
    *("_waiting", "_ier", "_lcr", "_mcr", "_scratch", "_fcr", "_divisor", "_received", "_overrun", "_empty_pending"),
    "_deltas",
)


class Uart:
    """One serial port; what it sends is gone at once.

    Args:
        line: Its interrupt.
        send: Takes a byte that the guest sends.
    """

    def __init__(self, line: Line, send: Callable[[int], None]) -> None:
        self._line, self._send = line, send
        self._waiting: deque[int] = deque()
        self.reset()

    def reset(self) -> None:
        """Become as after power-on."""
        self._ier = self._lcr = self._mcr = self._scratch = self._fcr = 0
        self._divisor = 12
        self._received: deque[int] = deque()
        self._overrun = self._empty_pending = False
        self._deltas = 0
        self._update()

    def save(self) -> dict[str, Any]:
        """Return what it holds."""
        return save_fields(self, _SAVED)

    def load(self, saved: dict[str, Any]) -> None:
        """Hold what was saved."""
        load_fields(self, _SAVED, saved)
        self._update()

    def receive(self, data: bytes) -> None:
        """Take bytes from the other side, which wait until there is room."""
        self._waiting.extend(data)
        self._fill()

    @property
    def backlog(self) -> int:
        """Bytes from the other side for which there is no room yet."""
        return len(self._waiting)

    def _fill(self) -> None:
        room = _FIFO if self._fcr & 1 else 1
        while self._waiting and len(self._received) < room and not self._mcr & _MCR_LOOP:
            self._received.append(self._waiting.popleft())
        self._update()

    def _cause(self) -> int:
        """Return the interrupt that is told, the most urgent one."""
        if self._ier & _IER_LINE and self._overrun:
            return _IIR_LINE
        if self._ier & _IER_DATA and self._received:
            trigger = (1, 4, 8, 14)[self._fcr >> 6] if self._fcr & 1 else 1
            return _IIR_DATA if len(self._received) >= trigger else _IIR_TIMEOUT
        if self._ier & _IER_EMPTY and self._empty_pending:
            return _IIR_EMPTY
        if self._ier & _IER_MODEM and self._deltas:
            return _IIR_MODEM
        return _IIR_NONE

    def _update(self) -> None:
        self._line.set(self._cause() != _IIR_NONE and bool(self._mcr & _MCR_OUT2) and not self._mcr & _MCR_LOOP)

    def _modem(self) -> int:
        """Return the modem's lines, as MSR has them."""
        mcr = self._mcr
        if not mcr & _MCR_LOOP:
            return _MSR_CTS | _MSR_DSR | _MSR_DCD
        return (
            (_MSR_CTS if mcr & _MCR_RTS else 0)
            | (_MSR_DSR if mcr & _MCR_DTR else 0)
            | (_MSR_RI if mcr & _MCR_OUT1 else 0)
            | (_MSR_DCD if mcr & _MCR_OUT2 else 0)
        )

    def read(self, offset: int, size: int) -> int:
        """Read a register."""
        value = 0
        if offset <= _IER and self._lcr & _LCR_DLAB:
            return self._divisor >> 8 * offset & 0xFF
        if offset == _DATA:
            value = self._received.popleft() if self._received else 0
            self._fill()
        elif offset == _IER:
            value = self._ier
        elif offset == _IIR:
            value = self._cause()
            if value == _IIR_EMPTY:
                self._empty_pending = False
            value |= 0xC0 if self._fcr & 1 else 0
        elif offset == _LCR:
            value = self._lcr
        elif offset == _MCR:
            value = self._mcr
        elif offset == _LSR:
            value = _LSR_EMPTY | _LSR_IDLE
            value |= _LSR_DATA if self._received else 0
            value |= _LSR_OVERRUN if self._overrun else 0
            self._overrun = False
        elif offset == _MSR:
            value = self._modem() | self._deltas
            self._deltas = 0
        else:
            value = self._scratch
        self._update()
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register."""
        value &= 0xFF
        if offset <= _IER and self._lcr & _LCR_DLAB:
            shift = 8 * offset
            self._divisor = self._divisor & ~(0xFF << shift) | value << shift
        elif offset == _DATA:
            self._empty_pending = True
            if self._mcr & _MCR_LOOP:
                self._loop(value)
            else:
                self._send(value)
        elif offset == _IER:
            if value & _IER_EMPTY and not self._ier & _IER_EMPTY:
                self._empty_pending = True
            self._ier = value & 0x0F
        elif offset == _IIR:
            if value & 2 or (value ^ self._fcr) & 1:
                self._received.clear()
            self._fcr = value & 0xC9
            self._fill()
        elif offset == _LCR:
            self._lcr = value
        elif offset == _MCR:
            before = self._modem()
            self._mcr = value & 0x1F
            after = self._modem()
            self._deltas |= (before ^ after) >> 4 & 0x0B | (before & ~after & _MSR_RI) >> 4
            self._fill()
        elif offset == _SCR:
            self._scratch = value
        self._update()

    def _loop(self, value: int) -> None:
        if len(self._received) >= (_FIFO if self._fcr & 1 else 1):
            self._overrun = True
        else:
            self._received.append(value)
