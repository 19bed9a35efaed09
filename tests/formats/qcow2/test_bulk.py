"""Many scattered pieces, written together."""

from __future__ import annotations

import random
import threading

import pytest

from blockkit.block.copy import CopyPlan, copy
from blockkit.block.facets import GivesRoom, WritesPieces
from blockkit.block.graph import create_image, open_image
from blockkit.block.node import Kind
from blockkit.block.report import Repair
from blockkit.errors import BlockkitError
from blockkit.formats.qcow2.bulk import take_room
from blockkit.formats.qcow2.node import Qcow2Node


def pieces_of(rng: random.Random, size: int, cluster: int) -> list[tuple[int, memoryview]]:
    """Make ascending pieces: mostly whole clusters, some that start or end inside one."""
    pieces, at = [], 0
    while at < size:
        at += cluster * rng.randrange(3)
        start = at + (rng.randrange(cluster) if rng.random() < 0.1 else 0)
        length = cluster * rng.randrange(1, 4) - (rng.randrange(cluster) if rng.random() < 0.1 else 0)
        length = min(length, size - start)
        if length <= 0:
            break
        pieces.append((start, memoryview(rng.randbytes(length))))
        at = -(-(start + length) // cluster) * cluster
    return pieces


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("cluster", "refcount_bits"), [(512, 16), (4096, 1), (65536, 16)])
def test_pieces_are_as_many_writes(tmp_path, cluster, refcount_bits, seed):
    rng = random.Random(seed)
    size = cluster * 200 + 512
    base, image = tmp_path / "base.raw", tmp_path / "a.qcow2"
    model = bytearray(rng.randbytes(size))
    base.write_bytes(model)
    options = {"cluster_size": str(cluster), "refcount_bits": str(refcount_bits)}
    create_image(image, "qcow2", size, options=options, backing_file="base.raw", backing_format="raw")
    with open_image(image, read_only=False, options={"cache_size": cluster}) as node:
        assert isinstance(node, WritesPieces)
        for _ in range(3):
            pieces = pieces_of(rng, size, cluster)
            node.write_pieces(pieces)
            for offset, data in pieces:
                model[offset : offset + len(data)] = data
            node.discard(cluster * 20, cluster * 30)
            node.write(cluster * 20, bytes(cluster * 30))
            model[cluster * 20 : cluster * 50] = bytes(cluster * 30)
            assert node.read(0, size) == model
        node.flush()
        assert node.check(Repair.NONE).clean


def test_a_failed_write_of_pieces_leaks_nothing(tmp_path):
    image = tmp_path / "a.qcow2"
    create_image(image, "qcow2", 64 << 20)
    rules = [{"operation": "write", "start": 6 * 65536, "errno": "ENOSPC", "times": 1}]
    tree = {"driver": "qcow2", "file": {"driver": "faults", "rules": rules, "file": str(image)}}
    with open_image(tree, read_only=False) as node:
        data = memoryview(bytes([7]) * 65536)
        pieces = [(number * 131072, data) for number in range(40)]
        with pytest.raises(BlockkitError):
            node.write_pieces(pieces)
        node.write_pieces(pieces)
        assert all(node.read(offset, 65536) == data for offset, _ in pieces)
        report = node.check(Repair.NONE)
        assert report.clean


def test_pieces_are_refused_while_the_backing_file_is_not_open(tmp_path):
    base, image = tmp_path / "base.raw", tmp_path / "a.qcow2"
    base.write_bytes(bytes(1 << 20))
    create_image(image, "qcow2", 1 << 20, backing_file="base.raw", backing_format="raw")
    with open_image(image, read_only=False, backing=False) as node:
        with pytest.raises(BlockkitError, match="backing file"):
            node.write_pieces([(0, memoryview(bytes(65536)))])


# -- room for a long stretch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("cluster", "refcount_bits"), [(512, 16), (4096, 1), (65536, 64)])
def test_what_is_put_into_a_room_is_there_and_the_rest_is_free(tmp_path, cluster, refcount_bits, seed):
    rng = random.Random(seed)
    image, size = tmp_path / "a.qcow2", cluster * 300
    create_image(image, "qcow2", size, options={"cluster_size": str(cluster), "refcount_bits": str(refcount_bits)})
    model = bytearray(size)
    with open_image(image, read_only=False) as node:
        assert isinstance(node, GivesRoom)
        for _ in range(60):
            first = rng.randrange(300)
            count = rng.randrange(1, min(30, 301 - first))
            room = node.room(first * cluster, count * cluster)
            in_one_table = (first * cluster) // (cluster * cluster // 8) == ((first + count) * cluster - 1) // (
                cluster * cluster // 8
            )
            unused = not any(e.kind is not Kind.UNALLOCATED for e in node.extents(first * cluster, count * cluster))
            assert (room is not None) == (in_one_table and unused)
            if room is None:
                continue
            written, at = {}, first
            while at < first + count:
                length = min(rng.randrange(1, 6), first + count - at)
                if rng.random() < 0.6:
                    written[at] = rng.randbytes(length * cluster)
                    room.put(at * cluster, memoryview(written[at]))
                at += length
            if rng.random() < 0.3:
                room.abandon()
                continue
            room.keep()
            for at, data in written.items():
                model[at * cluster : at * cluster + len(data)] = data
            if rng.random() < 0.2:
                node.discard(first * cluster, count * cluster)
                model[first * cluster : (first + count) * cluster] = bytes(count * cluster)
        assert node.read(0, size) == model
        node.flush()
        assert node.check(Repair.NONE).clean
    with open_image(image) as node:
        assert node.read(0, size) == model


