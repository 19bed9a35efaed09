from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.block.node import Cap, Kind, Node, Preallocation
from blockkit.errors import FormatError, NodeIOError, NoSpaceError, OptionError, UnsupportedOperationError
from blockkit.formats.raw import DRIVER, RawCreateOptions, RawNode
from blockkit.protocols.file import open_path
from blockkit.testing.contract import NodeContract, WritableNodeContract
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class TestRaw(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        path = tmp_path / "disk.raw"
        path.write_bytes(contents)
        with RawNode(open_path(path, read_only=False)) as node:
            yield node

    def reopen(self, node: Node) -> Node:
        node.close()
        return RawNode(open_path(node.filename))


class TestRawReadOnly(NodeContract):
    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        path = tmp_path / "disk.raw"
        path.write_bytes(contents)
        with RawNode(open_path(path)) as node:
            yield node


class TestRawFrom(WritableNodeContract):
    """From an odd offset up to the end of the file."""

    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        return RawNode(MemoryNode(b"\xcc" * 1000 + contents, grows=True), offset=1000)


class TestRawWindow(WritableNodeContract):
    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        file = MemoryNode(b"\xcc" * 1000 + contents + b"\xdd" * 3000, grows=True)
        return RawNode(file, offset=1000, size=len(contents))

    def test_nothing_around_the_window_changes(self, node: RawNode, contents: bytes) -> None:
        node.write(0, b"\1" * node.size)
        node.zero(0, node.size, unmap=False)
        node.discard(0, node.size)
        assert isinstance(node.file, MemoryNode)
        assert node.file.data == b"\xcc" * 1000 + bytes(len(contents)) + b"\xdd" * 3000


class TestRawOverFormat(WritableNodeContract):
    """Over a format that puts the bytes of the disk somewhere else in its file."""

    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        name = tmp_path / "disk.qcow2"
        blockkit.create_image(name, "qcow2", 1 << 20, options="cluster_size=4K")
        tree = {"driver": "raw", "offset": 1000, "size": len(contents), "file": {"driver": "qcow2", "file": name}}
        with blockkit.open_image(tree, read_only=False) as node:
            node.write(0, contents)
            yield node


class TestGuardedRaw(WritableNodeContract):
    """Opened by probing: every write to the start is looked at."""

    @pytest.fixture
    def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
        path = tmp_path / "disk.raw"
        path.write_bytes(contents)
        with blockkit.open_image(path, read_only=False) as node:
            yield node


def test_holes_of_the_file_are_zeros_that_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), b"x" * 4096, 512 << 10)
    with blockkit.open_image(path, format="raw", options={"offset": "256K"}) as node:
        assert isinstance(node, RawNode)
        extents = [(e.offset, e.length, e.kind, e.node, e.target) for e in node.extents()]
    assert extents == [
        (0, 256 << 10, Kind.ZERO, node.file, 256 << 10),
        (256 << 10, 4096, Kind.DATA, node.file, 512 << 10),
        ((256 << 10) + 4096, (512 << 10) - 4096, Kind.ZERO, node.file, (512 << 10) + 4096),
    ]


@pytest.mark.parametrize(("offset", "size"), [(0, 1001), (1, 1000), (1001, None), (1000, 1), (1 << 62, None)])
def test_a_window_past_the_end_of_the_file_is_refused(tmp_path: Path, offset: int, size: int | None) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1000))
    with pytest.raises(FormatError, match="reach past its 1000 bytes"):
        blockkit.open_image(path, format="raw", options={"offset": offset, "size": size})


def test_an_empty_image_is_a_disk_of_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").touch()
    with blockkit.open_image(tmp_path / "disk.raw") as node:
        assert node.size == 0
        assert node.read(0, 0) == b""
        assert list(node.extents()) == []


def test_a_disk_does_not_grow_by_writing_though_its_file_could() -> None:
    file = MemoryNode(bytes(100), grows=True)
    assert Cap.GROW in file.caps
    assert Cap.GROW not in RawNode(file).caps


