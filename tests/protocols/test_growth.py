"""Space is reserved ahead of a file that grows, and none of it is left when the file is closed."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blockkit
from blockkit.block.copy import CopyPlan, copy
from blockkit.block.facets import ExpectsGrowth
from blockkit.errors import NodeIOError
from blockkit.protocols import fallocate
from blockkit.protocols.file import create_file
from blockkit.protocols.growth import Growth
from blockkit.protocols.hostfile import HostFile

if TYPE_CHECKING:
    from pathlib import Path

    from blockkit.block.syscall import SystemCall

MIB = 1 << 20


def grow(node: HostFile, pieces: int) -> None:
    for number in range(pieces):
        node.push(node.size, [memoryview(bytes([number % 251 + 1]) * MIB)])


def reservations(node: HostFile, pieces: int) -> list[SystemCall]:
    """Let a file grow by so many pieces of 1 MiB, and return what was reserved."""
    found: list[SystemCall] = []
    leave = node.watch_calls(found.append)
    grow(node, pieces)
    leave()
    reserved = [call for call in found if call.action == "reserve"]
    if reserved and reserved[0].result:
        pytest.skip(f"this file system reserves nothing: {reserved[0].result}")
    return reserved


def test_what_is_not_used_is_given_back(direct_path: Path) -> None:
    with create_file(direct_path) as node:
        node.expect_growth()
        reserved = reservations(node, 21)
        assert [(call.offset, call.length) for call in reserved] == [
            (4 * MIB, 4 * MIB),
            (8 * MIB, 6 * MIB),
            (14 * MIB, 10 * MIB),
            (24 * MIB, 16 * MIB),
        ]
        assert node.size == 21 * MIB
        assert node.allocated_size >= 40 * MIB
    assert direct_path.stat().st_size == 21 * MIB
    assert direct_path.stat().st_blocks * 512 < 22 * MIB
    data = direct_path.read_bytes()
    assert data == b"".join(bytes([number + 1]) * MIB for number in range(21))


def test_nothing_is_reserved_unless_much_is_expected(direct_path: Path) -> None:
    with create_file(direct_path) as node:
        assert not reservations(node, 10)
        node.expect_growth()
        assert not reservations(node, 3)


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSPC])
def test_what_cannot_be_reserved_is_asked_for_once(
    direct_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked = []

    def refuse(fd: int, offset: int, length: int) -> None:
        asked.append(offset)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fallocate, "reserve", refuse)
    with create_file(direct_path) as node:
        node.expect_growth()
        grow(node, 12)
    assert asked == [4 * MIB]
    assert direct_path.stat().st_size == 12 * MIB


@pytest.mark.parametrize("size", [0, 5 * MIB, 40 * MIB])
def test_a_file_that_is_resized_meanwhile_keeps_nothing_either(direct_path: Path, size: int) -> None:
    with create_file(direct_path) as node:
        node.expect_growth()
        reservations(node, 18)
        node.resize(size)
        assert node.read(0, size) == direct_path.read_bytes()
        node.push(size, [memoryview(b"x")])
    assert direct_path.stat().st_size == size + 1
    # What was reserved lies before the end now, or is gone.
    assert direct_path.stat().st_blocks * 512 < max(size, 18 * MIB) + MIB


def test_space_that_is_not_taken_back_is_told_and_the_file_is_closed(
    direct_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = create_file(direct_path)
    node.expect_growth()
    reservations(node, 5)
    fd = node.fileno()

    def refuse(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(NodeIOError, match="cannot give back space"):
        node.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_space_is_given_back_when_the_last_flush_fails(direct_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = create_file(direct_path)
    node.expect_growth()
    reservations(node, 5)

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(NodeIOError, match="cannot flush"):
        node.close()
    assert direct_path.stat().st_blocks * 512 < 6 * MIB


def test_space_is_given_back_after_an_interrupt(direct_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fallocate.reserve

    def interrupted(fd: int, offset: int, length: int) -> None:
        real(fd, offset, length)
        raise KeyboardInterrupt

    with create_file(direct_path) as node:
        node.expect_growth()
        reservations(node, 3)
        monkeypatch.setattr(fallocate, "reserve", interrupted)
        with pytest.raises(KeyboardInterrupt):
            grow(node, 5)
        size = node.size
    assert direct_path.stat().st_size == size
    assert direct_path.stat().st_blocks * 512 < size + MIB


def test_others_find_space_on_a_file_system_that_is_nearly_full(
    direct_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstatvfs
    free = 31 * MIB

    def nearly_full(fd: int) -> os.statvfs_result:
        found = list(real(fd))
        found[1], found[4] = 4096, free // 4096
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    with create_file(direct_path) as node:
        node.expect_growth()
        assert reservations(node, 12) == []
    free = 32 * MIB
    with create_file(direct_path.with_name("second")) as node:
        node.expect_growth()
        assert [call.length for call in reservations(node, 12)] == [4 * MIB]
    direct_path.with_name("second").unlink()


def test_without_locks_nothing_is_reserved(direct_path: Path) -> None:
    with HostFile.open(direct_path, read_only=False, create=True, lock=False) as node:
        node.expect_growth()
        assert reservations(node, 12) == []


def test_a_size_that_cannot_be_looked_at_is_told_as_any_error(
    direct_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(_fd: int) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with create_file(direct_path) as node:
        monkeypatch.setattr(os, "fstat", stale)
        with pytest.raises(NodeIOError, match="cannot write 4096 bytes at 0x0"):
            node.push(0, [memoryview(bytes(4096))])
        monkeypatch.undo()


@given(steps=st.lists(st.integers(0, 9 * MIB), max_size=60), start=st.integers(0, 5 * MIB))
def test_reservations_follow_each_other_and_lie_behind_the_end(steps: list[int], start: int) -> None:
    size, until, reserved = start, start, 0
    with pytest.MonkeyPatch.context() as patch:

        def reserve(fd: int, offset: int, length: int) -> None:
            nonlocal until, reserved
            assert offset >= size
            assert offset >= until
            assert 0 < length <= 64 * MIB
            until, reserved = offset + length, reserved + length

        patch.setattr(fallocate, "reserve", reserve)
        patch.setattr(os, "fstatvfs", lambda _fd: os.statvfs_result((4096, 4096, *[1 << 40] * 8)))
        growth = Growth(-1, size)
        for step in steps:
            size += step
            growth.follow(size)
            # Never more than has been written already.
            assert until - size <= max(size - start, 0) * 3 // 2


def test_many_threads_make_a_file_grow(direct_path: Path) -> None:
    with create_file(direct_path) as node:
        node.expect_growth()

        def write(first: int) -> None:
            for number in range(first, 64, 4):
                node.push(number * MIB, [memoryview(bytes([number + 1]) * MIB)])

        threads = [threading.Thread(target=write, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert node.size == 64 * MIB
    assert direct_path.read_bytes() == b"".join(bytes([number + 1]) * MIB for number in range(64))
    assert direct_path.stat().st_blocks * 512 < 65 * MIB


def test_an_image_that_is_filled_takes_no_more_than_it_needs(
    direct_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = fallocate.reserve
    monkeypatch.setattr(fallocate, "reserve", lambda *words: (asked.append(words), real(*words)))
    source = direct_path.with_name("source.raw")
    source.write_bytes(os.urandom(MIB) * 12)
    blockkit.create_image(direct_path, "qcow2", 12 * MIB)
    with (
        blockkit.open_image(source, format="raw") as disk,
        blockkit.open_image(direct_path, format="qcow2", read_only=False) as target,
    ):
        assert isinstance(target, ExpectsGrowth)
        copy(disk, target, CopyPlan(target_is_zero=True))
    assert asked
    assert direct_path.stat().st_blocks * 512 <= 13 * MIB
    with blockkit.open_image(direct_path) as disk:
        assert disk.read(0, disk.size) == source.read_bytes()
