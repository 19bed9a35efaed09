"""Many scattered pieces, written together."""

from __future__ import annotations

import random

import pytest

from blockkit.block.facets import WritesPieces
from blockkit.block.graph import create_image, open_image
from blockkit.block.report import Repair
from blockkit.errors import BlockkitError


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
