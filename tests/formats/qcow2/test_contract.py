"""qcow2 keeps the contract of every node: plain, over a backing file, compressed, old, and with tiny tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit.block.graph import create_image, open_image
from blockkit.formats.qcow2 import reading
from blockkit.testing.contract import NodeContract, WritableNodeContract, sample_contents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blockkit.block.node import Node


@pytest.fixture
def contents(self: object) -> bytes:
    """Whole sectors: a new qcow2 image has nothing else."""
    data = sample_contents()
    return data + bytes(-len(data) % 512)


class Qcow2Contract(WritableNodeContract):
    """A qcow2 image made with ``options``, whose contents were written in pieces."""

    __test__ = False
    contents = contents
    size_unit = 512
    options: str = ""

    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        name = tmp_path / "disk.qcow2"
        create_image(name, "qcow2", len(contents), options=self.options)
        with open_image(name, read_only=False) as node:
            for start in range(0, len(contents), 40_000):
                node.write(start, contents[start : start + 40_000])
            yield node


class TestQcow2(Qcow2Contract):
    __test__ = True


class TestQuickReads(Qcow2Contract):
    """Small reads are native from the first one on, where they can be."""

    __test__ = True
    options = "cluster_size=4K"

    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "_READS", 0)


class TestVersion2(Qcow2Contract):
    __test__ = True
    options = "compat=0.10"


class TestSmallClusters(Qcow2Contract):
    __test__ = True
    options = "cluster_size=512,refcount_bits=64"


class TestLazyRefcounts(Qcow2Contract):
    __test__ = True
    options = "cluster_size=2M,lazy_refcounts=on,refcount_bits=1"


class TestPreallocated(Qcow2Contract):
    __test__ = True
    options = "preallocation=metadata,cluster_size=4K"


class TestOverBacking(Qcow2Contract):
    """Everything is in the backing file, which is longer than the overlay."""

    __test__ = True

    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        base, name = tmp_path / "base.raw", tmp_path / "disk.qcow2"
        base.write_bytes(contents + b"\xee" * 300_000)
        create_image(name, "qcow2", len(contents), backing_file="base.raw", backing_format="raw")
        with open_image(name, read_only=False) as node:
            yield node


class TestCompressed(Qcow2Contract):
    """Every cluster that can be is compressed."""

    __test__ = True

    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        name = tmp_path / "disk.qcow2"
        create_image(name, "qcow2", len(contents), options="cluster_size=4K,compression_type=zstd")
        with open_image(name, read_only=False) as node:
            for start in range(0, len(contents), 4096):
                cluster = contents[start : start + 4096].ljust(4096, b"\0")
                encoded = node.compress(cluster)
                if encoded is None:
                    node.write(start, contents[start : start + 4096])
                else:
                    node.write_compressed(start, encoded)
            yield node


class TestReadOnly(NodeContract):
    contents = contents

    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        name = tmp_path / "disk.qcow2"
        create_image(name, "qcow2", len(contents))
        with open_image(name, read_only=False) as node:
            node.write(0, contents)
        with open_image(name) as node:
            yield node
