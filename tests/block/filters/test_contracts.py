"""Every filter is a node like any other; on memory, which keeps every promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.block.filters.copy_on_read import CopyOnReadNode
from blockkit.block.filters.faults import FaultRule, FaultsNode
from blockkit.block.filters.readonly import ReadOnlyNode
from blockkit.block.filters.serial import SerialNode
from blockkit.block.filters.throttle import ThrottleNode, ThrottleOptions
from blockkit.block.filters.trace import TraceNode
from blockkit.block.filters.window import WindowNode, WindowOptions
from blockkit.protocols.file import open_path
from blockkit.testing.contract import NodeContract, WritableNodeContract
from blockkit.testing.memory import MemoryNode
from blockkit.testing.powercut import PowerCutNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blockkit.block.node import Node


class TestTrace(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return TraceNode(MemoryNode(contents), lambda event: None)


class TestTraceOverGrowingFile(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        (tmp_path / "disk").write_bytes(contents)
        with TraceNode(open_path(tmp_path / "disk", read_only=False), lambda event: None) as node:
            yield node


class TestTraceReadOnly(NodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return TraceNode(MemoryNode(contents, read_only=True), lambda event: None)


class TestFaults(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return FaultsNode(MemoryNode(contents), [FaultRule(probability=0.0), FaultRule(action="delay", delay=0.0)])


class TestPowerCut(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return PowerCutNode(MemoryNode(contents, grows=True))


class TestThrottle(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return ThrottleNode(MemoryNode(contents), ThrottleOptions(bytes_per_second=1 << 50))


class TestSerial(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        (tmp_path / "disk").write_bytes(contents)
        with SerialNode(open_path(tmp_path / "disk", read_only=False)) as node:
            yield node


class TestWindow(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        file = MemoryNode(b"\xcc" * 777 + contents + b"\xdd" * 777)
        return WindowNode(file, WindowOptions(offset=777, size=len(contents)))


class TestOpenWindow(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return WindowNode(MemoryNode(b"\xcc" * 777 + contents, grows=True), WindowOptions(offset=777))


class TestReadOnly(NodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return ReadOnlyNode(MemoryNode(contents))


class TestCopyOnRead(WritableNodeContract):
    """Over an image whose contents are all in its backing file at first."""

    size_unit = 512

    @pytest.fixture
    def contents(self) -> bytes:
        from blockkit.testing.contract import sample_contents

        return sample_contents()[: 290 * 1024]

    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        (tmp_path / "base").write_bytes(contents)
        name = tmp_path / "disk"
        blockkit.create_image(name, "qcow2", backing_file="base", backing_format="raw", options="cluster_size=4K")
        with CopyOnReadNode(blockkit.open_image(name, read_only=False)) as node:
            yield node


class TestCopyOnReadReadOnly(NodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return CopyOnReadNode(MemoryNode(contents, read_only=True))
