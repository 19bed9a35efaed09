"""INT 9 and INT 16h: from scan codes of set 1 to characters (IBM PC/AT Technical Reference)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.emul.firmware import board as at

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.firmware.board import Board
    from blockkit.emul.firmware.frame import Frame

_BDA: Final = 0x400
_RIGHT_SHIFT, _LEFT_SHIFT, _CONTROL, _ALT, _SCROLL, _NUM, _CAPS, _INSERT = (1 << bit for bit in range(8))
_SHIFT: Final = _RIGHT_SHIFT | _LEFT_SHIFT
#: Of the second byte of flags and of the keyboard's state: the left keys, the right ones; E0h or E1h came; 101 keys
#: or more.
_LEFT_CONTROL, _LEFT_ALT, _RIGHT_CONTROL, _RIGHT_ALT = 0x01, 0x02, 0x04, 0x08
_PREFIX, _LONG_PREFIX, _ENHANCED = 0x02, 0x01, 0x10
_CONTROL_KEY: Final = 0x1D
_HELD: Final = {0x36: _RIGHT_SHIFT, 0x2A: _LEFT_SHIFT, _CONTROL_KEY: _CONTROL, 0x38: _ALT}
_LOCKS: Final = {0x46: _SCROLL, 0x45: _NUM, 0x3A: _CAPS}
_ESCAPE, _BACK, _TAB, _ENTER, _SPACE, _DELETE, _BREAK = 0x01, 0x0E, 0x0F, 0x1C, 0x39, 0x53, 0x46
_PLAIN: Final = {0x02: "1234567890-=", 0x10: "qwertyuiop[]", 0x1E: "asdfghjkl;'`", 0x2B: "\\zxcvbnm,./"}
_SHIFTED: Final = {0x02: "!@#$%^&*()_+", 0x10: "QWERTYUIOP{}", 0x1E: 'ASDFGHJKL:"~', 0x2B: "|ZXCVBNM<>?"}
_KEYPAD: Final = {0x47 + number: character for number, character in enumerate("789-456+1230.")}
#: Control with keys of the keypad and of the cursor.
_CONTROLLED: Final = {
    0x37: 0x96,
    0x47: 0x77,
    0x48: 0x8D,
    0x49: 0x84,
    0x4A: 0x8E,
    0x4B: 0x73,
    0x4C: 0x8F,
    0x4D: 0x74,
    0x4E: 0x90,
    0x4F: 0x75,
    0x50: 0x91,
    0x51: 0x76,
    0x52: 0x92,
    0x53: 0x93,
}
_DIVIDE: Final = 0x35
#: Of the controller: a byte is there; and how many there are at most.
_FULL, _MOST_WAITING = 0x01, 256
_TIMES, _MINUS, _PLUS = 0x37, 0x4A, 0x4E
#: What keys of the keypad are to programs that know of 84 keys: what the same keys elsewhere are.
_OLD: Final = {0xE00D: 0x1C0D, 0xE00A: 0x1C0A, 0xE02F: 0x352F}


def _table(rows: dict[int, str]) -> dict[int, int]:
    return {first + number: ord(each) for first, row in rows.items() for number, each in enumerate(row)}


_CHARACTERS, _SHIFTED_CHARACTERS = _table(_PLAIN), _table(_SHIFTED)
_FIXED: Final = {_ESCAPE: 27, _BACK: 8, _TAB: 9, _ENTER: 13, _SPACE: 32}
#: Which key a character is typed with, for characters that come by a serial line.
_KEYS: Final = {
    **{code: key for table in (_SHIFTED_CHARACTERS, _CHARACTERS) for key, code in table.items()},
    **{code: key for key, code in _FIXED.items()},
}


class Keyboard:
    """Keys that were pressed, and what is asked of them.

    Args:
        board: Memory, ports and time.
        poll: Called before keys are looked for; it may put some into the buffer.
        restart: Called for control, alt and delete.
    """

    def __init__(self, board: Board, poll: Callable[[], None], restart: Callable[[], None]) -> None:
        self._board, self._poll, self._restart = board, poll, restart

    def set_up(self) -> None:
        """Begin with no key pressed."""
        board, first, end = self._board, at.KEY_BUFFER - _BDA, at.KEY_BUFFER - _BDA + 32
        board.poke(at.KEY_FLAGS, 2, 0)
        board.poke(at.KEY_STATE, 2, _ENHANCED)
        for place, value in ((at.KEY_HEAD, first), (at.KEY_TAIL, first), (at.KEY_START, first), (at.KEY_END, end)):
            board.poke(place, 2, value)
        if board.input(0x64) != 0xFF:
            board.output(0x64, 0xAE)  # the keyboard may send
            board.output(0x64, 0x60)  # the command byte: interrupts, and scan codes of set 1
            board.output(0x60, 0x61)
            # Who has typed before does not have to do so again; and a line that is high already would not interrupt.
            for _ in range(_MOST_WAITING):
                if not board.input(0x64) & _FULL:
                    break
                self.press(board.input(0x60))

    # -- keys ----------------------------------------------------------------------------------------------

    def press(self, code: int) -> None:
        """Take a scan code of set 1."""
        board = self._board
        state = board.peek(at.KEY_STATE, 1)
        if code in (0xE0, 0xE1):
            board.poke(at.KEY_STATE, 1, state | (_PREFIX if code == 0xE0 else _LONG_PREFIX))
            return
        key, released = code & 0x7F, code >= 0x80
        if state & _LONG_PREFIX:
            # Pause is E1h, control, and the lock of numbers, but neither; nothing pauses here.
            if key != _CONTROL_KEY:
                board.poke(at.KEY_STATE, 1, state & ~_LONG_PREFIX)
            return
        board.poke(at.KEY_STATE, 1, state & ~_PREFIX)
        extended = bool(state & _PREFIX)
        if code >= 0xFA or (extended and key in (0x2A, 0x36)):
            return  # answers of the keyboard; shifts that come with a key of the cursor
        flags = board.peek(at.KEY_FLAGS, 1)
        if key in _HELD:
            self._hold(key, extended, released)
        elif released:
            if key in _LOCKS:
                board.poke(at.KEY_FLAGS_2, 1, board.peek(at.KEY_FLAGS_2, 1) & ~_LOCKS[key])
        elif key == _DELETE and flags & _CONTROL and flags & _ALT:
            board.poke(at.RESET_FLAG, 2, 0x1234)
            self._restart()
        elif key == _BREAK and extended and flags & _CONTROL:
            board.poke(at.BREAK, 1, 0x80)
            board.poke(at.KEY_HEAD, 2, board.peek(at.KEY_TAIL, 2))
            self.add(0)
        elif key in _LOCKS and not extended:
            if not board.peek(at.KEY_FLAGS_2, 1) & _LOCKS[key]:
                board.poke(at.KEY_FLAGS, 1, flags ^ _LOCKS[key])
            board.poke(at.KEY_FLAGS_2, 1, board.peek(at.KEY_FLAGS_2, 1) | _LOCKS[key])
        else:
            word = _translate(key, extended, flags)
            if word:
                self.add(word)

    def _hold(self, key: int, extended: bool, released: bool) -> None:
        board, flag = self._board, _HELD[key]
        address = at.KEY_STATE if extended else at.KEY_FLAGS_2
        left, right = (_LEFT_CONTROL, _RIGHT_CONTROL) if flag == _CONTROL else (_LEFT_ALT, _RIGHT_ALT)
        side = 0 if flag & _SHIFT else right if extended else left
        held, flags = board.peek(address, 1), board.peek(at.KEY_FLAGS, 1)
        board.poke(address, 1, held & ~side if released else held | side)
        other = board.peek(at.KEY_FLAGS_2 if extended else at.KEY_STATE, 1) & (left if extended else right)
        if not released:
            flags |= flag
        elif flag & _SHIFT or not other:
            flags &= ~flag
        board.poke(at.KEY_FLAGS, 1, flags)

    def add(self, word: int) -> bool:
        """Put a key into the buffer: its scan code, and in the lower half the character; False if that is full."""
        board, tail = self._board, self._inside(at.KEY_TAIL)
        after = self._after(tail)
        if after == self._inside(at.KEY_HEAD):
            return False
        board.poke(_BDA + tail, 2, word)
        board.poke(at.KEY_TAIL, 2, after)
        return True

    def type(self, character: int) -> bool:
        """Put the key into the buffer that types a character; False if there is no room."""
        if character == 127:
            character = 8
        elif character == 10:
            character = 13
        key = _KEYS.get(character) or (_KEYS.get(character + 0x60, 0) if character < 32 else 0)
        return self.add(key << 8 | character)

    def _bounds(self) -> tuple[int, int]:
        first, end = self._board.peek(at.KEY_START, 2), self._board.peek(at.KEY_END, 2)
        return (first, end) if first < end <= 0x1000 else (at.KEY_BUFFER - _BDA, at.KEY_BUFFER - _BDA + 32)

    def _inside(self, pointer: int) -> int:
        first, end = self._bounds()
        place = self._board.peek(pointer, 2)
        return place if first <= place < end else first

    def _after(self, place: int) -> int:
        first, end = self._bounds()
        return first if place + 2 >= end else place + 2

    # -- INT 16h -------------------------------------------------------------------------------------------

    def call(self, frame: Frame) -> None:
        """Do a service."""
        board, function = self._board, frame.ah
        if function in (0x00, 0x10, 0x01, 0x11):
            self._poll()
            self._look(frame, takes=function in (0x00, 0x10), enhanced=function >= 0x10)
        elif function == 0x02:
            frame.al = board.peek(at.KEY_FLAGS, 1)
        elif function == 0x05:
            frame.al = 0 if self.add(frame.cx) else 1
        elif function == 0x09:
            frame.al = 0x60  # AH=10h to 12h are there
        elif function == 0x12:
            second, state = board.peek(at.KEY_FLAGS_2, 1), board.peek(at.KEY_STATE, 1)
            frame.al, frame.ah = board.peek(at.KEY_FLAGS, 1), second & 0xF3 | state & 0x0C

    def _look(self, frame: Frame, takes: bool, enhanced: bool) -> None:
        head = self._inside(at.KEY_HEAD)
        if head == self._inside(at.KEY_TAIL):
            if takes:
                frame.ask_again()
            else:
                frame.set_zero(True)
            return
        word = self._board.peek(_BDA + head, 2)
        if not enhanced:
            word = _OLD.get(word, word & 0xFF00 if word & 0xFF == 0xE0 and word >> 8 else word)
        frame.ax = word
        if takes:
            self._board.poke(at.KEY_HEAD, 2, self._after(head))
        else:
            frame.set_zero(False)


def _translate(key: int, extended: bool, flags: int) -> int:
    """Return what a key puts into the buffer; 0 for nothing."""
    if extended:
        return _translate_extended(key, flags)
    if key in _CHARACTERS:
        return _letter(key, flags)
    if key in _FIXED:
        return _fixed(key, flags)
    if 0x3B <= key <= 0x44 or key in (0x57, 0x58):
        return _function(key, flags)
    if key in _KEYPAD or key == _TIMES:
        return _keypad(key, flags)
    return 0


def _keypad(key: int, flags: int) -> int:
    if flags & _ALT:
        return key << 8 if key in (_TIMES, _MINUS, _PLUS) else 0
    if flags & _CONTROL:
        return _CONTROLLED[key] << 8
    if key in (_TIMES, _MINUS, _PLUS) or bool(flags & _NUM) != bool(flags & _SHIFT):
        return key << 8 | ord("*" if key == _TIMES else _KEYPAD[key])
    return key << 8


def _letter(key: int, flags: int) -> int:
    plain = _CHARACTERS[key]
    if flags & _ALT:
        return (key + 0x76 if key <= 0x0D else key) << 8
    if flags & _CONTROL:
        special = {0x03: 0x00, 0x07: 0x1E, 0x0C: 0x1F, 0x1A: 0x1B, 0x1B: 0x1D, 0x2B: 0x1C}
        if chr(plain).isalpha():
            return key << 8 | plain & 0x1F
        return key << 8 | special[key] if key in special else 0
    shifted = bool(flags & _SHIFT) != (bool(flags & _CAPS) and chr(plain).isalpha())
    return key << 8 | (_SHIFTED_CHARACTERS if shifted else _CHARACTERS)[key]


def _fixed(key: int, flags: int) -> int:
    if flags & _ALT and key != _SPACE:
        return 0xA500 if key == _TAB else key << 8
    if flags & _CONTROL:
        return {_BACK: 0x0E7F, _TAB: 0x9400, _ENTER: 0x1C0A}.get(key, key << 8 | _FIXED[key])
    return 0x0F00 if key == _TAB and flags & _SHIFT else key << 8 | _FIXED[key]


def _function(key: int, flags: int) -> int:
    if key in (0x57, 0x58):
        step = 0x34 if flags & _ALT else 0x32 if flags & _CONTROL else 0x30 if flags & _SHIFT else 0x2E
        return key + step << 8
    step = 0x2D if flags & _ALT else 0x23 if flags & _CONTROL else 0x19 if flags & _SHIFT else 0
    return key + step << 8


def _translate_extended(key: int, flags: int) -> int:
    if key == _ENTER:
        return 0xA600 if flags & _ALT else 0xE00A if flags & _CONTROL else 0xE00D
    if key == _DIVIDE:
        return 0xA400 if flags & _ALT else 0x9500 if flags & _CONTROL else 0xE02F
    if 0x47 <= key <= _DELETE:
        if flags & _ALT:
            return key + 0x50 << 8
        return (_CONTROLLED[key] if flags & _CONTROL else key) << 8 | 0xE0
    return 0
