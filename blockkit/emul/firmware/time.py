"""INT 1Ah: ticks, and the time of day (IBM PS/2 and PC BIOS Interface Technical Reference)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.emul.firmware import board as at

if TYPE_CHECKING:
    from blockkit.emul.firmware.board import Board
    from blockkit.emul.firmware.frame import Frame

_SECONDS, _MINUTES, _HOURS, _DAY, _MONTH, _YEAR, _B, _CENTURY = 0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x0B, 0x32
_DAYLIGHT: Final = 0x01
#: Ticks in a day; a tick is 65536 counts of a timer that counts 1193182 a second.
DAY: Final = 0x1800B0


class Time:
    """The service.

    Args:
        board: Memory, ports and time.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def set_up(self) -> None:
        """Let the ticks begin at the time of day."""
        seconds = 0
        for index in (_HOURS, _MINUTES, _SECONDS):
            value = self._board.cmos(index)
            seconds = seconds * 60 + (value >> 4) * 10 + (value & 15)
        self._board.poke(at.TICKS, 4, seconds * 1_193_182 // 0x10000 % DAY)
        self._board.poke(at.MIDNIGHT, 1, 0)

    def call(self, frame: Frame) -> None:
        """Do a service."""
        board, function = self._board, frame.ah
        if function == 0x00:
            ticks = board.peek(at.TICKS, 4)
            frame.cx, frame.dx, frame.al = ticks >> 16, ticks & 0xFFFF, board.peek(at.MIDNIGHT, 1)
            board.poke(at.MIDNIGHT, 1, 0)
        elif function == 0x01:
            board.poke(at.TICKS, 4, frame.cx << 16 | frame.dx)
            board.poke(at.MIDNIGHT, 1, 0)
        elif function == 0x02:
            frame.ch, frame.cl, frame.dh = (board.cmos(index) for index in (_HOURS, _MINUTES, _SECONDS))
            frame.dl = board.cmos(_B) & _DAYLIGHT
        elif function == 0x03:
            for index, value in ((_HOURS, frame.ch), (_MINUTES, frame.cl), (_SECONDS, frame.dh)):
                board.set_cmos(index, value)
        elif function == 0x04:
            frame.ch, frame.cl, frame.dh, frame.dl = (board.cmos(index) for index in (_CENTURY, _YEAR, _MONTH, _DAY))
        elif function == 0x05:
            for index, value in ((_CENTURY, frame.ch), (_YEAR, frame.cl), (_MONTH, frame.dh), (_DAY, frame.dl)):
                board.set_cmos(index, value)
        else:
            frame.fail()
            return
        frame.succeed()
