"""Copying a disk from node to node: only what is stored is read, only what is not zero is written.

A generator walks the source's extents and cuts them into chunks; worker threads take chunks, read, look for zeros, and
write. The threads share nothing but the generator's lock: reading and writing release the interpreter's lock, so two
of them keep two cores and the storage busy.
"""

from __future__ import annotations

import mmap
import threading
from typing import TYPE_CHECKING, TypeAlias

from blockkit.block.chain import locate
from blockkit.block.facets import ExpectsGrowth, GivesRoom, HasHostFile, MapsInBulk, WritesCompressed, WritesPieces
from blockkit.block.node import Kind
from blockkit.block.zeros import is_zero, zero_fill, zero_grains, zeros
from blockkit.errors import BlockkitError, NodeIOError, UnsupportedOperationError
from blockkit.frozen import Frozen
from blockkit.units import KiB, align_up

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from blockkit.block.chain import Located
    from blockkit.block.facets import Columns
    from blockkit.block.node import Node

#: What one worker reads and writes at once. Larger is faster where clusters are allocated; into a plain file, smaller
#: chunks leave more of them to the caches of the processor.
CHUNK = 512 * KiB
CLUSTERED_CHUNK = 1024 * KiB
#: What one worker deals with at once where it can take room for all of it and write it chunk by chunk.
STRETCH = 8192 * KiB

#: Parts one worker takes at once, where they are short.
_MAX_BATCH = 256

#: Where a part of the disk begins and ends, whether it holds data, and what holds it where, if it need not be mapped
#: again.
_Part: TypeAlias = "tuple[int, int, bool, Node | None, int]"

#: What a part holds.
_DATA, _ZERO = True, False


def _ignore(*_told: object) -> None:
    """Nobody wants to know."""


class CopyPlan(Frozen):
    """How to copy; see :func:`copy`.

    Attributes:
        sparse_size: Runs of zeros at least this long, bytes, are not written; 0 writes them all.
        target_is_zero: The target reads as zeros where nothing was written to it.
        over_backing: Copy only what the source's top layer stores; the target's backing supplies the rest.
        compressed: Store compressed clusters.
        workers: Threads.
        copy_range: Ask the file system to copy, where both sides are host files.
        salvage: Where the source, or the tables that map it, cannot be read, write zeros and go on.
        advance: Called with the bytes of the disk just dealt with; by any worker.
        failed: Called with the offset, length and error of each range that salvage could not read.
    """

    sparse_size: int = 4 * KiB
    target_is_zero: bool = False
    over_backing: bool = False
    compressed: bool = False
    workers: int = 2
    copy_range: bool = False
    salvage: bool = False
    advance: Callable[[int], None] = _ignore
    failed: Callable[[int, int, BlockkitError], None] = _ignore


def copy(source: Node, target: Node, plan: CopyPlan, *, source_offset: int = 0, length: int | None = None,
         target_offset: int = 0) -> None:  # fmt: skip
    """Copy ``length`` bytes of ``source`` to ``target``; the target is not flushed.

    Args:
        source: Read by many threads.
        target: Large enough; written by many threads.
        plan: How.
        source_offset: Bytes.
        length: Bytes; None means up to the end of the source.
        target_offset: Bytes.

    Raises:
        BlockkitError: the first error of any worker; the target is incomplete.
    """
    if length is None:
        length = source.size - source_offset
    if length <= 0:
        return
    _Copier(source, target, plan, source_offset, length, target_offset - source_offset).run()


