"""System calls are told to whoever watches, and nothing is in between while nobody does."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from blockkit.block.node import Preallocation
from blockkit.errors import NodeIOError
from blockkit.protocols import calls, device, direct, fallocate, growth, hostfile, vectors
from blockkit.protocols.file import create_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blockkit.block.syscall import SystemCall
    from blockkit.protocols.hostfile import HostFile

KIB = 1024


@pytest.fixture
def node(tmp_path: Path) -> Iterator[HostFile]:
    with create_file(tmp_path / "disk.img", 256 * KIB) as found:
        yield found


def short(call: SystemCall) -> tuple[str, str, int, int]:
    return call.name, call.action, call.offset, call.length


def places() -> list[object]:
    return [
        *(hostfile.os, vectors.os, direct.os, growth.os),
        *(device.fcntl, fallocate.fallocate, fallocate.reserve),
    ]


UNWATCHED = places()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda node: node.write(512, b"x" * 100), [("pwrite", "write", 512, 100)]),
        (lambda node: node.writev(512, [b"x" * 100, b"y"]), [("pwritev", "write", 512, 101)]),
        (lambda node: node.write(512, b"x", fua=True), [("pwritev2", "write", 512, 1)]),
        (lambda node: node.read(512, 100), [("pread", "read", 512, 100)]),
        (lambda node: node.readv(512, [bytearray(100), bytearray(7)]), [("preadv", "read", 512, 107)]),
        (lambda node: node.flush(), [("fdatasync", "flush", 0, 0)]),
        (lambda node: node.zero(4096, 8192, unmap=False), [("fallocate", "zero", 4096, 8192)]),
        (lambda node: node.discard(4096, 8192), [("fallocate", "discard", 4096, 8192)]),
        (lambda node: node.resize(100), [("ftruncate", "resize", 100, 0)]),
        (
            lambda node: node.preallocate(0, 4096, Preallocation.FALLOC),
            [("posix_fallocate", "reserve", 0, 4096)],
        ),
    ],
)
def test_each_call_is_told(
    node: HostFile, act: Callable[[HostFile], object], expected: list[tuple[str, str, int, int]]
) -> None:
    found: list[SystemCall] = []
    leave = node.watch_calls(found.append)
    before = time.perf_counter_ns()
    act(node)
    after = time.perf_counter_ns()
    leave()
    if expected[0][0] == "fallocate" and found[0].result == os.strerror(errno.EOPNOTSUPP):
        pytest.skip("no such fallocate in this file system")
    assert [short(call) for call in found] == expected
    assert all(call.fd == node.fileno() for call in found)
    assert all(not call.result for call in found)
    assert all(before <= call.start <= call.start + call.took <= after for call in found)
    act(node)
    assert len(found) == len(expected)


def test_holes_are_looked_for(node: HostFile) -> None:
    found: list[SystemCall] = []
    leave = node.watch_calls(found.append)
    list(node.extents(0, 256 * KIB))
    leave()
    assert short(found[0]) == ("lseek", "map", 0, 0)


def test_direct_calls_are_told(direct_path: Path) -> None:
    with create_file(direct_path, 64 * KIB, cache="none") as node:
        found: list[SystemCall] = []
        leave = node.watch_calls(found.append)
        node.read(100, 10)
        leave()
        assert found
        assert {(call.name, call.offset, call.fd) for call in found} == {("preadv", 0, node.fileno())}


def test_what_was_done_of_it_is_told(node: HostFile, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, data[:60], offset))
    found: list[SystemCall] = []
    leave = node.watch_calls(found.append)
    node.write(0, b"x" * 100)
    leave()
    assert [(*short(call), call.result) for call in found] == [
        ("pwrite", "write", 0, 100, "60 bytes"),
        ("pwrite", "write", 0, 100, "60 bytes"),
        ("pwrite", "write", 60, 40, ""),
    ]


def test_a_failure_is_told(node: HostFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    found: list[SystemCall] = []
    leave = node.watch_calls(found.append)
    with pytest.raises(NodeIOError):
        node.read(0, 10)
    leave()
    assert [call.result for call in found] == ["Input/output error"]


def test_a_discard_of_a_device_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(fcntl, "ioctl", lambda fd, request, argument: asked.append(request))
    found: list[SystemCall] = []
    leave = calls.watch(found.append)
    device.fcntl.ioctl(7, device.BLKDISCARD, struct.pack("QQ", 4096, 512))
    leave()
    assert asked == [device.BLKDISCARD]
    assert [(*short(call), call.fd) for call in found] == [("ioctl", "discard", 4096, 512, 7)]


def test_each_hears_of_its_own_file_only(node: HostFile, tmp_path: Path) -> None:
    mine: list[SystemCall] = []
    others: list[SystemCall] = []
    with create_file(tmp_path / "other.img", KIB) as other:
        leave_mine, leave_other = node.watch_calls(mine.append), other.watch_calls(others.append)
        node.read(1, 1)
        other.read(2, 1)
        leave_mine()
        other.read(3, 1)
        node.read(4, 1)
        leave_other()
    assert [call.offset for call in mine] == [1]
    assert [call.offset for call in others] == [2, 3]


def test_nothing_is_in_between_while_nobody_watches(node: HostFile) -> None:
    assert places() == UNWATCHED
    assert hostfile.os is os
    first, second = node.watch_calls(lambda _: None), node.watch_calls(lambda _: None)
    assert not any(now is before for now, before in zip(places(), UNWATCHED, strict=True))
    first()
    first()
    assert hostfile.os is not os
    second()
    assert places() == UNWATCHED


def test_it_may_end_after_the_file_is_closed(tmp_path: Path) -> None:
    with create_file(tmp_path / "disk.img", KIB) as node:
        leave = node.watch_calls(lambda _: None)
    leave()
    assert places() == UNWATCHED
