"""Interrupt lines, from a device to whoever listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Line:
    """A wire that is high or low.

    Args:
        changed: Called with the new level whenever it changes.
    """

    __slots__ = ("_changed", "level")

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._changed, self.level = changed, False

    def set(self, level: bool) -> None:
        """Drive it."""
        if level != self.level:
            self.level = level
            self._changed(level)

    def pulse(self) -> None:
        """Raise it and lower it."""
        self.set(True)
        self.set(False)


class SharedLine:
    """A wire that is high while one of its sources drives it high, as PCI's interrupt pins are.

    Args:
        changed: Called with the new level whenever it changes.
    """

    def __init__(self, changed: Callable[[bool], None]) -> None:
        self._line, self._high = Line(changed), 0

    def source(self) -> Line:
        """Return a new source."""
        return Line(self._drive)

    def _drive(self, level: bool) -> None:
        # A source tells only changes.
        self._high += 1 if level else -1
        self._line.set(self._high > 0)
