"""Growing and shrinking: long L1 tables, old bytes that must not come back, space reserved without its past."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit.block.node import Kind, Preallocation
from blockkit.block.report import Repair
from blockkit.errors import NodeIOError, NoSpaceError
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.testing.memory import MemoryNode
from tests.formats.qcow2.failing import FailsOnce

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Judge

    Image = Callable[..., MemoryNode]


class Keeping(MemoryNode):
    """A file that takes no hints: what is discarded stays."""

    def _discard(self, offset: int, length: int) -> None:
        return


@pytest.mark.parametrize("bits", [1, 16, 64])
def test_an_l1_table_longer_than_a_refcount_block_counts(bits: int, image: Image, judge: Judge) -> None:
    file = image(1 << 20, cluster_size=512, refcount_bits=bits)
    with Qcow2Node(file, read_only=False) as node:
        node.write(0, b"first")
        for size in (200 << 20, 700 << 20):
            node.resize(size)
            node.write(size - 4, b"last")
            assert node.read(size - 4, 4) == b"last"
        assert node.read(0, 5) == b"first"
    assert judge.check(file.data) == 0, judge.words


@pytest.mark.parametrize("mode", [Preallocation.METADATA, Preallocation.FALLOC, Preallocation.FULL])
def test_reserved_space_does_not_show_what_it_held(mode: Preallocation, image: Image) -> None:
    file = Keeping(image(64 * 512, cluster_size=512).data, grows=True)
    with Qcow2Node(file, read_only=False) as node:
        node.write(0, b"secret!!" * 64 * 64)
        node.flush()
        node.discard(0, 64 * 512)
        node.flush()
        node.resize(128 * 512, preallocate=mode)
        assert node.map(64 * 512, 512).kind is Kind.DATA
        assert node.read(0, 128 * 512) == bytes(128 * 512)


def test_what_shrinking_cut_off_does_not_come_back(image: Image) -> None:
    file = Keeping(image(100 * 4096, cluster_size=4096).data, grows=True)
    backing = MemoryNode(b"b" * 4096 * 80)
    with Qcow2Node(file, read_only=False, backing=backing) as node:
        node.write(0, b"a" * 100 * 4096)
        for size in (10 * 4096 + 512, 90 * 4096 + 1024, 5 * 4096 + 1536, 99 * 4096):
            node.resize(size)
            kept = min(size, 5 * 4096 + 1536 if size > 90 * 4096 + 1024 else 10 * 4096 + 512)
            data = node.read(0, size)
            assert data[:kept] == b"a" * kept
            assert data[kept:] == bytes(size - kept)


def test_sizes_no_table_can_map_are_refused(image: Image) -> None:
    with Qcow2Node(image(1 << 20, cluster_size=512), read_only=False) as node:
        for size in (1 << 62, (1 << 63) - 512):
            with pytest.raises(NoSpaceError):
                node.resize(size)
        assert node.size == 1 << 20


@pytest.mark.parametrize("nth", range(1, 40))
def test_growing_that_fails_half_way_can_be_done_again(nth: int, image: Image) -> None:
    file = FailsOnce(image(100 * 512, cluster_size=512, refcount_bits=64).data, grows=True)
    backing = MemoryNode(b"b" * 512 * 30_000)
    node = Qcow2Node(file, read_only=False, backing=backing)
    node.write(0, b"a" * 100 * 512)
    file.left = nth
    size = 512 * 64 * 200
    try:
        node.resize(size)
    except NodeIOError:
        assert node.size in (100 * 512, size)
        node.resize(size)
    file.left = 10**9
    node.write(size - 512, b"z" * 512)
    node.flush()
    for opened in (node, Qcow2Node(MemoryNode(file.data), backing=MemoryNode(backing.data))):
        assert opened.size == size
        assert opened.read(0, 100 * 512) == b"a" * 100 * 512
        assert opened.read(100 * 512, 512 * 1000) == bytes(512 * 1000)
        assert opened.read(size - 512, 512) == b"z" * 512
    node.close()
    report = check_image(file, read_header(file), Repair.NONE)
    assert report.corruptions + report.check_errors == 0, report.findings[:5]


@pytest.mark.parametrize("mode", [Preallocation.METADATA, Preallocation.FALLOC, Preallocation.FULL])
def test_reserving_space_cuts_off_nothing_that_is_written_meanwhile(mode: Preallocation, image: Image) -> None:
    class Busy(MemoryNode):
        meanwhile: Callable[[], None] | None = None

        def _others(self) -> None:
            if self.meanwhile is not None:
                meanwhile, self.meanwhile = self.meanwhile, None
                meanwhile()

        def _resize(self, size: int, preallocate: Preallocation) -> None:
            self._others()
            super()._resize(size, preallocate)

        def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
            self._others()
            super()._zero(offset, length, unmap, fast)

        def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
            if offset >= len(self.data):
                self._others()
            super()._writev(offset, buffers, fua)

    file = Busy(image(64 * 4096, cluster_size=4096).data, grows=True)
    with Qcow2Node(file, read_only=False) as node:
        file.meanwhile = lambda: node.write(0, b"kept" * 64 * 1024)
        node.resize(128 * 4096, preallocate=mode)
        assert file.meanwhile is None
        assert node.read(0, 128 * 4096) == b"kept" * 64 * 1024 + bytes(64 * 4096)
    assert check_image(file, read_header(file), Repair.NONE).clean


@pytest.mark.parametrize("mode", [Preallocation.METADATA, Preallocation.FALLOC, Preallocation.FULL])
@pytest.mark.parametrize("room", [10, 100, 300])
def test_reserving_that_fails_gives_everything_back(mode: Preallocation, room: int, image: Image) -> None:
    class Full(MemoryNode):
        limit = 1 << 62

        def _store(self, offset: int, data: bytes) -> None:
            if offset + len(data) > self.limit:
                raise NoSpaceError("told to be full")
            super()._store(offset, data)

    file = Full(image(64 * 512, cluster_size=512).data, grows=True)
    with Qcow2Node(file, read_only=False) as node:
        node.write(0, b"a" * 64 * 512)
        node.flush()
        file.limit = file.size + room * 512
        with pytest.raises(NoSpaceError):
            node.resize(1000 * 512, preallocate=mode)
        assert node.size == 64 * 512
        assert node.read(0, node.size) == b"a" * 64 * 512
    report = check_image(file, read_header(file), Repair.NONE)
    assert report.clean, report.findings[:5]
