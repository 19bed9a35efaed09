"""A stream of bytes cut into JSON objects, which need nothing between them: clients of QMP send no line feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST: Final = 1 << 20
_OPEN, _CLOSE, _QUOTE, _BACKSLASH, _FEED = b"{[", b"}]", ord('"'), ord("\\"), ord("\n")
_SPACE: Final = b" \t\r\n"


class JsonStream:
    """Finds where objects end by their brackets and strings; what is outside of any ends with the line."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._depth = 0
        self._in_string = self._escaped = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield everything that is complete now; of what is too long, its beginning."""
        for byte in data:
            if not self._data and byte in _SPACE:
                continue
            self._data.append(byte)
            if self._is_complete(byte) or len(self._data) >= _LONGEST:
                found, self._data = bytes(self._data), bytearray()
                self._depth, self._in_string, self._escaped = 0, False, False
                yield found

    def _is_complete(self, byte: int) -> bool:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif byte == _BACKSLASH:
                self._escaped = True
            elif byte == _QUOTE:
                self._in_string = False
        elif byte == _QUOTE:
            self._in_string = True
        elif byte in _OPEN:
            self._depth += 1
        elif byte in _CLOSE:
            self._depth -= 1
            return self._depth <= 0
        return byte == _FEED and self._depth == 0
