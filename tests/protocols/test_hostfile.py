"""Regular files: reading, writing, holes, space, durability and errors."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from blockkit.block.node import Cap, Kind
from blockkit.errors import (
    BlockkitError,
    ClosedError,
    NodeIOError,
    NoSpaceError,
    OutOfRangeError,
    UnsupportedOperationError,
)
from blockkit.protocols import fallocate as fallocate_module
from blockkit.protocols import hostfile
from blockkit.protocols.descriptor import CACHE_MODES
from blockkit.protocols.file import HostFile, create_file, open_path

if TYPE_CHECKING:
    from collections.abc import Callable
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


def test_a_file_reads_back_what_was_written(path: Path) -> None:
    with create_file(path, 64 * KIB) as node:
        node.write(1000, b"hello")
        assert node.read(998, 9) == b"\0\0hello\0\0"
    assert path.read_bytes()[1000:1005] == b"hello"


# -- size --------------------------------------------------------------------------------------------------


def test_a_write_past_the_end_makes_the_file_longer(path: Path) -> None:
    with create_file(path, 10) as node:
        node.write(20, b"abc")
        assert node.size == 23
        assert node.read(0, 23) == bytes(20) + b"abc"


def test_reading_past_the_end_is_refused(path: Path) -> None:
    with create_file(path, 10) as node, pytest.raises(OutOfRangeError):
        node.read(5, 6)


@pytest.mark.parametrize("offset", [2**63 - 2, 2**63, 2**70])
def test_offsets_no_file_can_have_are_refused(path: Path, offset: int) -> None:
    with create_file(path, 10) as node:
        with pytest.raises(BlockkitError):
            node.write(offset, b"abcd")
        with pytest.raises(BlockkitError):
            node.push(offset, [memoryview(b"abcd")])
        with pytest.raises(BlockkitError):
            node.zero(offset, 4)
        assert node.size == 10


def test_resizing_cuts_and_extends(path: Path) -> None:
    with create_file(path) as node:
        node.write(0, b"x" * 1000)
        node.resize(100)
        node.resize(1000)
        assert node.read(0, 1000) == b"x" * 100 + bytes(900)


def test_bytes_that_vanished_under_us_read_as_zeros(path: Path) -> None:
    path.write_bytes(b"x" * 10_000)
    with open_path(path) as node:
        os.truncate(path, 1000)
        assert node.read(900, 200) == b"x" * 100 + bytes(100)
        one, two = bytearray(b"?" * 150), bytearray(b"?" * 50)
        node.readv(900, [one, two])
        assert one + two == b"x" * 100 + bytes(100)
        assert node.read(5000, 5) == bytes(5)
        assert [e.kind for e in node.extents(2000)] == [Kind.ZERO]


# -- vectors -----------------------------------------------------------------------------------------------


def test_vectors_longer_than_the_kernel_takes_work(path: Path) -> None:
    data = bytes(range(256)) * 20
    with create_file(path) as node:
        node.writev(7, [data[i : i + 1] for i in range(len(data))])
        assert path.read_bytes() == bytes(7) + data
        parts = [bytearray(1) for _ in data]
        node.readv(7, parts)
        assert b"".join(parts) == data


def test_nothing_at_all_can_be_read_and_written_by_a_parent(path: Path) -> None:
    with create_file(path, 10) as node:
        node.pull(5, [])
        node.push(5, [])
        assert node.read(0, 10) == bytes(10)


def test_short_system_calls_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, readv, write, writev = os.pread, os.preadv, os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: read(fd, min(length, 7), offset))
    monkeypatch.setattr(os, "preadv", lambda fd, bufs, offset: readv(fd, [bufs[0][:3]], offset))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, data[:5], offset))
    monkeypatch.setattr(os, "pwritev", lambda fd, bufs, offset, flags=0: writev(fd, [bufs[0][:4]], offset, flags))
    with create_file(path) as node:
        node.write(0, b"0123456789abcdefghij")
        node.writev(20, [b"klmno", b"p", b"qrstuvwxyz"])
        assert node.read(0, 36) == b"0123456789abcdefghijklmnopqrstuvwxyz"
        node.push(36, [memoryview(b"0123456789")])
        last = bytearray(b"?" * 12)
        node.pull(36, [memoryview(last)])
        assert last == b"0123456789\0\0"
        one, two = bytearray(10), bytearray(26)
        node.readv(0, [one, two])
        assert one + two == b"0123456789abcdefghijklmnopqrstuvwxyz"


# -- zeroing and discarding --------------------------------------------------------------------------------


@pytest.mark.parametrize("unmap", [True, False])
def test_zeroing_gives_space_back_only_if_it_may(path: Path, unmap: bool) -> None:
    with create_file(path) as node:
        node.write(0, b"x" * 256 * KIB)
        node.flush()
        node.zero(100, 200 * KIB, unmap=unmap, fast=True)
        assert node.read(0, 256 * KIB) == b"x" * 100 + bytes(200 * KIB) + b"x" * (56 * KIB - 100)
        assert (node.allocated_size < 128 * KIB) is unmap


def test_zeroing_past_the_end_makes_the_file_longer(path: Path) -> None:
    with create_file(path) as node:
        node.write(0, b"x" * 1000)
        node.zero(500, 1 << 20)
        assert node.size == path.stat().st_size == 500 + (1 << 20)
        assert node.read(0, node.size) == b"x" * 500 + bytes(1 << 20)
        assert node.allocated_size <= 64 * KIB
        node.zero(node.size + 10, 100, unmap=False)
        assert node.size == path.stat().st_size == 500 + (1 << 20) + 110


def test_discard_may_be_told_to_keep_space(path: Path) -> None:
    with create_file(path, discard="ignore") as node:
        node.write(0, b"x" * 64 * KIB)
        node.discard(0, 64 * KIB)
        assert node.read(0, 64 * KIB) == b"x" * 64 * KIB
        assert Cap.DISCARD not in node.caps
        node.zero(0, 64 * KIB, unmap=True)
        assert node.read(0, 64 * KIB) == bytes(64 * KIB)
        assert node.allocated_size >= 64 * KIB


def test_discarding_gives_space_back_and_keeps_the_size(path: Path) -> None:
    with create_file(path) as node:
        node.write(0, b"x" * 64 * KIB)
        node.discard(0, 64 * KIB)
        assert node.allocated_size == 0
        assert node.size == 64 * KIB


@pytest.fixture
def no_fallocate(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A kernel without fallocate; returns the modes that were tried."""
    modes: list[int] = []

    def refuse(fd: int, mode: int, offset: int, length: int) -> None:
        modes.append(mode)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(fallocate_module, "fallocate", refuse)
    return modes


