"""Machines as Python programs use them, with guests of a few bytes."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.guest import Machine
from blockkit.emul.session import Outcome
from blockkit.errors import EmulationError, GuestEndedError, GuestTimeoutError, OptionError
from tests.emul.rom import Rom, echo, sleeper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Start a machine with a ROM, which is closed in the end."""
    made: list[Machine] = []

    def make(rom: Rom, **options: Any) -> Machine:
        options = {"memory": "2M", "accelerator": "python", "timeout": 20} | options
        made.append(Machine(firmware=rom.write(tmp_path / "guest.rom"), **options))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


def test_a_guest_is_talked_to(start: Callable[..., Machine]) -> None:
    vm = start(echo())
    assert vm.expect("hel").group() == "hel"
    vm.send("one two three\n")
    assert vm.expect(re.compile(r"t\w+\s")).group() == "two "
    # What came before is not found again.
    assert vm.expect(re.compile(r"t\w+\s")).group() == "three\n"
    assert vm.serial_text == "hello\none two three\n"
    vm.send(b"q")
    assert vm.wait() is Outcome.EXIT
    assert (vm.exit_code, vm.status) == (11, "shutdown")
    assert vm.wait() is Outcome.EXIT


def test_a_machine_stops_with_the_last_byte_of_what_is_expected(start: Callable[..., Machine]) -> None:
    vm = start(Rom().say("abcdef").exit(0))
    vm.expect("cd")
    assert vm.serial_text == "abcd"


def test_letters_of_several_bytes_are_one(start: Callable[..., Machine]) -> None:
    vm = start(Rom().say("\xe9t\xe9 \u2603!\n").exit(0))
    assert vm.expect("\u2603").group() == "\u2603"
    vm.expect("!")


def test_a_text_that_does_not_come(start: Callable[..., Machine]) -> None:
    vm = start(echo())
    began = time.monotonic()
    with pytest.raises(GuestTimeoutError, match=r"waiting for 'never': the time is over.*last words: 'hello\\n'"):
        vm.expect("never", timeout=0.2)
    assert time.monotonic() - began < 5
    with pytest.raises(GuestTimeoutError, match="its virtual time is over, after 0"):
        vm.expect("never", within=0.001)
    vm.send("q")
    with pytest.raises(GuestEndedError, match="the guest gave an exit code"):
        vm.expect("never")


def test_a_guest_that_sleeps_for_good(start: Callable[..., Machine]) -> None:
    vm = start(sleeper())
    vm.expect("ready")
    with pytest.raises(GuestEndedError, match="waits for an interrupt that nothing will raise"):
        vm.expect("x")
    vm.send("xyz")
    vm.expect("xyz")


def test_waiting_for_a_time_and_for_a_condition(start: Callable[..., Machine]) -> None:
    vm = start(echo())
    vm.run_until(0.0005)
    # It ends with the instruction in which the time comes, and an access to a port takes some.
    assert 0.0005 <= vm.now < 0.000501
    before = vm.now
    vm.run_until(0.0001)
    assert vm.now == before
    vm.send("x")
    vm.run_until(lambda vm: "x" in vm.serial_text)
    with pytest.raises(GuestTimeoutError):
        vm.run_until(lambda vm: False, within=0.001)


def test_a_reset_starts_again_or_ends_it(start: Callable[..., Machine]) -> None:
    rom = Rom().say("x").out(0xCF9, 6).raw("f4")
    vm = start(rom)
    vm.run_until(lambda vm: vm.serial_text.startswith("xxx"))
    vm = start(rom, reboot=False)
    assert vm.wait() is Outcome.RESET
    # LIDT with limit 0, then INT3: nothing can be delivered, not even a double fault.
    triple = Rom().raw("2e0f011e0800cceb00000000000000")
    vm = start(triple, reboot=False)
    assert vm.wait() is Outcome.TRIPLE_FAULT


def test_another_thread_stops_a_machine(start: Callable[..., Machine]) -> None:
    vm = start(Rom().label("on").jump("eb", "on"))
    threading.Timer(0.1, lambda: vm.session.call_soon(vm.stop)).start()
    with pytest.raises(GuestEndedError, match="paused"):
        vm.expect("never")
    assert vm.status == "paused"
    at = vm.now
    with pytest.raises(GuestEndedError, match="paused"):
        vm.expect("never")
    assert vm.now == at
    vm.cont()
    with pytest.raises(GuestTimeoutError):
        vm.expect("never", within=0.001)


