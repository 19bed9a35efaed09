"""Telling whether two images hold the same disk, reading only what is stored."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.block.zeros import is_zero
from blockkit.errors import BlockkitError
from blockkit.img.map import map_image
from blockkit.img.progress import Silent
from blockkit.units import SECTOR, MiB, align_down, align_up

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from blockkit.block.node import Node
    from blockkit.img.map import Mapped
    from blockkit.img.progress import Progress, Watch

#: Exit codes of errors, as qemu-img's.
MAPPING_FAILED: Final = 3
READING_FAILED: Final = 4

#: Bytes compared at once; two of them for each thread are in memory.
_PIECE: Final = MiB
#: Reading and comparing release the interpreter's lock, so that two cores are kept busy.
_THREADS: Final = 2


class Difference(NamedTuple):
    """The first place where two disks differ.

    Attributes:
        offset: Of the sector, bytes.
        kind: ``content``, or with a strict comparison ``size`` or ``status``.
    """

    offset: int
    kind: str


class _Piece(NamedTuple):
    """A range to read from the images where it is not zero."""

    offset: int
    length: int
    zero: tuple[bool, bool]


def compare(first: Node, second: Node, *, strict: bool = False, progress: Watch = Silent) -> Difference | None:
    """Return the first difference of two disks, or None. What one lacks at its end is compared with zeros.

    Args:
        first: One image.
        second: The other.
        strict: Sizes must be equal, and so must be what is stored, be it zeros.
        progress: Told the bytes dealt with.

    Raises:
        BlockkitError: one cannot be read; ``exit_code`` is that of the failure.
    """
    if strict and _size(first) != _size(second):
        return Difference(0, "size")
    with progress(max(_size(first), _size(second))) as watched:
        return _Comparison(first, second, strict, watched).run()


def _size(node: Node) -> int:
    return align_up(node.size, SECTOR)


class _Comparison:
    """Threads take pieces in order from one generator, so that all before the lowest difference have been seen."""

    def __init__(self, first: Node, second: Node, strict: bool, progress: Progress) -> None:
        self.nodes = (first, second)
        self.strict, self.progress = strict, progress
        self._lock = threading.Lock()
        self._pieces = self._cut()
        self._found: Difference | None = None
        self._error: BaseException | None = None

    def run(self) -> Difference | None:
        threads = [threading.Thread(target=self._work, name="blockkit-compare") for _ in range(_THREADS - 1)]
        for thread in threads:
            thread.start()
        try:
            self._work()
        finally:
            with self._lock:
                self._pieces.close()
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error
        return self._found

    def _cut(self) -> Generator[_Piece, None, None]:
        """Yield the ranges that have to be read."""
        for offset, length, one, other in _both(*self.nodes):
            zero = (one is None or one.zero, other is None or other.zero)
            if self.strict and one is not None and other is not None and _status(one) != _status(other):
                self._note(Difference(offset, "status"))
                return
            if all(zero):
                self.progress.advance(length)
                continue
            for start in range(offset, offset + length, _PIECE):
                yield _Piece(start, min(_PIECE, offset + length - start), (zero[0], zero[1]))

    def _note(self, difference: Difference) -> None:
        if self._found is None or difference.offset < self._found.offset:
            self._found = difference

    def _next(self) -> _Piece | None:
        with self._lock:
            if self._error is not None or self._found is not None:
                return None
            try:
                return next(self._pieces, None)
            except BlockkitError as error:
                error.exit_code = MAPPING_FAILED
                raise

    def _work(self) -> None:
        buffers = (bytearray(_PIECE), bytearray(_PIECE))
        try:
            while (piece := self._next()) is not None:
                at = self._differs(piece, buffers)
                if at is not None:
                    with self._lock:
                        self._note(Difference(align_down(at, SECTOR), "content"))
                self.progress.advance(piece.length)
        except BaseException as error:
            with self._lock:
                self._error = self._error or error

    def _differs(self, piece: _Piece, buffers: tuple[bytearray, bytearray]) -> int | None:
        """Return where the disks differ within a piece, or None."""
        views = []
        try:
            for node, zero, buffer in zip(self.nodes, piece.zero, buffers, strict=True):
                view = memoryview(buffer)[: piece.length]
                if not zero:
                    node.pull(piece.offset, [view])
                views.append(view)
        except BlockkitError as error:
            error.exit_code = READING_FAILED
            raise
        one, other = views
        if piece.zero[0]:
            return None if is_zero(other) else piece.offset + _first_byte(other)
        if piece.zero[1]:
            return None if is_zero(one) else piece.offset + _first_byte(one)
        # Two whole bytearrays compare at the speed of memcmp; two views do not.
        same = buffers[0] == buffers[1] if piece.length == _PIECE else bytes(one) == bytes(other)
        return None if same else piece.offset + _first_difference(one, other)


def _status(run: Mapped) -> tuple[bool, ...]:
    return run.present, run.zero, run.data, run.offset is not None


def _first_byte(view: memoryview) -> int:
    data = bytes(view)
    return len(data) - len(data.lstrip(b"\0"))


def _first_difference(one: memoryview, other: memoryview) -> int:
    """Return the first index at which two views of one length, which differ, do so."""
    low, high = 0, len(one)
    while high - low > 1:
        middle = (low + high) // 2
        if bytes(one[low:middle]) == bytes(other[low:middle]):
            low = middle
        else:
            high = middle
    return low


def _both(first: Node, second: Node) -> Iterator[tuple[int, int, Mapped | None, Mapped | None]]:
    """Yield ranges in which both images are stored in one way each; None is past the end of one."""
    runs = (_endless(first), _endless(second))
    one, other = next(runs[0]), next(runs[1])
    offset, end = 0, max(_size(first), _size(second))
    while offset < end:
        ends = [run.start + run.length if run is not None else end for run in (one, other)]
        stop = min(end, *ends)
        if stop > offset:
            yield offset, stop - offset, one, other
        offset = stop
        if ends[0] == stop and one is not None:
            one = next(runs[0])
        if ends[1] == stop and other is not None:
            other = next(runs[1])


def _endless(node: Node) -> Iterator[Mapped | None]:
    yield from map_image(node)
    while True:
        yield None