@pytest.mark.parametrize("unmap", [True, False])
def test_zeros_are_written_where_nothing_is_faster(path: Path, no_fallocate: list[int], unmap: bool) -> None:
    with create_file(path) as node:
        node.write(0, b"x" * 3000)
        with pytest.raises(UnsupportedOperationError):
            node.zero(0, 3000, unmap=unmap, fast=True)
        assert node.read(0, 3000) == b"x" * 3000
        tried = len(no_fallocate)
        node.zero(1000, 1000, unmap=unmap)
        node.discard(0, 10)
        assert node.read(0, 3000) == b"x" * 1000 + bytes(1000) + b"x" * 1000
        assert len(no_fallocate) == tried, "what does not work is not tried again"
        node.zero(2900, 200, unmap=unmap)
        assert node.size == 3100


def test_a_file_system_that_cannot_zero_a_range_gets_a_hole_filled_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fallocate_module.fallocate

    def refuse(fd: int, mode: int, offset: int, length: int) -> None:
        if mode & fallocate_module.ZERO_RANGE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        real(fd, mode, offset, length)

    monkeypatch.setattr(fallocate_module, "fallocate", refuse)
    with create_file(path) as node:
        node.write(0, b"x" * 64 * KIB)
        node.zero(0, 64 * KIB, unmap=False, fast=True)
        assert node.read(0, 64 * KIB) == bytes(64 * KIB)
        assert node.allocated_size >= 64 * KIB


