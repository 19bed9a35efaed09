"""Copying in general: worker threads take parts, read, look for zeros, and write.

The threads share nothing but the parts: reading and writing release the interpreter's lock, so two of them keep two
cores and the storage busy.
"""

from __future__ import annotations

import mmap
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from blockkit.block.copying.parts import Parts
from blockkit.block.facets import ExpectsGrowth
from blockkit.block.zeros import is_zero, zero_fill, zero_grains, zeros
from blockkit.errors import BlockkitError
from blockkit.units import KiB, MiB, align_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.copy import CopyPlan
    from blockkit.block.copying.carrier import Carrier
    from blockkit.block.copying.parts import Part
    from blockkit.block.node import Node

#: What one worker reads and writes at once. Larger is faster where clusters are allocated; into a plain file, smaller
#: chunks leave more of them to the caches of the processor.
CHUNK = 512 * KiB
CLUSTERED_CHUNK = 1024 * KiB
#: What native code reads and writes at once: no slower, and where free memory has to be fetched, less of it.
NATIVE_CHUNK = 256 * KiB
#: The longest runs of zeros that are looked for as a whole.
_LONGEST_GRAIN = 8 * MiB
#: How much must have been copied for native code to be worth loading, and compiling if it is not kept.
WORTH_LOADING, WORTH_COMPILING, _NEVER = 16 * MiB, 256 * MiB, 1 << 64


