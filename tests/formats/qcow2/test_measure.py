"""How large an image will be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from blockkit.block.node import Preallocation
from blockkit.errors import OptionError
from blockkit.formats.qcow2.bitmaps import read_bitmaps
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.measure import allocated, bitmaps_size, measure
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZES = [0, 512, 65536, 1 << 20, (1 << 30) + 512, 3 << 32, 1 << 43]


def test_known_numbers() -> None:
    assert measure(1 << 30) == (393216, 1074135040)
    assert measure(0, allocated_bytes=5).required == measure(0).fully_allocated


def test_the_number_of_bytes_is_that_of_the_clusters_touched() -> None:
    assert allocated([(0, 1), (100, 1), (65536, 65536), (131072 + 5, 65536)], 65536) == 4 * 65536
    assert allocated([], 65536) == 0


@pytest.mark.parametrize("size", [(1 << 43) + 1, 1 << 62])
def test_a_disk_no_table_can_map_is_refused(size: int) -> None:
    with pytest.raises(OptionError, match="needs an L1 table of"):
        measure(size, cluster_size=512)


@pytest.mark.interop
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536, 2 << 20])
@pytest.mark.parametrize("refcount_bits", [1, 16, 64])
def test_new_images_measure_as_qemu_says(qemu_img: Callable[..., str], cluster_size: int, refcount_bits: int) -> None:
    for size in SIZES:
        for extended in (False, True) if cluster_size >= 16384 else (False,):
            mode = list(Preallocation)[(size + refcount_bits) % 4]
            options = f"cluster_size={cluster_size},refcount_bits={refcount_bits},preallocation={mode.value}"
            options += ",extended_l2=on" if extended else ""
            try:
                ours = measure(
                    size,
                    cluster_size=cluster_size,
                    refcount_bits=refcount_bits,
                    extended_l2=extended,
                    preallocation=mode,
                )
            except OptionError:
                with pytest.raises(AssertionError, match="too large"):
                    qemu_img("measure", "--size", size, "-O", "qcow2", "-o", options)
                continue
            theirs = json.loads(qemu_img("measure", "--size", size, "-O", "qcow2", "-o", options, "--output", "json"))
            assert ours == (theirs["required"], theirs["fully-allocated"]), (size, options)


@pytest.mark.parametrize("cluster_size", [512, 65536, 2 << 20])
def test_images_with_data_and_bitmaps_measure_as_qemu_says(
    tmp_path: Path, qemu_img: Callable[..., str], qemu_io: Callable[..., str], cluster_size: int
) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-f", "qcow2", path, "70M")
    extents = [(0, 65536), (10 << 20, 3 << 20), (69 << 20, 131072)]
    qemu_io(path, *(f"write {offset} {length}" for offset, length in extents))
    qemu_img("bitmap", "--add", path, "one")
    qemu_img("bitmap", "--add", "-g", "512", path, "another name")
    theirs = json.loads(
        qemu_img("measure", "-f", "qcow2", "-O", "qcow2", "-o", f"cluster_size={cluster_size}", "--output=json", path)
    )
    ours = measure(70 << 20, cluster_size=cluster_size, allocated_bytes=allocated(extents, cluster_size))
    assert ours == (theirs["required"], theirs["fully-allocated"])
    file = MemoryNode(path.read_bytes())
    assert bitmaps_size(read_bitmaps(file, read_header(file)), 70 << 20, cluster_size) == theirs["bitmaps"]
