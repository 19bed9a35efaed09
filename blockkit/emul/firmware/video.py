"""INT 10h: text on the screen, or on the serial port of a machine without one (IBM PS/2 and PC BIOS Interface TR)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.emul.firmware import board as at
from blockkit.emul.firmware.board import linear

if TYPE_CHECKING:
    from blockkit.emul.firmware.board import Board
    from blockkit.emul.firmware.frame import Frame

_TEXT, _TEXT_SIZE = 0xB8000, 0x8000
_CRTC, _START, _CURSOR = 0x3D4, 0x0C, 0x0E
#: Modes of text: how many columns. Those of graphics are not there.
_MODES: Final = {0: 40, 1: 40, 2: 80, 3: 80, 7: 80}
_MODE_WITHOUT: Final = 3
_ROWS: Final = 25
_PAGE_SIZES: Final = {40: 0x800, 80: 0x1000}
_BELL, _BACK, _LINE, _RETURN = 7, 8, 10, 13
_SPACE, _GRAY = 0x20, 0x07
_SHAPE: Final = 0x0D0E
_SERIAL: Final = 0x3F8
_ESCAPE: Final = "\x1b["
_KEEP: Final = 0x80
#: Set up for 80 columns of 400 lines, a colour screen on a VGA with 256 KiB.
_SWITCHES, _CONTROL, _COLOUR_VGA = 0x09, 0x60, 0x08


class Video:
    """The service.

    Args:
        board: Memory, ports and time.
        has_screen: There is a VGA; without, what is written goes to the serial port.
    """

    def __init__(self, board: Board, *, has_screen: bool) -> None:
        self._board, self._has_screen = board, has_screen

    def set_up(self) -> None:
        """Begin in mode 3, with an empty screen."""
        self._set_mode(_MODE_WITHOUT)

    def call(self, frame: Frame) -> None:
        """Do a service; others than these change nothing, by which callers know that they are not there."""
        service = {
            0x00: self._mode,
            0x01: self._shape,
            0x02: self._move,
            0x03: self._tell_cursor,
            0x05: self._show_page,
            0x06: self._scroll_up,
            0x07: self._scroll_down,
            0x08: self._read,
            0x09: self._repeat,
            0x0A: self._repeat,
            0x0E: self._type,
            0x0F: self._tell_mode,
            0x11: self._font,
            0x12: self._alternate,
            0x13: self._string,
            0x1A: self._combination,
        }.get(frame.ah)
        if service is not None:
            service(frame)

    # -- modes and pages -----------------------------------------------------------------------------------

    def _mode(self, frame: Frame) -> None:
        mode = frame.al & ~_KEEP
        if mode in _MODES:
            self._set_mode(mode, clear=not frame.al & _KEEP)
            frame.al = 0x30

    def _set_mode(self, mode: int, *, clear: bool = True) -> None:
        board, columns = self._board, _MODES[mode]
        board.poke(at.VIDEO_MODE, 1, mode)
        board.poke(at.COLUMNS, 2, columns)
        board.poke(at.PAGE_SIZE, 2, _PAGE_SIZES[columns])
        board.poke(at.PAGE_START, 2, 0)
        board.store(at.CURSORS, bytes(16))
        board.poke(at.CURSOR_SHAPE, 2, _SHAPE)
        board.poke(at.PAGE, 1, 0)
        board.poke(at.CRTC_PORT, 2, _CRTC)
        board.poke(at.ROWS, 1, _ROWS - 1)
        board.poke(at.CHARACTER_HEIGHT, 2, 16)
        board.poke(at.VIDEO_CONTROL, 1, _CONTROL)
        board.poke(at.VIDEO_SWITCHES, 1, _SWITCHES)
        if self._has_screen:
            self._set_crtc(0x01, columns - 1)
            self._set_crtc(0x13, columns // 2)
            self._set_crtc_pair(_START, 0)
        if clear:
            board.store(_TEXT, bytes((_SPACE, _GRAY)) * (_TEXT_SIZE // 2))
        self._put_cursor(0, 0, 0)

    def _set_crtc(self, index: int, value: int) -> None:
        self._board.output(_CRTC, index)
        self._board.output(_CRTC + 1, value)

    def _set_crtc_pair(self, index: int, value: int) -> None:
        self._set_crtc(index, value >> 8 & 0xFF)
        self._set_crtc(index + 1, value & 0xFF)

    @property
    def _columns(self) -> int:
        return 40 if self._board.peek(at.COLUMNS, 2) == 40 else 80

    @property
    def _rows(self) -> int:
        return min(self._board.peek(at.ROWS, 1), 59) + 1

    @property
    def _page(self) -> int:
        return self._board.peek(at.PAGE, 1) & 7

    def _tell_mode(self, frame: Frame) -> None:
        frame.al, frame.ah, frame.bh = self._board.peek(at.VIDEO_MODE, 1), self._columns, self._page

    def _show_page(self, frame: Frame) -> None:
        page = frame.al & 7
        start = page * _PAGE_SIZES[self._columns]
        self._board.poke(at.PAGE, 1, page)
        self._board.poke(at.PAGE_START, 2, start)
        if self._has_screen:
            self._set_crtc_pair(_START, start // 2)
        self._put_cursor(page, *self._cursor(page))

    def _font(self, frame: Frame) -> None:
        """Tell how high characters are; no font is there to be looked at."""
        if frame.al == 0x30:
            frame.cx, frame.dl = self._board.peek(at.CHARACTER_HEIGHT, 2), self._rows - 1
            frame.es, frame.bp = 0xF000, 0

    def _alternate(self, frame: Frame) -> None:
        if frame.bl == 0x10:
            frame.bh, frame.bl, frame.ch, frame.cl = 0, 3, 0, _SWITCHES
        elif frame.bl in (0x30, 0x31, 0x32, 0x33, 0x34, 0x36):
            frame.al = 0x12

    def _combination(self, frame: Frame) -> None:
        if frame.al == 0:
            frame.al, frame.bx = 0x1A, _COLOUR_VGA

    # -- the cursor ----------------------------------------------------------------------------------------

    def _cursor(self, page: int) -> tuple[int, int]:
        """Return row and column."""
        place = self._board.peek(at.CURSORS + 2 * page, 2)
        return min(place >> 8, self._rows - 1), min(place & 0xFF, self._columns - 1)

    def _put_cursor(self, page: int, row: int, column: int) -> None:
        row, column = min(row, self._rows - 1), min(column, self._columns - 1)
        self._board.poke(at.CURSORS + 2 * page, 2, row << 8 | column)
        if self._has_screen and page == self._page:
            self._set_crtc_pair(_CURSOR, (page * _PAGE_SIZES[self._columns] // 2) + row * self._columns + column)

    def _shape(self, frame: Frame) -> None:
        self._board.poke(at.CURSOR_SHAPE, 2, frame.cx)

    def _move(self, frame: Frame) -> None:
        page, row, column = frame.bh & 7, frame.dh, frame.dl
        if not self._has_screen and (row, column) != self._cursor(page):
            self._send(f"{_ESCAPE}{row + 1};{column + 1}H")
        self._put_cursor(page, row, column)

    def _tell_cursor(self, frame: Frame) -> None:
        row, column = self._cursor(frame.bh & 7)
        frame.dh, frame.dl, frame.cx = row, column, self._board.peek(at.CURSOR_SHAPE, 2)
        frame.ax = 0

    # -- characters ----------------------------------------------------------------------------------------

    def _send(self, text: str) -> None:
        for code in text.encode("latin-1"):
            self._board.output(_SERIAL, code)

    def _place(self, page: int, row: int, column: int) -> int:
        return _TEXT + page * _PAGE_SIZES[self._columns] + 2 * (row * self._columns + column)

    def _read(self, frame: Frame) -> None:
        page = frame.bh & 7
        frame.ax = self._board.peek(self._place(page, *self._cursor(page)), 2)

    def _write(self, page: int, row: int, column: int, code: int, attribute: int | None) -> None:
        place = self._place(page, row, column)
        self._board.store(place, bytes((code,)) if attribute is None else bytes((code, attribute)))

    def _repeat(self, frame: Frame) -> None:
        """Write a character CX times from the cursor on, which stays where it is."""
        page = frame.bh & 7
        row, column = self._cursor(page)
        first = row * self._columns + column
        count = min(frame.cx, self._rows * self._columns - first)
        for each in range(first, first + count):
            self._write(page, *divmod(each, self._columns), frame.al, frame.bl if frame.ah == 0x09 else None)
        if not self._has_screen and count:
            self._send(chr(frame.al) * count + f"{_ESCAPE}{row + 1};{column + 1}H" if count > 1 else chr(frame.al))
            if count == 1 and column < self._columns - 1:
                self._send("\b")

    def _type(self, frame: Frame) -> None:
        self.type(frame.al)

    def type(self, code: int, attribute: int | None = None, page: int | None = None) -> None:
        """Write a character as a teletype does, and move on."""
        page = self._page if page is None else page
        row, column = self._cursor(page)
        if not self._has_screen:
            self._send(chr(code))
        if code == _BACK:
            column = max(column - 1, 0)
        elif code == _RETURN:
            column = 0
        elif code == _LINE:
            row += 1
        elif code != _BELL:
            self._write(page, row, column, code, attribute)
            column += 1
            if column == self._columns:
                row, column = row + 1, 0
        if row == self._rows:
            row -= 1
            self._scroll(1, 0, 0, row, self._columns - 1, _GRAY, page)
        self._put_cursor(page, row, column)

    def print(self, text: str) -> None:
        """Write a text."""
        for letter in text:
            self.type(ord(letter))

    def _string(self, frame: Frame) -> None:
        """Write CX characters from ES:BP at DH:DL; by AL with attributes in between (2), moving the cursor (1)."""
        step, page = 2 if frame.al & 2 else 1, frame.bh & 7
        text = self._board.fetch(linear(frame.es, frame.bp), frame.cx * step)
        before = self._cursor(page)
        if not self._has_screen and before != (frame.dh, frame.dl):
            self._send(f"{_ESCAPE}{frame.dh + 1};{frame.dl + 1}H")
        self._put_cursor(page, frame.dh, frame.dl)
        for each in range(0, len(text), step):
            self.type(text[each], text[each + 1] if step == 2 else frame.bl, page)
        if not frame.al & 1:
            self._put_cursor(page, *before)

    # -- scrolling -----------------------------------------------------------------------------------------

    def _scroll_up(self, frame: Frame) -> None:
        self._scroll(frame.al, frame.ch, frame.cl, frame.dh, frame.dl, frame.bh, self._page)

    def _scroll_down(self, frame: Frame) -> None:
        self._scroll(-frame.al, frame.ch, frame.cl, frame.dh, frame.dl, frame.bh, self._page)

    def _scroll(self, lines: int, top: int, left: int, bottom: int, right: int, attribute: int, page: int) -> None:
        """Move a window up by ``lines``, down if that is negative; 0 clears it."""
        bottom, right = min(bottom, self._rows - 1), min(right, self._columns - 1)
        if top > bottom or left > right:
            return
        height, width = bottom - top + 1, 2 * (right - left + 1)
        gone = min(abs(lines), height) if lines else height
        empty = bytes((_SPACE, attribute)) * (right - left + 1) * gone
        if width == 2 * self._columns:
            # Whole lines are one piece.
            pieces = [(self._place(page, top, left), height * width)]
        else:
            pieces = [(self._place(page, row, left), width) for row in range(top, bottom + 1)]
        old = b"".join(self._board.fetch(*piece) for piece in pieces)
        new = old[gone * width :] + empty if lines >= 0 else empty + old[: (height - gone) * width]
        for number, (place, length) in enumerate(pieces):
            self._board.store(place, new[number * length : (number + 1) * length])
        if not self._has_screen and gone == height and height == self._rows:
            self._send(f"{_ESCAPE}2J{_ESCAPE}H")
