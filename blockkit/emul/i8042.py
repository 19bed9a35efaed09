"""The keyboard controller and its keyboard (Intel 8042 as in the IBM PC/AT; PS/2 keyboard interface)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.lines import Line

#: Status (port 64h): output full, self-test passed, what was written last was a command, output of the mouse.
_FULL, _SYSTEM, _COMMAND, _UNLOCKED, _MOUSE = 0x01, 0x04, 0x08, 0x10, 0x20
#: The command byte: interrupts of keyboard and mouse, clocks off, translation to set 1.
_IRQ_KEY, _IRQ_MOUSE, _OFF_KEY, _OFF_MOUSE, _TRANSLATE = 0x01, 0x02, 0x10, 0x20, 0x40
#: The output port: A20 is open, the processor is not reset.
_OUTPUT: Final = 0x03
_ACK, _TEST_PASSED, _RESEND = 0xFA, 0xAA, 0xFE
#: Bytes that wait at most.
_MOST: Final = 256


class KeyboardController:
    """Ports 60h and 64h.

    Args:
        key_line: The keyboard's interrupt.
        mouse_line: The mouse's; there is no mouse.
        reset: Called when the guest resets the processor.
    """

    def __init__(self, key_line: Line, mouse_line: Line, reset: Callable[[], None]) -> None:
        self._key_line, self._mouse_line, self._reset = key_line, mouse_line, reset
        self.reset()

    def reset(self) -> None:
        """Become as after power-on."""
        self._output: deque[tuple[int, bool]] = deque()
        self._mode = _SYSTEM | _TRANSLATE | _IRQ_KEY
        self._memory = bytearray(32)
        self._port = _OUTPUT
        self._expects = self._keyboard_expects = 0
        self._last_was_command = False
        self._scans = True
        self._key_line.set(False)
        self._mouse_line.set(False)

    def press(self, codes: bytes) -> None:
        """Take what a keyboard sends in set 1 when keys are pressed and let go."""
        if self._scans and not self._mode & _OFF_KEY:
            for code in codes:
                self._answer(code)

    @property
    def backlog(self) -> int:
        """Bytes that the guest has not read yet."""
        return len(self._output)

    def _answer(self, value: int, *, mouse: bool = False) -> None:
        if len(self._output) < _MOST:
            self._output.append((value, mouse))
        self._update()

    def _update(self) -> None:
        waiting = bool(self._output)
        mouse = waiting and self._output[0][1]
        self._key_line.set(waiting and not mouse and bool(self._mode & _IRQ_KEY))
        self._mouse_line.set(waiting and mouse and bool(self._mode & _IRQ_MOUSE))

    def read(self, offset: int, size: int) -> int:
        """Read data (0) or status (4)."""
        if offset == 4:
            status = _UNLOCKED | self._mode & _SYSTEM | (_COMMAND if self._last_was_command else 0)
            if self._output:
                status |= _FULL | (_MOUSE if self._output[0][1] else 0)
            return status
        if not self._output:
            return 0
        value, _ = self._output.popleft()
        # An edge for each byte.
        self._key_line.set(False)
        self._mouse_line.set(False)
        self._update()
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Write data (0) or a command (4)."""
        value &= 0xFF
        self._last_was_command = offset == 4
        if offset == 4:
            self._run(value)
        elif self._expects:
            command, self._expects = self._expects, 0
            self._take(command, value)
        else:
            self._tell_keyboard(value)

    def _run(self, command: int) -> None:
        """Do a command of the controller."""
        if 0x20 <= command < 0x40:
            self._answer(self._mode if command == 0x20 else self._memory[command & 31])
        elif 0x60 <= command < 0x80 or command in (0xD1, 0xD2, 0xD3, 0xD4):
            self._expects = command
        elif command == 0xA7:
            self._mode |= _OFF_MOUSE
        elif command == 0xA8:
            self._mode &= ~_OFF_MOUSE
        elif command == 0xA9:
            # There is no mouse: its clock is stuck low.
            self._answer(0x01)
        elif command == 0xAA:
            self._mode |= _SYSTEM
            self._answer(0x55)
        elif command == 0xAB:
            self._answer(0x00)
        elif command == 0xAD:
            self._mode |= _OFF_KEY
        elif command == 0xAE:
            self._mode &= ~_OFF_KEY
        elif command == 0xC0:
            self._answer(0x80)
        elif command == 0xD0:
            self._answer(self._port)
        elif command >= 0xF0 and not command & 1:
            self._reset()
        self._update()

    def _take(self, command: int, value: int) -> None:
        """Take the byte that a command waits for."""
        if command == 0x60:
            self._mode = value
        elif 0x60 < command < 0x80:
            self._memory[command & 31] = value
        elif command == 0xD1:
            self._port = value | 0x02
            if not value & 1:
                self._reset()
        elif command in (0xD2, 0xD3):
            self._answer(value, mouse=command == 0xD3)
        # What is sent to the mouse gets no answer.
        self._update()

    def _tell_keyboard(self, value: int) -> None:
        """Do a command of the keyboard."""
        if self._keyboard_expects:
            command, self._keyboard_expects = self._keyboard_expects, 0
            self._answer(_ACK)
            if command == 0xF0 and value == 0:
                self._answer(0x41 if self._mode & _TRANSLATE else 0x02)
            return
        if value in (0xED, 0xF0, 0xF3):
            self._keyboard_expects = value
            self._answer(_ACK)
        elif value == 0xEE:
            self._answer(0xEE)
        elif value == 0xF2:
            for each in (_ACK, 0xAB, 0x41 if self._mode & _TRANSLATE else 0x83):
                self._answer(each)
        elif value == 0xFF:
            self._scans = True
            self._answer(_ACK)
            self._answer(_TEST_PASSED)
        elif value in (0xF4, 0xF5, 0xF6):
            self._scans = value != 0xF5
            self._answer(_ACK)
        else:
            self._answer(_RESEND)

    def save(self) -> dict[str, Any]:
        """Return the state."""
        return {
            "output": [list(each) for each in self._output],
            "mode": self._mode,
            "memory": self._memory.hex(),
            "port": self._port,
            "expects": [self._expects, self._keyboard_expects],
            "command": self._last_was_command,
            "scans": self._scans,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self.reset()
        self._output.extend((value, bool(mouse)) for value, mouse in saved["output"])
        self._mode, self._port = saved["mode"], saved["port"]
        self._memory[:] = bytes.fromhex(saved["memory"])
        self._expects, self._keyboard_expects = saved["expects"]
        self._last_was_command, self._scans = saved["command"], saved["scans"]
        self._update()
