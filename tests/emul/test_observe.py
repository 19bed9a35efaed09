"""Accesses counted for each request, and traces that follow one from the register to the host."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.guest import Machine
from blockkit.emul.observe.events import Event
from blockkit.emul.observe.output import as_line, open_output
from blockkit.emul.observe.tracer import Tracer
from tests.emul.machines import CONTROLLER, install
from tests.emul.rom import Rom

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def devices(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def requests(count: int) -> Rom:
    """Read sectors one after another, each time waiting for the end."""
    rom = Rom().raw(f"b9{count:02x}00").label("next").raw(f"ba{CONTROLLER.to_bytes(2, 'little').hex()}88c8ee42b001ee")
    return (
        rom.label("busy")
        .raw("eca801")
        .jump("75", "busy")
        .raw("bb0050")
        .label("think")
        .raw("4b")
        .jump("75", "think")
        .jump("e2", "next")
        .out(CONTROLLER + 1, 3)
        .exit(0)
    )


@pytest.fixture
def vm(tmp_path: Path) -> Any:
    blockkit.create_image(tmp_path / "disk.qcow2", "qcow2", 1 << 20)
    with blockkit.open_image(tmp_path / "disk.qcow2", read_only=False) as node:
        node.write(512, b"x" * 512)
    rom = requests(3).write(tmp_path / "guest.rom")
    disk = {"file": str(tmp_path / "disk.qcow2"), "latency": "constant"}
    with Machine([disk], memory="2M", accelerator="python", firmware=rom, count_accesses=True) as machine:
        yield machine


def file_of(vm: Machine) -> Any:
    """Return the node that reads the disk's file."""
    return vm.session.built.drives[0].node.children["file"]


def test_what_a_request_costs_is_counted(vm: Machine) -> None:
    vm.run_until(lambda vm: len(vm.requests) == 3)
    assert vm.accesses is not None
    rows = {row.register: (row.reads, row.writes) for row in vm.accesses.rows() if row.device == "toy"}
    assert rows["sector"] == (0, 3)
    assert rows["command"] == (0, 3)
    last = vm.accesses.last["drive0"]
    assert last["toy", True] == 2
    assert last["toy", False] > 10
    assert vm.accesses.requests["drive0"] == 3
    assert [(each.operation, each.offset, each.length) for each in vm.requests] == [
        ("read", sector * 512, 512) for sector in (3, 2, 1)
    ]
    assert all(-1e-9 < each.ended - each.began - 20e-6 < 4e-7 for each in vm.requests)
    table = "\n".join(vm.accesses.table())
    assert "drive0: 3 requests" in table


def test_a_trace_leads_from_the_register_to_the_host_and_back(vm: Machine) -> None:
    events: list[Event] = []
    tracer = Tracer(vm.session, events.append)
    vm.wait()
    tracer.close()
    assert tracer.requests == 4
    third = [event for event in events if event.request == 3]
    layers = [event.layer for event in third]
    start = layers.index("request")
    # Sector, then command, which made the request; then the graph, from the top; then the guest hears of it.
    assert [(event.place, event.action) for event in third[:start]] == [("sector", "write"), ("command", "write")]
    assert [(e.layer, e.name, e.action, e.offset, e.length, e.depth) for e in third[start : start + 4]] == [
        ("request", "drive0", "read", 512, 512, 0),
        ("node", "qcow2", "read", 512, 512, 0),
        ("host", "file", "read", 5 * 65536 + 512, 512, 1),
        ("call", "preadv", "read", 5 * 65536 + 512, 512, 2),
    ]
    # Each lies within the one above, and the system call is made with the file's descriptor.
    _, node, host, call = third[start : start + 4]
    for outer, inner in ((node, host), (host, call)):
        assert outer.host <= inner.host
        assert inner.host + inner.took <= outer.host + outer.took
    assert call.fd == file_of(vm).fileno()
    assert (call.result, node.fd) == ("", -1)
    done = layers.index("done")
    # It is told with the instruction in which the time comes, and an access to a port takes some.
    assert 20_000 <= third[done].took < 20_400
    assert third[done].virtual == third[start].virtual + third[done].took
    # While it waits and when it learns of the end, the guest reads the status.
    assert {(e.place, e.action) for e in third[done + 1 :]} == {("status", "read")}
    flush = [event for event in events if event.request == 4]
    assert ("node", "qcow2", "flush") in [(e.layer, e.name, e.action) for e in flush]
    assert ("call", "fdatasync", "flush") in [(e.layer, e.name, e.action) for e in flush]
    assert all(event.took > 0 for event in events if event.layer in ("node", "host", "call"))
    # Nobody watches any more.
    assert vm.session.built.drives[0].node.read(512, 4) == b"xxxx"
    count = len(events)
    vm.session.built.drives[0].node.read(0, 512)
    assert len(events) == count


