"""Reference counts: finding room, growing the table, and what a failing file does to them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from blockkit.errors import CorruptImageError, NodeIOError, NoSpaceError
from blockkit.formats.qcow2 import refcounts as module
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.testing.memory import MemoryNode
from tests.formats.qcow2.failing import FailsOnce

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Judge

    from blockkit.formats.qcow2.refcounts import Refcounts

WIDTHS = pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])


def counts_of(node: Qcow2Node) -> Refcounts:
    return node.metadata.refcounts


@WIDTHS
def test_free_clusters_are_found_again_and_never_given_twice(bits: int, disk: Callable[..., Qcow2Node]) -> None:
    counts, rng = counts_of(disk(1 << 20, cluster_size=512, refcount_bits=bits)), random.Random(bits)
    used: set[int] = {cluster for cluster in range(4096) if counts.get(cluster)}
    mine: set[int] = set()
    for _ in range(600):
        if mine and rng.random() < 0.45:
            cluster = rng.choice(sorted(mine))
            mine.remove(cluster)
            counts.release(cluster)
            assert counts.get(cluster) == 1, "a release waits"
            counts.apply_releases()
            assert counts.get(cluster) == 0
        else:
            wish = rng.randrange(1, 40)
            if rng.random() < 0.2:
                first, count = counts.allocate_contiguous(wish), wish
            else:
                first, count = counts.allocate(wish)
            new = set(range(first, first + count))
            assert 1 <= count <= wish
            assert not new & (used | mine)
            assert all(counts.get(cluster) == 1 for cluster in new)
            mine |= new


@WIDTHS
def test_a_run_longer_than_a_block_counts_is_found(bits: int, disk: Callable[..., Qcow2Node], judge: Judge) -> None:
    node = disk(1 << 20, cluster_size=512, refcount_bits=bits)
    counts = counts_of(node)
    wish = 3 * counts.geometry.refcount_block_entries + 5
    first = counts.allocate_contiguous(wish)
    assert all(counts.get(cluster) == 1 for cluster in range(first, first + wish))
    counts.give_back(first, wish)
    node.write(0, b"x" * 512)
    node.close()
    assert judge.check(node.file.data) == 0, judge.words


@pytest.mark.parametrize(("bits", "clusters"), [(64, 70_000), (32, 150_000)])
def test_the_table_grows_past_what_one_block_counts(
    bits: int, clusters: int, disk: Callable[..., Qcow2Node], judge: Judge
) -> None:
    node = disk(1 << 20, cluster_size=512, refcount_bits=bits)
    counts, taken = counts_of(node), []
    left = clusters
    while left > 0:
        taken.append(counts.allocate(left))
        left -= taken[-1][1]
    assert sum(count for _, count in taken) == clusters
    for first, count in taken:
        counts.give_back(first, count)
    node.write(0, b"y" * 4096)
    node.flush()
    # The blocks lie all over a long file: what is not there reads as zeros.
    again = Qcow2Node(MemoryNode(node.file.data, grows=True), read_only=False)
    assert counts_of(again).table == counts.table
    node.close()
    if clusters < 100_000:
        assert judge.check(node.file.data) == 0, judge.words


def test_a_width_of_one_bit_never_counts_two(disk: Callable[..., Qcow2Node]) -> None:
    counts = counts_of(disk(1 << 20, cluster_size=512, refcount_bits=1))
    first, _ = counts.allocate(1)
    assert not counts.increase(first)
    assert counts.get(first) == 1


def test_a_full_device_says_so(image: Callable[..., MemoryNode]) -> None:
    file = image(1 << 20, cluster_size=512)
    device = MemoryNode(bytes(file.data).ljust(20 * 512, b"\0"))
    node = Qcow2Node(device, read_only=False)
    with pytest.raises(NoSpaceError):
        node.write(0, b"z" * 512 * 40)
    node.close()


class Failing(MemoryNode):
    """A file whose writes fail while told so."""

    failing = False

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        if self.failing:
            raise NodeIOError("told to fail")
        super()._writev(offset, buffers, fua)


def test_a_block_that_cannot_be_written_is_not_forgotten(
    image: Callable[..., MemoryNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CACHE_SIZE", 1)
    file = Failing(image(1 << 20, cluster_size=512, refcount_bits=64).data, grows=True)
    counts = counts_of(Qcow2Node(file, read_only=False))
    file.failing = True
    taken = [counts.allocate(1)[0] for _ in range(300)]
    file.failing = False
    assert len(set(taken)) == 300
    assert all(counts.get(cluster) == 1 for cluster in taken)


@pytest.mark.parametrize("nth", range(12))
@pytest.mark.parametrize("lazy", [False, True])
def test_a_table_that_could_not_be_moved_is_moved_by_the_next_commit(
    nth: int, lazy: bool, image: Callable[..., MemoryNode], judge: Judge
) -> None:
    file = FailsOnce(image(4 << 20, cluster_size=512, refcount_bits=64, lazy_refcounts=lazy).data, grows=True)
    node = Qcow2Node(file, read_only=False)
    data = random.Random(3).randbytes(3 << 20)
    node.write(0, data)
    assert node.metadata.refcounts.moved
    # The last few operations of the commit are the move itself; try them all from the end.
    try:
        file.left = nth * 3 + 1
        node.flush()
    except NodeIOError:
        file.left = -1
    file.left = -1
    node.write(1000, data[:5000])
    node.discard(1 << 20, 1 << 19)
    node.flush()
    node.write(3 << 20, data[: 1 << 19])
    node.flush()
    image_now = bytes(file.data)
    assert judge.check(image_now, *(["-r", "all"] if lazy else [])) == 0, judge.words
    with Qcow2Node(MemoryNode(image_now)) as again:
        assert again.read(0, 1000) == data[:1000]
        assert again.read(1000, 5000) == data[:5000]
        assert again.read(3 << 20, 1 << 19) == data[: 1 << 19]
    node.close()


@pytest.mark.parametrize(
    ("what", "entry"), [("header", 0), ("table", 512), ("block", 1024), ("past the end", 1 << 40), ("crooked", 700)]
)
def test_blocks_in_wrong_places_are_refused_for_writing(
    what: str, entry: int, image: Callable[..., MemoryNode]
) -> None:
    file = image(1 << 20, cluster_size=512)
    # A second block, somewhere it must not be; 0 is none at all, so it takes the L1 table's place instead.
    entry = entry or int.from_bytes(file.data[40:48], "big")
    file.data[512 + 8 : 512 + 16] = entry.to_bytes(8, "big")
    with pytest.raises(CorruptImageError):
        Qcow2Node(MemoryNode(file.data, grows=True), read_only=False)
    Qcow2Node(MemoryNode(file.data)).read(0, 512)
