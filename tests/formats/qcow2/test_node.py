"""What a qcow2 node promises beyond reading back what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from blockkit.block.copy import CopyPlan, copy
from blockkit.block.graph import create_image, open_image
from blockkit.block.report import Repair
from blockkit.errors import CorruptImageError, NodeIOError, UnsupportedOperationError, UsageError
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.formats.qcow2.schema import Incompatible
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable

    Image = Callable[..., MemoryNode]

CLUSTER = 4096


def dirty(file: MemoryNode) -> bool:
    return bool(read_header(file).incompatible & Incompatible.DIRTY)


def test_zeroing_fast_writes_nothing_when_it_cannot_do_all_of_it(image: Image) -> None:
    with Qcow2Node(image(CLUSTER * 4, cluster_size=CLUSTER), read_only=False) as node:
        node.write(0, b"d" * CLUSTER * 4)
        for offset, length in ((CLUSTER, CLUSTER + 5), (CLUSTER - 5, CLUSTER + 5), (7, 9)):
            with pytest.raises(UnsupportedOperationError):
                node.zero(offset, length, fast=True)
            assert node.read(0, CLUSTER * 4) == b"d" * CLUSTER * 4
        node.zero(CLUSTER, CLUSTER, fast=True)
        assert node.read(CLUSTER, CLUSTER) == bytes(CLUSTER)
        node.zero(CLUSTER + 5, 90, fast=True)


def test_new_clusters_hold_zeros_around_what_was_written(image: Image) -> None:
    class Keeping(MemoryNode):
        def _discard(self, offset: int, length: int) -> None:
            return

    file = Keeping(image(CLUSTER * 4, cluster_size=CLUSTER).data, grows=True)
    with Qcow2Node(file, read_only=False) as node:
        node.write(0, b"old!" * CLUSTER)
        node.discard(0, CLUSTER * 4)
        node.flush()
        node.write(100, b"new")
        assert node.read(0, CLUSTER) == (bytes(100) + b"new").ljust(CLUSTER, b"\0")


def test_a_dirty_image_takes_no_writes_and_stays_dirty(image: Image) -> None:
    file = image(1 << 20, cluster_size=CLUSTER, lazy_refcounts=True)
    Qcow2Node(file, read_only=False).write(0, b"x")
    assert dirty(file)
    with Qcow2Node(file, read_only=False) as node:
        with pytest.raises(CorruptImageError, match="not closed"):
            node.write(0, b"y")
    assert dirty(file)


def test_a_check_sees_lazy_counts_and_the_next_write_is_dirty_again(image: Image) -> None:
    file = image(1 << 20, cluster_size=CLUSTER, lazy_refcounts=True)
    with Qcow2Node(file, read_only=False) as node:
        node.write(0, b"x" * CLUSTER * 9)
        assert node.check(Repair.NONE).clean
        assert not dirty(file)
        node.write(CLUSTER * 20, b"x" * CLUSTER)
        assert dirty(file)
    assert not dirty(file)


def test_the_dirty_bit_that_could_not_be_set_is_set_before_anything_else(image: Image) -> None:
    class Once(MemoryNode):
        failing = True

        def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
            if self.failing:
                raise NodeIOError("told to fail")
            super()._writev(offset, buffers, fua)

    file = Once(image(1 << 20, cluster_size=CLUSTER, lazy_refcounts=True).data, grows=True)
    node = Qcow2Node(file, read_only=False)
    with pytest.raises(NodeIOError):
        node.write(0, b"x")
    file.failing = False
    node.write(0, b"x")
    node.flush()
    assert dirty(file)
    node.close()
    assert not dirty(file)


def test_what_is_not_one_cluster_compressed_is_refused(image: Image) -> None:
    with Qcow2Node(image(1 << 20, cluster_size=CLUSTER), read_only=False) as node:
        for data in (b"", b"x" * (CLUSTER + 1)):
            with pytest.raises(UsageError):
                node.write_compressed(0, data)


def test_without_its_backing_file_an_image_takes_no_writes_but_repairs(disk: Callable[..., Qcow2Node]) -> None:
    node = disk(CLUSTER * 8, cluster_size=CLUSTER, backing_file="base.raw", backing_fmt="raw")
    before = bytes(cast("MemoryNode", node.file).data)
    changes: list[Callable[[], object]] = [
        lambda: node.write(10, b"x"),
        lambda: node.writev(0, [b"x" * CLUSTER]),
        lambda: node.zero(10, 1),
        lambda: node.zero(0, CLUSTER),
        lambda: node.discard(0, CLUSTER),
        lambda: node.write_compressed(0, b"x"),
        lambda: node.resize(CLUSTER * 9),
    ]
    for change in changes:
        with pytest.raises(UnsupportedOperationError, match=r"while its backing file 'base\.raw' is not open"):
            change()
    assert cast("MemoryNode", node.file).data == before
    assert node.check(Repair.ALL).clean
    node.resize(CLUSTER * 4)
    assert node.size == CLUSTER * 4
    node.backing = MemoryNode(b"b" * CLUSTER * 4)
    node.write(10, b"x")
    assert node.read(0, CLUSTER) == b"b" * 10 + b"x" + b"b" * (CLUSTER - 11)


def test_an_entry_that_is_ours_and_nowhere_is_nothing(tmp_path, qemu_img):
    """COPIED without an offset: every reader takes it for an empty entry, and the first write fills it."""
    path, target = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    create_image(path, "qcow2", 1 << 20)
    with open_image(path, read_only=False) as node:
        node.write(0, b"a" * 65536)
        node.write(3 << 16, b"b" * 65536)
        node.flush()
        table = node.metadata.mapping.load(0).offset
    with path.open("r+b") as file:
        file.seek(table + 8)
        file.write((1 << 63).to_bytes(8, "big"))
    expected = b"a" * 65536 + bytes(131072) + b"b" * 65536
    qemu_img("check", path)
    create_image(target, "qcow2", 1 << 20)
    with open_image(path) as node, open_image(target, read_only=False) as copied:
        assert node.read(0, 1 << 18) == expected
        assert node.data_columns(0, 1 << 20) is None
        assert [extent.length >> 16 for extent in node.extents(0, 1 << 20)] == [1, 2, 1, 12]
        copy(node, copied, CopyPlan(target_is_zero=True))
        assert copied.read(0, 1 << 18) == expected
    with open_image(path, read_only=False) as node:
        node.write((1 << 16) + 5, b"x")
        assert node.read(1 << 16, 8) == bytes(5) + b"x\0\0"
    qemu_img("check", path)


def test_a_table_that_was_looked_up_before_its_clusters_were_freed_is_not_believed(tmp_path):
    """Between the lookup and the read another thread frees the cluster, and somebody else's data goes there."""
    path = tmp_path / "a.qcow2"
    create_image(path, "qcow2", 1 << 20, options={"cluster_size": "512"})
    node = open_image({"driver": "qcow2", "file": str(path), "cache_size": 2048}, read_only=False)
    span = 32 << 10
    for start in range(0, 1 << 20, span):
        node.write(start, b"A" * 512)
    node.flush()
    node.read(0, 512)
    tables = node._tables

    class Interrupted:
        def get(self, key):
            table, node._tables = tables.get(key), tables
            for other in range(1, 9):
                node.read(other * span, 512)
            node.discard(0, 512)
            node.flush()
            node.write(9 * span + 1536, b"B" * 512)
            node.flush()
            return table

    node._tables = Interrupted()
    assert node.read(0, 512) == bytes(512)
    node.close()
