"""Reads that became native are those of Python, in what they return, refuse, and let be seen."""

from __future__ import annotations

import errno
import gc
import os
import random
import sys
import threading
import weakref
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.block.node import Kind
from blockkit.errors import ClosedError, NodeIOError, OutOfRangeError
from blockkit.formats.qcow2 import quick, reading
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.native import builtin as builtins_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("llvmlite")

KIB = 1024
CLUSTER = 64 * KIB
SIZE = 4 << 20


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, answers_at_once: bool) -> None:
    """Reads are native after three of them."""
    if not answers_at_once:
        pytest.skip("no file system here answers without waiting")
    monkeypatch.setattr(reading, "_READS", 3)
    monkeypatch.delenv("BLOCKKIT_NATIVE", raising=False)


@pytest.fixture
def data() -> bytes:
    return random.Random(5).randbytes(SIZE)


@pytest.fixture
def path(direct_path: Path, data: bytes) -> Path:
    blockkit.create_image(direct_path, "qcow2", SIZE)
    with blockkit.open_image(direct_path, format="qcow2", read_only=False) as disk:
        disk.write(0, data)
    return direct_path


def open_quick(path: Path, **options: Any) -> Qcow2Node:
    node = blockkit.open_image(path, format="qcow2", **options)
    assert isinstance(node, Qcow2Node)
    for _ in range(5):
        node.read(0, 1)
    return node


@pytest.fixture
def disk(path: Path) -> Iterator[Qcow2Node]:
    with open_quick(path, read_only=False) as node:
        assert is_quick(node)
        yield node


def is_quick(node: Qcow2Node) -> bool:
    return isinstance(node.read, BuiltinFunctionType)