class Copier(ABC):
    """One copy in progress. Offsets are the source's; ``shift`` leads to the target's.

    Args:
        source: Read by many threads.
        target: Written by many threads.
        plan: How.
        start: Where the range begins, bytes.
        length: Bytes.
        shift: Bytes.

    Attributes:
        unit: What the target stores or leaves out as a whole, bytes.
        chunk: What one worker reads and writes at once, bytes.
        grain: Zeros are told apart in pieces of so many bytes of the target; 0 if they are not.
        fresh: Zeros need not be written: there are some already, and no backing file shows through.
        buffer_size: What a worker's buffer has, bytes.
        parts: What there is to copy.
        carrier: What copies from host file to host file natively, once there is one.
    """

    def __init__(self, source: Node, target: Node, plan: CopyPlan, start: int, length: int, shift: int) -> None:
        self.source, self.target, self.plan, self.shift = source, target, plan, shift
        self.start, self.end = start, start + length
        self.unit = self.find_unit()
        clustered = self.unit > target.limits.request_alignment
        self.grain = align_up(plan.sparse_size, self.unit) if plan.sparse_size else 0
        self.chunk = self._whole(CLUSTERED_CHUNK if clustered else CHUNK)
        self.buffer_size = self.chunk
        self.fresh = plan.target_is_zero and target.backing is None
        self.parts = self.find_parts()
        self.carrier: Carrier | None = None
        # What is only read stays where it is; and what is left out must be zero anyway.
        plain = source.read_only and self.fresh and not (plan.salvage or plan.steady)
        self.parts.tells_places = plain and self.may_carry()
        self._carrier_at = WORTH_LOADING if self.parts.tells_places else _NEVER
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def _whole(self, size: int) -> int:
        """Return as much, or a little more, that holds whole grains: a part of one is judged by itself."""
        return align_up(size, self.grain if 0 < self.grain <= _LONGEST_GRAIN else self.unit)

    def find_unit(self) -> int:
        """Return what the target stores as a whole, bytes."""
        limits = self.target.limits
        return max(limits.optimal_transfer, limits.request_alignment, 1)

    def find_parts(self) -> Parts:
        """Return what there is to copy, cut to suit the target."""
        return Parts(
            self.source, self.target, self.plan, self.start, self.end, self.shift, chunk=self.chunk, fresh=self.fresh
        )

    def find_workers(self) -> int:
        """Return how many threads are to work."""
        return self.plan.workers

    def may_carry(self) -> bool:
        """Whether the target is one that native code can write to."""
        return False

    @abstractmethod
    def deal(self, buffer: memoryview, batch: list[Part]) -> None:
        """Copy what one worker has taken.

        Args:
            buffer: The worker's own.
            batch: Parts, in order.
        """

    # -- the workers ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Copy everything; raise the first error."""
        if isinstance(self.target, ExpectsGrowth):
            self.target.expect_growth()
        workers = self.find_workers()
        if workers > 1:
            # This thread only waits, as it may be interrupted anywhere: halfway through an import, say, that others
            # would wait for in vain.
            threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
            try:
                for thread in threads:
                    thread.start()
            except BaseException as error:
                self._error = self._error or error
            self._wait_for(threads)
        else:
            self._work()
        if self._error is not None:
            raise self._error

    def _wait_for(self, threads: list[threading.Thread]) -> None:
        """Return when all threads have ended, whatever comes up meanwhile: what they use is closed afterwards."""
        for thread in threads:
            while thread.ident is not None and thread.is_alive():
                try:
                    thread.join()
                except BaseException as error:
                    self._error = self._error or error

    def _work(self) -> None:
        try:
            buffer = memoryview(mmap.mmap(-1, self.buffer_size))
            while self._error is None and (batch := self.parts.take()):
                if self.parts.given >= self._carrier_at:
                    self._find_carrier()
                self.deal(buffer, batch)
                self.plan.advance(sum([part[1] - part[0] for part in batch]))
        except BaseException as error:
            self._error = self._error or error

    def _find_carrier(self) -> None:
        """Ask for native code; the first time only if that is quick."""
        with self._lock:
            worth = self._carrier_at
            if self.parts.given < worth:
                return  # another thread asks
            self._carrier_at = WORTH_COMPILING if worth < WORTH_COMPILING else _NEVER
        from blockkit.block.copying.carrier import carrier

        found = carrier(self._whole(NATIVE_CHUNK), self.grain, compiled=worth == WORTH_COMPILING)
        if found is not None:
            self.carrier, self._carrier_at = found, _NEVER
            self.parts.span = self.chunk

    # -- reading -------------------------------------------------------------------------------------------

    def read(self, part: Part, buf: memoryview) -> None:
        """Fill ``buf`` with the first bytes of a part; with salvage, whatever happens."""
        node = part[3]
        if node is not None:
            node.pull(part[4], [buf])
        else:
            self.read_source(part[0], buf)

    def read_source(self, offset: int, buf: memoryview) -> None:
        """Fill ``buf`` from ``offset`` of the source; likewise."""
        try:
            self.source.pull(offset, [buf])
        except BlockkitError as error:
            if not self.plan.salvage:
                raise
            self._salvage(offset, buf, error)

    def _salvage(self, offset: int, buf: memoryview, error: BlockkitError) -> None:
        """Read what can be read of a range, in the smallest pieces that make sense; zeros stand for the rest."""
        piece = 4 * KiB
        if len(buf) <= piece:
            zero_fill(buf)
            self.plan.failed(offset, len(buf), error)
            return
        for at in range(0, len(buf), piece):
            part = buf[at : at + piece]
            try:
                self.source.read_into(offset + at, part)
            except BlockkitError as smaller:
                zero_fill(part)
                self.plan.failed(offset + at, len(part), smaller)

    # -- zeros ---------------------------------------------------------------------------------------------

    def runs(self, start: int, view: memoryview) -> Iterator[tuple[int, int]]:
        """Yield the ``(begin, end)`` of what must be written of ``view``; zeros are dealt with on the way."""
        grain, length = self.grain, len(view)
        if not grain:
            yield 0, length
            return
        # Only a grain whose first byte is zero can be zero: most data is passed over by one search for such a byte.
        lead = min(-(start + self.shift) % grain, length)
        heads = view[lead::grain].tobytes()
        run = 0  # everything before it is dealt with
        if lead and is_zero(view[:lead]):
            self.write_zeros(start, start + lead, found=True)
            run = lead
        index = heads.find(0)
        while index >= 0:
            last = index + zero_grains(view[lead + index * grain :], grain)
            if last > index:
                at, stop = lead + index * grain, min(lead + last * grain, length)
                if run < at:
                    yield run, at
                self.write_zeros(start + at, start + stop, found=True)
                run = stop
            index = heads.find(0, last + 1)
        if run < length:
            yield run, length

    def write_zeros(self, start: int, end: int, *, found: bool = False) -> None:
        """Deal with a range that is zero: known to be by the source's extents, or ``found`` by looking at data."""
        if not self.plan.sparse_size and not found:
            # -S 0: allocated, with zeros in it.
            while start < end:
                piece = zeros(min(end - start, self.chunk))
                self.target.write(start + self.shift, piece)
                start += len(piece)
        elif not self.fresh:
            self.target.zero(start + self.shift, end - start)
