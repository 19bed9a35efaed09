"""A node in memory: what tests of formats and filters stand on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from blockkit.block.bases import ProtocolNode
from blockkit.block.node import Cap, Preallocation
from blockkit.block.zeros import zeros
from blockkit.errors import NoSpaceError

if TYPE_CHECKING:
    from blockkit.block.node import Buffer


class MemoryNode(ProtocolNode):
    """Bytes in memory that behave like a host file.

    Args:
        contents: What it holds at first; copied.
        read_only: Refuse writes.
        capacity: Writes that would make it longer fail like those to a full disk; None means no bound.
        fixed: It has a fixed size, like a block device.
    """

    driver = "memory"

    def __init__(
        self, contents: Buffer = b"", *, read_only: bool = False, capacity: int | None = None, fixed: bool = False
    ) -> None:
        self.data = bytearray(contents)
        self.read_only = read_only
        self.filename = "memory"
        self._capacity, self._fixed = capacity, fixed
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def caps(self) -> Cap:
        if self.read_only:
            return Cap(0)
        caps = Cap.WRITE | Cap.ZERO | Cap.FAST_ZERO | Cap.DISCARD | Cap.FUA
        return caps if self._fixed else caps | Cap.RESIZE | Cap.GROW

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        with self._lock:
            for buf in buffers:
                buf[:] = self.data[offset : offset + len(buf)]
                offset += len(buf)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        with self._lock:
            for buf in buffers:
                end = offset + len(buf)
                if self._capacity is not None and end > self._capacity:
                    raise NoSpaceError(f"{self}: no space left for {len(buf)} bytes at {offset:#x}")
                if len(self.data) < offset:
                    self.data.extend(bytes(offset - len(self.data)))
                self.data[offset:end] = buf
                offset = end

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        self._writev(offset, [zeros(length)], False)

    def _discard(self, offset: int, length: int) -> None:
        self._writev(offset, [zeros(length)], False)

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        if self._fixed:
            super()._resize(size, preallocate)
        with self._lock:
            if self._capacity is not None and size > self._capacity:
                raise NoSpaceError(f"{self}: no space left for {size} bytes")
            if size < len(self.data):
                del self.data[size:]
            else:
                self.data.extend(bytes(size - len(self.data)))
