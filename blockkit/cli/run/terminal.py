"""The terminal while a guest has it: raw, Ctrl-A for us, and as it was before in the end, whatever ends us."""

from __future__ import annotations

import atexit
import os
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.serial.backends import StreamBackend

if TYPE_CHECKING:
    from collections.abc import Callable

ESCAPE: Final = 0x01
HELP: Final = (
    "\r\nCtrl-A h  this help\r\nCtrl-A x  quit\r\nCtrl-A c  monitor or guest\r\nCtrl-A s  show the screen\r\n"
    "Ctrl-A Ctrl-A  Ctrl-A for the guest\r\n"
)


class Keys:
    """Reads Ctrl-A and the key after it out of what is typed.

    Args:
        quit_: Called for x.
        toggle: Called for c.
        screen: Called for s.
        show: Prints a text, for h.

    Attributes:
        monitor: Takes what is typed while the monitor has the terminal; None while the guest has it.
    """

    def __init__(
        self,
        quit_: Callable[[], None],
        toggle: Callable[[], None],
        screen: Callable[[], None],
        show: Callable[[str], None],
    ) -> None:
        self._quit, self._toggle, self._screen, self._show = quit_, toggle, screen, show
        self._escaped = False
        self.monitor: Callable[[bytes], None] | None = None

    def __call__(self, data: bytes) -> bytes:
        """Return what is left for the guest."""
        kept = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == ESCAPE:
                    kept.append(byte)
                else:
                    self._hand_on(kept)
                    self._command(byte)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                kept.append(byte)
        return self._hand_on(kept)

    def _hand_on(self, kept: bytearray) -> bytes:
        if self.monitor is None:
            return bytes(kept)
        if kept:
            self.monitor(bytes(kept))
            kept.clear()
        return b""

    def _command(self, byte: int) -> None:
        if byte in b"xX":
            self._quit()
        elif byte in b"cC":
            self._toggle()
        elif byte in b"sS":
            self._screen()
        elif byte in b"hH?":
            self._show(HELP)


class RawTerminal:
    """Standard input as a guest needs it: every key at once, none of them a signal."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._before: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        if os.isatty(self._descriptor):
            self._before = termios.tcgetattr(self._descriptor)
            atexit.register(self.restore)
            tty.setraw(self._descriptor)
            # Output is still for people: a line feed goes to the first column.
            mode = termios.tcgetattr(self._descriptor)
            mode[1] |= termios.OPOST
            termios.tcsetattr(self._descriptor, termios.TCSANOW, mode)
        return self

    @property
    def is_raw(self) -> bool:
        """Whether there is a terminal."""
        return self._before is not None

    def restore(self) -> None:
        """Make it as it was before."""
        if self._before is not None:
            before, self._before = self._before, None
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)

    def __exit__(self, *_: object) -> None:
        self.restore()
        atexit.unregister(self.restore)


def stdio_backend(keys: Keys | None) -> StreamBackend:
    """Return what leads a serial port to standard input and output.

    Args:
        keys: Takes what is typed first; None where it is no terminal.
    """
    sys.stdout.flush()
    if keys is None:
        return StreamBackend(sys.stdin.fileno(), sys.stdout.fileno())
    return StreamBackend(sys.stdin.fileno(), sys.stdout.fileno(), keys)