def answers(node: Qcow2Node, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note what is left to Python."""
    left: list[tuple[int, int]] = []
    plain = type(node)._read_plainly

    def noted(self: Qcow2Node, offset: int, length: int) -> bytes:
        left.append((offset, length))
        return plain(self, offset, length)

    monkeypatch.setattr(type(node), "_read_plainly", noted)
    return left


def test_a_node_that_is_read_much_becomes_quick(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with blockkit.open_image(path, format="qcow2") as node:
        assert isinstance(node, Qcow2Node)
        held = node.read
        left = answers(node, monkeypatch)
        for turn in range(5):
            assert not is_quick(node)
            assert held(turn, 100) == data[turn : turn + 100]
        assert is_quick(node)
        # The first read loads the table; what follows is native, by whichever name.
        assert len(left) == 5
        assert node.read(1000, 2000) == data[1000:3000]
        assert held(1000, 2000) == data[1000:3000]
        assert node.pull_bytes(1000, 2000) == data[1000:3000]
        assert len(left) == 5


@pytest.mark.parametrize(
    ("offset", "length", "simple"),
    [
        (0, 1, True),
        (0, CLUSTER, True),
        (CLUSTER - 1, 1, True),
        (SIZE - 1, 1, True),
        (SIZE - CLUSTER, CLUSTER, True),
        (CLUSTER - 1, 2, False),
        (1, CLUSTER, False),
        (0, 0, False),
        (SIZE, 0, False),
        (0, SIZE, False),
    ],
)
def test_what_lies_in_one_cluster_is_simple(
    path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch, offset: int, length: int, simple: bool
) -> None:
    left: list[tuple[int, int]] = []
    with blockkit.open_image(path, format="qcow2") as node:
        assert isinstance(node, Qcow2Node)
        left = answers(node, monkeypatch)
        for _ in range(5):
            node.read(0, 1)
        left.clear()
        assert is_quick(node)
        found = node.read(offset, length)
        assert type(found) is bytes
        assert found == data[offset : offset + length]
        assert hash(found) == hash(bytes(bytearray(found)))
        assert bool(left) is not simple


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((-1, 1), {}),
        ((0, -1), {}),
        ((-(1 << 63), 1), {}),
        ((SIZE - 1, 2), {}),
        ((SIZE, 1), {}),
        ((1 << 62, 1), {}),
        (((1 << 64) - 1, 1), {}),
        ((1 << 64, 1), {}),
        ((0, 1 << 64), {}),
        ((1 << 200, 1 << 200), {}),
        ((), {}),
        ((1,), {}),
        ((1, 2, 3), {}),
        ((None, 1), {}),
        ((0, "1"), {}),
        ((0.0, 1), {}),
        ((0,), {"size": 1}),
        ((0, 1), {"length": 1}),
        ((5,), {"length": 7}),
        ((), {"length": 7, "offset": 5}),
        ((True, True), {}),
    ],
)
def test_arguments_are_taken_and_refused_as_in_python(
    disk: Qcow2Node, words: tuple[Any, ...], names: dict[str, Any]
) -> None:
    def outcome(function: Any) -> tuple[object, str]:
        try:
            return function(*words, **names), ""
        except Exception as error:
            return type(error), str(error)

    for _ in range(3):
        assert outcome(disk.read) == outcome(disk._read_plainly)
    assert sys.exc_info() == (None, None, None)


def test_every_kind_of_cluster_reads_the_same(direct_path: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    base = rng.randbytes(SIZE)
    (direct_path.with_name("base.raw")).write_bytes(base)
    blockkit.create_image(direct_path, "qcow2", SIZE, backing_file="base.raw", backing_format="raw")
    expected = bytearray(base)
    with blockkit.open_image(direct_path, format="qcow2", read_only=False) as node:
        assert isinstance(node, Qcow2Node)
        for number in range(0, 60, 4):
            node.write(number * CLUSTER, bytes([number + 1]) * CLUSTER)
            expected[number * CLUSTER : (number + 1) * CLUSTER] = bytes([number + 1]) * CLUSTER
            node.zero((number + 1) * CLUSTER, CLUSTER)
            expected[(number + 1) * CLUSTER : (number + 2) * CLUSTER] = bytes(CLUSTER)
            encoded = node.compress(bytes([number]) * CLUSTER)
            assert encoded is not None
            node.write_compressed((number + 2) * CLUSTER, encoded)
            expected[(number + 2) * CLUSTER : (number + 3) * CLUSTER] = bytes([number]) * CLUSTER
        assert {extent.kind for extent in node.extents()} == {Kind.DATA, Kind.ZERO, Kind.ENCODED, Kind.UNALLOCATED}
    with open_quick(direct_path) as node:
        assert is_quick(node)
        for _ in range(3000):
            offset, length = rng.randrange(SIZE - CLUSTER), rng.randrange(5000)
            assert node.read(offset, length) == expected[offset : offset + length]
        assert is_quick(node)


def test_what_is_written_meanwhile_is_read(disk: Qcow2Node, data: bytes) -> None:
    expected = bytearray(data)
    rng = random.Random(4)
    for turn in range(500):
        offset, length = rng.randrange(SIZE - CLUSTER), rng.randrange(1, CLUSTER)
        if turn % 5 == 0:
            disk.zero(offset, length)
            expected[offset : offset + length] = bytes(length)
        else:
            expected[offset : offset + length] = piece = rng.randbytes(length)
            disk.write(offset, piece)
        assert is_quick(disk)
        for at in (offset, offset + length - 1, rng.randrange(SIZE - 100)):
            assert disk.read(at, 100) == expected[at : at + 100]


def test_a_resize_is_seen_and_reads_become_quick_again(disk: Qcow2Node, data: bytes) -> None:
    held = disk.read
    disk.resize(SIZE - CLUSTER - 512)
    assert not is_quick(disk)
    end = SIZE - CLUSTER - 512
    for _ in range(6):
        assert disk.read(end - 100, 100) == held(end - 100, 100) == data[end - 100 : end]
        for read in (disk.read, held):
            with pytest.raises(OutOfRangeError):
                read(end - 50, 100)
    assert is_quick(disk)
    disk.resize(SIZE * 2)
    for _ in range(6):
        assert disk.read(end - 50, 100) == data[end - 50 : end] + bytes(50)
        assert held(SIZE * 2 - 10, 10) == bytes(10)


def test_a_check_with_repairs_is_survived(disk: Qcow2Node, data: bytes) -> None:
    from blockkit.block.report import Repair

    held = disk.read
    disk.check(Repair.ALL)
    for at in range(0, SIZE - 100, 70_000):
        assert disk.read(at, 100) == held(at, 100) == data[at : at + 100]


def test_nothing_is_read_of_a_closed_node(path: Path, tmp_path: Path) -> None:
    node = open_quick(path)
    held, file = node.read, node.file
    node.close()
    for read in (held, node.read):
        with pytest.raises(ClosedError):
            read(0, 1)
    assert file.closed


def test_no_other_file_is_read_when_only_the_file_is_closed(path: Path, tmp_path: Path) -> None:
    node = open_quick(path)
    number = node.file.fileno()  # type: ignore[attr-defined]
    node.file.close()
    (tmp_path / "secret").write_bytes(b"s" * SIZE)
    other = os.open(tmp_path / "secret", os.O_RDONLY)
    try:
        assert other == number, "the test is worth nothing otherwise"
        with pytest.raises(ClosedError):
            node.read(0, 10)
    finally:
        os.close(other)


def test_who_watches_system_calls_sees_them(disk: Qcow2Node) -> None:
    seen: list[Any] = []
    leave = disk.file.watch_calls(seen.append)  # type: ignore[attr-defined]
    second = disk.file.watch_calls(lambda call: None)  # type: ignore[attr-defined]
    disk.read(0, 100)
    leave()
    leave()
    disk.read(0, 100)
    second()
    assert [(call.name, call.length) for call in seen] == [("pread", 100)]
    assert disk.file.descriptor_cell()[0] == disk.file.fileno()  # type: ignore[attr-defined]


def test_what_is_not_in_memory_is_read_all_the_same(disk: Qcow2Node, data: bytes) -> None:
    disk.flush()
    fd = disk.file.fileno()  # type: ignore[attr-defined]
    for at in range(0, SIZE - 4096, 300_000):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert disk.read(at, 4096) == data[at : at + 4096]


def test_a_file_that_became_shorter_reads_as_zeros(disk: Qcow2Node, path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)
    assert disk.read(SIZE - 100, 100) == bytes(100)


def test_an_error_of_the_system_is_told(disk: Qcow2Node, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.file.descriptor_cell()[0] = -1  # type: ignore[attr-defined]

    def fail(_fd: int, _length: int, _offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(NodeIOError, match="cannot read 100 bytes"):
        disk.read(0, 100)


def test_tables_that_are_used_stay_in_a_small_cache(direct_path: Path) -> None:
    """Reads that Python does not see count as use; tables that come and go leave no stale addresses."""
    size = 512 * 64 * 40
    blockkit.create_image(direct_path, "qcow2", size, options={"cluster_size": 512})
    data = random.Random(8).randbytes(size)
    with blockkit.open_image(direct_path, format="qcow2", read_only=False) as node:
        node.write(0, data)
    with blockkit.open_image({"driver": "qcow2", "cache_size": 3072, "file": {"filename": str(direct_path)}}) as node:
        assert isinstance(node, Qcow2Node)
        rng = random.Random(9)
        for _ in range(4000):
            offset, length = rng.randrange(size - 512), rng.randrange(1, 300)
            assert node.read(offset, length) == data[offset : offset + length]
            assert node.read(100, 10) == data[100:110]
        assert is_quick(node)
        assert len(node._mapping.tables) < 10
        directory = node._mapping.directory
        assert directory is not None
        shown = {index: address for index, address in enumerate(directory.addresses) if address}
        assert shown == {index: table.entries.buffer_info()[0] for index, table in node._mapping.tables.items()}


def test_a_table_that_is_used_natively_gets_its_second_chance(direct_path: Path) -> None:
    blockkit.create_image(direct_path, "qcow2", 512 * 64 * 6, options={"cluster_size": 512})
    with blockkit.open_image(direct_path, format="qcow2", read_only=False) as node:
        node.write(0, b"x" * node.size)
    with blockkit.open_image({"driver": "qcow2", "cache_size": 3072, "file": {"filename": str(direct_path)}}) as node:
        assert isinstance(node, Qcow2Node)
        for _ in range(5):
            node.read(0, 1)
        assert is_quick(node)
        # Four fit. The fifth finds all of them used, and the first of them goes.
        for number in range(1, 5):
            node.read(number * 512 * 64, 1)
        assert list(node._mapping.tables) == [1, 2, 3, 4]
        node.read(512 * 64, 1)
        node.read(512 * 64 * 5, 1)
        assert list(node._mapping.tables) == [3, 4, 1, 5]


def test_threads_read_while_others_write(disk: Qcow2Node) -> None:
    """Each cluster holds one byte all over, always: a read that mixes two, or another cluster's, shows."""
    clusters = SIZE // CLUSTER
    for number in range(clusters):
        disk.write(number * CLUSTER, bytes([number]) * CLUSTER)
    errors: list[str] = []
    stop = threading.Event()

    def read(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            number = rng.randrange(clusters)
            found = disk.read(number * CLUSTER + rng.randrange(CLUSTER - 64), 64)
            if len(set(found)) != 1 or found[0] not in (0, number):
                errors.append(f"{number}: {found!r}")

    def write(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            number = rng.randrange(clusters)
            # Clusters are freed, used for others, and taken again.
            disk.zero(number * CLUSTER, CLUSTER, unmap=True)
            disk.write(number * CLUSTER, bytes([number]) * CLUSTER)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert not errors[:3]
    assert is_quick(disk)


def test_who_reads_with_the_lock_held_does_not_wait_for_himself(path: Path, data: bytes) -> None:
    with blockkit.open_image(path, format="qcow2") as node:
        assert isinstance(node, Qcow2Node)
        node.read(0, 1)
        with node._lock:
            for _ in range(20):
                assert node.read(0, 100) == data[:100]
            assert not is_quick(node)
        for _ in range(5):
            node.read(0, 100)
        assert is_quick(node)


def test_nothing_leaks(disk: Qcow2Node) -> None:
    def work() -> None:
        for at in range(0, 20_000, 7):
            disk.read(at, 50)
            disk.read(offset=at, length=50)
            for bad in ((-1, 5), (1 << 70, 5), (0, None)):
                try:
                    disk.read(*bad)  # type: ignore[arg-type]
                except (OutOfRangeError, TypeError):
                    pass
        # What the system does not give at once is read again.
        cell = disk.file.descriptor_cell()  # type: ignore[attr-defined]
        cell[0] = -1
        for at in range(2000):
            disk.read(at, 5000)
        cell[0] = disk.file.fileno()  # type: ignore[attr-defined]

    work()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(4):
        work()
    gc.collect()
    assert sys.getallocatedblocks() - before < 500
    assert sys.getrefcount(disk.read(0, 100)) == sys.getrefcount(disk._read_plainly(0, 100))


def test_a_node_nobody_holds_goes(path: Path) -> None:
    node = open_quick(path)
    assert is_quick(node)
    gone = weakref.ref(node)
    fd = node.file.fileno()  # type: ignore[attr-defined]
    del node
    gc.collect()
    assert gone() is None
    try:
        os.close(fd)
    except OSError:
        pass


@pytest.mark.parametrize(
    "why", ["turned off", "no waiting", "another interpreter", "another layout", "watched", "direct"]
)
def test_where_it_cannot_be_had_everything_is_as_before(
    path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    node = blockkit.open_image(path, format="qcow2")
    assert isinstance(node, Qcow2Node)
    if why == "turned off":
        monkeypatch.setenv("BLOCKKIT_NATIVE", "0")
        monkeypatch.setattr("blockkit.native.kernels._loaded", {})
    elif why == "no waiting":

        def refuse(*_words: Any) -> int:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr(os, "preadv", refuse)
    elif why == "another interpreter":
        monkeypatch.setattr(sys.implementation, "name", "pypy")
    elif why == "another layout":
        monkeypatch.setattr(quick, "fits", lambda: False)
    elif why == "watched":
        leave = node.file.watch_calls(lambda call: None)  # type: ignore[attr-defined]
    else:
        node.close()
        node = blockkit.open_image({"driver": "qcow2", "file": {"filename": str(path), "cache": "none"}})
        assert isinstance(node, Qcow2Node)
    with node:
        for turn in range(20):
            assert node.read(turn * 1000, 100) == data[turn * 1000 : turn * 1000 + 100]
        assert not is_quick(node)
        assert node._mapping.directory is None
        if why == "watched":
            leave()
            for _ in range(10):
                node.read(0, 100)
            assert is_quick(node)


def test_an_interpreter_that_keeps_contents_elsewhere_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from array import array

    assert builtins_of.fits()
    monkeypatch.setattr(builtins_of, "BYTES_HEAD", 40)
    assert not builtins_of.fits()
    assert builtins_of.builtin(1, "read", array("Q", [0])) is None
    monkeypatch.undo()
    monkeypatch.setattr(builtins_of, "TUPLE_HEAD", 16)
    assert not builtins_of.fits()
    assert builtins_of.builtin(1, "read", array("Q", [0])) is None
