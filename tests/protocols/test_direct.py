"""Direct I/O takes any request, and never harms the bytes beside it."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import TYPE_CHECKING

import pytest

from blockkit.block.node import Preallocation
from blockkit.errors import NodeIOError, NoSpaceError
from blockkit.protocols import direct as direct_module
from blockkit.protocols.file import create_file, open_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20


def run_threads(*works: Callable[[], None]) -> None:
    """Run all at once; the first failure is raised."""
    failures: list[BaseException] = []

    def guard(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guard, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("cache", ["none", "directsync"])
def test_the_page_cache_is_bypassed(direct_path: Path, cache: str) -> None:
    import fcntl

    with create_file(direct_path, cache=cache) as node:
        flags = fcntl.fcntl(node.fileno(), fcntl.F_GETFL)
        assert flags & os.O_DIRECT
        assert bool(flags & os.O_DSYNC) is (cache == "directsync")
        assert node.limits.request_alignment >= 512
        assert node.limits.memory_alignment >= 512


def test_aligned_memory_goes_to_the_disk_without_a_copy(direct_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = mmap.mmap(-1, 64 * 1024)
    memory[:] = os.urandom(len(memory))
    before = bytes(memory)

    def refuse(*args: object) -> None:
        raise AssertionError("copied")

    monkeypatch.setattr(direct_module.DirectIO, "_bounce", refuse)
    with memoryview(memory) as view, create_file(direct_path, cache="none") as node:
        node.writev(4096, [view[:4096], view[4096:]])
        memory[:] = bytes(len(memory))
        node.readv(4096, [view[:8192], view[8192:]])
    assert bytes(memory) == before


def test_requests_larger_than_a_bounce_buffer_work(direct_path: Path) -> None:
    data = os.urandom(3 * MIB + 77)
    with create_file(direct_path, cache="none") as node:
        node.write(123, data)
        assert node.size == direct_path.stat().st_size == 123 + len(data)
        assert node.read(0, node.size) == bytes(123) + data
    assert direct_path.read_bytes() == bytes(123) + data


def test_a_file_of_odd_size_is_read_to_its_end(direct_path: Path) -> None:
    direct_path.write_bytes(b"x" * 5001)
    with open_path(direct_path, cache="none") as node:
        assert node.read(0, 5001) == b"x" * 5001
        assert node.read(4999, 2) == b"xx"
        assert node.pull_bytes(4999, 10) == b"xx" + bytes(8)


def test_bytes_that_vanished_read_as_zeros(direct_path: Path) -> None:
    direct_path.write_bytes(b"x" * 10_000)
    with open_path(direct_path, cache="none") as node:
        os.truncate(direct_path, 4500)
        assert node.read(4400, 5000) == b"x" * 100 + bytes(4900)
        assert node.read(8192, 1024) == bytes(1024)


def test_overwriting_the_tail_keeps_the_size_exact(direct_path: Path) -> None:
    direct_path.write_bytes(b"x" * 1000)
    with open_path(direct_path, read_only=False, cache="none") as node:
        node.write(990, b"y" * 10)
        assert direct_path.stat().st_size == 1000
        node.write(995, b"z" * 10)
        assert direct_path.stat().st_size == node.size == 1005
    assert direct_path.read_bytes() == b"x" * 990 + b"y" * 5 + b"z" * 10


def test_a_failed_write_does_not_leave_the_file_longer(direct_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with create_file(direct_path, 1000, cache="none") as node:
        real = os.pwritev

        def fail(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
            real(fd, buffers, offset, flags)
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(os, "pwritev", fail)
        with pytest.raises(NoSpaceError):
            node.write(900, b"x" * 5000)
        monkeypatch.undo()
        assert node.size == direct_path.stat().st_size == 1000


def test_space_can_be_reserved(direct_path: Path) -> None:
    for mode in (Preallocation.FALLOC, Preallocation.FULL):
        with create_file(direct_path, 100_001, preallocation=mode, cache="none") as node:
            assert node.allocated_size >= 100_001
            assert node.read(0, node.size) == bytes(100_001)
        assert direct_path.stat().st_size == 100_001


def test_a_file_system_without_direct_io_is_named(direct_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct_path.write_bytes(b"")
    real = os.open

    def refuse(path: str, flags: int, *args: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags, *args)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NodeIOError) as caught:
        open_path(direct_path, cache="none")
    assert str(caught.value) == f"{direct_path}: the file system has no direct I/O, which cache=none needs"


def test_the_alignment_is_safe_where_the_kernel_does_not_tell(
    direct_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: object())
    direct_path.write_bytes(b"")
    with open(direct_path, "rb") as file:
        assert direct_module.probe_alignment(file.fileno()) == direct_module.SAFE_ALIGNMENT


def test_writes_to_neighbouring_bytes_do_not_harm_each_other(direct_path: Path) -> None:
    # Each of six threads owns every sixth stripe of 100 bytes, so that each block belongs to all of them.
    width, owners, stripes, turns = 100, 6, 60, 6
    with create_file(direct_path, width * stripes - 30, cache="none") as node:

        def work(owner: int) -> None:
            for turn in range(turns):
                for stripe in range(owner, stripes, owners):
                    mine = bytes([turn * owners + owner + 1]) * width
                    node.write(stripe * width, mine)
                    assert node.read(stripe * width, width) == mine

        run_threads(*(lambda owner=owner: work(owner) for owner in range(owners)))
        assert node.size == width * stripes
    last = (turns - 1) * owners + 1
    assert direct_path.read_bytes() == b"".join(bytes([last + s % owners]) * width for s in range(stripes))


def test_zeroing_and_discarding_do_not_come_back_from_a_neighbours_write(direct_path: Path) -> None:
    block, blocks = 4096, 8
    half = block // 2 + 10
    with create_file(direct_path, cache="none") as node:
        for turn in range(6):
            node.write(0, b"o" * block * blocks)

            def write(turn: int = turn) -> None:
                for index in range(blocks):
                    node.write(index * block, bytes([turn + 1]) * half)

            def zero(turn: int = turn) -> None:
                for index in range(blocks):
                    node.zero(index * block + half, block - half, unmap=bool(turn & 1))

            run_threads(write, zero)
            assert node.read(0, block * blocks) == (bytes([turn + 1]) * half + bytes(block - half)) * blocks


def test_appending_threads_lose_nothing(direct_path: Path) -> None:
    # Some appends are whole blocks and some are not: the ones must not be cut off with the padding of the others.
    sizes = [4096, 1000, 8192, 4096 + 7]
    slot, turns = 16_384, 8
    with create_file(direct_path, cache="none") as node:

        def work(number: int) -> None:
            for turn in range(turns):
                at = (turn * len(sizes) + number) * slot
                node.write(at, bytes([number + 1]) * sizes[number])
                assert node.size >= at + sizes[number]

        def grow() -> None:
            for turn in range(turns):
                node.zero(turn * len(sizes) * slot + slot - 100, 50)

        run_threads(*(lambda number=number: work(number) for number in range(len(sizes))), grow)
        end = node.size
    content = direct_path.read_bytes()
    assert len(content) == end
    for turn in range(turns):
        for number, size in enumerate(sizes):
            at = (turn * len(sizes) + number) * slot
            assert content[at : at + size] == bytes([number + 1]) * size
            assert not any(content[at + size : at + slot])


def test_the_padding_of_a_last_block_is_cut_off_before_anybody_writes_beyond_it(
    direct_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.ftruncate
    cutting, appended = threading.Event(), threading.Event()

    def slow(fd: int, size: int) -> None:
        cutting.set()
        appended.wait(0.3)
        real(fd, size)

    with create_file(direct_path, cache="none") as node:
        monkeypatch.setattr(os, "ftruncate", slow)

        def append() -> None:
            assert cutting.wait(10)
            node.write(8192, b"b" * 4096)
            appended.set()

        run_threads(lambda: node.write(0, b"a" * 100), append)
    assert direct_path.read_bytes() == b"a" * 100 + bytes(8092) + b"b" * 4096
