"""Measuring requests to an image, many at a time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from blockkit.errors import OptionError, UsageError
from blockkit.frozen import Frozen
from blockkit.img.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Node
    from blockkit.img.progress import Watch

#: Most requests in flight: each has a thread.
MAX_DEPTH: Final = 1024
#: Bytes one request may have.
MAX_BUFFER: Final = 1 << 30


class BenchRequest(Frozen):
    """What to measure.

    Attributes:
        count: Requests in all.
        depth: Requests in flight.
        buffer_size: Bytes of each.
        step: Bytes from the start of one to the start of the next; 0 takes ``buffer_size``.
        offset: Where the first starts, bytes.
        write: Write instead of reading.
        pattern: The byte that is written.
        flush_interval: Flush after so many writes; 0 never does.
        drain: Wait for requests in flight before each flush.
        progress: Told the bytes of requests that came back.
    """

    count: int = 75000
    depth: int = 64
    buffer_size: int = 4096
    step: int = 0
    offset: int = 0
    write: bool = False
    pattern: int = 0
    flush_interval: int = 0
    drain: bool = True
    progress: Watch = Silent

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("count", self.count, 0, (1 << 31) - 1),
            ("depth", self.depth, 1, MAX_DEPTH),
            ("buffer size", self.buffer_size, 1, MAX_BUFFER),
            ("step size", self.step, 0, (1 << 63) - 1),
            ("offset", self.offset, 0, (1 << 63) - 1),
            ("pattern", self.pattern, 0, 255),
            ("flush interval", self.flush_interval, 0, (1 << 31) - 1),
        ):
            if not low <= value <= high:
                raise OptionError(f"bench: {name} is {value}, not from {low} to {high}")
        if self.flush_interval and not self.write:
            raise UsageError("bench: --flush-interval is for writes only (-w)")
        if self.flush_interval and self.drain and self.flush_interval < self.depth:
            raise UsageError(
                f"bench: a flush interval of {self.flush_interval} is less than the {self.depth} requests in flight"
            )

    @property
    def stride(self) -> int:
        """Bytes from one request to the next."""
        return self.step or self.buffer_size


def bench(node: Node, request: BenchRequest) -> float:
    """Send the requests and return the seconds they took. They go round when they reach the end of the disk.

    Raises:
        OptionError: no request fits into the disk.
        BlockkitError: a request failed.
    """
    if request.count and request.offset + request.buffer_size > node.size:
        raise OptionError(
            f"bench: {request.buffer_size} bytes at {request.offset} leave the {node.size} bytes of the disk"
        )
    with request.progress(request.count * request.buffer_size) as progress:
        run = _Run(node, request, progress.advance)
        start = time.perf_counter()
        run.run()
        return time.perf_counter() - start


class _Run:
    """Threads that take the number of the next request from one counter."""

    def __init__(self, node: Node, request: BenchRequest, advance: Callable[[int], None]) -> None:
        self.node, self.request, self._advance = node, request, advance
        # Taking the next number is one operation of the interpreter, so it needs no lock.
        self._numbers = iter(range(request.count))
        # Starts at which a request fits before they begin again.
        self._round = max(1, -(-(node.size - request.buffer_size - request.offset + 1) // request.stride))
        self._error: BaseException | None = None

    def run(self) -> None:
        """Send all requests, in pieces between two flushes that wait for what is in flight."""
        request = self.request
        if not request.flush_interval or not request.drain:
            self._send(request.count)
            return
        for done in range(0, request.count, request.flush_interval):
            count = min(request.flush_interval, request.count - done)
            self._numbers = iter(range(done, done + count))
            self._send(count)
            if count == request.flush_interval:
                self.node.flush()

    def _send(self, count: int) -> None:
        """Let threads work until there are no numbers left."""
        threads = [threading.Thread(target=self._work) for _ in range(min(self.request.depth, count) - 1)]
        for thread in threads:
            thread.start()
        self._work()
        try:
            for thread in threads:
                thread.join()
        except BaseException as interruption:
            self._error = interruption  # which ends the threads
            raise
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        request, node, advance = self.request, self.node, self._advance
        size, write, stride, start, fits = (
            request.buffer_size,
            request.write,
            request.stride,
            request.offset,
            self._round,
        )
        flushes = request.flush_interval if not request.drain else 0
        data = bytes([request.pattern]) * size if write else b""
        numbers = self._numbers
        try:
            for number in numbers:
                offset = start + number % fits * stride
                if write:
                    node.write(offset, data)
                else:
                    node.read(offset, size)
                advance(size)
                if flushes and (number + 1) % flushes == 0:
                    node.flush()
                if self._error is not None:
                    return
        except BaseException as error:
            self._error = self._error or error
