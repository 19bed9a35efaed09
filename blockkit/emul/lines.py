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
