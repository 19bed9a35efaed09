"""Bytes that are in memory already, as a disk."""

from __future__ import annotations

from blockkit.block.bases import ProtocolNode


class BufferNode(ProtocolNode):
    """Reads from a buffer, which is not copied; read-only.

    Args:
        data: C-contiguous bytes; must not change size while the node is used.
    """

    driver = "buffer"

    def __init__(self, data: memoryview) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        for buf in buffers:
            buf[:] = self._data[offset : offset + len(buf)]
            offset += len(buf)
