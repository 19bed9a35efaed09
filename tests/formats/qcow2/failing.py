"""A file whose writes and flushes fail once."""

from __future__ import annotations

from blockkit.errors import NodeIOError
from blockkit.testing.memory import MemoryNode


class FailsOnce(MemoryNode):
    """Fails the write or flush that ``left`` counts down to: 1 is the next one."""

    left = 10**9

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise NodeIOError("told to fail")

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        self._step()
        super()._writev(offset, buffers, fua)

    def _flush(self) -> None:
        self._step()
        super()._flush()
