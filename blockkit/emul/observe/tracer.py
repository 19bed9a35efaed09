"""One number for each request of the guest, from the register that started it to the host's system calls, and back."""

from __future__ import annotations

import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from blockkit.emul.observe.accesses import Access, AccessObserver
from blockkit.emul.observe.events import Event
from blockkit.emul.observe.nodes import GraphObserver

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.disk import Disk, Request
    from blockkit.emul.observe.nodes import Span
    from blockkit.emul.session import Session

#: Accesses between two requests that are told at most: the last ones.
_MOST_ACCESSES: Final = 20_000


class Tracer:
    """Follows requests from now on.

    Which access started a request is known: it is the one during which the request was made. The other accesses
    between two requests are cut where the guest paused longest: what comes before belongs to the first request, as its
    end is handled, and what comes after to the second one, as it is prepared.

    Args:
        session: The machine.
        sink: Takes the events; those of one request in order.

    Attributes:
        requests: How many there were.
    """

    def __init__(self, session: Session, sink: Callable[[Event], None]) -> None:
        self._clock, self._sink = session.pc.clock, sink
        self._began = time.perf_counter_ns()
        self.requests = 0
        self._numbers: dict[tuple[str, int], tuple[int, int]] = {}
        self._current = self._last = 0
        self._waiting: deque[Event] = deque(maxlen=_MOST_ACCESSES)
        self._during: Event | None = None
        self._observer = AccessObserver(session.pc, self._before, self._after)
        self._graphs = [GraphObserver(drive.node, self._node) for drive in session.built.drives]
        self._chained = [(drive.disk, drive.disk.observe, drive.disk.observe_end) for drive in session.built.drives]
        for drive in session.built.drives:
            self._follow(drive.name, drive.disk)

    def _now(self) -> tuple[int, int]:
        return self._clock.now(), time.perf_counter_ns() - self._began

    # -- registers -------------------------------------------------------------------------------------------

    def _before(self, access: Access) -> None:
        self._during = self._event_of(access)

    def _after(self, access: Access) -> None:
        if self._during is not None:
            # It started no request.
            self._waiting.append(self._during._replace(result=f"{access.value:#x}"))
        self._during = None
        self._current = 0

    def _event_of(self, access: Access) -> Event:
        action, result = ("write", f"{access.value:#x}") if access.is_write else ("read", "")
        where = (action, access.register, access.address, access.size, *self._now())
        return Event(0, "register", access.device, *where, result=result)

    def _assign_accesses(self, number: int) -> None:
        """Tell of the accesses since the last request, each for the request it belongs to."""
        waiting = list(self._waiting)
        self._waiting.clear()
        if self._during is not None:
            waiting.append(self._during)
            self._during = None
        cut = _longest_pause(waiting)
        for index, event in enumerate(waiting):
            self._sink(event._replace(request=self._last if index < cut else number))

    # -- requests --------------------------------------------------------------------------------------------

    def _follow(self, name: str, disk: Disk) -> None:
        observe, observe_end = disk.observe, disk.observe_end

        def began(request: Request) -> None:
            observe(request)
            self._begin(name, request)

        def ended(request: Request, well: bool) -> None:
            self._end(name, request, well)
            observe_end(request, well)

        disk.observe, disk.observe_end = began, ended

    def _begin(self, drive: str, request: Request) -> None:
        self.requests += 1
        number = self._current = self.requests
        self._assign_accesses(number)
        self._last = number
        virtual, host = self._now()
        self._numbers[drive, request.number] = number, virtual
        self._sink(
            Event(number, "request", drive, request.operation.value, "", request.offset, request.length, virtual, host)
        )

    def _end(self, drive: str, request: Request, well: bool) -> None:
        virtual, host = self._now()
        number, began = self._numbers.pop((drive, request.number), (0, virtual))
        result = "" if well else "failed"
        action, offset, length = request.operation.value, request.offset, request.length
        where = (action, "", offset, length, virtual, host)
        self._sink(Event(number, "done", drive, *where, virtual - began, 0, result))

    # -- nodes -----------------------------------------------------------------------------------------------

    def _node(self, span: Span) -> None:
        where = (span.action, span.place, span.offset, span.length, self._clock.now(), span.start - self._began)
        more = (span.took, span.depth, span.result, span.fd)
        self._sink(Event(self._current, span.layer, span.name, *where, *more))

    def close(self) -> None:
        """Tell of the last accesses and of requests that have not ended, and follow no more."""
        for event in self._waiting:
            self._sink(event._replace(request=self._last))
        virtual, host = self._now()
        for (drive, _), (number, began) in self._numbers.items():
            self._sink(Event(number, "done", drive, "", "", 0, 0, virtual, host, virtual - began, 0, "not ended"))
        self._observer.close()
        for graph in self._graphs:
            graph.close()
        for disk, observe, observe_end in self._chained:
            disk.observe, disk.observe_end = observe, observe_end


def _longest_pause(events: list[Event]) -> int:
    """Return before which event most virtual time passed."""
    if len(events) < 2:
        return 0
    pauses = [later.virtual - earlier.virtual for earlier, later in pairwise(events)]
    return 1 + max(range(len(pauses)), key=pauses.__getitem__)
