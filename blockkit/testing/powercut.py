"""Recording what reaches a file, to see what a power cut at any moment leaves of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.filters.intercept import InterceptNode, Operation, Request
from blockkit.block.zeros import is_zero
from blockkit.units import SECTOR

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterator, Mapping

    from blockkit.block.node import Node


class Logged(NamedTuple):
    """One change, or one flush, that the file below has completed.

    Attributes:
        operation: WRITE for whatever changed bytes (writes, zeroing and discards), RESIZE, or FLUSH.
        offset: The first byte.
        length: The bytes; for RESIZE the new size.
        data: What the range holds after it; None for zeros.
        is_durable: Whether a power cut cannot undo it, though no flush came.
    """

    operation: Operation
    offset: int = 0
    length: int = 0
    data: bytes | None = None
    is_durable: bool = False


class PowerCutNode(InterceptNode):
    """Logs every change and flush; :meth:`state` rebuilds the file as a power cut would leave it.

    Put it between a format and its file. Requests pass one at a time, so that the log has the order in which they took
    effect. The file as it was when this node was made and all that is written to it are kept in memory.

    Args:
        file: What is recorded.

    Attributes:
        log: Every change and flush so far, in order.
    """

    driver = "powercut"

    def __init__(self, file: Node) -> None:
        super().__init__(file)
        self.log: list[Logged] = []
        self._initial = file.read(0, file.size)
        self._lock = threading.RLock()

    def _intercept(self, request: Request, go: Callable[[], None]) -> None:
        if request.operation is Operation.READ:
            go()
            return
        with self._lock:
            before = self.file.size
            try:
                go()
            finally:
                # A request that failed may have been done in part; what counts is what the file holds now.
                if request.operation is not Operation.FLUSH:
                    self._log_change(request, before)
            if request.operation is Operation.FLUSH:
                self.log.append(Logged(Operation.FLUSH))

    def _log_change(self, request: Request, size_before: int) -> None:
        if request.operation is Operation.RESIZE:
            if self.file.size != size_before:
                self.log.append(Logged(Operation.RESIZE, 0, self.file.size))
            return
        length = max(0, min(request.length, self.file.size - request.offset))
        if not length:
            return
        data: bytes | None = self.file.read(request.offset, length)
        if data is not None and is_zero(memoryview(data)):
            data = None
        self.log.append(Logged(Operation.WRITE, request.offset, length, data, request.fua))

    def at_risk(self, count: int) -> list[int]:
        """Return which of the first ``count`` operations a power cut right after them may undo: those not flushed."""
        start = count
        while start and self.log[start - 1].operation is not Operation.FLUSH:
            start -= 1
        return [index for index in range(start, count) if not self.log[index].is_durable]

    def state(
        self,
        count: int,
        *,
        lost: Collection[int] = (),
        torn: Mapping[int, Collection[int]] | None = None,
    ) -> bytearray:
        """Return what the file holds when the power goes after the first ``count`` operations.

        Args:
            count: From 0 to ``len(log)``.
            lost: Operations, by index, that stayed in a cache; see :meth:`at_risk`.
            torn: Of these writes, by index, only these sectors of the file arrived.
        """
        disk = bytearray(self._initial)
        for index in range(count):
            if index not in lost:
                _apply(disk, self.log[index], None if torn is None else torn.get(index))
        return disk

    def crashes(self, count: int, rng: random.Random, samples: int) -> Iterator[bytearray]:
        """Yield states a power cut after the first ``count`` operations may leave: caches lose any part of the rest.

        First that nothing is lost, then that everything is that may be, then each write that may be lost alone, then
        random subsets with random writes torn; ``samples`` states at most, and fewer if there are no more.
        """
        risky = self.at_risk(count)
        choices: list[Collection[int]] = [(), risky, *([index] for index in risky if len(risky) > 1)]
        for lost in choices[: samples if risky else min(samples, 1)]:
            yield self.state(count, lost=lost)
        for _ in range(samples - len(choices) if risky else 0):
            lost = {index for index in risky if rng.random() < 0.5}
            torn = {index: _some_sectors(self.log[index], rng) for index in risky if rng.random() < 0.25}
            yield self.state(count, lost=lost, torn=torn)


def _apply(disk: bytearray, logged: Logged, sectors: Collection[int] | None) -> None:
    """Do to ``disk`` what ``logged`` did; of a torn write only ``sectors``."""
    if logged.operation is Operation.RESIZE:
        del disk[logged.length :]
        disk.extend(bytes(logged.length - len(disk)))
        return
    end = logged.offset + logged.length
    data = bytes(logged.length) if logged.data is None else logged.data
    if sectors is None:
        _store(disk, logged.offset, data)
        return
    for sector in sorted(sectors):
        start, stop = max(logged.offset, sector * SECTOR), min(end, (sector + 1) * SECTOR)
        if start < stop:
            _store(disk, start, data[start - logged.offset : stop - logged.offset])


def _store(disk: bytearray, offset: int, data: bytes) -> None:
    if data:
        disk.extend(bytes(max(0, offset + len(data) - len(disk))))
        disk[offset : offset + len(data)] = data


def _some_sectors(logged: Logged, rng: random.Random) -> set[int]:
    first, last = logged.offset // SECTOR, -(-(logged.offset + logged.length) // SECTOR)
    if rng.random() < 0.5:
        return set(range(first, rng.randint(first, last)))  # the power went in the middle
    return {sector for sector in range(first, last) if rng.random() < 0.5}