def test_time_follows_the_host_if_it_is_asked_to(start: Callable[..., Machine]) -> None:
    # Counter 0 in mode 0 with 65536 counts: an interrupt in 55 ms, which says so and ends the machine.
    from tests.emul.rom import SEGMENT

    rom = Rom().raw("31c08ed88ed0bc007c").raw("c70620000000").raw(f"c7062200{SEGMENT.to_bytes(2, 'little').hex()}")
    place = len(rom.code) - 8
    for port, value in ((0x20, 0x11), (0x21, 0x08), (0x21, 0x04), (0x21, 0x01), (0x21, 0xFE)):
        rom.out(port, value)
    rom.out(0x43, 0x30).out(0x40, 0).out(0x40, 0).raw("fb").label("sleep").raw("f4").jump("eb", "sleep")
    rom.code[place : place + 2] = len(rom.code).to_bytes(2, "little")
    rom.exit(0)
    for realtime in (False, True):
        began = time.monotonic()
        vm = start(rom, realtime=realtime)
        assert vm.wait() is Outcome.EXIT
        assert 0.054 < vm.now < 0.12
        assert (time.monotonic() - began > 0.05) or not realtime


def test_requests_that_contradict_themselves(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="an initrd and a command line are for a kernel"):
        Machine(append="quiet")
    with pytest.raises(OptionError, match="memory: 1000 bytes"):
        Machine(memory=1000)
    path = tmp_path / "kernel"
    path.write_bytes(bytes(1000))
    with pytest.raises(EmulationError, match="neither a bzImage"):
        Machine(kernel=path, accelerator="python")
    with pytest.raises(blockkit.BlockkitError, match=r"gone\.rom"):
        Machine(firmware=str(tmp_path / "gone.rom"), accelerator="python")
    with pytest.raises(OptionError, match="no accelerator 'jot'"):
        Machine(firmware="x", accelerator="jot")


def test_what_a_guest_does_to_registers_is_counted(start: Callable[..., Machine]) -> None:
    vm = start(Rom().say("abc").raw("bafd03ecec").exit(0), count_accesses=True)
    vm.wait()
    assert vm.accesses is not None
    rows = {(row.device, row.address): (row.reads, row.writes) for row in vm.accesses.rows()}
    assert rows["serial", "03f8"] == (0, 3)
    assert rows["serial", "03fd"] == (2, 0)
    assert vm.accesses.total == 6
    assert "serial" in vm.command("human-monitor-command", **{"command-line": "info exits"})


def test_each_text_is_found_once(start: Callable[..., Machine]) -> None:
    vm = start(Rom().say("x1 x2 x3 x4 \n").exit(0))
    assert [vm.expect(re.compile(r"x\d")).group() for _ in range(4)] == ["x1", "x2", "x3", "x4"]


def test_what_comes_in_waits_while_the_guest_does_not_read(start: Callable[..., Machine]) -> None:
    from blockkit.emul.serial.backends import Backend
    from blockkit.emul.serial.console import Console

    vm, backend = start(echo()), Backend()
    console = Console(vm.session, backend)
    assert backend.ready()
    vm.send("x" * 5000)
    assert not backend.ready()
    vm.run_until(lambda vm: vm.serial_text.count("x") == 5000)
    assert backend.ready()
    console.close()


def test_a_stream_is_not_read_before_the_guest_is_ready() -> None:
    import os

    from blockkit.emul.serial.backends import StreamBackend

    ours, theirs = os.pipe()
    backend, received = StreamBackend(ours, 1), list[bytes]()
    may = threading.Event()
    backend.ready = may.is_set
    os.write(theirs, b"abc")
    backend.start(received.append)
    time.sleep(0.1)
    assert not received
    may.set()
    end = time.monotonic() + 10
    while not received and time.monotonic() < end:
        time.sleep(0.01)
    assert received == [b"abc"]
    backend.close()
    os.close(ours)
    os.close(theirs)
