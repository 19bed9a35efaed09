"""Waiting for a text that a guest prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from blockkit.emul.screen import screen_text

if TYPE_CHECKING:
    from blockkit.emul.session import Session

#: How far back a text is looked for that may have come in part before.
_BACK = 4096


class TextWatch:
    """Looks for a text, or a regular expression, in what comes out of the serial port and on the screen.

    Args:
        session: The machine.
        wanted: The text.
        start: How many bytes of the serial port came before, and are not looked at.
        screen: Look at the screen too.

    Attributes:
        found: What was found.
        end: Where it ended, in bytes that ever came out of the serial port.
    """

    def __init__(self, session: Session, wanted: str | re.Pattern[str], *, start: int = 0, screen: bool = True) -> None:
        self._session, self._screen = session, screen
        self._pattern = re.compile(re.escape(wanted)) if isinstance(wanted, str) else wanted
        self._start = self._seen = start
        self._shown = ""
        self.found: re.Match[str] | None = None
        self.end = start

    def has_come(self) -> bool:
        """Whether it is there."""
        if self.found is not None:
            return True
        serial = self._session.built.serial
        if serial.end != self._seen:
            self._seen = serial.end
            # Bytes become as many characters, so that places in one are places in the other.
            start = self._start
            text = serial.since(start).decode("latin-1")
            self.found = self._pattern.search(text.encode("latin-1").decode("utf-8", "replace"))
            if self.found is not None:
                before = self.found.string[: self.found.end()]
                self.end = start + len(before.encode())
                return True
            self._start = max(start, serial.end - _BACK)
        if self._screen:
            shown = screen_text(self._session.pc)
            if shown != self._shown:
                self._shown = shown
                self.found = self._pattern.search(shown)
        return self.found is not None
