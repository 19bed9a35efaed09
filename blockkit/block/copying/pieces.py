"""Copying to images that store many pieces at once, faster than one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.block.copying.copier import Copier
from blockkit.block.copying.parts import DATA, Parts
from blockkit.block.facets import GivesRoom, WritesPieces

if TYPE_CHECKING:
    from blockkit.block.copying.parts import Part


class PiecesCopier(Copier):
    """Writes what fills a buffer together, wherever it lies, and long runs by and by into room that it takes first."""

    def find_parts(self) -> Parts:
        """Return what there is to copy; with stretches where nothing else writes to their ranges."""
        # While it has room, a thread must not write to the range otherwise: zeros have to take care of themselves.
        self._roomy: GivesRoom | None = None
        if isinstance(self.target, GivesRoom) and self.fresh and not self.plan.steady:
            self._roomy = self.target
        # What does not fill it, and the part that does.
        self.buffer_size = 2 * self.chunk
        return Parts(
            self.source,
            self.target,
            self.plan,
            self.start,
            self.end,
            self.shift,
            chunk=self.chunk,
            fresh=self.fresh,
            scattered=True,
            room_unit=self.unit if self._roomy else 0,
            room_reach=self._roomy.room_reach if self._roomy else 0,
        )

    def may_carry(self) -> bool:
        """Whether there is room to write to."""
        return self._roomy is not None

    def deal(self, buffer: memoryview, batch: list[Part]) -> None:
        """Copy parts that lie anywhere: everything is read first, then written together."""
        pieces: list[tuple[int, memoryview]] = []
        grain, shift = self.grain, self.shift
        begin = filled = 0  # where in the buffer the last piece begins, and where the next goes
        last_stop = last_goal = -1  # where in the buffer it ends, and what follows it in the target
        for part in batch:
            start, end, is_data = part[:3]
            if not is_data:
                self.write_zeros(start, end)
                continue
            length = end - start
            if length > self.chunk:
                self._copy_stretch(buffer[filled:], part)
                continue
            view = buffer[filled : filled + length]
            self.read(part, view)
            # One grain that does not start with a zero byte is all data.
            whole = length == grain and view[0] and not (start + shift) % grain
            for run, stop in ((0, length),) if whole else self.runs(start, view):
                goal, at = start + run + shift, filled + run
                if at == last_stop and goal == last_goal:
                    pieces[-1] = pieces[-1][0], buffer[begin : filled + stop]
                else:
                    begin = at
                    pieces.append((goal, view[run:stop]))
                last_stop, last_goal = filled + stop, goal + stop - run
            filled += length
        self._write_pieces(pieces)

    def _copy_stretch(self, buffer: memoryview, part: Part) -> None:
        """Copy a long part that begins and ends with clusters of the target, by and by; its zeros are left out."""
        at, end, _, node, place = part
        assert self._roomy is not None, "only then are there stretches"
        room = self._roomy.room(at + self.shift, end - at)
        try:
            if room is not None and node is not None and self.carrier is not None:
                done = self.carrier.fill(room, buffer, node, place, at + self.shift, end - at)
                at, place = at + done, place + done
            while at < end:
                view = buffer[: min(self.chunk, end - at)]
                self.read((at, at + len(view), DATA, node, place), view)
                pieces = [(at + run + self.shift, view[run:stop]) for run, stop in self.runs(at, view)]
                if room is None:
                    self._write_pieces(pieces)
                else:
                    for piece in pieces:
                        room.put(*piece)
                at, place = at + len(view), place + len(view)
        except BaseException:
            if room is not None:
                room.abandon()
            raise
        if room is not None:
            room.keep()

    def _write_pieces(self, pieces: list[tuple[int, memoryview]]) -> None:
        assert isinstance(self.target, WritesPieces), "that is why this class was chosen"
        self.target.write_pieces(pieces)
