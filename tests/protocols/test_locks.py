"""Image locks: programs that use an image keep each other out, QEMU's included, in both directions."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from blockkit.errors import LockedError, NodeIOError
from blockkit.protocols import locks
from blockkit.protocols.file import create_file, open_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


# -- among ourselves ---------------------------------------------------------------------------------------


def test_many_may_read(path: Path) -> None:
    with open_path(path), open_path(path), open_path(path, share=True):
        pass


def test_a_writer_keeps_everybody_out(path: Path) -> None:
    with open_path(path, read_only=False):
        with pytest.raises(LockedError) as caught:
            open_path(path)
        assert str(caught.value) == (
            f"{path}: in use for writing by somebody else, cannot be opened for reading; -U reads it all the same"
        )
        with pytest.raises(LockedError) as caught:
            open_path(path, read_only=False)
        assert str(caught.value) == f"{path}: in use for writing by somebody else, cannot be opened for writing"


def test_a_reader_keeps_writers_out(path: Path) -> None:
    with open_path(path):
        with pytest.raises(LockedError) as caught:
            open_path(path, read_only=False)
        assert str(caught.value) == (
            f"{path}: in use by somebody else who allows no writer, cannot be opened for writing"
        )
    open_path(path, read_only=False).close()


def test_who_shares_reads_beside_a_writer_and_lets_one_in(path: Path) -> None:
    with open_path(path, read_only=False), open_path(path, share=True) as node:
        assert node.read(0, 1) == b"\0"
    with open_path(path, share=True):
        open_path(path, read_only=False).close()


def test_who_takes_no_lock_meets_none(path: Path) -> None:
    with open_path(path, read_only=False), open_path(path, read_only=False, lock=False):
        pass
    with open_path(path, read_only=False, lock=False):
        open_path(path, read_only=False).close()


def test_a_refused_opener_leaves_nothing_behind(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with open_path(path, read_only=False):
        for _ in range(3):
            with pytest.raises(LockedError):
                open_path(path)
    open_path(path).close()
    open_path(path, read_only=False).close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_an_image_in_use_is_not_emptied_by_creating_it(path: Path) -> None:
    with open_path(path):
        with pytest.raises(LockedError):
            create_file(path)
        assert path.stat().st_size == 1 << 20


def test_closing_gives_the_lock_up_although_a_child_has_the_descriptor(path: Path) -> None:
    node = open_path(path, read_only=False)
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        node.close()
        open_path(path, read_only=False).close()
    finally:
        os.close(writing)
        os.waitpid(pid, 0)


def test_closing_another_descriptor_of_the_file_keeps_the_lock(path: Path) -> None:
    with open_path(path, read_only=False):
        os.close(os.open(path, os.O_RDONLY))
        with pytest.raises(LockedError):
            open_path(path)


def refusing(number: int, *commands: int) -> Callable[..., object]:
    real = fcntl.fcntl

    def call(fd: int, command: int, argument: int | bytes = 0) -> object:
        if command in commands:
            raise OSError(number, os.strerror(number))
        return real(fd, command, argument)

    return call


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_without(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(fcntl, "fcntl", refusing(number, fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK))
    with open_path(path, read_only=False) as node, open_path(path):
        node.write(0, b"x")


def test_a_lock_that_somebody_holds_alone_is_met(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(path, "r+b") as other:
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, locks._FLOCK.pack(fcntl.F_WRLCK, 0, 100, 1, 0))
        with pytest.raises(LockedError, match="locked by another program"):
            open_path(path)


def test_other_failures_to_lock_are_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "fcntl", refusing(errno.EIO, fcntl.F_OFD_SETLK))
    with pytest.raises(NodeIOError, match="cannot lock: input/output error"):
        open_path(path)


def test_the_size_is_looked_at_once_the_lock_is_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = locks.acquire

    def late(fd: int, use: locks.Use, name: str) -> bool:
        os.truncate(path, 5000)
        return real(fd, use, name)

    monkeypatch.setattr(locks, "acquire", late)
    with open_path(path) as node:
        assert node.size == 5000


# -- with QEMU ---------------------------------------------------------------------------------------------


@contextmanager
def qemu_holding(path: Path, *options: str, fmt: str = "qcow2") -> Iterator[None]:
    """Have qemu-io keep ``path`` open meanwhile."""
    with subprocess.Popen(
        ["qemu-io", *options, "-f", fmt, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write("length\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert "MiB" in answer, answer
            yield
        finally:
            process.stdin.close()
            process.wait(timeout=30)


def qemu_opens(path: Path, *options: str, fmt: str = "qcow2") -> bool:
    """Tell whether qemu-io can open ``path``; if not, then because of a lock."""
    done = subprocess.run(
        ["qemu-io", *options, "-f", fmt, "-c", "length", str(path)], capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    if "Is another process using the image" in output:
        return False
    assert done.returncode == 0, output
    return True


@pytest.fixture
def image(tmp_path: Path, qemu_img: Callable[..., str]) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    return path


def we_open(path: Path, *, read_only: bool, share: bool = False) -> bool:
    try:
        open_path(path, read_only=read_only, share=share).close()
    except LockedError:
        return False
    return True


@pytest.mark.interop
def test_an_image_that_qemu_writes_is_not_opened(image: Path) -> None:
    with qemu_holding(image):
        assert not we_open(image, read_only=False)
        assert not we_open(image, read_only=True)
        assert we_open(image, read_only=True, share=True)
        with pytest.raises(LockedError):
            create_file(image)
    assert we_open(image, read_only=False)


@pytest.mark.interop
def test_an_image_that_qemu_reads_is_only_read(image: Path) -> None:
    with qemu_holding(image, "-r"):
        assert not we_open(image, read_only=False)
        assert we_open(image, read_only=True)
    with qemu_holding(image, "-r", "-U"):
        assert we_open(image, read_only=False)


@pytest.mark.interop
def test_a_raw_image_that_qemu_writes_is_not_opened(path: Path) -> None:
    with qemu_holding(path, fmt="raw"):
        assert not we_open(path, read_only=False)
        assert not we_open(path, read_only=True)
        assert we_open(path, read_only=True, share=True)


@pytest.mark.interop
def test_an_image_that_we_write_keeps_qemu_out(image: Path) -> None:
    with open_path(image, read_only=False):
        assert not qemu_opens(image)
        assert not qemu_opens(image, "-r")
        assert qemu_opens(image, "-r", "-U")
        assert not qemu_opens(image, fmt="raw")
    assert qemu_opens(image)


@pytest.mark.interop
def test_an_image_that_we_read_keeps_only_writers_of_qemu_out(image: Path) -> None:
    with open_path(image):
        assert not qemu_opens(image)
        assert qemu_opens(image, "-r")
    with open_path(image, share=True):
        assert qemu_opens(image)


@pytest.mark.interop
def test_an_image_that_we_use_is_not_resized_or_overwritten_by_qemu(image: Path, qemu_img: Callable[..., str]) -> None:
    with open_path(image):
        with pytest.raises(AssertionError, match="Is another process using the image"):
            qemu_img("resize", image, "2M")
        with pytest.raises(AssertionError, match="Is another process using the image"):
            qemu_img("create", "-f", "raw", image, "2M")
        qemu_img("check", image)


def locked_bytes(path: Path) -> set[tuple[str, int]]:
    """Return every locked byte of ``path`` as the kernel sees it, with the kind of lock."""
    inode = path.stat().st_ino
    found: set[tuple[str, int]] = set()
    with open("/proc/locks") as table:
        for line in table:
            words = line.split()
            if words[1] != "->" and words[5].rpartition(":")[2] == str(inode):
                found.update((words[3], byte) for byte in range(int(words[6]), int(words[7]) + 1))
    return found


@pytest.mark.interop
@pytest.mark.parametrize(("read_only", "share"), [(False, False), (True, False), (True, True)])
def test_the_locked_bytes_are_those_that_qemu_locks(image: Path, read_only: bool, share: bool) -> None:
    with qemu_holding(image, *["-r"] * read_only, *["-U"] * share):
        theirs = locked_bytes(image)
    if not theirs:
        pytest.skip("the kernel does not list locks")
    with open_path(image, read_only=read_only, share=share):
        assert locked_bytes(image) == theirs
    assert not locked_bytes(image)
