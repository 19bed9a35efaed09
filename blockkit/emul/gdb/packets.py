"""Packets: ``$data#checksum``, acknowledged with ``+`` or asked for again with ``-`` (Debugging with GDB, E.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes of a packet at most; what we say we take.
LONGEST: Final = 0x4000
INTERRUPT: Final = b"\x03"
_START, _END = ord("$"), ord("#")


def frame(data: str) -> bytes:
    """Return a packet with ``data``, which has only characters that need no escape."""
    raw = data.encode("latin-1")
    return b"$%b#%02x" % (raw, sum(raw) & 0xFF)


class Reader:
    """Cuts a stream into packets, bare interrupts, and acknowledgements."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Yield each packet's data, :data:`INTERRUPT`, and None for a packet that is damaged."""
        self._data += data
        while self._data:
            first = self._data[0]
            if first != _START:
                del self._data[0]
                if first == INTERRUPT[0]:
                    yield INTERRUPT
                continue
            end = self._data.find(_END)
            if end < 0 or len(self._data) < end + 3:
                if len(self._data) > 2 * LONGEST:
                    self._data.clear()
                    yield None
                return
            body, told = bytes(self._data[1:end]), bytes(self._data[end + 1 : end + 3])
            del self._data[: end + 3]
            yield body if told.lower() == b"%02x" % (sum(body) & 0xFF) else None
