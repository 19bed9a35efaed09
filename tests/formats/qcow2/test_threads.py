"""Many threads on one node: requests that do not overlap never affect each other."""

from __future__ import annotations

import random
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from blockkit.block.report import Repair
from blockkit.errors import CorruptImageError, NodeIOError, OutOfRangeError
from blockkit.formats.qcow2 import resize as qcow2_resize
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 1.0
BLOCK = 512
ZERO = bytes(BLOCK)


@pytest.fixture(autouse=True)
def _eager_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def tag(block: int, version: int) -> bytes:
    return struct.pack(">II", block + 1, version) * (BLOCK // 8)


def together(*works: Callable[[Callable[[], bool]], None], seconds: float = SECONDS) -> None:
    """Run each of ``works`` in a thread until the time is over; the first failure ends all and is raised."""
    failures: list[BaseException] = []
    end = time.monotonic() + seconds

    def going() -> bool:
        return not failures and time.monotonic() < end

    def run(work: Callable[[Callable[[], bool]], None]) -> None:
        try:
            work(going)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
        assert not thread.is_alive(), "a request never came back"
    if failures:
        raise failures[0]


def check(node: Qcow2Node) -> None:
    node._close()
    report = check_image(node.file, read_header(node.file), Repair.NONE)
    assert report.clean, report.findings[:5]


class Owner:
    """Writes, zeroes, discards and reads blocks that are its own; it must always see what it did last."""

    def __init__(self, node: Qcow2Node, blocks: list[int], seed: int, *, kinds: str = "wwwwzdrrr") -> None:
        self.node, self.blocks, self.rng, self.kinds = node, blocks, random.Random(seed), kinds
        self.legal: dict[int, set[bytes]] = {}
        self.version = 0

    def __call__(self, going: Callable[[], bool]) -> None:
        while going():
            self.step()

    def step(self) -> None:
        block, kind = self.rng.choice(self.blocks), self.rng.choice(self.kinds)
        node, offset = self.node, block * BLOCK
        if kind == "w":
            self.version += 1
            node.write(offset, tag(block, self.version))
            self.legal[block] = {tag(block, self.version)}
        elif kind == "z":
            node.zero(offset, BLOCK)
            self.legal[block] = {ZERO}
        elif kind == "d":
            node.discard(offset, BLOCK)
            self.legal[block] = self.legal.get(block, {ZERO}) | {ZERO}
        elif kind == "f":
            node.flush()
        else:
            self.look(block)

    def look(self, block: int) -> None:
        found = self.node.read(block * BLOCK, BLOCK)
        legal = self.legal.get(block, {ZERO})
        assert found in legal, f"block {block}: {found[:8].hex()}, not one of {[v[:8].hex() for v in legal]}"


@pytest.mark.parametrize(("cluster", "under"), [(4096, False), (65536, True), (512, False)])
def test_writers_of_one_cluster_do_not_undo_each_other(
    cluster: int, under: bool, image: Callable[..., MemoryNode]
) -> None:
    blocks = 2048
    file = image(blocks * BLOCK, cluster_size=cluster)
    backing = MemoryNode(b"".join(tag(block, 0) for block in range(blocks))) if under else None
    node = Qcow2Node(file, read_only=False, backing=backing, cache_size=0)
    # Neighbours belong to different threads, so that almost every cluster is shared.
    owners = [Owner(node, list(range(n, blocks, 6)), n, kinds="wwwzrrf" if n < 2 else "wwwzrr") for n in range(6)]
    if under:
        for owner in owners:
            owner.legal = {block: {tag(block, 0)} for block in owner.blocks}
    together(*owners)
    for owner in owners:
        for block in owner.blocks:
            owner.look(block)
    check(node)


@pytest.mark.parametrize("cluster", [512, 1024])
def test_freed_clusters_are_never_seen_by_their_old_readers(cluster: int, image: Callable[..., MemoryNode]) -> None:
    blocks, per = 512, cluster // BLOCK
    node = Qcow2Node(image(blocks * BLOCK, cluster_size=cluster), read_only=False, cache_size=0)
    data = bytes(BLOCK)

    def reader(seed: int) -> Callable[[Callable[[], bool]], None]:
        def run(going: Callable[[], bool]) -> None:
            rng = random.Random(seed)
            while going():
                block, count = rng.randrange(blocks - 8), rng.randrange(1, 9)
                found = node.read(block * BLOCK, count * BLOCK)
                for at in range(count):
                    piece = found[at * BLOCK : (at + 1) * BLOCK]
                    whose = int.from_bytes(piece[:4], "big")
                    assert whose in (0, block + at + 1), f"block {block + at} showed block {whose - 1}"
                    assert piece == piece[:8] * (BLOCK // 8)

        return run

    def churner(seed: int) -> Callable[[Callable[[], bool]], None]:
        def run(going: Callable[[], bool]) -> None:
            rng, version = random.Random(seed), 0
            while going():
                first = rng.randrange(blocks // per) * per
                version += 1
                kind = rng.randrange(6)
                if kind < 2:
                    node.write(first * BLOCK, b"".join(tag(b, version) for b in range(first, first + per)))
                elif kind == 2:
                    encoded = node.compress(b"".join(tag(b, version) for b in range(first, first + per)))
                    if encoded is not None:
                        node.write_compressed(first * BLOCK, encoded)
                elif kind == 3:
                    node.discard(first * BLOCK, min(40 * BLOCK, node.size - first * BLOCK))
                elif kind == 4:
                    node.zero(first * BLOCK, cluster)
                else:
                    node.flush()

        return run

    together(*(reader(n) for n in range(3)), *(churner(n) for n in range(3)))
    assert data == ZERO
    check(node)


def test_resizing_beside_writers_leaves_their_blocks_alone(image: Callable[..., MemoryNode]) -> None:
    blocks = 256
    node = Qcow2Node(image(blocks * BLOCK, cluster_size=512), read_only=False, cache_size=0)
    owners = [Owner(node, list(range(n, blocks, 3)), n) for n in range(3)]

    def resizer(going: Callable[[], bool]) -> None:
        rng = random.Random(1)
        while going():
            node.resize((blocks + rng.randrange(1, 800)) * BLOCK)
            if node.size > (blocks + 40) * BLOCK:
                node.write((blocks + 10) * BLOCK, b"\xaa" * 10 * BLOCK)
            node.resize(blocks * BLOCK)
            node.resize((blocks + 40) * BLOCK)
            assert node.read(blocks * BLOCK, 40 * BLOCK) == bytes(40 * BLOCK)

    together(*owners, resizer)
    for owner in owners:
        for block in owner.blocks:
            owner.look(block)
    check(node)


def test_shrinking_waits_for_a_write_that_is_on_its_way(image: Callable[..., MemoryNode]) -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow(MemoryNode):
        def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
            if b"slow" in bytes(buffers[0][:4]):
                begun.set()
                assert go.wait(30)
            super()._writev(offset, buffers, fua)

        def _discard(self, offset: int, length: int) -> None:
            return

    file = Slow(image(64 * BLOCK, cluster_size=BLOCK).data, grows=True)
    node = Qcow2Node(file, read_only=False)
    node.write(0, b"a" * 64 * BLOCK)
    node.flush()
    writer = threading.Thread(target=node.write, args=(40 * BLOCK, b"slow" * (BLOCK // 4)))
    shrinker = threading.Thread(target=node.resize, args=(32 * BLOCK,))
    writer.start()
    assert begun.wait(30)
    shrinker.start()
    # Were it not to wait, the cluster would be free by now, and in use again.
    shrinker.join(0.2)
    assert shrinker.is_alive()
    go.set()
    writer.join(30)
    shrinker.join(30)
    node.resize(64 * BLOCK)
    node.write(32 * BLOCK, b"b" * 32 * BLOCK)
    assert node.read(0, 64 * BLOCK) == b"a" * 32 * BLOCK + b"b" * 32 * BLOCK
    check(node)


def test_a_stale_compressed_cluster_is_read_again_not_called_corrupt(image: Callable[..., MemoryNode]) -> None:
    class Interrupted(MemoryNode):
        meanwhile: Callable[[], object] | None = None

        def _readv(self, offset: int, buffers: list[memoryview]) -> None:
            if self.meanwhile is not None:
                meanwhile, self.meanwhile = self.meanwhile, None
                meanwhile()
            super()._readv(offset, buffers)

    file = Interrupted(image(64 * 4096, cluster_size=4096).data, grows=True)
    node = Qcow2Node(file, read_only=False)
    encoded = node.compress(b"old!" * 1024)
    assert encoded is not None
    node.write_compressed(0, encoded)
    node.flush()

    def meanwhile() -> None:
        node.write(0, b"new!" * 1024)
        node.flush()
        node.write(4096, b"\xff" * 4096 * 8)

    file.meanwhile = meanwhile
    assert node.read(0, 4096) == b"new!" * 1024
    check(node)


@pytest.mark.parametrize("lazy", [False, True])
def test_checking_and_repairing_beside_writers_loses_nothing(lazy: bool, image: Callable[..., MemoryNode]) -> None:
    blocks = 1024
    file = image(blocks * BLOCK, cluster_size=1024, lazy_refcounts=lazy)
    node = Qcow2Node(file, read_only=False, cache_size=0)
    owners = [Owner(node, list(range(n, blocks, 4)), n, kinds="wwwwzdrf") for n in range(4)]

    def checker(going: Callable[[], bool]) -> None:
        while going():
            for repair in (Repair.NONE, Repair.ALL):
                report = node.check(repair)
                assert report.clean, report.findings[:5]
                assert not report.leaks_fixed
                assert not report.corruptions_fixed

    together(*owners, checker)
    for owner in owners:
        for block in owner.blocks:
            owner.look(block)
    check(node)


def test_a_repair_that_fails_leaves_an_image_that_others_may_read_and_close(image: Callable[..., MemoryNode]) -> None:
    class Failing(MemoryNode):
        broken = False

        def _readv(self, offset: int, buffers: list[memoryview]) -> None:
            if self.broken:
                raise NodeIOError("told to fail")
            super()._readv(offset, buffers)

    file = Failing(image(64 * BLOCK, cluster_size=BLOCK).data, grows=True)
    node = Qcow2Node(file, read_only=False)
    node.write(0, b"a" * BLOCK)
    file.broken = True
    with pytest.raises(NodeIOError):
        node.check(Repair.ALL)
    file.broken = False
    # What is in memory may not be what is in the file any more.
    with pytest.raises(CorruptImageError):
        node.write(0, b"b" * BLOCK)
    assert node.read(0, BLOCK) == b"a" * BLOCK
    assert node.check(Repair.ALL).clean
    node.write(0, b"b" * BLOCK)
    check(node)


def test_nobody_gets_at_clusters_that_a_shrink_is_about_to_free(
    image: Callable[..., MemoryNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Qcow2Node(image(16 * 4096, cluster_size=4096), read_only=False)
    node.write(0, b"a" * 16 * 4096)
    node.flush()
    drop, seen, pinners = qcow2_resize._drop, list[int](), list[threading.Thread]()

    def watched(*args: Any, **options: Any) -> None:
        with pytest.raises(OutOfRangeError):
            node.write(15 * 4096, b"late")
        pinner = threading.Thread(target=lambda: seen.append(node.pin(15 * 4096, 4096)), daemon=True)
        pinner.start()
        pinner.join(0.1)
        assert not seen
        drop(*args, **options)
        assert not seen
        pinners.append(pinner)

    monkeypatch.setattr(qcow2_resize, "_drop", watched)
    node.resize(8 * 4096)
    pinners[0].join(30)
    node.unpin(seen[0])
    check(node)
