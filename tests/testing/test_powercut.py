from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blockkit
from blockkit.block.filters.faults import FaultRule, FaultsNode
from blockkit.block.filters.intercept import Operation
from blockkit.errors import NodeIOError
from blockkit.protocols.file import open_path
from blockkit.testing.memory import MemoryNode
from blockkit.testing.powercut import PowerCutNode

if TYPE_CHECKING:
    from pathlib import Path


def recorded(data: bytes = bytes(2048)) -> PowerCutNode:
    return PowerCutNode(MemoryNode(data, grows=True))


def test_each_prefix_of_the_log_is_a_state() -> None:
    node = recorded(b"0" * 8)
    node.write(0, b"ab")
    node.zero(1, 2)
    node.flush()
    node.resize(10)
    node.write(9, b"xyz")
    node.discard(0, 1)
    node.resize(2)
    assert [bytes(node.state(count)) for count in range(len(node.log) + 1)] == [
        b"00000000",
        b"ab000000",
        b"a\0\x0000000",
        b"a\0\x0000000",
        b"a\0\x0000000\0\0",
        b"a\0\x0000000\0xyz",
        b"\0\0\x0000000\0xyz",
        b"\0\0",
    ]


def test_only_what_came_after_the_last_flush_is_at_risk() -> None:
    node = recorded()
    node.write(0, b"1")
    node.flush()
    node.write(1, b"2")
    node.write(2, b"3", fua=True)
    node.resize(5000)
    assert node.at_risk(0) == []
    assert node.at_risk(1) == [0]
    assert node.at_risk(2) == []
    assert node.at_risk(5) == [2, 4]


def test_a_lost_write_is_as_if_it_never_was() -> None:
    node = recorded(b"0" * 4)
    node.write(0, b"11")
    node.write(1, b"22")
    node.write(5, b"3")
    assert node.state(3, lost=[1]) == b"1100\x003"
    assert node.state(3, lost=[0, 2]) == b"0220"


def test_a_torn_write_arrives_in_whole_sectors() -> None:
    node = recorded()
    node.write(500, b"x" * 1000)
    assert node.state(1, torn={0: [1]}) == bytes(512) + b"x" * 512 + bytes(1024)
    assert node.state(1, torn={0: [0]}) == bytes(500) + b"x" * 12 + bytes(1536)
    assert node.state(1, torn={0: []}) == bytes(2048)
    assert node.state(1, torn={0: [0, 1, 2]}) == node.state(1)


def test_reads_are_not_logged_and_failed_writes_are_as_far_as_they_came() -> None:
    rules = [FaultRule(operation="write", action="short", short=3)]
    node = PowerCutNode(FaultsNode(MemoryNode(bytes(10)), rules))
    node.read(0, 10)
    with pytest.raises(NodeIOError):
        node.write(0, b"abcdef")
    assert [(entry.operation, entry.data) for entry in node.log] == [(Operation.WRITE, b"abc\0\0\0")]


@given(st.randoms(use_true_random=False))
def test_the_last_state_is_what_the_file_holds(rng: random.Random) -> None:
    node = recorded(rng.randbytes(3000))
    for _ in range(12):
        offset, length = rng.randrange(node.size or 1), rng.randrange(1500)
        match rng.randrange(5):
            case 0 | 1:
                node.write(offset, rng.randbytes(length))
            case 2:
                node.zero(offset, length)
            case 3:
                node.resize(rng.randrange(5000))
            case 4:
                node.flush()
    assert isinstance(node.file, MemoryNode)
    assert node.state(len(node.log)) == node.file.data


def test_crashes_start_with_the_plain_ones_and_keep_to_the_number_asked() -> None:
    node = recorded()
    node.write(0, b"a" * 1024)
    node.flush()
    node.write(0, b"b" * 1024)
    node.write(1024, b"c" * 1024)
    states = [bytes(state) for state in node.crashes(4, random.Random(0), 30)]
    assert len(states) == 30
    a, b, c, zero = b"a" * 1024, b"b" * 1024, b"c" * 1024, bytes(1024)
    assert states[:4] == [b + c, a + zero, a + c, b + zero]
    # Torn at sectors, never inside one, and never touching what was flushed before.
    assert all(len(set(state[at : at + 512])) == 1 for state in states for at in range(0, 2048, 512))
    assert {state[0:1] for state in states} == {b"a", b"b"}
    assert any(state[:512] != state[512:1024] for state in states)
    assert [bytes(state) for state in node.crashes(2, random.Random(0), 30)] == [a + zero]
    assert len(list(node.crashes(4, random.Random(0), 1))) == 1


def test_it_records_what_a_format_does_to_its_file(tmp_path: Path) -> None:
    name = tmp_path / "disk.qcow2"
    blockkit.create_image(name, "qcow2", 1 << 20)
    recorder = PowerCutNode(open_path(name, read_only=False))
    with blockkit.open_image({"driver": "qcow2", "file": recorder}, read_only=False) as node:
        node.write(0, b"first" * 1000)
        node.flush()
        flushed = len(recorder.log)
        node.write(100_000, b"second" * 1000)
    assert recorder.state(len(recorder.log)) == name.read_bytes()
    for count in range(flushed, len(recorder.log) + 1):
        for number, state in enumerate(recorder.crashes(count, random.Random(count), 6)):
            copy = tmp_path / f"crash-{count}-{number}"
            copy.write_bytes(state)
            with blockkit.open_image(copy) as node:
                assert node.read(0, 5000) == b"first" * 1000
