from __future__ import annotations

import pytest

from blockkit.block.node import Cap, Node
from blockkit.testing.contract import NodeContract, WritableNodeContract
from blockkit.testing.memory import MemoryNode


class TestMemoryNode(WritableNodeContract):
    refuses_when_closed = False

    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return MemoryNode(contents)


class TestGrowingMemoryNode(WritableNodeContract):
    refuses_when_closed = False

    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return MemoryNode(contents, grows=True)


class TestReadOnlyMemoryNode(NodeContract):
    refuses_when_closed = False

    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return MemoryNode(contents, read_only=True)


def test_the_bytes_it_was_made_from_stay_as_they_are() -> None:
    data = bytearray(b"before")
    with MemoryNode(data) as node:
        node.write(0, b"after!")
    assert data == b"before"
    assert node.data == b"after!"


def test_the_contract_sees_a_broken_node() -> None:
    contents = b"\1" * 70_000

    class OffByOne(MemoryNode):
        def _readv(self, offset: int, buffers: list[memoryview]) -> None:
            super()._readv(offset + 1, buffers)

    class Liar(MemoryNode):
        @property
        def caps(self) -> Cap:
            return super().caps & ~Cap.WRITE

    suite = WritableNodeContract()
    with pytest.raises(AssertionError):
        suite.test_it_reads_as_its_contents(OffByOne(contents), contents)
    with pytest.raises(AssertionError):
        suite.test_extents_say_what_the_bytes_are(OffByOne(contents), contents)
    with pytest.raises(AssertionError):
        suite.test_capabilities_are_honest_about_writing(Liar(contents))
