"""Copying between host files in native code, where both sides of a copy come down to one and that can be had."""

from __future__ import annotations

import ctypes
from array import array
from typing import TYPE_CHECKING, Any, Final

from blockkit.block.copying import carry as layout
from blockkit.block.facets import LendsDescriptor, TakesByDescriptor
from blockkit.native.kernels import symbol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blockkit.block.facets import Room
    from blockkit.block.node import Node

#: Runs that are noted at once; more than a stretch of clusters has, of whatever size they are.
_MOST_RUNS: Final = 1024


class Carrier:
    """Copies ranges, leaving out what is zero; by many threads at once.

    Args:
        function: The native one.
        many: The one for pieces that lie anywhere.
        api: Addresses of what it calls of the C library.
        chunk: Bytes read at once.
        grain: Bytes of the pieces of the target that are left out where they are zero; 0 leaves none out.
    """

    def __init__(
        self,
        function: Callable[[None, int], int],
        many: Callable[[None, int, int, int], int],
        api: list[int],
        chunk: int,
        grain: int,
    ) -> None:
        self._function, self._many, self._api, self._chunk, self._grain = function, many, api, chunk, grain

    def carry(
        self, buffer: memoryview, source: Node, place: int, target: Node, goal: int, offset: int, length: int
    ) -> int:
        """Copy as much as can be copied without a closer look.

        Args:
            buffer: Room for a chunk.
            source: What holds the range.
            place: Where in it, bytes.
            target: What is to hold it, which is long enough.
            goal: Where in it, bytes.
            offset: Where on the disk that is written, bytes.
            length: Bytes.

        Returns:
            How many bytes are dealt with, from the first on; of those behind them, any may have been written.
        """
        if goal + length > target.size:
            return 0
        done, _ = self._run(buffer, source, place, target, goal, offset, length, 0)
        return done

    def carry_pieces(
        self, buffer: memoryview, source: Node, target: Node, pieces: Sequence[tuple[int, int, int, int]]
    ) -> int:
        """Copy pieces that lie anywhere, with one call.

        Args:
            buffer: Room for a chunk.
            source: What holds them all.
            target: What is to hold them, which is long enough.
            pieces: Of each the ``place``, ``goal``, ``offset`` and ``length`` that :meth:`carry` takes.

        Returns:
            How many pieces are dealt with, from the first on; of those behind them, any may have been written.
        """
        end = max(goal + length for _, goal, _, length in pieces)
        if end > target.size or not (isinstance(source, LendsDescriptor) and isinstance(target, TakesByDescriptor)):
            return 0
        origin, sink = source.descriptor_cell(), target.writing_cell()
        if origin is None or sink is None:
            return 0
        words = array("Q", [word for piece in pieces for word in piece])
        job = self._job(buffer, origin, sink)
        try:
            return self._many(None, job.buffer_info()[0], words.buffer_info()[0], len(pieces))
        finally:
            target.wrote(end)

    def fill(self, room: Room, buffer: memoryview, source: Node, place: int, offset: int, length: int) -> int:
        """Copy likewise into room for clusters of the disk, as far as they lie in one piece."""
        target, goal, free = room.next()
        done, runs = self._run(buffer, source, place, target, goal, offset, min(length, free), _MOST_RUNS)
        for start, count in runs:
            room.took(start, count)
        return done

    def _run(
        self, buffer: memoryview, source: Node, place: int, target: Node, goal: int, offset: int, length: int, runs: int
    ) -> tuple[int, Iterator[tuple[int, int]]]:
        """Return how much is dealt with, and what was written if ``runs`` of it may be noted."""
        none: Iterator[tuple[int, int]] = iter(())
        if not (isinstance(source, LendsDescriptor) and isinstance(target, TakesByDescriptor)):
            return 0, none
        origin, sink = source.descriptor_cell(), target.writing_cell()
        if origin is None or sink is None:
            return 0, none
        job = self._job(buffer, origin, sink, place, goal, offset, length, runs)
        try:
            done = self._function(None, job.buffer_info()[0])
        finally:
            target.wrote(goal + length)
        noted = job[layout.JOB_WORDS : layout.JOB_WORDS + 2 * job[layout.NOTED]]
        return done, zip(noted[::2], noted[1::2], strict=True)

    def _job(
        self,
        buffer: memoryview,
        origin: array[int],
        sink: array[int],
        place: int = 0,
        goal: int = 0,
        offset: int = 0,
        length: int = 0,
        runs: int = 0,
    ) -> array[int]:
        """Return the words of a job, and behind them room to note ``runs``."""
        job = array("Q", bytes(8 * (layout.JOB_WORDS + 2 * runs)))
        job[: layout.JOB_WORDS] = array(
            "Q",
            [
                *self._api,
                origin.buffer_info()[0],
                place,
                sink.buffer_info()[0],
                goal,
                offset,
                length,
                ctypes.addressof(ctypes.c_char.from_buffer(buffer)),
                self._chunk,
                self._grain,
                job.buffer_info()[0] + 8 * layout.JOB_WORDS if runs else 0,
                0,
                runs,
            ],
        )
        return job


def carrier(chunk: int, grain: int, *, compiled: bool) -> Carrier | None:
    """Return what copies natively; None where that cannot be had.

    Args:
        chunk: As for Carrier.
        grain: Likewise.
        compiled: Compile it if need be, which takes a quarter of a second.
    """
    address = symbol(layout.__name__, "carry", compiled=compiled)
    many_address = symbol(layout.__name__, "carry_pieces", compiled=compiled)
    if address is None or many_address is None:
        return None
    number: Any = ctypes.c_uint64
    library = ctypes.CDLL(None)
    try:
        api = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in layout.CALLS]
    except AttributeError:
        return None
    # The interpreter's lock is given up during the call.
    function: Callable[[None, int], int] = ctypes.CFUNCTYPE(number, ctypes.c_void_p, number)(address)
    many: Callable[[None, int, int, int], int] = ctypes.CFUNCTYPE(number, ctypes.c_void_p, *[number] * 3)(many_address)
    return Carrier(function, many, api, chunk, grain)
