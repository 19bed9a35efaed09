from __future__ import annotations

import threading
import time

from blockkit.block.filters.serial import SerialNode
from blockkit.testing.memory import MemoryNode


def test_the_node_below_sees_one_request_at_a_time() -> None:
    inside = 0
    most = 0

    class Fragile(MemoryNode):
        def _enter(self) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.0005)
            inside -= 1

        def _readv(self, offset: int, buffers: list[memoryview]) -> None:
            self._enter()
            super()._readv(offset, buffers)

        def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
            self._enter()
            super()._writev(offset, buffers, fua)

        def _flush(self) -> None:
            self._enter()

    def work() -> None:
        for _ in range(10):
            node.read(0, 10)
            node.write(0, b"x")
            node.flush()
            node.map(0, 5)

    with SerialNode(Fragile(bytes(100))) as node:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 1
