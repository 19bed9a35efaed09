"""What there is to copy of a disk, in parts that workers take one after the other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

from blockkit.block.chain import locate
from blockkit.block.facets import LendsDescriptor, MapsInBulk
from blockkit.block.node import Kind
from blockkit.units import KiB, MiB, align_up

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from blockkit.block.chain import Located
    from blockkit.block.copy import CopyPlan
    from blockkit.block.facets import Columns
    from blockkit.block.node import Node

#: What one worker deals with at once where it can take room for all of it and write it chunk by chunk.
STRETCH = 8192 * KiB
#: What native code copies at once at most into what takes any bytes anywhere, and how long that may take before it gets
#: less and must take before it gets no more, seconds: who watches a copy, or ends it, does not want to wait.
SPAN = 16 * MiB
_SLOW, _QUICK = 0.1, 0.02

#: What one worker takes at once, bytes, of data that native code copies, wherever it lies.
_GATHERED = 4 * MiB

#: Parts one worker takes at once, where they are short.
_MAX_BATCH = 256

#: Where a part of the disk begins and ends, whether it holds data, and what holds it where, if it need not be mapped
#: again.
Part: TypeAlias = "tuple[int, int, bool, Node | None, int]"

#: What a part holds.
DATA, ZERO = True, False


class Parts:
    """The parts of a range, in order. Offsets are the source's; ``shift`` leads to the target's.

    Args:
        source: The disk.
        target: Where it is copied to.
        plan: How.
        start: Where the range begins, bytes.
        end: Where it ends.
        shift: Bytes.
        chunk: Parts are cut at multiples of so many bytes in the target.
        fresh: Zeros need not be written: there are some already, and no backing file shows through.
        scattered: What one worker takes may lie anywhere, and fill a chunk together; otherwise it is in one chunk.
        room_unit: Long runs of data become stretches, which begin and end at multiples of so many bytes in the target;
            0 for none.
        room_reach: No stretch goes past a multiple of so many bytes in the target.

    Attributes:
        tells_places: Of data it is told what holds it, where native code may read that.
        span: Runs of such data are cut at multiples of so many bytes, if it is more than a chunk.
        gathers: What one worker takes may be many chunks, of data that lies anywhere.
        given: Bytes of data that were taken.
    """

    def __init__(self, source: Node, target: Node, plan: CopyPlan, start: int, end: int, shift: int, *, chunk: int,
                 fresh: bool, scattered: bool = False, room_unit: int = 0,
                 room_reach: int = STRETCH) -> None:  # fmt: skip
        self._source, self._target, self._plan = source, target, plan
        self._start, self._end, self._shift = start, end, shift
        self._chunk, self._scattered, self._room_unit = chunk, scattered, room_unit
        self._stretch = min(STRETCH, room_reach)
        self._skips_zeros = fresh and plan.sparse_size > 0
        self.tells_places = self.gathers = False
        self.span = self.given = 0
        self._lock = threading.Lock()
        self._cut_parts = self._cut()
        self._ahead: Part | None = None
        self._began = False

    def take(self) -> list[Part]:
        """Return what one worker is to do next; nothing at the end. By any thread."""
        batch: list[Part] = []
        filled, chunk = 0, self._chunk
        enough = _GATHERED if self.gathers else chunk
        bound = self._end
        with self._lock:
            if not self._began:
                self._ahead, self._began = next(self._cut_parts, None), True
            while (part := self._ahead) is not None and part[0] < bound:
                batch.append(part)
                data = part[1] - part[0] if part[2] else 0
                self.given += data
                self._ahead = next(self._cut_parts, None)
                if self._scattered or self.gathers:
                    filled += data
                    # What fills a chunk alone is not worth gathering: it is cut as large as suits at the moment.
                    if filled >= enough or len(batch) >= _MAX_BATCH or (self.gathers and data >= chunk):
                        break
                elif len(batch) == 1:
                    bound = (part[0] + self._shift) // chunk * chunk + chunk - self._shift
        return batch

    def _cut(self) -> Iterator[Part]:
        """Yield all there is to do, cut at multiples of the chunk in the target."""
        chunk, shift, sparse = self._chunk, self._shift, self._plan.sparse_size
        for at, stop, is_data, node, place in self._stored():
            while at < stop:
                step = self._span(at) if self.span > chunk and node is not None else chunk
                limit = (at + shift) // step * step + step - shift
                if self._room_unit and is_data:
                    limit = self._stretch_from(at, stop) or limit
                if stop <= limit:
                    yield at, stop, is_data, node, place
                    break
                if not is_data and sparse and limit - at == chunk:
                    # Whole chunks of zeros are one part, however many they are.
                    limit = (stop + shift) // chunk * chunk - shift
                yield at, limit, is_data, node, place
                place += limit - at
                at = limit

    def _span(self, at: int) -> int:
        """Return how much goes at once; near the end less, so that no thread waits long for another."""
        return max(min(self.span, (self._end - at) // 8) // self._chunk, 1) * self._chunk

    def pace(self, length: int, seconds: float) -> None:
        """Take note that native code took so long for a part; by any thread."""
        if seconds > _SLOW:
            self.span = max(self.span // 2, self._chunk)
        elif seconds < _QUICK and length >= self.span:
            self.span = min(self.span * 2, SPAN)

    def _stretch_from(self, at: int, stop: int) -> int:
        """Return where to cut so that what lies before it, or behind it, is a stretch; 0 where none is worth it."""
        unit, reach, shift = self._room_unit, self._stretch, self._shift
        begin = align_up(at + shift, unit) - shift
        end = (min(stop, (begin + shift) // reach * reach + reach - shift) + shift) // unit * unit - shift
        if end - begin <= self._chunk:
            return 0
        return begin if begin > at else end

    def _stored(self) -> Iterator[Part]:
        """Yield how the source is stored, without what needs not be copied, which counts as done."""
        plan = self._plan
        at = self._start
        bulk = self._skips_zeros and not plan.over_backing and not plan.salvage
        if bulk and self._source.read_only and isinstance(self._source, MapsInBulk):
            at = yield from self._columns(self._source.data_columns)
        for found in self._walk(at, self._end, 0 if plan.over_backing else None) if at < self._end else ():
            kind, length = found.kind, found.length
            is_data = kind is Kind.DATA or kind is Kind.ENCODED
            if kind is Kind.UNALLOCATED and plan.over_backing:
                yield from self._inherited(found)
                continue
            if not is_data and self._skips_zeros:
                plan.advance(length)
                continue
            node, place = None, 0
            if kind is Kind.DATA and self.tells_places and isinstance(found.node, LendsDescriptor):
                node, place = found.node, found.target
            yield found.offset, found.offset + length, is_data, node, place

    def _columns(self, data_columns: Callable[[int, int], Columns | None]) -> Generator[Part, None, int]:
        """Yield the runs of data as far as the source tells them a table at a time; return how far that is.

        The source is only read, so what its tables say stays true, and the data can be read where it lies.
        """
        at, file = self._start, self._source.children["file"]
        told = at  # up to where everything was yielded or counted
        while at < self._end:
            columns = data_columns(at, self._end)
            if columns is None:
                break
            at, starts, lengths, targets = columns
            for start, length, target in zip(starts, lengths, targets, strict=True):
                if start > told:
                    self._plan.advance(start - told)
                told = start + length
                yield start, told, DATA, file, target
        if at > told:
            self._plan.advance(at - told)
        return at

    def _walk(self, start: int, end: int, depth: int | None) -> Iterator[Located]:
        """Yield how the source is stored, with salvage whatever its tables hold; ``depth`` as for ``locate``."""
        if self._plan.salvage:
            from blockkit.block.salvage import locate_readable

            return locate_readable(self._source, start, end, self._plan.failed, max_depth=depth)
        return locate(self._source, start, end - start, max_depth=depth)

    def _inherited(self, found: Located) -> Iterator[Part]:
        """Yield what is to be done about a run that the source's backing decides, as far as the target's is shorter."""
        backing, plan, end = self._target.backing, self._plan, found.offset + found.length
        supplied = max(0, min(backing.size - self._shift - found.offset, found.length)) if backing is not None else 0
        if supplied:
            plan.advance(supplied)
        if supplied < found.length:
            for each in self._walk(found.offset + supplied, end, None):
                is_data = each.kind is Kind.DATA or each.kind is Kind.ENCODED
                yield each.offset, each.offset + each.length, is_data, None, 0
