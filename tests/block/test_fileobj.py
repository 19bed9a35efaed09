from __future__ import annotations

import errno
import io
import os
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.block.fileobj import NodeFile
from blockkit.block.filters.faults import FaultRule, FaultsNode
from blockkit.errors import BlockkitError
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 40


def test_it_reads_like_a_file_of_the_same_bytes() -> None:
    file, model = NodeFile(MemoryNode(DATA, read_only=True)), io.BytesIO(DATA)
    for offset, whence, length in ((0, 0, 10), (100, 0, 5000), (-7, 2, 100), (-50, 1, 3), (10**9, 0, 5), (0, 0, -1)):
        assert file.seek(offset, whence) == model.seek(offset, whence)
        assert file.read(length) == model.read(length)
        assert file.tell() == model.tell()
    assert file.readable()
    assert file.seekable()
    assert not file.writable()


def test_a_buffered_reader_reads_disks() -> None:
    with io.BufferedReader(NodeFile(MemoryNode(DATA))) as file:
        file.seek(250)
        assert file.read(10) == DATA[250:260]
        assert file.peek(1)[:1] == DATA[260:261]
        assert file.read() == DATA[260:]


def test_writes_go_to_the_disk_and_stop_at_its_end() -> None:
    node = MemoryNode(bytes(100))
    with NodeFile(node) as file:
        file.seek(95)
        assert file.write(b"0123456789") == 5
        with pytest.raises(OSError, match="ends here") as caught:
            file.write(b"x")
        assert caught.value.errno == errno.ENOSPC
        assert file.write(b"") == 0
    assert node.data == bytes(95) + b"01234"
    assert not node.closed


def test_a_read_only_disk_is_a_read_only_file() -> None:
    with NodeFile(MemoryNode(DATA, read_only=True)) as file:
        assert file.mode == "rb"
        for write in (lambda: file.write(b"x"), lambda: file.truncate(5)):
            with pytest.raises(io.UnsupportedOperation):
                write()


def test_truncating_resizes_the_disk() -> None:
    node = MemoryNode(b"0123456789")
    with NodeFile(node) as file:
        assert file.truncate(4) == 4
        file.seek(2)
        assert file.truncate() == 2
    assert node.data == b"01"


def test_a_tar_archive_lives_on_a_disk(tmp_path: Path) -> None:
    blockkit.create_image(tmp_path / "disk", "qcow2", 1 << 20)
    with (
        blockkit.open_image(tmp_path / "disk", read_only=False) as node,
        io.BufferedRandom(NodeFile(node)) as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        info = tarfile.TarInfo("hello.txt")
        info.size = 5000
        tar.addfile(info, io.BytesIO(b"hello" * 1000))
    with blockkit.open_image(tmp_path / "disk") as node, tarfile.open(fileobj=NodeFile(node)) as tar:
        member = tar.extractfile("hello.txt")
        assert member is not None
        assert member.read() == b"hello" * 1000


def test_a_zip_archive_lives_on_a_disk() -> None:
    node = MemoryNode(bytes(1 << 20))
    with io.BufferedRandom(NodeFile(node)) as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("hello.txt", "hello" * 1000)
        end = file.tell()
    # It is found by its end, which has to be that of the disk.
    node.resize(end)
    with zipfile.ZipFile(NodeFile(node)) as archive:
        assert archive.read("hello.txt") == b"hello" * 1000


def test_failures_are_those_of_files() -> None:
    node = FaultsNode(MemoryNode(bytes(512)), [FaultRule(operation="read", errno="ETIMEDOUT")])
    with NodeFile(node) as file, pytest.raises(OSError) as caught:
        file.read(1)
    assert caught.value.errno == errno.ETIMEDOUT
    assert isinstance(caught.value.__cause__, BlockkitError)


def test_positions_before_the_start_are_refused() -> None:
    with NodeFile(MemoryNode(bytes(10))) as file:
        for offset, whence in ((-1, os.SEEK_SET), (-11, os.SEEK_END)):
            with pytest.raises(OSError):
                file.seek(offset, whence)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)
        assert file.tell() == 0


def test_a_closed_file_refuses_everything_and_may_close_its_disk() -> None:
    node = MemoryNode(bytes(10))
    file = NodeFile(node, close_node=True)
    file.close()
    file.close()
    assert node.closed
    for use in (
        lambda: file.read(1),
        lambda: file.write(b""),
        lambda: file.seek(0),
        file.tell,
        lambda: file.truncate(0),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
