from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.block.filters.faults import FaultRule, FaultsNode
from blockkit.block.filters.trace import HostPlace, TraceEvent, TraceNode
from blockkit.errors import NodeIOError
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from pathlib import Path


def test_each_request_is_told_with_its_range() -> None:
    events: list[TraceEvent] = []
    with TraceNode(MemoryNode(bytes(10_000)), events.append) as node:
        node.read(1, 2)
        node.readv(0, [bytearray(3), bytearray(4)])
        node.write(5, b"six")
        node.writev(0, [b"1", b"23"], fua=True)
        node.zero(100, 200)
        node.discard(300, 400)
        node.flush()
        node.resize(9000)
    assert [(event.operation, event.offset, event.length) for event in events] == [
        ("read", 1, 2),
        ("read", 0, 7),
        ("write", 5, 3),
        ("write", 0, 3),
        ("zero", 100, 200),
        ("discard", 300, 400),
        ("flush", 0, 0),
        ("resize", 0, 9000),
    ]
    assert all(event.microseconds >= 0 and not event.error for event in events)


def test_host_offsets_are_those_of_the_file_below_the_format(tmp_path: Path) -> None:
    name = tmp_path / "disk.qcow2"
    blockkit.create_image(name, "qcow2", 1 << 20)
    events: list[TraceEvent] = []
    with blockkit.open_image({"driver": "trace", "sink": events.append, "file": str(name)}, read_only=False) as node:
        assert node.read(0, 100) == bytes(100)
        node.write(4096, b"guest data")
        node.read(4096, 10)
    read_zeros, written, read = events[:3]
    assert read_zeros.host == ()
    (place,) = written.host
    assert read.host == (place,)
    assert place == HostPlace(str(name), place.offset, 10)
    assert name.read_bytes()[place.offset :][:10] == b"guest data"


def test_a_failure_is_told_and_raised() -> None:
    events: list[TraceEvent] = []
    with (
        TraceNode(FaultsNode(MemoryNode(bytes(512)), [FaultRule(operation="read")]), events.append) as node,
        pytest.raises(NodeIOError),
    ):
        node.read(0, 1)
    assert len(events) == 1
    assert "input/output error" in events[0].error
    assert "failed: " in str(events[0])


def test_without_host_offsets_nobody_looks_for_them() -> None:
    events: list[TraceEvent] = []
    with TraceNode(MemoryNode(bytes(512)), events.append, host_offsets=False) as node:
        node.read(0, 1)
    assert events[0].host == ()


def test_a_file_gets_one_json_object_a_line(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1000))
    log = tmp_path / "log"
    log.write_text("before\n")
    tree = f"driver=trace,format=json,sink={log},file.driver=raw,file.file.filename={tmp_path / 'disk'}"
    from blockkit.options import parse_dotted

    with blockkit.open_image(parse_dotted(tree)) as node:
        node.read(7, 5)
    lines = log.read_text().splitlines()
    assert lines[0] == "before"
    event = json.loads(lines[1])
    assert (event["operation"], event["offset"], event["length"], event["error"]) == ("read", 7, 5, "")


def test_text_goes_to_standard_error_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 1000)
    with blockkit.open_image({"driver": "trace", "file": str(tmp_path / "disk")}) as node:
        node.read(7, 5)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("read 0x7 5 bytes ")
    assert line.endswith(f"us at {tmp_path / 'disk'}+0x7:5")


def test_a_log_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1000))
    with pytest.raises(NodeIOError, match=r"trace: .*no such file"):
        blockkit.open_image({"driver": "trace", "sink": str(tmp_path / "no/log"), "file": str(tmp_path / "disk")})
