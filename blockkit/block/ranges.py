"""Serialising requests that overlap, without a lock around data I/O."""

from __future__ import annotations

import threading
from itertools import count


class RangeLock:
    """Ranges in use: many shared holders, or one exclusive holder, for each.

    Every method but :meth:`announce` and :meth:`withdraw` is called with ``lock`` held; :meth:`wait` and
    :meth:`exclusive` give it up while they sleep. A holder takes one range at a time, so holders cannot wait for each
    other in a ring.

    Those two make sharing cheap where nobody wants anything else. They rely on an order that both sides keep: whoever
    shares says so first and looks for others afterwards, and so does whoever wants a range alone. Of two that come at
    once, one at least sees the other.

    Whoever waits in :meth:`exclusive` keeps newcomers out of its range, so that it gets its turn however many holders
    come and go; those who wait there get their turns in the order in which they came.

    Args:
        lock: The owner's metadata lock.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.lock = lock
        self._freed = threading.Condition(lock)
        self._shared: dict[int, tuple[int, int]] = {}
        self._exclusive: dict[int, tuple[int, int]] = {}
        # Ranges somebody waits for, oldest first.
        self._wanted: dict[int, tuple[int, int]] = {}
        self._tokens = count(1)
        self._waiting = 0
        # Somebody waits, or was refused because of a shared range and is about to: whoever withdraws wakes all.
        self._contended = False

    def try_shared(self, start: int, end: int) -> int:
        """Take ``[start, end)`` beside other shared holders; a token, or 0 if it is held or wanted exclusively."""
        for held_start, held_end in self._exclusive.values():
            if held_start < end and start < held_end:
                return 0
        for held_start, held_end in self._wanted.values():
            if held_start < end and start < held_end:
                return 0
        token = next(self._tokens)
        self._shared[token] = (start, end)
        return token

    def announce(self, start: int, end: int) -> int:
        """Do as :meth:`try_shared` does, without the lock; :meth:`withdraw` gives the range back."""
        token = next(self._tokens)
        self._shared[token] = (start, end)
        # In this order: what is wanted becomes exclusive before it is wanted no longer.
        if self._wanted or self._exclusive:
            for held in (self._wanted, self._exclusive):
                for held_start, held_end in list(held.values()):
                    if held_start < end and start < held_end:
                        self.withdraw(token)
                        return 0
        return token

    def withdraw(self, token: int) -> None:
        """Give back what :meth:`announce` took, without the lock."""
        del self._shared[token]
        if self._contended:
            with self.lock:
                self._contended = self._waiting > 0
                self.wake()

    def try_exclusive(self, start: int, end: int) -> int:
        """Take ``[start, end)`` alone; returns a token, or 0 if any of it is held or wanted by somebody else."""
        for held in (self._exclusive, self._wanted):
            for held_start, held_end in held.values():
                if held_start < end and start < held_end:
                    return 0
        token = next(self._tokens)
        self._exclusive[token] = (start, end)
        if self._is_shared(start, end):
            del self._exclusive[token]
            return 0
        return token

    def _is_shared(self, start: int, end: int) -> bool:
        """Tell whether anybody shares any of ``[start, end)``; if so, whoever withdraws wakes those who wait."""
        if self._shared:
            self._contended = True
            # A copy, made at once: announce and withdraw do not wait for the lock.
            for held_start, held_end in list(self._shared.values()):
                if held_start < end and start < held_end:
                    return True
        return False

    def exclusive(self, start: int, end: int) -> int:
        """Take ``[start, end)`` alone, waiting for it; returns a token."""
        if token := self.try_exclusive(start, end):
            return token
        ticket = next(self._tokens)
        self._wanted[ticket] = (start, end)
        try:
            while not self._is_next(ticket, start, end):
                self.wait()
            self._exclusive[ticket] = (start, end)
        finally:
            del self._wanted[ticket]
            if ticket not in self._exclusive:
                self.wake()
        return ticket

    def _is_next(self, ticket: int, start: int, end: int) -> bool:
        """Tell whether nobody holds any of ``[start, end)``, or has waited for it longer than ``ticket``."""
        if self._is_shared(start, end):
            return False
        for held_start, held_end in self._exclusive.values():
            if held_start < end and start < held_end:
                return False
        for older, (held_start, held_end) in self._wanted.items():
            if older == ticket:
                break
            if held_start < end and start < held_end:
                return False
        return True

    def release(self, token: int) -> None:
        """Give a range back."""
        if self._shared.pop(token, None) is None:
            del self._exclusive[token]
        # As wake() does: small writes come this way.
        if self._waiting:
            self._freed.notify_all()

    def shrink(self, token: int, end: int) -> None:
        """Give back the part of an exclusively held range from ``end`` on."""
        self._exclusive[token] = (self._exclusive[token][0], end)
        self.wake()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        if self._waiting:
            self._freed.notify_all()

    def wait(self) -> None:
        """Sleep until some range is given back."""
        self._waiting += 1
        try:
            self._freed.wait()
        finally:
            self._waiting -= 1
