"""Telling every request that passes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple, TextIO

from blockkit.block.bases import ProtocolNode
from blockkit.block.chain import locate
from blockkit.block.filters.intercept import InterceptNode, Operation, Request
from blockkit.errors import BlockkitError, from_os_error
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from blockkit.block.node import Node

#: Places told of one request; a scattered one has more.
_MAX_PLACES: Final = 16


class HostPlace(NamedTuple):
    """Where a part of a request lies on the host.

    Attributes:
        filename: The file or device.
        offset: Where in it, bytes.
        length: Bytes.
    """

    filename: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One request that has been answered.

    Attributes:
        operation: ``read``, ``write``, ``zero``, ``discard``, ``flush`` or ``resize``.
        offset: Its first byte.
        length: Its bytes; for a resize the new size.
        microseconds: How long the node below took.
        host: Where its bytes lie, for reads before and for the others after the request; at most 16 places.
        error: The message of what it failed with; empty if it did not.
    """

    operation: str
    offset: int
    length: int
    microseconds: float
    host: tuple[HostPlace, ...] = ()
    error: str = ""

    def __str__(self) -> str:
        places = " ".join(f"{place.filename}+{place.offset:#x}:{place.length}" for place in self.host)
        parts = [f"{self.operation} {self.offset:#x} {self.length} bytes {self.microseconds:.1f} us"]
        parts += [f"at {places}"] if places else []
        parts += [f"failed: {self.error}"] if self.error else []
        return " ".join(parts)


#: Takes each event, from any thread.
Sink = Callable[[TraceEvent], None]


class TraceOptions(Frozen):
    """Where and how requests are told.

    Attributes:
        sink: A function that takes each event, ``stderr``, or the name of a file that lines are added to.
        format: ``text`` for people, ``json`` for one object a line.
        host_offsets: Tell where on the host the bytes lie; takes time, which is not counted.
    """

    sink: Sink | str = "stderr"
    format: Literal["text", "json"] = "text"
    host_offsets: bool = True


class TraceNode(InterceptNode):
    """Passes every request on and tells of it.

    Args:
        file: What the requests are for.
        sink: Called once for each, in the thread that made the request.
        host_offsets: Tell where on the host the bytes lie.
    """

    driver = "trace"

    def __init__(self, file: Node, sink: Sink, *, host_offsets: bool = True) -> None:
        super().__init__(file)
        self._sink = sink
        self._host_offsets = host_offsets

    def _intercept(self, request: Request, go: Callable[[], None]) -> None:
        is_read = request.operation is Operation.READ
        host = self._places(request) if is_read else ()
        start = time.perf_counter_ns()
        try:
            go()
        except BlockkitError as error:
            self._tell(request, start, host, str(error))
            raise
        self._tell(request, start, host, "", locate_now=not is_read)

    def _tell(
        self, request: Request, start: int, host: tuple[HostPlace, ...], error: str, *, locate_now: bool = False
    ) -> None:
        microseconds = (time.perf_counter_ns() - start) / 1000
        if locate_now:
            host = self._places(request)
        self._sink(TraceEvent(request.operation.value, request.offset, request.length, microseconds, host, error))

    def _places(self, request: Request) -> tuple[HostPlace, ...]:
        if not self._host_offsets or request.operation in (Operation.FLUSH, Operation.RESIZE):
            return ()
        try:
            found = islice(locate(self.file, request.offset, request.length), _MAX_PLACES)
            return tuple(
                HostPlace(str(run.node), run.target, run.length) for run in found if isinstance(run.node, ProtocolNode)
            )
        except BlockkitError:
            return ()  # what is wrong will be told when the request meets it

    def _close(self) -> None:
        if isinstance(self._sink, LineSink):
            self._sink.close()


class LineSink:
    """Writes events as lines.

    Args:
        name: A file name, or ``stderr``.
        format: ``text`` or ``json``.
    """

    def __init__(self, name: str, format: str) -> None:  # noqa: A002
        self._lock = threading.Lock()
        self._is_json = format == "json"
        self._stream: TextIO | None = None
        if name != "stderr":
            try:
                self._stream = open(name, "a", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
            except OSError as error:
                raise from_os_error(error, f"trace: {name}") from error

    def __call__(self, event: TraceEvent) -> None:
        if self._is_json:
            import json

            fields = asdict(event)
            fields["host"] = [place._asdict() for place in event.host]
            line = json.dumps(fields)
        else:
            line = str(event)
        with self._lock:
            (self._stream or sys.stderr).write(line + os.linesep)

    def close(self) -> None:
        """Close the file; ``stderr`` stays open."""
        if self._stream is not None:
            self._stream.close()


class TraceDriver:
    """The driver named ``trace``."""

    name: ClassVar[str] = "trace"
    Options: ClassVar[type[TraceOptions]] = TraceOptions

    def open(self, file: Node, options: TraceOptions) -> Node:
        """Put the filter on top of ``file``."""
        sink = options.sink if callable(options.sink) else LineSink(options.sink, options.format)
        return TraceNode(file, sink, host_offsets=options.host_offsets)


DRIVER = TraceDriver()
