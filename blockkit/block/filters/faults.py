"""Failures on demand: what storage does on its worst days, on the day of a test."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable  # noqa: TC003 -- options are built by their types, at run time
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from blockkit.block.buffers import split_buffers
from blockkit.block.filters.clock import SystemClock
from blockkit.block.filters.intercept import InterceptNode, Operation, Request
from blockkit.errors import NodeError, NodeIOError, OptionError, from_os_error
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.block.filters.clock import Clock
    from blockkit.block.node import Node

#: The operations that change what is stored.
CHANGES: Final = frozenset({Operation.WRITE, Operation.ZERO, Operation.DISCARD, Operation.RESIZE})


class FaultRule(Frozen):
    """What happens to which requests. A request must meet every condition; of several rules the first that fires acts.

    Attributes:
        operation: Which requests: ``any``, one operation, or ``change`` for all that change what is stored.
        start: Only requests that touch bytes from here on.
        end: ... and before here; None means the end of the disk.
        when: Any other condition, as a function.
        after: Let this many pass first. Counts requests that meet the conditions above.
        nth: Only the nth of those; 0 means no such condition.
        every: Only each nth of those; 0 means no such condition.
        probability: Fire with this probability, from 0 to 1.
        times: Fire so often and then no more; 0 means always.
        action: ``fail`` does nothing and fails; ``short`` does the first ``short`` bytes and fails; ``delay`` waits
            first; ``drop`` does nothing and succeeds, as a lost write or flush does; ``cut`` cuts the power: this and
            every later request fails.
        errno: What to fail with, such as ``ENOSPC``.
        short: Bytes done before a short request fails.
        delay: Seconds.
    """

    operation: Literal["any", "change", "read", "write", "zero", "discard", "flush", "resize"] = "any"
    start: int = 0
    end: int | None = None
    when: Callable[[Request], bool] | None = None
    after: int = 0
    nth: int = 0
    every: int = 0
    probability: float = 1.0
    times: int = 0
    action: Literal["fail", "short", "delay", "drop", "cut"] = "fail"
    errno: str = "EIO"
    short: int = 0
    delay: float = 0.0

    def __post_init__(self) -> None:
        if self.errno not in _ERRNO:
            raise OptionError(f"faults: errno {self.errno!r} is not a name such as EIO or ENOSPC")
        if not 0 <= self.probability <= 1:
            raise OptionError(f"faults: probability {self.probability} is not from 0 to 1")
        if self.delay < 0:
            raise OptionError(f"faults: delay {self.delay} is negative")
        if self.action == "drop" and self.operation not in ("change", "write", "zero", "discard", "flush"):
            raise OptionError(f"faults: operation {self.operation!r} cannot be dropped, only changes and flush can")

    def concerns(self, request: Request) -> bool:
        """Tell whether ``request`` meets the conditions that do not count or draw lots."""
        if self.operation == "change":
            if request.operation not in CHANGES:
                return False
        elif self.operation not in ("any", request.operation.value):
            return False
        if request.operation not in (Operation.FLUSH, Operation.RESIZE):
            end = request.offset + request.length
            if end <= self.start or (self.end is not None and request.offset >= self.end):
                return False
        return self.when is None or self.when(request)


_ERRNO: Final = {name: number for number, name in errno.errorcode.items()}


class FaultsOptions(Frozen):
    """What goes wrong.

    Attributes:
        rules: Tried in order.
        seed: Of the probabilities, so that a run can be repeated.
    """

    rules: tuple[FaultRule, ...] = ()
    seed: int = 0


class FaultsNode(InterceptNode):
    """Passes requests on, except those that a rule picks.

    Args:
        file: What the requests are for.
        rules: Tried in order for each request; the first that fires acts.
        seed: Of the probabilities.
        clock: Passes the time of delays.

    Attributes:
        power_is_on: False after a rule cut it; nothing reaches ``file`` any more.
    """

    driver = "faults"

    def __init__(
        self, file: Node, rules: Sequence[FaultRule] = (), *, seed: int = 0, clock: Clock | None = None
    ) -> None:
        super().__init__(file)
        self.power_is_on = True
        self._rules = [_Counter(rule) for rule in rules]
        self._random = random.Random(seed)
        self._clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()

    def _intercept(self, request: Request, go: Callable[[], None]) -> None:
        with self._lock:
            rule = self._pick(request)
            if rule is not None and rule.action == "cut":
                self.power_is_on = False
            power_is_on = self.power_is_on
        if not power_is_on:
            raise NodeIOError(f"{self}: the power is off")
        if rule is None:
            go()
        elif rule.action == "delay":
            self._clock.sleep(rule.delay)
            go()
        elif rule.action != "drop":
            if rule.action == "short":
                self._do_part(request, rule.short)
            raise self._failure(rule, request)

    def _pick(self, request: Request) -> FaultRule | None:
        for counter in self._rules:
            if counter.fires(request, self._random):
                return counter.rule
        return None

    def _do_part(self, request: Request, length: int) -> None:
        """Do the first ``length`` bytes of a request; nothing of one that has no bytes."""
        length = min(length, request.length)
        if not length or request.operation not in (Operation.READ, Operation.WRITE):
            return
        buffers, _ = split_buffers(request.buffers, length)
        if request.operation is Operation.READ:
            self.file.pull(request.offset, buffers)
        else:
            self.file.push(request.offset, buffers)

    def _failure(self, rule: FaultRule, request: Request) -> NodeError:
        number = _ERRNO[rule.errno]
        where = f"{self}: {request.operation.value} of {request.length} bytes at {request.offset:#x} failed by a rule"
        return from_os_error(OSError(number, os.strerror(number)), where)


class _Counter:
    """A rule, and how often it was met and fired; used under the node's lock."""

    def __init__(self, rule: FaultRule) -> None:
        self.rule = rule
        self._met = 0
        self._fired = 0

    def fires(self, request: Request, lots: random.Random) -> bool:
        rule = self.rule
        if not rule.concerns(request):
            return False
        self._met += 1
        count = self._met - rule.after
        if count <= 0 or (rule.nth and count != rule.nth) or (rule.every and count % rule.every):
            return False
        if (rule.times and self._fired >= rule.times) or (rule.probability < 1 and lots.random() >= rule.probability):
            return False
        self._fired += 1
        return True


class FaultsDriver:
    """The driver named ``faults``."""

    name: ClassVar[str] = "faults"
    Options: ClassVar[type[FaultsOptions]] = FaultsOptions

    def open(self, file: Node, options: FaultsOptions) -> Node:
        """Put the filter on top of ``file``."""
        return FaultsNode(file, options.rules, seed=options.seed)


DRIVER = FaultsDriver()
