from __future__ import annotations

import pytest

from blockkit.block.filters.readonly import ReadOnlyNode
from blockkit.errors import ReadOnlyError
from blockkit.testing.memory import MemoryNode


def test_a_writable_disk_cannot_be_changed_through_it() -> None:
    memory = MemoryNode(b"safe")
    with ReadOnlyNode(memory) as node:
        assert node.read_only
        for change in (lambda: node.write(0, b"x"), lambda: node.zero(0, 1), lambda: node.resize(1)):
            with pytest.raises(ReadOnlyError):
                change()
        assert node.map(1, 2).node is memory
    assert memory.data == b"safe"
