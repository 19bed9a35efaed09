"""The bitmap directory, and marking bitmaps stale."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from blockkit.block.report import Repair
from blockkit.errors import ImageError
from blockkit.formats.qcow2.bitmaps import Bitmap, mark_in_use, read_bitmaps, stored_size
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.header import Extension, HeaderCluster, read_header
from blockkit.formats.qcow2.schema import Autoclear, BitmapFlag, BitmapHeader, BitmapsExtension, ExtensionType
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Image = Callable[..., MemoryNode]

ENTRY = BitmapHeader(
    bitmap_table_offset=0x10000,
    bitmap_table_size=1,
    flags=int(BitmapFlag.AUTO),
    type=1,
    granularity_bits=16,
    name_size=3,
    extra_data_size=0,
)
DIRECTORY = ENTRY.build() + b"one".ljust(8, b"\0")


def with_directory(
    image: Image, directory: bytes, *, autoclear: int = 1, **changes: int
) -> tuple[MemoryNode, HeaderCluster]:
    """Return an image with a bitmap directory behind everything else."""
    file = image(1 << 20)
    header = read_header(file)
    offset = -(-file.size // 65536) * 65536
    extension = BitmapsExtension(nb_bitmaps=1, bitmap_directory_size=len(directory), bitmap_directory_offset=offset)
    header.extensions.append(Extension(ExtensionType.BITMAPS, replace(extension, **changes).build()))
    header.fixed = replace(header.fixed, autoclear_features=autoclear)
    built = header.build()
    file.data[: len(built)] = built
    file.data = file.data.ljust(offset, b"\0") + directory
    return file, read_header(file)


def read(image: Image, directory: bytes, **changes: int) -> list[Bitmap]:
    return read_bitmaps(*with_directory(image, directory, **changes))


def test_an_image_without_bitmaps_has_none(image: Image) -> None:
    file = image(1 << 20)
    assert read_bitmaps(file, read_header(file)) == []


def test_every_field_of_a_bitmap_is_read(image: Image) -> None:
    (found,) = read(image, DIRECTORY)
    assert (found.name, found.granularity, found.table_offset, found.table_size) == ("one", 65536, 0x10000, 1)
    assert (found.enabled, found.in_use) == (True, False)
    assert found.entry_size == 32


def test_bitmaps_that_somebody_ignored_while_writing_are_ignored(image: Image) -> None:
    assert read(image, DIRECTORY, autoclear=0) == []


@pytest.mark.parametrize(
    "change",
    [
        {"bitmap_table_offset": 0},
        {"bitmap_table_offset": 0x200},
        {"bitmap_table_size": 0},
        {"bitmap_table_size": 2},
        {"bitmap_table_size": 0xFFFF_FFFF},
        {"flags": 8},
        {"type": 2},
        {"granularity_bits": 8},
        {"granularity_bits": 32},
        {"name_size": 1024},
        {"extra_data_size": 8},
        {"extra_data_size": 0xFFFF_FFFF},
    ],
    ids=str,
)
def test_a_directory_entry_no_image_may_have_is_refused(image: Image, change: dict[str, int]) -> None:
    with pytest.raises(ImageError, match="qcow2 bitmap directory at"):
        read(image, replace(ENTRY, **change).build() + bytes(2048))


@pytest.mark.parametrize(
    "change",
    [
        {"nb_bitmaps": 0},
        {"nb_bitmaps": 2},
        {"nb_bitmaps": 65536},
        {"reserved": 1},
        {"bitmap_directory_size": 0},
        {"bitmap_directory_size": 1 << 40},
        {"bitmap_directory_size": 64},
        {"bitmap_directory_offset": 0},
        {"bitmap_directory_offset": 0x200},
        {"bitmap_directory_offset": 1 << 60},
    ],
    ids=str,
)
def test_an_extension_no_image_may_have_is_refused(image: Image, change: dict[str, int]) -> None:
    with pytest.raises(ImageError):
        read(image, DIRECTORY, **change)


def test_a_second_bitmap_that_was_not_announced_is_refused(image: Image) -> None:
    with pytest.raises(ImageError, match="goes on after 1 bitmaps"):
        read(image, DIRECTORY * 2)


@pytest.mark.parametrize(("flags", "after"), [(2, 3), (3, 3), (0, 0), (1, 1)])
def test_only_enabled_bitmaps_are_marked(image: Image, flags: int, after: int) -> None:
    file, header = with_directory(image, replace(ENTRY, flags=flags).build() + DIRECTORY[24:])
    before = bytes(file.data)
    mark_in_use(file, header)
    (found,) = read_bitmaps(file, header)
    assert int(found.flags) == after
    assert sum(a != b for a, b in zip(before, file.data, strict=True)) == (flags != after)


@pytest.mark.parametrize(
    ("size", "bits", "stored"), [(0, 16, 0), (1, 16, 8), (1 << 20, 9, 256), ((1 << 22) + 1, 16, 16), (1 << 40, 31, 64)]
)
def test_bits_are_stored_in_whole_words(size: int, bits: int, stored: int) -> None:
    assert stored_size(size, bits) == stored


def make(path: Path, qemu_img: Callable[..., str]) -> None:
    qemu_img("create", "-f", "qcow2", path, "64M")
    qemu_img("bitmap", "--add", "--enable", path, "on")
    qemu_img("bitmap", "--add", "--disable", "-g", "1M", path, "off")


def test_bitmaps_qemu_made_are_those_qemu_lists(tmp_path: Path, qemu_img: Callable[..., str]) -> None:
    path = tmp_path / "image.qcow2"
    make(path, qemu_img)
    listed = json.loads(qemu_img("info", "--output", "json", path))["format-specific"]["data"]["bitmaps"]
    file = MemoryNode(path.read_bytes())
    found = read_bitmaps(file, read_header(file))
    assert [(bitmap.name, bitmap.granularity) for bitmap in found] == [
        (bitmap["name"], bitmap["granularity"]) for bitmap in listed
    ]
    assert [bitmap.enabled for bitmap in found] == [True, False]


def test_qemu_sees_the_mark_and_the_image_stays_clean(tmp_path: Path, qemu_img: Callable[..., str]) -> None:
    path = tmp_path / "image.qcow2"
    make(path, qemu_img)
    file = MemoryNode(path.read_bytes())
    mark_in_use(file, read_header(file))
    path.write_bytes(file.data)
    listed = json.loads(qemu_img("info", "--output", "json", path))["format-specific"]["data"]["bitmaps"]
    assert {bitmap["name"]: "in-use" in bitmap["flags"] for bitmap in listed} == {"on": True, "off": False}
    qemu_img("check", path)


def test_clusters_of_ignored_bitmaps_are_leaks(tmp_path: Path, qemu_img: Callable[..., str]) -> None:
    path = tmp_path / "image.qcow2"
    make(path, qemu_img)
    file = MemoryNode(path.read_bytes())
    assert check_image(file, read_header(file), Repair.NONE).clean
    assert file.data[95] == Autoclear.BITMAPS
    file.data[95] = 0
    assert check_image(file, read_header(file), Repair.NONE).leaks == 3
    assert check_image(file, read_header(file), Repair.LEAKS).leaks_fixed == 3
