"""INT 19h and 18h: the first drive that can be started is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.emul.disk import Operation
from blockkit.emul.firmware import eltorito
from blockkit.emul.firmware.disks import DONE, FIRST_CD, Emulation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.emul.firmware.board import Board
    from blockkit.emul.firmware.disks import Disks
    from blockkit.emul.firmware.frame import Frame
    from blockkit.emul.firmware.video import Video

#: Where boot sectors are loaded, and how they end.
_SECTOR_AT, _SECTOR, _MARK = 0x7C00, 512, b"\x55\xaa"
#: Where sectors of a CD-ROM are looked at.
_SCRATCH, _CD_SECTOR = 0x8000, 2048
#: What is read next: a boot sector, or the boot record of a CD-ROM; its catalog; its image.
_FIRST, _CATALOG, _IMAGE = range(3)


class Boot:
    """Tries drives, one request after the other.

    Args:
        board: Memory, ports and time.
        disks: INT 13h.
        video: INT 10h.
        order: The numbers of drives, in the order they are tried.
    """

    def __init__(self, board: Board, disks: Disks, video: Video, order: Sequence[int]) -> None:
        self._board, self._disks, self._video, self._order = board, disks, video, order
        self.reset()

    def reset(self) -> None:
        """Begin with the first."""
        self.tried = self.phase = 0

    def call(self, frame: Frame) -> None:
        """INT 19h: start something, which does not return."""
        if not frame.again:
            self.reset()
            self._read_first(frame)
        elif self.tried >= len(self._order):
            # Nothing was begun: a program has made up the frame.
            self._give_up(frame)
        elif self._disks.is_busy:
            frame.ask_again(halted=False)
        elif self._disks.result != DONE:
            self._next(frame)
        else:
            (self._look_at_first, self._look_at_catalog, self._start_image)[self.phase](frame)

    def fail(self, frame: Frame) -> None:
        """INT 18h: say that there is nothing, and wait for ever."""
        if not frame.again:
            self._video.print("No bootable device.\r\n")
        frame.ask_again()

    def _next(self, frame: Frame) -> None:
        self.tried, self.phase = self.tried + 1, _FIRST
        self._read_first(frame)

    def _read_first(self, frame: Frame) -> None:
        if self.tried >= len(self._order):
            self._give_up(frame)
        elif self._order[self.tried] >= FIRST_CD:
            self._read(frame, eltorito.RECORD, 1, _SCRATCH)
        else:
            self._read(frame, 0, 1, _SECTOR_AT)

    def _give_up(self, frame: Frame) -> None:
        """Go on with INT 18h, which a program may have taken."""
        vector = self._board.peek(0x18 * 4, 4)
        frame.cs, frame.ip = vector >> 16, vector & 0xFFFF

    def _read(self, frame: Frame, sector: int, count: int, address: int) -> None:
        self._disks.begin(Operation.READ, self._order[self.tried], sector, count, address)
        frame.ask_again(halted=False)

    def _look_at_first(self, frame: Frame) -> None:
        if self._order[self.tried] < FIRST_CD:
            if self._board.fetch(_SECTOR_AT + _SECTOR - 2, 2) == _MARK:
                self._start(frame, 0, _SECTOR_AT)
            else:
                self._next(frame)
            return
        catalog = eltorito.catalog(self._board.fetch(_SCRATCH, _CD_SECTOR))
        if catalog is None:
            self._next(frame)
        else:
            self.phase = _CATALOG
            self._read(frame, catalog, 1, _SCRATCH)

    def _look_at_catalog(self, frame: Frame) -> None:
        entry = eltorito.entry(self._board.fetch(_SCRATCH, _CD_SECTOR))
        if entry is None:
            self._next(frame)
            return
        self.phase = _IMAGE
        self._disks.emulation = Emulation(entry.sector, entry.segment, entry.sectors)
        self._read(frame, entry.sector, entry.length // _CD_SECTOR, entry.segment << 4)

    def _start_image(self, frame: Frame) -> None:
        segment = self._disks.emulation.segment
        if segment << 4 == _SECTOR_AT:
            self._start(frame, 0, _SECTOR_AT)
        else:
            self._start(frame, segment, 0)

    def _start(self, frame: Frame, segment: int, offset: int) -> None:
        """Let the stub return to what was loaded."""
        drive = self._order[self.tried]
        frame.cs, frame.ip, frame.ds, frame.es = segment, offset, 0, 0
        frame.edx = drive
        frame.flags |= 0x0200
