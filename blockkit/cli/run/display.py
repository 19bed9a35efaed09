"""The guest's text screen, drawn in the terminal again whenever it changes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from blockkit.cli.terminal import is_terminal
from blockkit.emul.screen import screen_text

if TYPE_CHECKING:
    from blockkit.emul.session import Session

#: Seconds between two drawings.
_EVERY: Final = 0.1


class Display:
    """Draws on standard output; where that is no terminal, once, at the end.

    Args:
        session: The machine.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shown, self._next = "", 0.0
        self._live = is_terminal(sys.stdout)
        if self._live:
            session.pc.between.append(self.draw)

    def draw(self) -> None:
        """Draw it if it has changed, and not too often."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        text = screen_text(self._session.pc)
        if text != self._shown:
            self._shown = text
            lines = "\x1b[K\r\n".join(_printable(line) for line in text.split("\n"))
            sys.stdout.write(f"\x1b[H{lines}\x1b[J")
            sys.stdout.flush()

    def close(self) -> None:
        """Show it as it is in the end."""
        if self._live:
            self._session.pc.between.remove(self.draw)
            self._next = 0.0
            self.draw()
            sys.stdout.write("\r\n")
        else:
            sys.stdout.write(_printable(screen_text(self._session.pc)) + "\n")
        sys.stdout.flush()


def _printable(text: str) -> str:
    """Return a text in which nothing tells a terminal what to do."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
