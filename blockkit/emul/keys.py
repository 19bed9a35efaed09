"""Keys by name and by what they type, as the scan codes of set 1 that a keyboard sends (IBM PC/AT TR, keyboard)."""

from __future__ import annotations

from typing import Final

from blockkit.errors import OptionError

_RELEASED, _EXTENDED = 0x80, 0xE0
_ROWS: Final = {
    0x01: "esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p bracket_left bracket_right ret ctrl",
    0x1E: "a s d f g h j k l semicolon apostrophe grave_accent shift backslash z x c v b n m comma dot slash shift_r",
    0x37: "kp_multiply alt spc caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock scroll_lock kp_7 kp_8 kp_9",
    0x4A: "kp_subtract kp_4 kp_5 kp_6 kp_add kp_1 kp_2 kp_3 kp_0 kp_decimal",
    0x57: "f11 f12",
}
_OTHERS: Final = {
    "ctrl_r": 0x1D,
    "alt_r": 0x38,
    "kp_enter": 0x1C,
    "kp_divide": 0x35,
    "home": 0x47,
    "up": 0x48,
    "pgup": 0x49,
    "left": 0x4B,
    "right": 0x4D,
    "end": 0x4F,
    "down": 0x50,
    "pgdn": 0x51,
    "insert": 0x52,
    "delete": 0x53,
}
#: Scan codes by the names that QEMU gives to keys; those above 255 are sent behind E0h.
CODES: Final = {
    **{name: first + number for first, row in _ROWS.items() for number, name in enumerate(row.split())},
    **{name: _EXTENDED << 8 | code for name, code in _OTHERS.items()},
}
_PLAIN: Final = {
    "-": "minus",
    "=": "equal",
    "[": "bracket_left",
    "]": "bracket_right",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave_accent",
    "\\": "backslash",
    ",": "comma",
    ".": "dot",
    "/": "slash",
    " ": "spc",
    "\t": "tab",
    "\r": "ret",
    "\n": "ret",
    "\x1b": "esc",
    "\x08": "backspace",
    "\x7f": "backspace",
    **{letter: letter for letter in "abcdefghijklmnopqrstuvwxyz0123456789"},
}
_SHIFTED: Final = dict(zip('!@#$%^&*()_+{}:"~|<>?', "1234567890-=[];'`\\,./", strict=True))
#: What is typed with control, where there is no key of its own for it.
_CONTROLS: Final = {
    **{chr(ord(letter) & 0x1F): letter for letter in "abcdefghijklmnopqrstuvwxyz"},
    "\0": "2",
    "\x1c": "backslash",
    "\x1d": "bracket_right",
    "\x1e": "6",
    "\x1f": "minus",
}
#: What terminals send for keys without a character.
_SEQUENCES: Final = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[2~": "insert",
    "\x1b[3~": "delete",
    "\x1b[5~": "pgup",
    "\x1b[6~": "pgdn",
    "\x1bOP": "f1",
    "\x1bOQ": "f2",
    "\x1bOR": "f3",
    "\x1bOS": "f4",
    "\x1b[15~": "f5",
    "\x1b[17~": "f6",
    "\x1b[18~": "f7",
    "\x1b[19~": "f8",
    "\x1b[20~": "f9",
    "\x1b[21~": "f10",
    "\x1b[23~": "f11",
    "\x1b[24~": "f12",
}


def chord(text: str) -> bytes:
    """Return what is sent when keys are pressed together and let go: ``ctrl-alt-delete``.

    Raises:
        OptionError: there is no such key.
    """
    names = text.split("-")
    unknown = next((name for name in names if name not in CODES), None)
    if unknown is not None:
        raise OptionError(f"key {unknown[:40]!r} is not known; expected such as a, ret, esc, f1, ctrl-alt-delete")
    return b"".join(_code(name) for name in names) + b"".join(_code(name, _RELEASED) for name in reversed(names))


def typed(text: str) -> bytes:
    """Return what is sent when a text is typed on an American keyboard; what that has no key for is left out.

    Sequences that terminals send are keys.
    """
    found, position = [], 0
    while position < len(text):
        sequence = next((each for each in _SEQUENCES if text.startswith(each, position)), None)
        if sequence is not None:
            found.append(chord(_SEQUENCES[sequence]))
            position += len(sequence)
            continue
        letter = text[position]
        if letter in _PLAIN:
            found.append(chord(_PLAIN[letter]))
        elif letter.lower() in _PLAIN:
            found.append(chord(f"shift-{_PLAIN[letter.lower()]}"))
        elif letter in _SHIFTED:
            found.append(chord(f"shift-{_PLAIN[_SHIFTED[letter]]}"))
        elif letter in _CONTROLS:
            found.append(chord(f"ctrl-{_CONTROLS[letter]}"))
        position += 1
    return b"".join(found)


def _code(name: str, flag: int = 0) -> bytes:
    code = CODES[name]
    return bytes((_EXTENDED, code & 0xFF | flag)) if code > 0xFF else bytes((code | flag,))
