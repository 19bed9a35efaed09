"""Keys by name and by what they type."""

from __future__ import annotations

import pytest

from blockkit.emul.keys import CODES, chord, typed


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a", ["a"]),
        ("A:", ["shift-a", "shift-semicolon"]),
        ("\x01\x1a", ["ctrl-a", "ctrl-z"]),
        ("\x00\x1c\x1d\x1e\x1f", ["ctrl-2", "ctrl-backslash", "ctrl-bracket_right", "ctrl-6", "ctrl-minus"]),
        ("\t\r\n\x1b\x08\x7f", ["tab", "ret", "ret", "esc", "backspace", "backspace"]),
        ("\x1b[A\x1bOP", ["up", "f1"]),
    ],
)
def test_text_is_typed(text: str, keys: list[str]) -> None:
    assert typed(text) == b"".join(chord(each) for each in keys)


def test_everything_that_comes_from_a_terminal_is_typed_or_left_out() -> None:
    for code in range(256):
        assert bool(typed(chr(code))) == (code < 0x80)
    assert set(CODES) >= {"a", "ret", "delete"}
