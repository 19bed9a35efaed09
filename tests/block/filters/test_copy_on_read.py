from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.block.filters.copy_on_read import CopyOnReadNode
from blockkit.block.node import Kind, Node
from blockkit.errors import NoSpaceError

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = 65536


@pytest.fixture
def name(tmp_path: Path) -> Path:
    """An empty image of 8 clusters over a backing file of 4: three of data, one of zeros."""
    (tmp_path / "base").write_bytes(b"".join(bytes([n]) * CLUSTER for n in (1, 2, 3, 0)))
    blockkit.create_image(tmp_path / "disk", "qcow2", 8 * CLUSTER, backing_file="base", backing_format="raw")
    return tmp_path / "disk"


def kinds(node: Node) -> list[Kind]:
    return [node.map(n * CLUSTER, 1).kind for n in range(8)]


def test_what_was_read_is_in_the_image_afterwards(name: Path) -> None:
    with blockkit.open_image({"driver": "copy_on_read", "file": str(name)}, read_only=False) as node:
        assert isinstance(node, CopyOnReadNode)
        assert node.read(0, 1) == b"\1"
        assert kinds(node.file) == [Kind.DATA] + [Kind.UNALLOCATED] * 7
        assert node.read(CLUSTER - 1, CLUSTER + 2) == b"\1" + b"\2" * CLUSTER + b"\3"
        assert kinds(node.file) == [Kind.DATA] * 3 + [Kind.UNALLOCATED] * 5
    (name.parent / "base").write_bytes(bytes(4 * CLUSTER))
    with blockkit.open_image(name) as image:
        assert image.read(0, 3 * CLUSTER) == b"\1" * CLUSTER + b"\2" * CLUSTER + b"\3" * CLUSTER


def test_zeros_of_the_backing_file_are_copied_as_zeros(name: Path) -> None:
    with CopyOnReadNode(blockkit.open_image(name, read_only=False)) as node:
        assert node.read(3 * CLUSTER, CLUSTER) == bytes(CLUSTER)
        assert node.file.map(3 * CLUSTER, CLUSTER).kind is Kind.ZERO


def test_what_no_backing_file_has_is_not_copied(name: Path) -> None:
    with CopyOnReadNode(blockkit.open_image(name, read_only=False)) as node:
        assert node.read(4 * CLUSTER, 4 * CLUSTER) == bytes(4 * CLUSTER)
        assert kinds(node.file) == [Kind.UNALLOCATED] * 8


def test_what_the_image_has_is_not_copied_over(name: Path) -> None:
    with CopyOnReadNode(blockkit.open_image(name, read_only=False)) as node:
        node.write(CLUSTER, b"mine" * (CLUSTER // 4))
        node.zero(0, CLUSTER)
        assert node.read(0, 3 * CLUSTER) == bytes(CLUSTER) + b"mine" * (CLUSTER // 4) + b"\3" * CLUSTER
        assert node.read(0, 3 * CLUSTER) == bytes(CLUSTER) + b"mine" * (CLUSTER // 4) + b"\3" * CLUSTER


def test_over_a_read_only_image_it_only_reads(name: Path) -> None:
    before = name.read_bytes()
    with CopyOnReadNode(blockkit.open_image(name)) as node:
        assert node.read(0, 1) == b"\1"
    assert name.read_bytes() == before


def test_a_copy_never_overwrites_a_newer_write(name: Path) -> None:
    with CopyOnReadNode(blockkit.open_image(name, read_only=False)) as node:
        fetched, written = threading.Event(), threading.Event()
        image = node.file
        push = image.push
        reader = threading.current_thread()

        def slow_push(offset: int, buffers: list[memoryview], fua: bool = False) -> None:
            if threading.current_thread() is reader:
                fetched.set()
                # A write that did not wait would be done by now, and be copied over.
                written.wait(0.2)
            push(offset, buffers, fua)

        image.push = slow_push  # type: ignore[method-assign]

        def write() -> None:
            fetched.wait(10)
            node.write(10, b"newer")
            written.set()

        writer = threading.Thread(target=write)
        writer.start()
        node.read(0, CLUSTER)
        writer.join()
        assert node.read(9, 7) == b"\1newer\1"


def test_a_copy_that_fails_does_not_fail_the_read(name: Path, caplog: pytest.LogCaptureFixture) -> None:
    with CopyOnReadNode(blockkit.open_image(name, read_only=False)) as node:

        def full(*_: object) -> None:
            raise NoSpaceError("full")

        node.file.push = full  # type: ignore[method-assign]
        with caplog.at_level(logging.WARNING):
            assert node.read(0, 2) == b"\1\1"
            assert node.read(CLUSTER, 2) == b"\2\2"
    assert [record.getMessage() for record in caplog.records] == [
        f"{name}: what is read cannot be copied from the backing file: full"
    ]
