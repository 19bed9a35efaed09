"""Opening and creating: what is taken, what is refused, and in which words."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from blockkit.block.node import Cap, Preallocation
from blockkit.errors import (
    BlockkitError,
    NameSyntaxError,
    NodeIOError,
    NoSpaceError,
    OptionError,
    ReadOnlyError,
    UnsupportedOperationError,
    UsageError,
)
from blockkit.protocols.file import HostDevice, HostFile, create_file, open_path

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    return text


# -- opening -----------------------------------------------------------------------------------------------


def test_a_file_is_opened_read_only_unless_asked_otherwise(path: Path) -> None:
    path.write_bytes(b"x" * 512)
    with open_path(path) as node:
        assert node.read_only
        assert node.caps == Cap(0)
        with pytest.raises(ReadOnlyError):
            node.write(0, b"y")
        with pytest.raises(ReadOnlyError):
            node.preallocate(0, 1, Preallocation.FULL)
    assert path.read_bytes() == b"x" * 512


@pytest.mark.parametrize("name", ["disk.img", "white space", "ümlaut", "-dash", "new\nline"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    create_file(tmp_path / name, 10).close()
    with open_path(os.fsencode(tmp_path / name)) as node:
        assert node.size == 10
        assert node.filename == str(tmp_path / name)


@pytest.mark.parametrize("name", ["", "a\0b", b"a\0b"])
def test_what_cannot_be_a_file_name_is_refused(name: str | bytes) -> None:
    with pytest.raises(NameSyntaxError):
        open_path(name)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(NodeIOError) as caught:
        open_path(path)
    assert one_line(caught.value) == f"{path}: no such file or directory"
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(NodeIOError, match="no such file"):
        open_path(path, read_only=False)
    assert not path.exists()


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "character device"])
def test_only_files_and_block_devices_are_opened(tmp_path: Path, kind: str, read_only: bool) -> None:
    path = tmp_path / "thing"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(NodeIOError, match=f"is a {kind}, expected a regular file or a block device") as caught:
        open_path(path, read_only=read_only)
    one_line(caught.value)
    with pytest.raises(NodeIOError, match=f"is a {kind}"):
        create_file(path)


def test_a_fifo_put_in_place_after_the_look_does_not_hang(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"")
    good = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: good)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NodeIOError, match="is a fifo"):
        open_path(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_device_driver_refuses_a_file_and_closes_it(path: Path) -> None:
    path.write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NodeIOError, match="is a regular file, which driver host_device does not take"):
        HostDevice.open(path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("mode", ["writeback", "writethrough", "unsafe"])
def test_descriptors_are_not_inherited_and_do_block(path: Path, mode: str) -> None:
    with create_file(path, cache=mode) as node:
        assert not os.get_inheritable(node.fileno())
        assert os.get_blocking(node.fileno())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_without_write_permission_can_be_read(path: Path) -> None:
    path.write_bytes(b"data")
    path.chmod(0o444)
    check_unwritable(str(path))


@pytest.mark.root
def test_a_file_without_write_permission_can_be_read_by_others_than_root(path: Path) -> None:
    path.write_bytes(b"data")
    path.chmod(0o444)
    path.parent.chmod(0o755)
    pid = os.fork()
    if not pid:
        try:
            # The directories above are not ours to open to everybody.
            os.chdir(path.parent)
            os.setresuid(65534, 65534, 65534)
            check_unwritable(path.name)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def check_unwritable(name: str) -> None:
    with open_path(name) as node:
        assert node.read(0, 4) == b"data"
    with pytest.raises(NodeIOError) as caught:
        open_path(name, read_only=False)
    assert one_line(caught.value) == f"{name}: cannot open for writing: permission denied"
    assert caught.value.errno == errno.EACCES


def test_options_that_mean_nothing_are_refused(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(OptionError, match="cache: unknown mode 'fast', expected one of writeback, none"):
        open_path(path, cache="fast")
    with pytest.raises(OptionError, match="discard: unknown value 'maybe'"):
        open_path(path, discard="maybe")
    with pytest.raises(UsageError, match="-U"):
        open_path(path, read_only=False, share=True)
    with pytest.raises(UsageError, match="read-only"):
        open_path(path, create=True)


# -- creating ----------------------------------------------------------------------------------------------


def test_creating_empties_what_was_there(path: Path) -> None:
    path.write_bytes(b"old" * 1000)
    with create_file(path, 100) as node:
        assert node.read(0, 100) == bytes(100)
    assert path.read_bytes() == bytes(100)


def test_opening_with_create_keeps_what_was_there(path: Path) -> None:
    for _ in range(2):
        with HostFile.open(path, read_only=False, create=True) as node:
            node.write(node.size, b"more")
    assert path.read_bytes() == b"moremore"


def test_exclusive_creation_fails_when_the_file_exists(path: Path) -> None:
    create_file(path, 5, exclusive=True).close()
    with pytest.raises(NodeIOError, match="cannot create: file exists") as caught:
        create_file(path, 6, exclusive=True)
    assert caught.value.errno == errno.EEXIST
    assert path.stat().st_size == 5


@pytest.mark.parametrize("mode", [Preallocation.FALLOC, Preallocation.FULL])
def test_preallocation_reserves_space_that_reads_as_zeros(path: Path, mode: Preallocation) -> None:
    with create_file(path, 300_001, preallocation=mode) as node:
        assert node.size == 300_001
        assert node.allocated_size >= 300_001
        assert node.read(0, 300_001) == bytes(300_001)


def test_without_preallocation_no_space_is_taken(path: Path) -> None:
    with create_file(path, 1 << 40) as node:
        assert node.size == 1 << 40
        assert node.allocated_size <= 64 * KIB


def test_a_file_has_no_metadata_to_preallocate(path: Path) -> None:
    with pytest.raises(UnsupportedOperationError):
        create_file(path, 10, preallocation=Preallocation.METADATA)


def test_failed_preallocation_leaves_the_old_size(path: Path) -> None:
    with create_file(path, 4 * KIB) as node:
        with pytest.raises(BlockkitError) as caught:
            node.resize(1 << 50, preallocate=Preallocation.FALLOC)
        assert isinstance(caught.value, NoSpaceError)
        assert node.size == path.stat().st_size == 4 * KIB
