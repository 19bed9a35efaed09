"""Requests of guests: what is done at once, what is told later, errors, and sectors that are not full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit.emul.clock import Clock
from blockkit.emul.disk import Disk, Latency, OnError, Operation
from blockkit.errors import NodeIOError
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Node


class Time:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.at = 0
        self.clock = Clock(lambda: self.at, lambda: None)

    def pass_to(self, at: int) -> None:
        self.at = at
        self.clock.fire()


class Broken(MemoryNode):
    """Memory that fails as often as it is told."""

    failures = 0
    flushes = 0

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        if self.failures:
            self.failures -= 1
            raise NodeIOError("memory: broken")
        super()._readv(offset, buffers)

    def _flush(self) -> None:
        self.flushes += 1


LATENCY = Latency(request=1000, byte_ps=2000, flush=5000, seek=300)


def read(disk: Disk, offset: int, length: int, ended: list[bool]) -> bytearray:
    data = bytearray(b"?" * length)
    disk.submit(Operation.READ, offset, length, [memoryview(data)], ended.append)
    return data


def test_the_host_works_at_once_and_the_guest_hears_of_it_in_time() -> None:
    time, ended = Time(), list[bool]()
    disk = Disk(MemoryNode(bytes(range(256)) * 16), time.clock, latency=LATENCY)
    data = read(disk, 512, 512, ended)
    # 1000 ns, 512 times 2 ns, and a seek from the beginning.
    time.pass_to(2323)
    assert ended == []
    time.pass_to(2324)
    assert ended == [True]
    assert data == bytes(range(256)) * 2
    # What follows immediately needs no seek.
    read(disk, 1024, 512, ended)
    time.pass_to(2324 + 2023)
    assert len(ended) == 1
    time.pass_to(2324 + 2024)
    assert len(ended) == 2


def test_the_last_sector_ends_in_zeros_that_stay() -> None:
    time, ended = Time(), list[bool]()
    node = MemoryNode(b"x" * 700)
    disk = Disk(node, time.clock, latency=LATENCY)
    assert disk.sectors == 2
    assert read(disk, 512, 512, ended) == b"x" * 188 + bytes(324)
    parts = [memoryview(bytearray(b"a" * 100)), memoryview(bytearray(b"b" * 412))]
    disk.submit(Operation.WRITE, 512, 512, parts, ended.append)
    assert node.read(512, 188) == b"a" * 100 + b"b" * 88
    assert node.size == 700


def test_zeros_discards_and_flushes_reach_the_node() -> None:
    time, ended = Time(), list[bool]()
    node = Broken(b"x" * 4096)
    disk = Disk(node, time.clock, latency=LATENCY, write_through=True)
    disk.submit(Operation.ZERO, 512, 512, (), ended.append, unmap=True)
    assert node.read(511, 514) == b"x" + bytes(512) + b"x"
    assert node.flushes == 1
    disk.submit(Operation.FLUSH, 0, 0, (), ended.append)
    assert node.flushes == 2
    disk.submit(Operation.DISCARD, 1024, 512, (), ended.append)
    time.pass_to(100_000)
    assert ended == [True] * 3


@pytest.mark.parametrize(("policy", "well"), [(OnError.REPORT, False), (OnError.IGNORE, True)])
def test_errors_are_told_or_not(policy: OnError, well: bool) -> None:
    time, ended = Time(), list[bool]()
    node = Broken(4096)
    node.failures = 1
    disk = Disk(node, time.clock, latency=LATENCY, on_error=policy)
    read(disk, 0, 512, ended)
    time.pass_to(10_000)
    assert ended == [well]


def test_a_machine_that_stops_does_the_request_again() -> None:
    time, ended, stops = Time(), list[bool](), list[int]()
    node = Broken(b"y" * 4096)
    node.failures = 2
    stop: Callable[[], None] = lambda: stops.append(time.at)  # noqa: E731 - a name for the type
    disk = Disk(node, time.clock, latency=LATENCY, on_error=OnError.STOP, stop=stop)
    data = read(disk, 0, 512, ended)
    time.pass_to(10_000)
    assert (ended, stops, len(disk.failures)) == ([], [0], 1)
    disk.resume()
    assert (len(stops), len(disk.failures)) == (2, 1)
    disk.resume()
    time.pass_to(20_000)
    assert (ended, data, disk.failures) == ([True], b"y" * 512, [])


def test_what_has_failed_is_not_done_again_after_a_reset() -> None:
    time, ended, seen = Time(), list[bool](), list[bool]()
    node = Broken(b"y" * 4096)
    node.failures = 1
    disk = Disk(node, time.clock, latency=LATENCY, on_error=OnError.STOP)
    disk.observe_end = lambda _, well: seen.append(well)
    data = read(disk, 0, 512, ended)
    assert (disk.pending, len(disk.failures)) == (1, 1)
    disk.forget()
    disk.resume()
    time.pass_to(10_000)
    assert (ended, seen, disk.pending, disk.failures, data) == ([], [False], 0, [], b"?" * 512)


def test_requests_are_seen_with_their_numbers() -> None:
    time, seen = Time(), list[tuple[int, Operation]]()
    node: Node = MemoryNode(4096)
    disk = Disk(node, time.clock)
    disk.observe = lambda request: seen.append((request.number, request.operation))
    read(disk, 0, 512, [])
    disk.submit(Operation.FLUSH, 0, 0, (), lambda _: None)
    assert seen == [(1, Operation.READ), (2, Operation.FLUSH)]
