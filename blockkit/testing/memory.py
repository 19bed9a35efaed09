"""A disk in memory, for tests that need no host."""

from __future__ import annotations

import threading

from blockkit.block.bases import ProtocolNode
from blockkit.block.node import Cap, Preallocation


class MemoryNode(ProtocolNode):
    """Holds its bytes in a bytearray.

    Closing it loses nothing and refuses nothing: a test looks at what an image left, and opens it again.

    Args:
        data: What it holds at first; copied.
        read_only: Refuse writes.
        grows: Writes past the end make it longer, as with a file.

    Attributes:
        data: What it holds now.
    """

    driver = "memory"

    def __init__(self, data: bytes | bytearray | int = b"", *, read_only: bool = False, grows: bool = False) -> None:
        self.data = bytearray(data)
        self.read_only = read_only
        self._grows = grows
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def caps(self) -> Cap:
        if self.read_only:
            return Cap(0)
        caps = Cap.WRITE | Cap.ZERO | Cap.FAST_ZERO | Cap.DISCARD | Cap.FUA | Cap.RESIZE
        return caps | Cap.GROW if self._grows else caps

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        with self._lock:
            for buf in buffers:
                data = self.data[offset : offset + len(buf)]
                buf[:] = data.ljust(len(buf), b"\0")
                offset += len(buf)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        data = b"".join(buffers)
        with self._lock:
            self._store(offset, data)

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        with self._lock:
            self._store(offset, bytes(length))

    def _discard(self, offset: int, length: int) -> None:
        with self._lock:
            self._store(offset, bytes(length))

    def _store(self, offset: int, data: bytes) -> None:
        self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
        self.data[offset : offset + len(data)] = data

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        with self._lock:
            del self.data[size:]
            self.data.extend(bytes(size - len(self.data)))

    def _shut(self) -> None:
        """Stay as it was."""