def test_a_window_of_fixed_size_cannot_be_resized() -> None:
    node = RawNode(MemoryNode(bytes(1000)), size=500)
    assert Cap.RESIZE not in node.caps
    with pytest.raises(UnsupportedOperationError, match="fixed at 500 bytes"):
        node.resize(600)


@pytest.mark.parametrize("mode", ["off", "falloc", "full"])
def test_an_image_is_created_with_its_space_reserved_as_asked(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "new.raw"
    blockkit.create_image(path, "raw", 300_001, options={"preallocation": mode})
    status = path.stat()
    assert status.st_size == 300_001
    assert (status.st_blocks * 512 >= 300_001) is (mode != "off")
    assert path.read_bytes() == bytes(300_001)


def test_metadata_that_raw_images_lack_cannot_be_preallocated(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"raw: preallocation: 'metadata' is not one of off, falloc, full"):
        blockkit.create_image(tmp_path / "x", "raw", 100, options="preallocation=metadata")
    with RawNode(MemoryNode(b"")) as node:
        node.resize(10, preallocate=Preallocation.FULL)
        assert node.size == 10


def test_creating_on_storage_of_fixed_size_needs_only_enough_of_it() -> None:
    class Device(MemoryNode):
        @property
        def caps(self) -> Cap:
            return Cap.WRITE

    DRIVER.create(Device(1000), 1000, RawCreateOptions())
    with pytest.raises(NoSpaceError, match="has 1000 bytes, but 1001 are needed"):
        DRIVER.create(Device(1000), 1001, RawCreateOptions())


# -- the guard of images whose format was guessed ---------------------------------------------------------

QCOW2_HEAD = b"QFI\xfb\0\0\0\3"


@pytest.fixture
def guessed(tmp_path: Path) -> Iterator[Node]:
    (tmp_path / "disk.raw").write_bytes(b"\xee" * 10_000)
    with blockkit.open_image(tmp_path / "disk.raw", read_only=False) as node:
        yield node


def test_a_guessed_raw_image_refuses_the_header_of_another_format(guessed: Node) -> None:
    with pytest.raises(NodeIOError, match=r"guessed to be raw.*look like qcow2.*-f raw"):
        guessed.write(0, QCOW2_HEAD.ljust(512, b"\0"))
    assert guessed.read(0, 512) == b"\xee" * 512


def test_the_header_of_another_format_cannot_come_in_parts(guessed: Node) -> None:
    guessed.write(4, QCOW2_HEAD[4:])
    guessed.writev(1, [b"F", b"I\xfb"])
    with pytest.raises(NodeIOError):
        guessed.write(0, b"Q")
    with pytest.raises(NodeIOError):
        guessed.writev(0, [b"Q", b"F", b"I"])
    guessed.write(0, b"R")
    guessed.write(5000, QCOW2_HEAD)
    assert guessed.read(0, 8) == b"RFI\xfb\0\0\0\3"


def test_zeroing_cannot_complete_the_header_of_another_format(guessed: Node) -> None:
    guessed.write(0, b"QFI\xfb\xee\xee\xee\3")
    with pytest.raises(NodeIOError):
        guessed.zero(4, 3)
    guessed.zero(0, 4096)
    assert guessed.read(0, 4097) == bytes(4096) + b"\xee"


def test_an_image_said_to_be_raw_takes_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(10_000))
    with blockkit.open_image(tmp_path / "disk.raw", format="raw", read_only=False) as node:
        node.write(0, QCOW2_HEAD)
        assert node.read(0, 8) == QCOW2_HEAD


@pytest.mark.interop
def test_qemu_reads_what_was_written(tmp_path: Path, qemu_io: Callable[..., str]) -> None:
    path = tmp_path / "disk.raw"
    blockkit.create_image(path, "raw", 1 << 20)
    with blockkit.open_image(path, format="raw", read_only=False) as node:
        node.write(4096, b"\x5a" * 8192)
    qemu_io(path, "read -P 0 0 4k", "read -P 0x5a 4k 8k", "read -P 0 12k 1012k", fmt="raw")
    size = subprocess.run(["qemu-img", "info", "-f", "raw", path], check=True, capture_output=True, text=True).stdout
    assert "1 MiB (1048576 bytes)" in size