def test_fallocate_reports_the_number_of_the_error(path: Path) -> None:
    path.write_bytes(b"x")
    with open_path(path) as node, pytest.raises(OSError, match=os.strerror(errno.EBADF)) as caught:
        fallocate_module.fallocate(node.fileno(), 0, 0, 1)
    assert caught.value.errno == errno.EBADF


# -- holes -------------------------------------------------------------------------------------------------


def runs(node: HostFile) -> list[tuple[int, int, Kind]]:
    return [(e.offset, e.length, e.kind) for e in node.extents()]


def test_holes_are_found(path: Path) -> None:
    with create_file(path, 1 << 20) as node:
        node.write(256 * KIB, b"x" * 64 * KIB)
        node.flush()
        assert runs(node) == [
            (0, 256 * KIB, Kind.ZERO),
            (256 * KIB, 64 * KIB, Kind.DATA),
            (320 * KIB, 704 * KIB, Kind.ZERO),
        ]
        assert all(e.node is node and e.target == e.offset for e in node.extents())
        assert node.map(300 * KIB, 100 * KIB)[:3] == (300 * KIB, 20 * KIB, Kind.DATA)
        assert node.map(0, 100)[:3] == (0, 100, Kind.ZERO)
        assert node.map(1000 * KIB, 24 * KIB)[:3] == (1000 * KIB, 24 * KIB, Kind.ZERO)


def test_a_file_system_without_holes_has_data_everywhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise OSError(errno.EINVAL, "whence")

    monkeypatch.setattr(os, "lseek", refuse)
    with create_file(path, 1 << 20) as node:
        assert runs(node) == [(0, 1 << 20, Kind.DATA)]


def test_an_empty_file_has_no_extents(path: Path) -> None:
    with create_file(path) as node:
        assert runs(node) == []


# -- durability --------------------------------------------------------------------------------------------


class Syncs:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.error = 0
        self.flags_error = 0
        self.flags: list[int] = []
        writev = os.pwritev

        def fdatasync(fd: int) -> None:
            self.count += 1
            if self.error:
                raise OSError(self.error, os.strerror(self.error))

        def pwritev(fd: int, bufs: list[memoryview], offset: int, flags: int = 0) -> int:
            self.flags.append(flags)
            if flags and self.flags_error:
                raise OSError(self.flags_error, os.strerror(self.flags_error))
            return writev(fd, bufs, offset, flags)

        monkeypatch.setattr(os, "fdatasync", fdatasync)
        monkeypatch.setattr(os, "pwritev", pwritev)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    return Syncs(monkeypatch)


@pytest.mark.parametrize(("cache", "flushes"), [("writeback", 1), ("writethrough", 1), ("unsafe", 0)])
def test_a_flush_reaches_the_disk_unless_the_cache_is_unsafe(
    path: Path, syncs: Syncs, cache: str, flushes: int
) -> None:
    with create_file(path, cache=cache) as node:
        node.write(0, b"x")
        syncs.count = 0
        node.flush()
        assert syncs.count == flushes


def test_closing_flushes_what_was_written_and_nothing_else(path: Path, syncs: Syncs) -> None:
    with create_file(path, 100) as node:
        node.write(0, b"x")
        assert syncs.count == 0
    assert syncs.count == 1
    for read_only in (True, False):
        open_path(path, read_only=read_only).close()
    assert syncs.count == 1


def test_a_durable_write_is_one_system_call(path: Path, syncs: Syncs) -> None:
    with create_file(path) as node:
        node.write(0, b"x", fua=True)
        assert syncs.flags == [os.RWF_DSYNC]
        assert syncs.count == 0


