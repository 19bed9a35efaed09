from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit.protocols.file import open_path
from blockkit.testing.contract import NodeContract, WritableNodeContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blockkit.block.node import Node


class TestHostFile(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        path = tmp_path / "disk"
        path.write_bytes(contents)
        with open_path(path, read_only=False) as node:
            yield node

    def reopen(self, node: Node) -> Node:
        node.close()
        return open_path(node.filename)


class TestHostFileReadOnly(NodeContract):
    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        path = tmp_path / "disk"
        path.write_bytes(contents)
        with open_path(path) as node:
            yield node