def test_there_is_no_room_where_it_would_not_be_simple(tmp_path):
    image = tmp_path / "a.qcow2"
    create_image(image, "qcow2", (1 << 20) + 512)
    with open_image(image, read_only=False) as node:
        for offset, length in ((0, 0), (512, 65536), (0, 512), (1 << 20, 65536), (15 << 16, 2 << 16)):
            assert node.room(offset, length) is None
        room = node.room(0, 65536)
        for offset, length in ((0, 512), (512, 65536)):
            with pytest.raises(BlockkitError, match="not whole clusters"):
                room.put(offset, memoryview(bytes(length)))
        assert node.room(0, 2 << 16) is None, "somebody has it"
        room.abandon()
        node.room(0, 2 << 16).abandon()
        node.write(65536, b"x")
        assert node.room(0, 2 << 16) is None, "there is something"
        node.flush()
        assert node.check(Repair.NONE).clean
    with open_image(image) as node, pytest.raises(BlockkitError, match="read-only"):
        node.room(0, 65536)


def test_others_wait_for_a_room_to_be_kept(tmp_path):
    image = tmp_path / "a.qcow2"
    create_image(image, "qcow2", 1 << 20)
    with open_image(image, read_only=False) as node:
        room = node.room(0, 65536)
        room.put(0, memoryview(b"a" * 65536))
        writer = threading.Thread(target=node.write, args=(10, b"b"))
        writer.start()
        writer.join(0.1)
        assert writer.is_alive()
        assert node.read(0, 20) == bytes(20)
        room.keep()
        writer.join(10)
        assert node.read(0, 20) == b"a" * 10 + b"b" + b"a" * 9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cluster", ["4K", "64K", "512K", "2M"])
@pytest.mark.parametrize("sparse", [4096, 98304, 0])
def test_long_stretches_are_copied_with_their_zeros_left_out(tmp_path, seed, cluster, sparse):
    """From a file with holes, zeros and data that begin and end anywhere."""
    rng = random.Random(seed)
    raw, image, size = tmp_path / "a.raw", tmp_path / "a.qcow2", (23 << 20) + 1536
    model = bytearray(size)
    with raw.open("wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            at += rng.choice((0, 512, 4096 * rng.randrange(1, 500)))
            data = rng.randbytes(min(rng.choice((512, 70000, 3 << 20, 7 << 20)), max(0, size - at)))
            if rng.random() < 0.5:
                middle = rng.randrange(len(data) + 1)
                data = data[:middle] + bytes(rng.randrange(1 << 20)) + data[middle:]
            data = data[: max(0, size - at)]
            file.seek(at)
            file.write(data)
            model[at : at + len(data)] = data
            at += len(data)
    create_image(image, "qcow2", size, options={"cluster_size": cluster})
    with open_image(raw, format="raw") as source, open_image(image, read_only=False) as target:
        copy(source, target, CopyPlan(target_is_zero=True, sparse_size=sparse))
        target.flush()
        assert target.read(0, size) == model
        report = target.check(Repair.NONE)
        assert report.clean
        if sparse == 4096:
            unit = target.limits.optimal_transfer
            used = sum(any(model[at : at + unit]) for at in range(0, size, unit))
            assert report.allocated_clusters == used, "not one cluster for zeros"
    # And once more, from where the tables of an image say that it lies.
    again = tmp_path / "b.qcow2"
    create_image(again, "qcow2", size, options={"cluster_size": "64K"})
    with open_image(image) as source, open_image(again, read_only=False) as target:
        copy(source, target, CopyPlan(target_is_zero=True, sparse_size=sparse))
        assert target.read(0, size) == model


def test_a_stretch_that_cannot_be_written_leaks_nothing(tmp_path):
    raw, image = tmp_path / "a.raw", tmp_path / "a.qcow2"
    raw.write_bytes(bytes([7]) * (16 << 20))
    create_image(image, "qcow2", 16 << 20)
    rules = [{"operation": "write", "start": 2 << 20, "errno": "ENOSPC", "times": 1}]
    tree = {"driver": "qcow2", "file": {"driver": "faults", "rules": rules, "file": str(image)}}
    with open_image(raw, format="raw") as source, open_image(tree, read_only=False) as node:
        with pytest.raises(BlockkitError):
            copy(source, node, CopyPlan(target_is_zero=True))
        assert node.check(Repair.NONE).clean
        copy(source, node, CopyPlan(target_is_zero=True))
        assert node.read(0, node.size) == raw.read_bytes()
        assert node.check(Repair.NONE).clean


def test_stretches_are_cut_so_that_there_is_room_for_them(tmp_path, monkeypatch):
    raw, image, size = tmp_path / "a.raw", tmp_path / "a.qcow2", 32 << 20
    data = random.Random(1).randbytes((20 << 20) + 8192)
    with raw.open("wb") as file:
        file.truncate(size)
        file.seek(4096)
        file.write(data)
    create_image(image, "qcow2", size)
    asked = []

    def room(node, offset, length):
        found = take_room(node, offset, length)
        asked.append((length, found is not None))
        return found

    monkeypatch.setattr(Qcow2Node, "room", room)
    with open_image(raw, format="raw") as source, open_image(image, read_only=False) as target:
        copy(source, target, CopyPlan(target_is_zero=True))
        assert target.read(4096, len(data)) == data
    assert all(given for _, given in asked)
    assert sum(length for length, _ in asked) >= 19 << 20