def test_a_durable_write_flushes_where_the_kernel_cannot_do_it_in_one(path: Path, syncs: Syncs) -> None:
    with create_file(path) as node:
        syncs.flags_error = errno.EOPNOTSUPP
        node.write(0, b"x", fua=True)
        assert syncs.count == 1
        assert node.read(0, 1) == b"x"
        node.write(0, b"y", fua=True)
        assert syncs.flags == [os.RWF_DSYNC], "what does not work is not tried again"
        assert syncs.count == 2


def test_write_through_is_asked_of_the_descriptor(path: Path, syncs: Syncs) -> None:
    import fcntl

    with create_file(path, cache="writethrough") as node:
        assert fcntl.fcntl(node.fileno(), fcntl.F_GETFL) & os.O_DSYNC
        syncs.count = 0
        node.write(0, b"x", fua=True)
        assert syncs.count == 0
        node.zero(0, 1)
        assert syncs.count == 1


def test_a_failed_flush_is_not_forgotten(path: Path, syncs: Syncs) -> None:
    node = create_file(path)
    node.write(0, b"x")
    syncs.error = errno.EIO
    with pytest.raises(NodeIOError, match="cannot flush"):
        node.flush()
    syncs.error = 0
    with pytest.raises(NodeIOError, match="an earlier flush failed"):
        node.flush()
    with pytest.raises(NodeIOError, match="an earlier flush failed"):
        node.close()
    assert node.closed
    node.close()


# -- errors and the end ------------------------------------------------------------------------------------


def test_errors_of_the_system_are_translated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> object:
        def call(*args: object) -> int:
            raise OSError(number, os.strerror(number))

        return call

    with create_file(path, 100, cache="unsafe") as node:
        monkeypatch.setattr(os, "pread", fail(errno.EIO))
        with pytest.raises(NodeIOError) as caught:
            node.read(16, 10)
        assert one_line(caught.value) == f"{path}: cannot read 10 bytes at 0x10: input/output error"
        monkeypatch.setattr(os, "preadv", fail(errno.EIO))
        with pytest.raises(NodeIOError):
            node.read_into(0, bytearray(10))
        monkeypatch.setattr(os, "pwrite", fail(errno.ENOSPC))
        with pytest.raises(NoSpaceError):
            node.write(0, b"x")


def test_a_full_disk_counts_what_was_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def once(fd: int, data: memoryview, offset: int) -> int:
        if offset:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data[:10], offset)

    with create_file(path) as node:
        monkeypatch.setattr(os, "pwrite", once)
        with pytest.raises(NoSpaceError):
            node.write(0, b"x" * 20)
        assert node.size == path.stat().st_size == 10


def test_a_closed_file_says_so(path: Path) -> None:
    node = create_file(path, 100)
    node.close()
    uses: list[Callable[[], object]] = [
        lambda: node.read(0, 1),
        lambda: node.read_into(0, bytearray(1)),
        lambda: node.write(0, b"x"),
        lambda: node.write(0, b"x", fua=True),
        lambda: node.zero(0, 1),
        lambda: node.discard(0, 1),
        lambda: node.resize(1),
        node.flush,
        node.fileno,
        lambda: node.map(0, 1),
        lambda: node.allocated_size,
    ]
    for use in uses:
        with pytest.raises(ClosedError, match="closed"):
            use()
    assert path.read_bytes() == bytes(100)


@pytest.mark.parametrize("cache", [name for name, mode in CACHE_MODES.items() if not mode.direct])
def test_threads_append_and_read_at_once(path: Path, cache: str) -> None:
    count = 40
    failures: list[BaseException] = []
    with create_file(path, cache=cache) as node:

        def work(number: int) -> None:
            try:
                mine = bytes([number]) * 1000
                for turn in range(count):
                    at = (turn * 8 + number) * 1000
                    node.write(at, mine)
                    assert node.read(at, 1000) == mine
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert node.size == path.stat().st_size == count * 8000
    assert path.read_bytes() == b"".join(bytes([number]) * 1000 for number in range(8)) * count


def test_every_discard_word_is_known() -> None:
    assert {name for name, unmap in hostfile.DISCARD.items() if unmap} == {"unmap", "on"}
