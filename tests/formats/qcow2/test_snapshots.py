"""Reading the snapshot table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from blockkit.errors import CorruptImageError, FormatError, ImageError
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.schema import SnapshotExtra, SnapshotHeader
from blockkit.formats.qcow2.snapshots import Snapshot, read_snapshots, table_size
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Image = Callable[..., MemoryNode]

FIXED = SnapshotHeader(
    l1_table_offset=0x3000,
    l1_size=2,
    id_str_size=1,
    name_size=4,
    date_sec=1_700_000_000,
    date_nsec=5,
    vm_clock_nsec=7,
    vm_state_size=11,
    extra_data_size=16,
)
EXTRA = SnapshotExtra(vm_state_size_large=1 << 33, disk_size=1 << 20).build()
ENTRY = FIXED.build() + EXTRA + b"1name"


def read(image: Image, table: bytes, count: int = 1, **options: bool) -> list[Snapshot]:
    """Put a snapshot table behind everything else and read it."""
    file = image(1 << 20)
    offset = -(-file.size // 65536) * 65536
    file.data[60:72] = count.to_bytes(4, "big") + offset.to_bytes(8, "big")
    file.data = file.data.ljust(offset, b"\0") + table
    return read_snapshots(file, read_header(file), **options)


def test_an_image_without_snapshots_has_none(image: Image) -> None:
    file = image(1 << 20)
    assert read_snapshots(file, read_header(file)) == []


def test_every_field_of_a_snapshot_is_read(image: Image) -> None:
    (found,) = read(image, ENTRY)
    assert (found.l1_table_offset, found.l1_size) == (0x3000, 2)
    assert (found.id, found.name, str(found)) == ("1", "name", "1 (name)")
    assert (found.date_sec, found.date_nsec, found.vm_clock_nsec) == (1_700_000_000, 5, 7)
    assert (found.vm_state_size, found.disk_size) == (1 << 33, 1 << 20)
    assert (found.entry_size, table_size([found])) == (61, 61)


@pytest.mark.parametrize(("size", "state", "disk"), [(0, 11, None), (8, 1 << 33, None), (16, 1 << 33, 1 << 20)])
def test_extra_data_counts_as_far_as_it_reaches(image: Image, size: int, state: int, disk: int | None) -> None:
    entry = replace(FIXED, extra_data_size=size).build() + EXTRA[:size] + b"1name"
    (found,) = read(image, entry)
    assert (found.vm_state_size, found.disk_size, found.name) == (state, disk, "name")


def test_entries_start_at_multiples_of_eight(image: Image) -> None:
    first, second = read(image, ENTRY.ljust(64, b"\0") + ENTRY, 2)
    assert second.entry_offset == first.entry_offset + 64


def test_a_name_that_is_not_text_is_still_read(image: Image) -> None:
    assert read(image, ENTRY[:-4] + b"\xff\xfe\xfd\xfc")[0].name == "\N{REPLACEMENT CHARACTER}" * 4


@pytest.mark.parametrize("length", [0, 39, 56, 60])
def test_an_entry_that_leaves_the_file_is_refused(image: Image, length: int) -> None:
    with pytest.raises(CorruptImageError, match="entry 0 takes"):
        read(image, ENTRY[:length])


@pytest.mark.parametrize(
    "change", [{"extra_data_size": 0xFFFF_FFFF}, {"name_size": 0xFFFF}, {"id_str_size": 0xFFFF}], ids=str
)
def test_a_length_that_is_a_lie_is_refused(image: Image, change: dict[str, int]) -> None:
    with pytest.raises(ImageError):
        read(image, replace(FIXED, **change).build() + EXTRA + b"1name")


def test_more_extra_data_than_allowed_is_refused_unless_asked_for(image: Image) -> None:
    entry = replace(FIXED, extra_data_size=1025).build() + EXTRA.ljust(1025, b"x") + b"1name"
    with pytest.raises(FormatError, match="extra_data_size of entry 0 is 1025, not at most 1024"):
        read(image, entry)
    assert read(image, entry, any_extra=True)[0].name == "name"


def test_a_table_at_an_odd_place_is_refused(image: Image) -> None:
    file = image(1 << 20)
    file.data[60:72] = (0).to_bytes(4, "big") + (0x10200).to_bytes(8, "big")
    header = read_header(file)
    header.fixed = replace(header.fixed, nb_snapshots=1)
    with pytest.raises(FormatError, match="snapshots_offset is 0x10200"):
        read_snapshots(file, header)


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_snapshots_qemu_took_are_those_qemu_lists(tmp_path: Path, qemu_img: Callable[..., str], compat: str) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", f"compat={compat}", path, "3M")
    for name in ("first", "second one", "dritter \N{LATIN SMALL LETTER U WITH DIAERESIS}"):
        qemu_img("snapshot", "-c", name, path)
    listed = json.loads(qemu_img("info", "--output", "json", path))["snapshots"]
    file = MemoryNode(path.read_bytes())
    found = read_snapshots(file, read_header(file))
    for ours, theirs in zip(found, listed, strict=True):
        assert (ours.id, ours.name) == (theirs["id"], theirs["name"])
        assert (ours.date_sec, ours.date_nsec) == (theirs["date-sec"], theirs["date-nsec"])
        assert ours.vm_state_size == theirs["vm-state-size"] == 0
        assert ours.disk_size == 3 << 20
