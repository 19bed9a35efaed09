"""Virtual time: nanoseconds that pass as the processor counts, and what is to happen at some of them."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """Something that happens later, unless it is cancelled.

    Attributes:
        at: When, in nanoseconds.
    """

    __slots__ = ("at", "callback")

    def __init__(self, at: int, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Let it not happen."""
        self.callback = None


class Clock:
    """Time in nanoseconds.

    Args:
        read: Returns what time it is.
        hurry: Called when something has to happen earlier than all that was known.
    """

    def __init__(self, read: Callable[[], int], hurry: Callable[[], None]) -> None:
        self.now, self._hurry = read, hurry
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = count()

    def call_at(self, at: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at a time; at once, as soon as the processor stops, if that is past."""
        timer = Timer(at, callback)
        first = self.deadline()
        heapq.heappush(self._timers, (at, next(self._order), timer))
        if first is None or at < first:
            self._hurry()
        return timer

    def deadline(self) -> int | None:
        """Return when the next thing happens; None if nothing does."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def fire(self) -> None:
        """Do what is due, in order."""
        while (at := self.deadline()) is not None and at <= self.now():
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
