"""Slowing a disk down to a rate."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar, Final

from blockkit.block.filters.clock import SystemClock
from blockkit.block.filters.intercept import InterceptNode, Operation, Request
from blockkit.errors import OptionError
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.filters.clock import Clock
    from blockkit.block.node import Node

#: Without a burst of their own, rates allow for this many seconds' worth at once.
_DEFAULT_BURST_SECONDS: Final = 0.1

#: The requests that transfer something.
_COUNTED: Final = frozenset({Operation.READ, Operation.WRITE, Operation.ZERO, Operation.DISCARD})


class ThrottleOptions(Frozen):
    """How fast it may be; 0 means without bound.

    Attributes:
        bytes_per_second: Of reads and writes together.
        requests_per_second: Of reads, writes, zeroing and discards together.
        burst_bytes: Bytes that may pass at once after a pause; 0 means a tenth of a second's worth.
        burst_requests: Requests that may pass at once after a pause; 0 means a tenth of a second's worth.
    """

    bytes_per_second: int = 0
    requests_per_second: int = 0
    burst_bytes: int = 0
    burst_requests: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise OptionError(f"throttle: {name} {value} is negative")


class Bucket:
    """A leaky bucket that may go into debt: a request larger than the bucket passes, and pays by waiting.

    Args:
        rate: Units a second.
        burst: Units it holds when full.
        now: Seconds, of the clock whose times :meth:`take` is given.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._filled = burst, now

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` out and return how many seconds the taker has to wait."""
        self._level = min(self._burst, self._level + (now - self._filled) * self._rate) - amount
        self._filled = now
        return max(0.0, -self._level / self._rate)


class ThrottleNode(InterceptNode):
    """Delays requests so that they keep to a rate; requests of many threads wait in the order they came.

    Args:
        file: What the requests are for.
        options: The rates.
        clock: Tells and passes the time.
    """

    driver = "throttle"

    def __init__(self, file: Node, options: ThrottleOptions, *, clock: Clock | None = None) -> None:
        super().__init__(file)
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        now = self._clock.monotonic()
        self._bytes = _bucket(options.bytes_per_second, options.burst_bytes, now)
        self._requests = _bucket(options.requests_per_second, options.burst_requests, now)

    def _intercept(self, request: Request, go: Callable[[], None]) -> None:
        wait = self._account(request) if request.operation in _COUNTED else 0.0
        if wait:
            self._clock.sleep(wait)
        go()

    def _account(self, request: Request) -> float:
        with self._lock:
            now = self._clock.monotonic()
            wait = self._requests.take(1, now) if self._requests is not None else 0.0
            # Zeroing and discarding move no data.
            if self._bytes is not None and request.buffers:
                wait = max(wait, self._bytes.take(request.length, now))
        return wait


def _bucket(rate: int, burst: int, now: float) -> Bucket | None:
    return Bucket(rate, burst or max(1.0, rate * _DEFAULT_BURST_SECONDS), now) if rate else None


class ThrottleDriver:
    """The driver named ``throttle``."""

    name: ClassVar[str] = "throttle"
    Options: ClassVar[type[ThrottleOptions]] = ThrottleOptions

    def open(self, file: Node, options: ThrottleOptions) -> Node:
        """Put the filter on top of ``file``."""
        return ThrottleNode(file, options)


DRIVER = ThrottleDriver()