class _Copier:
    """One copy in progress. Offsets are the source's; ``shift`` leads to the target's."""

    def __init__(self, source: Node, target: Node, plan: CopyPlan, start: int, length: int, shift: int) -> None:
        self.source, self.target, self.plan, self.shift = source, target, plan, shift
        self.start, self.end = start, start + length
        limits = target.limits
        unit = max(limits.optimal_transfer, limits.request_alignment, 1)
        if plan.compressed:
            if not isinstance(target, WritesCompressed):
                raise UnsupportedOperationError(f"{target}: {target.driver} cannot store compressed data")
            unit = target.compressed_cluster_size
        self.unit = unit
        self.chunk = align_up(CLUSTERED_CHUNK if unit > limits.request_alignment else CHUNK, unit)
        # Zeros are told apart in units the target can leave out.
        self.grain = align_up(plan.sparse_size, unit) if plan.sparse_size else 0
        self._batched: WritesPieces | None = None
        if isinstance(target, WritesPieces) and not (plan.compressed or plan.copy_range):
            self._batched = target
        # While it has room, a thread must not write to the range otherwise: zeros have to take care of themselves.
        self._roomy: GivesRoom | None = None
        if self._batched and isinstance(target, GivesRoom) and plan.target_is_zero and target.backing is None:
            self._roomy = target
        self._lock = threading.Lock()
        self._parts = self._cut()
        self._ahead: _Part | None = None
        self._error: BaseException | None = None

    # -- what there is to copy -----------------------------------------------------------------------------

    def _cut(self) -> Iterator[_Part]:
        """Yield all there is to do, cut at multiples of the chunk in the target."""
        chunk, shift, sparse = self.chunk, self.shift, self.plan.sparse_size
        for at, stop, is_data, node, place in self._stored():
            while at < stop:
                limit = (at + shift) // chunk * chunk + chunk - shift
                if self._roomy and is_data:
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

    def _stretch_from(self, at: int, stop: int) -> int:
        """Return where to cut so that what lies before it, or behind it, is a stretch; 0 where none is worth it."""
        unit, shift = self.unit, self.shift
        begin = align_up(at + shift, unit) - shift
        end = (min(stop, (begin + shift) // STRETCH * STRETCH + STRETCH - shift) + shift) // unit * unit - shift
        if end - begin <= self.chunk:
            return 0
        return begin if begin > at else end

    def _stored(self) -> Iterator[_Part]:
        """Yield how the source is stored, without what needs not be copied, which counts as done."""
        plan = self.plan
        skip_zero = plan.target_is_zero and not plan.over_backing and plan.sparse_size > 0
        at = self.start
        if skip_zero and self.source.read_only and isinstance(self.source, MapsInBulk) and not plan.salvage:
            at = yield from self._columns(self.source.data_columns)
        for found in self._walk(at) if at < self.end else ():
            kind, length = found.kind, found.length
            is_data = kind is Kind.DATA or kind is Kind.ENCODED
            if not is_data and (skip_zero or (kind is Kind.UNALLOCATED and self._inherits(found.offset))):
                plan.advance(length)
            else:
                yield found.offset, found.offset + length, is_data, None, 0

    def _columns(self, data_columns: Callable[[int, int], Columns | None]) -> Generator[_Part, None, int]:
        """Yield the runs of data as far as the source tells them a table at a time; return how far that is.

        The source is only read, so what its tables say stays true, and the data can be read where it lies.
        """
        at, file = self.start, self.source.children["file"]
        told = at  # up to where everything was yielded or counted
        while at < self.end:
            columns = data_columns(at, self.end)
            if columns is None:
                break
            at, starts, lengths, targets = columns
            for start, length, target in zip(starts, lengths, targets, strict=True):
                if start > told:
                    self.plan.advance(start - told)
                told = start + length
                yield start, told, _DATA, file, target
        if at > told:
            self.plan.advance(at - told)
        return at

    def _walk(self, start: int) -> Iterator[Located]:
        """Yield how the source is stored from ``start`` on, with salvage whatever its tables hold."""
        depth = 0 if self.plan.over_backing else None
        if self.plan.salvage:
            from blockkit.block.salvage import locate_readable

            return locate_readable(self.source, start, self.end, self.plan.failed, max_depth=depth)
        return locate(self.source, start, self.end - start, max_depth=depth)

    def _inherits(self, offset: int) -> bool:
        """Whether the target's backing supplies what lies at ``offset``."""
        backing = self.target.backing
        return self.plan.over_backing and backing is not None and offset + self.shift < backing.size

    # -- the workers ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Copy everything; raise the first error."""
        if isinstance(self.target, ExpectsGrowth):
            self.target.expect_growth()
        self._ahead = next(self._parts, None)
        workers = max(1, self.plan.workers)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers - 1)]
        for thread in threads:
            thread.start()
        try:
            self._work()
        finally:
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            buffer = memoryview(mmap.mmap(-1, self.chunk * (2 if self._batched else 1)))
            deal = self._compress if self.plan.compressed else self._copy_batch if self._batched else self._copy_chunk
            while self._error is None:
                with self._lock:
                    batch = self._next_batch()
                if not batch:
                    return
                deal(buffer, batch)
                self.plan.advance(sum([part[1] - part[0] for part in batch]))
        except BaseException as error:
            self._error = self._error or error

    def _next_batch(self) -> list[_Part]:
        """Take the parts of one chunk, or as many as fill a buffer wherever they lie; nothing at the end."""
        batch: list[_Part] = []
        filled, chunk = 0, self.chunk
        bound = self.end
        while (part := self._ahead) is not None and part[0] < bound:
            batch.append(part)
            self._ahead = next(self._parts, None)
            if self._batched:
                if part[2]:
                    filled += part[1] - part[0]
                if filled >= chunk or len(batch) >= _MAX_BATCH:
                    break
            elif len(batch) == 1:
                bound = (part[0] + self.shift) // chunk * chunk + chunk - self.shift
        return batch

    def _copy_batch(self, buffer: memoryview, batch: list[_Part]) -> None:
        """Copy parts that lie anywhere: everything is read first, then written together."""
        pieces: list[tuple[int, memoryview]] = []
        grain, shift = self.grain, self.shift
        begin = filled = 0  # where in the buffer the last piece begins, and where the next goes
        last_stop = last_goal = -1  # where in the buffer it ends, and what follows it in the target
        for part in batch:
            start, end, is_data = part[:3]
            if not is_data:
                self._write_zeros(start, end)
                continue
            length = end - start
            if length > self.chunk:
                self._copy_stretch(buffer[filled:], part)
                continue
            view = buffer[filled : filled + length]
            self._read(part, view)
            # One grain that does not start with a zero byte is all data.
            whole = length == grain and view[0] and not (start + shift) % grain
            for run, stop in ((0, length),) if whole else self._runs(start, view):
                goal, at = start + run + shift, filled + run
                if at == last_stop and goal == last_goal:
                    pieces[-1] = pieces[-1][0], buffer[begin : filled + stop]
                else:
                    begin = at
                    pieces.append((goal, view[run:stop]))
                last_stop, last_goal = filled + stop, goal + stop - run
            filled += length
        assert self._batched is not None, "only then are parts batched"
        self._batched.write_pieces(pieces)

    def _copy_stretch(self, buffer: memoryview, part: _Part) -> None:
        """Copy a long part that begins and ends with clusters of the target, by and by; its zeros are left out."""
        start, end, _, node, place = part
        assert self._roomy is not None, "only then are there stretches"
        assert self._batched is not None, "it is the same node"
        room = self._roomy.room(start + self.shift, end - start)
        try:
            for at in range(start, end, self.chunk):
                view = buffer[: min(self.chunk, end - at)]
                self._read((at, at + len(view), _DATA, node, place + at - start), view)
                pieces = [(at + run + self.shift, view[run:stop]) for run, stop in self._runs(at, view)]
                if room is None:
                    self._batched.write_pieces(pieces)
                else:
                    for piece in pieces:
                        room.put(*piece)
        except BaseException:
            if room is not None:
                room.abandon()
            raise
        if room is not None:
            room.keep()

    def _read(self, part: _Part, buf: memoryview) -> None:
        node = part[3]
        if node is not None:
            node.pull(part[4], [buf])
        else:
            self._read_source(part[0], buf)

    def _read_source(self, offset: int, buf: memoryview) -> None:
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

    def _copy_chunk(self, buffer: memoryview, batch: list[_Part]) -> None:
        for part in batch:
            start, end, is_data = part[:3]
            if not is_data:
                self._write_zeros(start, end)
            elif not (self.plan.copy_range and self._copy_range(start, end)):
                view = buffer[: end - start]
                self._read(part, view)
                self._write(start, view)

    def _write(self, start: int, view: memoryview) -> None:
        """Write ``view``, leaving out zeros in whole grains of the target."""
        push, goal = self.target.push, start + self.shift
        for run, stop in self._runs(start, view):
            push(goal + run, [view[run:stop]])

    def _runs(self, start: int, view: memoryview) -> Iterator[tuple[int, int]]:
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
            self._write_zeros(start, start + lead, found=True)
            run = lead
        index = heads.find(0)
        while index >= 0:
            last = index + zero_grains(view[lead + index * grain :], grain)
            if last > index:
                at, stop = lead + index * grain, min(lead + last * grain, length)
                if run < at:
                    yield run, at
                self._write_zeros(start + at, start + stop, found=True)
                run = stop
            index = heads.find(0, last + 1)
        if run < length:
            yield run, length

    def _write_zeros(self, start: int, end: int, *, found: bool = False) -> None:
        """Deal with a range that is zero: known to be by the source's extents, or ``found`` by looking at data."""
        plan = self.plan
        if not plan.sparse_size and not found:
            # -S 0: allocated, with zeros in it.
            while start < end:
                piece = zeros(min(end - start, self.chunk))
                self.target.write(start + self.shift, piece)
                start += len(piece)
        elif not plan.target_is_zero or self.target.backing is not None:
            self.target.zero(start + self.shift, end - start)

    def _copy_range(self, start: int, end: int) -> bool:
        """Let the file system copy; False if it cannot."""
        import os

        target = self.target
        if not isinstance(target, HasHostFile):
            return False
        for found in locate(self.source, start, end - start):
            if found.kind is not Kind.DATA or not isinstance(found.node, HasHostFile):
                return False
            at, left, goal = found.target, found.length, found.offset + self.shift
            while left:
                try:
                    done = os.copy_file_range(found.node.fileno(), target.fileno(), left, at, goal)
                except OSError as error:
                    if error.errno in _NO_COPY_RANGE:
                        return False
                    raise NodeIOError(f"{target}: {os.strerror(error.errno or 5).lower()}") from error
                if not done:
                    return False
                at, goal, left = at + done, goal + done, left - done
        return True

    def _compress(self, buffer: memoryview, parts: list[_Part]) -> None:
        """Store a chunk in compressed clusters, each one whole."""
        target, unit, shift = self.target, self.unit, self.shift
        assert isinstance(target, WritesCompressed), "judged when the copy began"
        first = parts[0][0]
        base = (first + shift) // unit * unit - shift  # source offset of the first cluster
        if len(parts) == 1 and not parts[0][2]:
            self._write_zeros(parts[0][0], parts[0][1], found=True)
            return
        stop = align_up(parts[-1][1] + shift, unit) - shift
        view = buffer[: stop - base]
        position = base
        held: set[int] = set()  # clusters that any part is in; the rest is not copied
        for part in parts:
            start, end, is_data = part[:3]
            self._fill_between(position, start, view, base)
            if is_data:
                self._read(part, view[start - base : end - base])
            else:
                zero_fill(view[start - base : end - base])
            held.update(range((start - base) // unit, (end - 1 - base) // unit + 1))
            position = end
        self._fill_between(position, stop, view, base)
        size = self.target.size
        for number in sorted(held):
            cluster = view[number * unit : (number + 1) * unit]
            goal = base + number * unit + shift
            if self.grain and is_zero(cluster):
                if not self.plan.target_is_zero or self.target.backing is not None:
                    self.target.zero(goal, min(unit, size - goal))
                continue
            encoded = target.compress(cluster)
            if encoded is None:
                self.target.write(goal, cluster[: size - goal])
            else:
                target.write_compressed(goal, encoded)

    def _fill_between(self, start: int, end: int, view: memoryview, base: int) -> None:
        """Fill the rest of the cluster that ``start`` is in, and the beginning of the one that ``end`` is in."""
        unit, shift = self.unit, self.shift
        near = min(end, align_up(start + shift, unit) - shift)
        far = max(near, (end + shift) // unit * unit - shift)
        for low, high in ((start, near), (far, end)):
            if low < high:
                self._fill_gap(low, high, view[low - base : high - base])

    def _fill_gap(self, start: int, end: int, buf: memoryview) -> None:
        """Fill a part of a compressed cluster that is not copied, and that the cluster must hold all the same."""
        zero_fill(buf)
        inside_start, inside_end = max(start, self.start), min(end, self.end)
        if self.plan.over_backing and inside_start < inside_end:
            # Inherited from the backing.
            self._read_source(inside_start, buf[inside_start - start : inside_end - start])
        # Outside the range that is copied, what the target holds already.
        behind = self.target.size - self.shift
        for low, high in ((start, min(end, self.start)), (max(start, self.end), min(end, behind))):
            if low < high:
                self.target.read_into(low + self.shift, buf[low - start : high - start])


def _no_copy_range() -> frozenset[int]:
    import errno

    return frozenset(
        {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY, errno.EPERM}
    )


_NO_COPY_RANGE = _no_copy_range()
