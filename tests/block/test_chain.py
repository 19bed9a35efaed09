"""How a disk is stored, told through stacks of formats, filters and backing files."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.block.bases import FilterNode
from blockkit.block.chain import locate
from blockkit.block.filters.copy_on_read import CopyOnReadNode
from blockkit.block.filters.serial import SerialNode
from blockkit.block.filters.throttle import ThrottleNode, ThrottleOptions
from blockkit.block.filters.trace import TraceNode
from blockkit.block.filters.window import WindowNode, WindowOptions
from blockkit.block.node import Extent, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blockkit.block.node import Node

CLUSTER = 65536

#: Filters that must see every request.
OPAQUE: dict[str, Callable[[Node], Node]] = {
    "throttle": lambda file: ThrottleNode(file, ThrottleOptions()),
    "trace": lambda file: TraceNode(file, lambda event: None),
    "copy_on_read": CopyOnReadNode,
    "serial": SerialNode,
    "two": lambda file: SerialNode(TraceNode(file, lambda event: None)),
}


def kinds(found: Iterator[Extent]) -> list[tuple[int, int, str]]:
    """Return ``(first cluster, clusters, kind)`` of extents, with neighbours of one kind joined."""
    joined: list[tuple[int, int, str]] = []
    for extent in found:
        start, count, kind = extent.offset // CLUSTER, extent.length // CLUSTER, extent.kind.value
        if joined and joined[-1][2] == kind:
            joined[-1] = joined[-1][0], joined[-1][1] + count, kind
        else:
            joined.append((start, count, kind))
    return joined


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Node]:
    """Sixteen clusters: two and three are in the base (which has twelve), five is on top, six is zero on top."""
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    blockkit.create_image(base, "qcow2", 12 * CLUSTER)
    with blockkit.open_image(base, read_only=False) as node:
        node.write(2 * CLUSTER, b"b" * 2 * CLUSTER)
    blockkit.create_image(top, "qcow2", 16 * CLUSTER, backing_file="base.qcow2", backing_format="qcow2")
    with blockkit.open_image(top, read_only=False) as node:
        node.write(5 * CLUSTER, b"t" * CLUSTER)
        node.zero(6 * CLUSTER, CLUSTER)
        yield node


@pytest.mark.parametrize("name", OPAQUE)
def test_what_no_image_of_a_chain_stores_is_zero_through_a_filter(name: str, chain: Node) -> None:
    node = OPAQUE[name](chain)
    expected = [(0, 2, "zero"), (2, 2, "data"), (4, 1, "zero"), (5, 1, "data"), (6, 10, "zero")]
    assert kinds(node.extents()) == expected
    assert all(extent.node is node for extent in node.extents() if extent.kind is Kind.DATA)
    assert [node.map(start * CLUSTER, CLUSTER).kind.value for start, _, _ in expected] == [e[2] for e in expected]


@pytest.mark.parametrize("name", OPAQUE)
def test_an_empty_disk_is_not_read_through_a_filter(name: str, tmp_path: Path) -> None:
    blockkit.create_image(tmp_path / "a.qcow2", "qcow2", 100 << 30)
    with OPAQUE[name](blockkit.open_image(tmp_path / "a.qcow2")) as node:
        assert {run.kind for run in locate(node)} == {Kind.ZERO}


@pytest.mark.parametrize("name", ["throttle", "serial"])
def test_a_walk_through_a_filter_is_one_walk_below(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blockkit.create_image(tmp_path / "a.qcow2", "qcow2", 512 << 20)
    with blockkit.open_image(tmp_path / "a.qcow2", read_only=False) as disk:
        for cluster in range(0, 300, 2):
            disk.write(cluster * CLUSTER, b"x")
        node = OPAQUE[name](disk)
        monkeypatch.setattr(disk, "_map", lambda *_: pytest.fail("mapped one by one"))
        walks: list[int] = []
        walk = disk._extents
        monkeypatch.setattr(disk, "_extents", lambda *asked: walks.append(1) or walk(*asked))
        assert len(list(node.extents())) == 300
    assert len(walks) == 1


def test_a_long_walk_through_a_serial_node_is_told_whole(tmp_path: Path) -> None:
    blockkit.create_image(tmp_path / "a.qcow2", "qcow2", 64 << 20, options="cluster_size=4K")
    with blockkit.open_image(tmp_path / "a.qcow2", read_only=False) as disk:
        for cluster in range(0, 5000, 2):
            disk.write(cluster * 4096, b"x")
        expected = [(e.offset, e.length, e.kind is Kind.DATA) for e in disk.extents()]
        assert [(e.offset, e.length, e.kind is Kind.DATA) for e in SerialNode(disk).extents()] == expected


def test_a_filter_with_a_map_of_its_own_is_walked_by_it(chain: Node) -> None:
    class Backwards(FilterNode):
        def _map(self, offset: int, length: int) -> Extent:
            return Extent(offset, min(length, 512), Kind.DATA, self.file, self.file.size - offset - min(length, 512))

    node = Backwards(chain)
    assert node.unmoved is None
    assert [extent.target for extent in node.extents(0, 1024)] == [chain.size - 512, chain.size - 1024]


def test_what_is_bounded_is_the_chain_of_the_disk_itself(chain: Node) -> None:
    """A window over an image with a backing file is one layer: nothing else decides what it holds."""
    top = kinds(locate(chain, max_depth=0))  # type: ignore[arg-type]
    assert top == [(0, 5, "unallocated"), (5, 1, "data"), (6, 1, "zero"), (7, 5, "unallocated"), (12, 4, "zero")]
    window = WindowNode(chain, WindowOptions(offset=CLUSTER))
    assert kinds(locate(window, max_depth=0)) == [  # type: ignore[arg-type]
        (0, 1, "zero"), (1, 2, "data"), (3, 1, "zero"), (4, 1, "data"), (5, 10, "zero"),
    ]  # fmt: skip
    assert {run.depth for run in locate(window)} == {0}


@pytest.mark.parametrize("seed", range(5))
def test_what_is_said_to_be_zero_is_zero_through_any_stack(seed: int, chain: Node) -> None:
    rng = random.Random(seed)
    data, node = chain.read(0, chain.size), chain
    for _ in range(4):
        if rng.random() < 0.5:
            start = rng.randrange(node.size // 2)
            size = rng.randrange(1, node.size - start)
            node, data = WindowNode(node, WindowOptions(offset=start, size=size)), data[start : start + size]
        else:
            node = rng.choice(list(OPAQUE.values()))(node)
    assert node.read(0, node.size) == data
    for holes in (False, True):
        at = 0
        for run in locate(node, holes=holes):
            assert run.offset == at
            held = data[at : at + run.length]
            at += run.length
            if run.kind is Kind.DATA:
                assert run.node is not None
                assert run.node.pull_bytes(run.target, run.length) == held
            else:
                assert not any(held)
        assert at == node.size
