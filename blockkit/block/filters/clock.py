"""Time as filters see it; tests bring their own."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A clock that only goes forward."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after ``seconds``, which are not negative."""
        ...


class SystemClock:
    """The clock of the host."""

    def monotonic(self) -> float:
        """Return seconds since the host started."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)
