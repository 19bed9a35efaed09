"""What a guest sends through its serial port: remembered, and told to whoever listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes that are remembered at most; the first ones are forgotten then.
_MOST: Final = 16 << 20


class SerialLog:
    """All that came out of a serial port, as bytes.

    Attributes:
        data: What is remembered of it.
        dropped: Bytes that came before that.
        listeners: Called with each byte when it comes.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.dropped = 0
        self.listeners: list[Callable[[int], None]] = []

    def send(self, byte: int) -> None:
        """Take a byte of the guest."""
        self.data.append(byte)
        if len(self.data) > 2 * _MOST:
            self.dropped += len(self.data) - _MOST
            del self.data[:-_MOST]
        for each in self.listeners:
            each(byte)

    @property
    def end(self) -> int:
        """Bytes that ever came."""
        return self.dropped + len(self.data)

    def since(self, position: int) -> bytes:
        """Return what came after the first ``position`` bytes."""
        return bytes(self.data[max(0, position - self.dropped) :])

    @property
    def text(self) -> str:
        """All of it, as text."""
        return self.data.decode("utf-8", "replace")