@pytest.mark.parametrize("name", ["trace.txt", "trace.jsonl", "trace.json"])
def test_traces_are_files_of_three_kinds(vm: Machine, tmp_path: Path, name: str) -> None:
    output = open_output(str(tmp_path / name))
    tracer = Tracer(vm.session, output)
    vm.wait()
    tracer.close()
    output.close()
    text = (tmp_path / name).read_text()
    if name == "trace.txt":
        assert "toy command write 1 0x1" in text
        assert "drive0 read 0x200 512\n" in text
        assert "  file " in text
        assert re.search(r"^#3 \S+ {7}preadv fd \d+ read 0x50200 512 in [0-9.]+ us of the host$", text, re.MULTILINE)
        assert re.search(r"done after 20\.[0-3]\d\d us\n", text)
    elif name == "trace.jsonl":
        events = [Event(**json.loads(line)) for line in text.splitlines()]
        assert {event.layer for event in events} == {"register", "request", "node", "host", "call", "done"}
        assert {event.request for event in events} == {0, 1, 2, 3, 4}
    else:
        found = json.loads(text)["traceEvents"]
        assert {each["ph"] for each in found} == {"M", "i", "b", "e", "X", "s", "f"}
        begun = {each["id"] for each in found if each["ph"] == "b"}
        assert begun == {each["id"] for each in found if each["ph"] == "e"} == {1, 2, 3, 4}
        assert {each["id"] for each in found if each["ph"] == "f"} <= begun
        assert all(each["dur"] > 0 for each in found if each["ph"] == "X")
        [call] = [each for each in found if each.get("cat") == "call" and each["args"]["request"] == 3]
        assert call["name"].startswith("preadv read ")
        assert (call["args"]["offset"], call["args"]["length"]) == (0x50200, 512)
        assert call["args"]["fd"] == file_of(vm).fileno()


def test_a_failure_is_told() -> None:
    event = Event(7, "node", "qcow2", "read", "a.qcow2", 512, 512, 1000, 5, 1500, 1, "broken")
    assert as_line(event) == "#7 0.000001000     qcow2 a.qcow2 read 0x200 512 in 1.5 us of the host broken"


def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(blockkit.NodeError, match=r"trace: .*no such file"):
        open_output(str(tmp_path / "gone" / "trace.json"))


def test_a_request_of_a_node_to_itself_is_none_of_its_own(tmp_path: Path) -> None:
    from blockkit.emul.observe.nodes import GraphObserver, Span

    blockkit.create_image(tmp_path / "disk.raw", "raw", 1 << 20)
    with blockkit.open_image(tmp_path / "disk.raw", format="raw", read_only=False) as node:
        spans: list[Span] = []
        observer = GraphObserver(node, spans.append)
        node.write(512, b"x" * 512, fua=True)
        assert [(span.layer, span.name, span.action, span.offset, span.length) for span in spans] == [
            ("node", "raw", "write", 512, 512),
            ("host", "file", "write", 512, 512),
            ("call", "pwritev2", "write", 512, 512),
        ]
        spans.clear()
        with pytest.raises(blockkit.NodeError):
            node.read(1 << 20, 1)
        assert spans[0].result
        observer.close()
        node.read(0, 1)
        assert len(spans) == 1
