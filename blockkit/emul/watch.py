"""Waiting for a text that a guest prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from blockkit.emul.screen import screen_text

if TYPE_CHECKING:
    from blockkit.emul.session import Session

#: How far back a text is looked for that may have come in part before, in bytes.
_BACK: Final = 4096


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
        self._start, self._seen = start, -1
        self._shown = ""
        self.found: re.Match[str] | None = None
        self.end = start

    def has_come(self) -> bool:
        """Whether it is there."""
        return self._in_serial() or (self._screen and self._on_screen())

    def byte_came(self, _byte: int) -> None:
        """Listen to a serial port: the machine stops as soon as the text is complete."""
        if self.found is None and self._in_serial():
            self._session.reach()

    def _in_serial(self) -> bool:
        serial = self._session.built.serial
        if self.found is None and serial.end != self._seen:
            self._seen, start = serial.end, self._start
            # What is no UTF-8 stays as long as it is, so that the end can be told in bytes.
            text = serial.since(start).decode("utf-8", "surrogateescape")
            self.found = self._pattern.search(text)
            if self.found is not None:
                self.end = start + len(text[: self.found.end()].encode("utf-8", "surrogateescape"))
            self._start = max(start, serial.end - _BACK)
        return self.found is not None

    def _on_screen(self) -> bool:
        shown = screen_text(self._session.pc)
        if shown != self._shown:
            self._shown = shown
            self.found = self._pattern.search(shown)
        return self.found is not None
