from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.block.filters.faults import FaultRule, FaultsNode
from blockkit.errors import NodeError, NodeIOError, NoSpaceError, OptionError, ReadOnlyError
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from blockkit.block.node import Node


def faulty(*rules: FaultRule, **more: Any) -> FaultsNode:
    return FaultsNode(MemoryNode(bytes(4096)), rules, **more)


def outcomes(node: Node, count: int = 8) -> str:
    """Write ``count`` times and tell which went well."""
    text = ""
    for number in range(count):
        try:
            node.write(number * 100, b"x" * 100)
            text += "."
        except NodeError:
            text += "F"
    return text


def test_without_rules_everything_passes() -> None:
    assert outcomes(faulty()) == "........"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (FaultRule(), "FFFFFFFF"),
        (FaultRule(operation="write"), "FFFFFFFF"),
        (FaultRule(operation="change"), "FFFFFFFF"),
        (FaultRule(operation="read"), "........"),
        (FaultRule(nth=3), "..F....."),
        (FaultRule(every=3), "..F..F.."),
        (FaultRule(after=3), "...FFFFF"),
        (FaultRule(after=1, every=2), "..F.F.F."),
        (FaultRule(times=2), "FF......"),
        (FaultRule(every=2, times=2), ".F.F...."),
        (FaultRule(start=250), "..FFFFFF"),
        (FaultRule(end=200), "FF......"),
        (FaultRule(start=299, end=301), "..FF...."),
        (FaultRule(start=300, end=300), "........"),
        (FaultRule(when=lambda request: request.offset == 500), ".....F.."),
        (FaultRule(probability=0.0), "........"),
        (FaultRule(action="cut", after=3), "...FFFFF"),
        (FaultRule(action="cut", nth=3), "..FFFFFF"),
    ],
)
def test_a_rule_picks_its_requests(rule: FaultRule, expected: str) -> None:
    assert outcomes(faulty(rule)) == expected


def test_lots_are_drawn_alike_from_the_same_seed() -> None:
    rule = FaultRule(probability=0.5)
    first = outcomes(faulty(rule, seed=1), 40)
    assert first == outcomes(faulty(rule, seed=1), 40)
    assert first != outcomes(faulty(rule, seed=2), 40)
    assert 5 < first.count("F") < 35


@pytest.mark.parametrize(
    ("name", "error"),
    [("EIO", NodeIOError), ("ENOSPC", NoSpaceError), ("EROFS", ReadOnlyError), ("ETIMEDOUT", NodeIOError)],
)
def test_a_failure_has_the_number_asked_for(name: str, error: type[NodeError]) -> None:
    with pytest.raises(error) as caught:
        faulty(FaultRule(errno=name)).write(0, b"x")
    assert errno.errorcode[caught.value.errno] == name


def test_a_failed_request_does_nothing() -> None:
    node = faulty(FaultRule())
    requests = (
        lambda: node.write(0, b"x"),
        lambda: node.zero(0, 1),
        lambda: node.discard(0, 1),
        lambda: node.resize(5),
        lambda: node.flush(),
        lambda: node.read(0, 1),
        lambda: node.pull_bytes(0, 1),
        lambda: node.push(0, [memoryview(b"x")]),
    )
    for request in requests:
        with pytest.raises(NodeIOError):
            request()
    assert isinstance(node.file, MemoryNode)
    assert node.file.data == bytes(4096)


def test_a_short_write_stores_its_first_bytes_and_fails() -> None:
    node = faulty(FaultRule(operation="write", action="short", short=5, errno="ENOSPC"))
    with pytest.raises(NoSpaceError):
        node.writev(10, [b"abc", b"defg"])
    assert node.read(10, 7) == b"abcde\0\0"
    with pytest.raises(NoSpaceError):
        node.write(20, b"xy")
    assert node.read(20, 2) == b"xy"


def test_a_short_read_fills_its_first_bytes_and_fails() -> None:
    node = FaultsNode(MemoryNode(b"abcdef"), [FaultRule(operation="read", action="short", short=2)])
    buf = bytearray(b"------")
    with pytest.raises(NodeIOError):
        node.read_into(0, buf)
    assert buf == b"ab----"


def test_dropped_requests_succeed_and_do_nothing() -> None:
    node = faulty(FaultRule(operation="change", action="drop"))
    node.write(0, b"lost")
    node.resize(10)
    assert node.read(0, 4) == bytes(4)
    assert node.size == 4096


def test_a_dropped_flush_never_reaches_the_file() -> None:
    flushes: list[int] = []

    class Counting(MemoryNode):
        def _flush(self) -> None:
            flushes.append(1)

    node = FaultsNode(Counting(bytes(10)), [FaultRule(operation="flush", action="drop", nth=1)])
    node.flush()
    assert flushes == []
    node.flush()
    assert flushes == [1]


def test_a_delay_takes_the_clocks_time_and_then_passes() -> None:
    slept: list[float] = []

    class Instant:
        def monotonic(self) -> float:
            return 0.0

        def sleep(self, seconds: float) -> None:
            slept.append(seconds)

    node = faulty(FaultRule(operation="read", action="delay", delay=2.5), clock=Instant())
    node.write(0, b"x")
    assert node.read(0, 1) == b"x"
    assert slept == [2.5]


def test_after_a_power_cut_nothing_passes_but_it_can_be_closed() -> None:
    node = faulty(FaultRule(operation="change", action="cut", after=2))
    node.write(0, b"1")
    node.zero(1, 1)
    assert node.power_is_on
    with pytest.raises(NodeIOError, match="the power is off"):
        node.write(2, b"3")
    assert not node.power_is_on
    for request in (lambda: node.read(0, 1), node.flush, lambda: node.discard(0, 1)):
        with pytest.raises(NodeIOError, match="the power is off"):
            request()
    assert isinstance(node.file, MemoryNode)
    assert node.file.data[:3] == b"1\0\0"
    node.close()
    assert node.file.closed


def test_the_first_rule_that_fires_acts() -> None:
    node = faulty(FaultRule(nth=2, errno="ENOSPC"), FaultRule(operation="write"))
    with pytest.raises(NodeIOError):
        node.write(0, b"x")
    with pytest.raises(NoSpaceError):
        node.write(0, b"x")


def test_rules_can_be_written_as_options() -> None:
    tree = "driver=faults,rules.0.operation=read,rules.0.start=1K,rules.1.action=cut,rules.1.nth=5"
    from blockkit.options import parse_dotted

    with blockkit.open_image({**parse_dotted(tree), "file": MemoryNode(bytes(4096))}) as node:
        assert node.read(0, 100) == bytes(100)
        with pytest.raises(NodeIOError):
            node.read(1000, 100)


@pytest.mark.parametrize(
    "rule",
    [
        {"errno": "EWHAT"},
        {"probability": 2.0},
        {"delay": -1.0},
        {"operation": "read", "action": "drop"},
        {"action": "drop"},
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        FaultRule(**rule)
