"""Listing every structure of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit.errors import UnsupportedFeatureError, UnsupportedOperationError
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.inspect import Qcow2Structures, structures
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blockkit.formats.qcow2.node import Qcow2Node
    from blockkit.schema import FieldValue, Structure


def listed(file: MemoryNode) -> list[Structure]:
    return list(structures(file, read_header(file)))


def fields(found: list[Structure], name: str) -> list[FieldValue]:
    return [field for structure in found if structure.name == name for field in structure.fields]


@pytest.fixture
def file(disk: Callable[..., Qcow2Node]) -> MemoryNode:
    node = disk(1 << 20, cluster_size=4096, backing_file="base.raw", backing_fmt="raw")
    node.backing = MemoryNode()
    node.write(0, b"x" * 8192)
    node.zero(16384, 4096)
    node.flush()
    assert isinstance(node.file, MemoryNode)
    return node.file


def test_the_header_comes_first_with_every_field(file: MemoryNode) -> None:
    header = listed(file)[0]
    assert (header.name, header.offset, header.size) == ("qcow2 header", 0, 104)
    assert [field.value for field in header.fields if field.name in ("version", "cluster_bits")] == [3, 12]


def test_values_are_what_the_file_holds_at_their_offsets(file: MemoryNode) -> None:
    for structure in listed(file):
        for field in structure.fields:
            if isinstance(field.value, int) and not structure.name.endswith("refcount block"):
                assert int.from_bytes(file.data[field.offset : field.offset + field.size], "big") == field.value


def test_the_backing_file_and_its_format_are_named(file: MemoryNode) -> None:
    found = listed(file)
    assert [field.value for field in fields(found, "qcow2 backing file name")] == ["base.raw"]
    assert "raw" in [field.value for field in fields(found, "qcow2 name extension")]


def test_entries_say_what_they_mean(file: MemoryNode) -> None:
    found = listed(file)
    (l1,) = fields(found, "qcow2 L1 table")
    assert l1.meaning.startswith("L2 table at 0x")
    assert l1.meaning.endswith(", copied")
    first, second, zero = fields(found, "qcow2 L2 table")
    assert [first.name, second.name, zero.name] == ["entry 0", "entry 1", "entry 4"]
    assert first.meaning.startswith("data at 0x")
    assert zero.meaning.startswith("zero")


def test_runs_of_equal_counts_are_one_field(file: MemoryNode) -> None:
    (run,) = fields(listed(file), "qcow2 refcount block")
    assert run.value == 1
    assert run.name.startswith("clusters 0 to ")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_counts_of_every_width_are_read(disk: Callable[..., Qcow2Node], bits: int) -> None:
    node = disk(1 << 20, cluster_size=4096, refcount_bits=bits)
    assert isinstance(node.file, MemoryNode)
    rows = fields(listed(node.file), "qcow2 refcount block")
    assert [row.value for row in rows] == [1]


def test_a_broken_part_is_an_error_among_the_others(file: MemoryNode) -> None:
    l1 = read_header(file).fixed.l1_table_offset
    file.data[l1 : l1 + 8] = (1 << 40).to_bytes(8, "big")
    file.data[60:72] = (1).to_bytes(4, "big") + (1 << 40).to_bytes(8, "big")
    found = listed(file)
    errors = [field for structure in found for field in structure.fields if field.name == "error"]
    assert [str(error.value).split(" at")[0] for error in errors] == ["qcow2 L2 table", "qcow2 snapshot table"]
    assert any(structure.name == "qcow2 refcount block" for structure in found)


def test_nothing_is_read_before_its_turn(file: MemoryNode) -> None:
    header = read_header(file)

    class Broken(MemoryNode):
        def _readv(self, offset: int, buffers: list[memoryview]) -> None:
            raise AssertionError

    assert next(structures(Broken(file.data), header)).name == "qcow2 header"


def test_snapshots_bitmaps_and_compressed_clusters_of_qemu_are_listed(
    tmp_path: Path, qemu_img: Callable[..., str], qemu_io: Callable[..., str]
) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-f", "qcow2", path, "1M")
    qemu_io(path, "write -c -P 1 0 64k")
    qemu_img("bitmap", "--add", "--enable", path, "dirty")
    qemu_img("snapshot", "-c", "before", path)
    found = listed(MemoryNode(path.read_bytes()))
    assert "before" in [field.value for field in fields(found, "qcow2 snapshot")]
    assert "disk_size" in [field.name for field in fields(found, "qcow2 snapshot")]
    bitmap = {field.name: field for field in fields(found, "qcow2 bitmap")}
    assert bitmap["name"].value == "dirty"
    assert "auto" in bitmap["flags"].meaning
    (entry,) = fields(found, "qcow2 L2 table")
    assert entry.meaning.startswith("compressed at 0x")
    names = [field.value for field in fields(found, "qcow2 feature name") if field.name == "name"]
    assert b"dirty bit".ljust(46, b"\0") in names


def errors(found: list[Structure]) -> list[str]:
    return [str(field.value) for structure in found for field in structure.fields if field.name == "error"]


def test_entries_of_sixteen_bytes_are_shown_with_their_subclusters(
    tmp_path: Path, qemu_img: Callable[..., str], qemu_io: Callable[..., str]
) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=128k", path, "64M")
    # A subcluster has 4 KiB.
    qemu_io(path, "write 0 4k", "write 12k 8k", "write -z 300k 8k", "write -c 2M 128k", "write 63M 1M")
    file = MemoryNode(path.read_bytes())
    with pytest.raises(UnsupportedFeatureError):
        read_header(file)
    node = Qcow2Structures(file)
    assert node.size == 64 << 20
    found = list(node.structures())
    assert errors(found) == []
    rows = {field.name: field for field in fields(found, "qcow2 L2 table")}
    assert rows["entry 0"].meaning.startswith("data at 0x")
    assert rows["subclusters 0"].value == 0b11001
    assert rows["subclusters 0"].meaning == "0 allocated; 3 to 4 allocated"
    assert (rows["subclusters 2"].value, rows["subclusters 2"].meaning) == (3 << 32 + 11, "11 to 12 zero")
    assert rows["entry 16"].meaning.startswith("compressed at")
    assert rows["subclusters 16"].value == 0
    assert rows["entry 511"].meaning.endswith("copied")
    assert rows["subclusters 511"].meaning == "0 to 31 allocated"
    assert "entry 2" not in rows
    assert "entry 1" not in rows
    for row in fields(found, "qcow2 L1 table") + list(rows.values()):
        assert int.from_bytes(file.data[row.offset : row.offset + 8], "big") == row.value


def test_an_entry_of_sixteen_bytes_that_the_file_ends_in_is_shown(image: Callable[..., MemoryNode]) -> None:
    file = image(1 << 20, cluster_size=16384)
    table = -(-file.size // 16384) * 16384
    l1 = read_header(file).fixed.l1_table_offset
    file.resize(table + 24)
    file.data[72:80] = (1 << 4).to_bytes(8, "big")
    file.data[l1 : l1 + 8] = table.to_bytes(8, "big")
    file.data[table : table + 24] = (1 << 62).to_bytes(8, "big") * 3
    rows = fields(list(Qcow2Structures(file).structures()), "qcow2 L2 table")
    assert [row.name for row in rows] == ["entry 0", "subclusters 0", "entry 1", "subclusters 1"]
    assert rows[1].meaning == "30 zero"


def test_a_cluster_at_the_start_of_a_data_file_is_there(tmp_path: Path, qemu_img: Callable[..., str]) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'x.raw'},data_file_raw=on", path, "128k")
    found = list(Qcow2Structures(MemoryNode(path.read_bytes())).structures())
    meanings = [field.meaning for field in fields(found, "qcow2 L2 table")]
    assert meanings == ["data at 0x0 of the data file, copied", "data at 0x10000 of the data file, copied"]
    assert str(tmp_path / "x.raw") in [field.value for field in fields(found, "qcow2 name extension")]


def test_what_is_there_to_be_inspected_has_no_data(file: MemoryNode) -> None:
    node = Qcow2Structures(file)
    assert node.read_only
    with pytest.raises(UnsupportedOperationError, match="structures"):
        node.read(0, 1)
    assert list(node.structures()) == listed(file)


def test_tables_that_cannot_be_where_they_are_said_to_be_are_errors(file: MemoryNode) -> None:
    fixed = read_header(file).fixed
    block = int.from_bytes(file.data[fixed.refcount_table_offset : fixed.refcount_table_offset + 8], "big")
    for place, entry in ((fixed.l1_table_offset, 1024), (fixed.refcount_table_offset, block + 512)):
        file.data[place : place + 8] = entry.to_bytes(8, "big")
    file.data[fixed.refcount_table_offset + 8 : fixed.refcount_table_offset + 16] = (1 << 50).to_bytes(8, "big")
    assert [text.split(": ")[1] for text in errors(listed(file))] == [
        "its offset is not a multiple of the cluster size 0x1000",
        "its offset is not a multiple of the cluster size 0x1000",
        "it lies behind the end of the file",
    ]
