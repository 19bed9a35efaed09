"""The monitor: conversations in QMP over a socket, and its form for people."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from blockkit.emul.guest import Machine
from blockkit.emul.monitor import human
from blockkit.emul.monitor.commands import COMMANDS
from blockkit.emul.monitor.protocol import Conversation
from blockkit.errors import EmulationError
from tests.emul.rom import Rom, echo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Client:
    """Speaks QMP with nothing but a socket and JSON."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def read(self) -> dict[str, Any]:
        return json.loads(self.file.readline())

    def send(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\n")

    def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        self.send(json.dumps({"execute": name, "arguments": arguments, "id": name}))
        while "event" in (answer := self.read()):
            pass
        assert answer["id"] == name
        return answer


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[Machine]:
    with Machine(memory="2M", accelerator="python", firmware=echo().write(tmp_path / "guest.rom")) as machine:
        yield machine


@pytest.fixture
def client(vm: Machine, tmp_path: Path) -> Iterator[Client]:
    """A client of a machine that runs in another thread."""
    vm.serve_monitor(str(tmp_path / "monitor"))
    thread = threading.Thread(target=vm.wait, daemon=True)
    thread.start()
    found = Client(tmp_path / "monitor")
    yield found
    vm.session.call_soon(vm.session.quit)
    thread.join(10)
    assert not thread.is_alive()
    found.file.close()
    found.socket.close()


def test_a_conversation(client: Client, vm: Machine) -> None:
    greeting = client.read()["QMP"]
    assert set(greeting["version"]["qemu"]) == {"major", "minor", "micro"}
    assert greeting["capabilities"] == []
    refused = client.ask("query-status")["error"]
    assert refused["class"] == "CommandNotFound"
    assert "qmp_capabilities" in refused["desc"]
    assert client.ask("qmp_capabilities")["return"] == {}
    assert client.ask("query-status")["return"] == {"status": "running", "running": True, "singlestep": False}
    names = {each["name"] for each in client.ask("query-commands")["return"]}
    assert names == {"qmp_capabilities", *COMMANDS}
    assert client.ask("query-block")["return"] == []
    assert client.ask("nonsense")["error"]["class"] == "CommandNotFound"
    for text in ("{]", "[]", "1", '{"execute": 1}', '{"execute": "stop", "arguments": 1}', '{"execute": "x", "y": 1}'):
        client.send(text)
        assert client.read()["error"]["class"] == "GenericError"
    assert "VM status: running" in client.ask("human-monitor-command", **{"command-line": "info status"})["return"]


def test_events_come_before_the_answer(client: Client, vm: Machine) -> None:
    client.read()
    client.ask("qmp_capabilities")
    client.send('{"execute": "stop"}')
    event = client.read()
    assert event["event"] == "STOP"
    assert abs(event["timestamp"]["seconds"] - time.time()) < 60
    assert client.read() == {"return": {}}
    at = vm.now
    assert client.ask("query-status")["return"]["status"] == "paused"
    time.sleep(0.05)
    assert vm.now == at
    client.send('{"execute": "cont"}')
    assert client.read()["event"] == "RESUME"
    client.read()
    client.send('{"execute": "system_reset"}')
    assert client.read()["event"] == "RESET"
    client.read()
    vm.session.call_soon(lambda: vm.send("q"))
    event = client.read()
    assert (event["event"], event["data"]["guest"]) == ("SHUTDOWN", True)


def test_quit_ends_the_machine(client: Client, vm: Machine) -> None:
    client.read()
    client.ask("qmp_capabilities")
    client.send('{"execute": "quit"}')
    assert client.read() == {"return": {}}


def test_one_client_after_another(client: Client, tmp_path: Path) -> None:
    client.read()
    client.socket.shutdown(socket.SHUT_RDWR)
    other = Client(tmp_path / "monitor")
    assert "QMP" in other.read()
    other.file.close()
    other.socket.close()


def test_commands_without_a_socket(vm: Machine) -> None:
    vm.expect("hello")
    assert vm.command("query_status")["running"]
    with pytest.raises(EmulationError, match="monitor: Parameter 'filename' is missing"):
        vm.command("screendump")
    told: list[str] = []
    vm.session.listeners.append(lambda name, _: told.append(name))
    vm.command("system_powerdown")
    assert told == ["POWERDOWN"]
    assert vm.session.pc.power.registers.status & 0x100  # PWRBTN_STS
    registers = human.execute(vm.session, "info registers")
    assert "RIP=" in registers
    assert "CS  =ff00 00000000000ff000 0000ffff" in registers
    assert human.execute(vm.session, "info time").endswith(" s\n")
    assert human.execute(vm.session, "") == ""
    assert "info status" in human.execute(vm.session, "info")
    assert "unknown command: 'dance'" in human.execute(vm.session, "dance")
    human.execute(vm.session, "stop")
    assert human.execute(vm.session, "info status") == "VM status: paused\n"
    human.execute(vm.session, "c")
    assert vm.status == "running"
    assert "quit" in human.execute(vm.session, "help")


def test_a_client_that_asks_for_depth_is_refused(vm: Machine) -> None:
    said: list[str] = []
    conversation = Conversation(vm.session, said.append)
    conversation.handle(b"[" * 100_000)
    assert json.loads(said[0])["error"]["desc"] == "JSON parse error"


def test_an_independent_client(client: Client, tmp_path: Path) -> None:
    """The library of QEMU's project speaks with us, where it is installed."""
    qmp = pytest.importorskip("qemu.qmp")
    import asyncio

    client.socket.shutdown(socket.SHUT_RDWR)

    async def talk() -> list[Any]:
        peer = qmp.QMPClient("test")
        await peer.connect(str(tmp_path / "monitor"))
        found = [await peer.execute("query-status"), await peer.execute("stop"), await peer.execute("query-status")]
        await peer.disconnect()
        return found

    first, _, second = asyncio.run(talk())
    assert (first["status"], second["status"]) == ("running", "paused")


def test_objects_need_nothing_between_them() -> None:
    from blockkit.emul.monitor.stream import JsonStream

    text = b'{"a": "}\\"{"}{"b": [{}]} \n oops\n{"c": 1'
    whole, stream = list(JsonStream().feed(text)), JsonStream()
    assert whole == [b'{"a": "}\\"{"}', b'{"b": [{}]}', b"oops\n"]
    assert [each for at in range(len(text)) for each in stream.feed(text[at : at + 1])] == whole
    assert list(stream.feed(b"}")) == [b'{"c": 1}']
    assert len(next(JsonStream().feed(b"{" * (2 << 20)))) == 1 << 20


def test_a_failed_request_stops_the_machine_and_is_told(tmp_path: Path) -> None:
    from blockkit.emul.disk import Disk, OnError, Operation
    from blockkit.emul.session import Outcome, Status
    from blockkit.errors import NodeIOError
    from blockkit.testing.memory import MemoryNode

    class Broken(MemoryNode):
        broken = True

        def _readv(self, offset: int, buffers: list[memoryview]) -> None:
            if self.broken:
                raise NodeIOError("broken")
            super()._readv(offset, buffers)

    rom = Rom().out(0x600, 1).say("x").exit(0)
    with Machine(memory="2M", accelerator="python", firmware=rom.write(tmp_path / "guest.rom")) as vm:
        from blockkit.emul.config import DriveConfig
        from blockkit.emul.drives import Drive
        from blockkit.emul.spaces import Ports

        pc, node, ended = vm.session.pc, Broken(4096), list[bool]()
        stop = vm._built._stop_for_error
        disk = Disk(node, pc.clock, on_error=OnError.STOP, stop=stop)
        vm._built.drives.append(Drive("drive0", DriveConfig(node), node, disk, ""))
        buffer = memoryview(bytearray(512))
        pc.bus.ports.map(0x600, 1, Ports(write=lambda *_: disk.submit(Operation.READ, 0, 512, [buffer], ended.append)))
        events: list[tuple[str, dict[str, Any]]] = []
        vm.session.listeners.append(lambda name, data: events.append((name, data)))
        assert vm.session.run(wait=False) is Outcome.IO_ERROR
        assert [name for name, _ in events] == ["BLOCK_IO_ERROR", "STOP"]
        assert events[0][1]["device"] == "drive0"
        assert vm.session.status is Status.IO_ERROR
        assert vm.command("query-block")[0]["io-status"] == "failed"
        assert "Failed requests:  1" in human.execute(vm.session, "info block")
        before = vm.now
        with pytest.raises(EmulationError, match="requests have failed"):
            vm.save(tmp_path / "saved")
        assert vm.now == before
        # It fails again, and the machine stays where it is.
        vm.cont()
        assert vm.session.run(wait=False) is Outcome.IO_ERROR
        # A reset forgets the request; what the machine asks for afterwards fails, too, until the disk is whole.
        vm.reset()
        assert (disk.pending, disk.failures) == (0, [])
        vm.cont()
        assert vm.session.run(wait=False) is Outcome.IO_ERROR
        node.broken = False
        vm.cont()
        assert vm.wait() is Outcome.EXIT
        assert not disk.failures
