"""A node as devices of the guest use it: requests that end later, in virtual time, and what becomes of errors."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.errors import BlockkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.block.node import Node
    from blockkit.emul.clock import Clock

_log = logging.getLogger(__name__)
_SECTOR: Final = 512


class OnError(enum.Enum):
    """What becomes of a request that the host cannot do."""

    REPORT = "report"  #: the guest learns of it
    STOP = "stop"  #: the machine stops; the request is done again when it goes on
    IGNORE = "ignore"  #: the guest is told that all is well


class Operation(enum.Enum):
    """What a guest asks of a disk."""

    READ = "read"
    WRITE = "write"
    FLUSH = "flush"
    DISCARD = "discard"
    ZERO = "zero"


class Latency(NamedTuple):
    """How long requests take in virtual time, in nanoseconds.

    Attributes:
        request: Each one.
        byte_ps: Each byte more, in picoseconds.
        flush: A flush.
        seek: What is added at most when a request does not begin where the last one ended.
    """

    request: int = 50_000
    byte_ps: int = 500
    flush: int = 100_000
    seek: int = 0


#: By name.
LATENCIES: Final = {
    "constant": Latency(20_000, 0, 20_000),
    "ssd": Latency(50_000, 500, 100_000),
    "hdd": Latency(100_000, 6_000, 8_000_000, 8_000_000),
}


class Request(NamedTuple):
    """One request of a guest.

    Attributes:
        number: Counts all requests of a machine's disk, from 1: what traces call it.
        operation: What is asked.
        offset: Where, in bytes.
        length: How much, in bytes.
        buffers: Guest memory to fill or to store.
        unmap: Of ZERO: space may be given back.
        done: Called with True when it is done, and False when it failed.
    """

    number: int
    operation: Operation
    offset: int
    length: int
    buffers: Sequence[memoryview]
    unmap: bool
    done: Callable[[bool], None]


class Disk:
    """A disk behind a device.

    The host does its part at once; the guest learns of it when the time has passed that such a request takes. So runs
    are alike, whatever the host does meanwhile.

    Args:
        node: The disk's contents.
        clock: Virtual time.
        latency: How long requests take.
        on_error: What becomes of errors.
        read_only: Writes are refused.
        serial: Its serial number, up to 20 characters.
        write_through: Each write is durable before it is done, as if it were flushed.
        stop: Called when the machine has to stop because of an error.

    Attributes:
        pending: Requests that have not ended; those that failed are among them.
        failures: Requests that failed, and are done again by :meth:`resume` or dropped by :meth:`forget`.
        observe: Called with each request before it is done.
        observe_end: Called with each request, and whether it went well, when the guest learns of its end.
    """

    def __init__(
        self,
        node: Node,
        clock: Clock,
        *,
        latency: Latency = LATENCIES["ssd"],
        on_error: OnError = OnError.REPORT,
        read_only: bool = False,
        serial: str = "",
        write_through: bool = False,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.node, self.read_only, self.serial, self.write_through = node, read_only, serial, write_through
        self._clock, self._latency, self._on_error, self._stop = clock, latency, on_error, stop
        self._count = self._end = self.pending = 0
        self.failures: list[Request] = []
        self.observe: Callable[[Request], None] = lambda _: None
        self.observe_end: Callable[[Request, bool], None] = lambda *_: None

    @property
    def sectors(self) -> int:
        """Sectors of 512 bytes, the last of which may not be full."""
        return -(-self.node.size // _SECTOR)

    def submit(
        self,
        operation: Operation,
        offset: int,
        length: int,
        buffers: Sequence[memoryview],
        done: Callable[[bool], None],
        *,
        unmap: bool = False,
    ) -> None:
        """Do a request; ``done`` is called later, when it has ended.

        The caller has made sure that it lies in the disk's sectors and that ``buffers`` have ``length`` bytes in all.
        What a READ fills is filled before ``done`` is called.
        """
        self._count += 1
        self.pending += 1
        self._begin(Request(self._count, operation, offset, length, buffers, unmap, done))

    def _begin(self, request: Request) -> None:
        self.observe(request)
        well = True
        try:
            self._do(request)
        except BlockkitError as error:
            _log.warning(
                "disk: %s of %d bytes at %#x: %s", request.operation.value, request.length, request.offset, error
            )
            if self._on_error is OnError.STOP:
                self.failures.append(request)
                self._stop()
                return
            well = self._on_error is OnError.IGNORE
        self._clock.call_at(self._clock.now() + self._takes(request), lambda: self._finish(request, well))

    def _finish(self, request: Request, well: bool) -> None:
        self.pending -= 1
        self.observe_end(request, well)
        request.done(well)

    def resume(self) -> None:
        """Do again what failed and stopped the machine."""
        failures, self.failures = self.failures, []
        for request in failures:
            self._begin(request)

    def forget(self) -> None:
        """Forget what failed and stopped the machine: whoever asked for it has been reset."""
        failures, self.failures = self.failures, []
        for request in failures:
            self.pending -= 1
            self.observe_end(request, False)

    def _takes(self, request: Request) -> int:
        latency = self._latency
        if request.operation is Operation.FLUSH:
            return latency.flush
        seek = 0 if request.offset == self._end else latency.seek
        self._end = request.offset + request.length
        return latency.request + seek + request.length * latency.byte_ps // 1000

    def _do(self, request: Request) -> None:
        node, offset = self.node, request.offset
        # The last sector may be longer than the disk: it ends in zeros, which cannot be changed.
        length = max(0, min(request.length, node.size - offset))
        if request.operation is Operation.READ:
            buffers = list(request.buffers)
            if length < request.length:
                buffers = _cut(buffers, length)
                for rest in _behind(request.buffers, length):
                    rest[:] = bytes(len(rest))
            if length:
                node.readv(offset, buffers)
        elif request.operation is Operation.WRITE:
            if length:
                node.writev(offset, _cut(list(request.buffers), length), fua=self.write_through)
        elif request.operation is Operation.FLUSH:
            node.flush()
        elif request.operation is Operation.DISCARD:
            if length:
                node.discard(offset, length)
        elif length:
            node.zero(offset, length, unmap=request.unmap)
            if self.write_through:
                node.flush()


def _cut(buffers: list[memoryview], length: int) -> list[memoryview]:
    """Return the first ``length`` bytes of buffers."""
    found = []
    for each in buffers:
        if length <= 0:
            break
        found.append(each[:length])
        length -= len(each)
    return found


def _behind(buffers: Sequence[memoryview], length: int) -> list[memoryview]:
    """Return what comes behind ``length`` bytes of buffers."""
    found = []
    for each in buffers:
        if length < len(each):
            found.append(each[max(length, 0) :])
        length -= len(each)
    return found
