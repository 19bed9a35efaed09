"""Serialising requests that overlap, without a lock around data I/O."""

from __future__ import annotations

import threading


class RangeLock:
    """Ranges in use: many shared holders, or one exclusive holder, for each.

    Every method is called with ``lock`` held; :meth:`wait` gives it up while it sleeps. A holder takes one range at a
    time, so holders cannot wait for each other in a ring.

    Args:
        lock: The owner's metadata lock.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.lock = lock
        self._freed = threading.Condition(lock)
        self._shared: dict[int, tuple[int, int]] = {}
        self._exclusive: dict[int, tuple[int, int]] = {}
        self._next = 0
        self._waiting = 0

    def try_shared(self, start: int, end: int) -> int:
        """Take ``[start, end)`` beside other shared holders; returns a token, or 0 if it is held exclusively."""
        for held_start, held_end in self._exclusive.values():
            if held_start < end and start < held_end:
                return 0
        self._next += 1
        self._shared[self._next] = (start, end)
        return self._next

    def try_exclusive(self, start: int, end: int) -> int:
        """Take ``[start, end)`` alone; returns a token, or 0 if any of it is held."""
        for held in (self._exclusive, self._shared):
            for held_start, held_end in held.values():
                if held_start < end and start < held_end:
                    return 0
        self._next += 1
        self._exclusive[self._next] = (start, end)
        return self._next

    def release(self, token: int) -> None:
        """Give a range back."""
        if self._shared.pop(token, None) is None:
            del self._exclusive[token]
        if self._waiting:
            self._freed.notify_all()

    def shrink(self, token: int, end: int) -> None:
        """Give back the part of an exclusively held range from ``end`` on."""
        self._exclusive[token] = (self._exclusive[token][0], end)
        if self._waiting:
            self._freed.notify_all()

    def wait(self) -> None:
        """Sleep until some range is given back."""
        self._waiting += 1
        try:
            self._freed.wait()
        finally:
            self._waiting -= 1
