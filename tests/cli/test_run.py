"""``blockkit run``: what it is told, where the serial port leads, keys at a terminal, exit codes."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

import click
import pytest

from blockkit.cli.clicking import build
from blockkit.cli.root import root
from blockkit.cli.run.command import EXITS, command
from blockkit.cli.run.help import GROUPS
from blockkit.cli.run.runner import CODES, Settings, configure
from blockkit.cli.run.terminal import Keys
from blockkit.emul.config import DriveConfig, parse_drive
from blockkit.emul.session import Outcome
from blockkit.errors import OptionError
from tests.emul.rom import Rom, echo, sleeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a ROM to its end."""

    def start(rom: Rom, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program(tmp_path, rom), *words], input=typed, capture_output=True, text=True, timeout=60, check=False
        )

    return start


def program(tmp_path: Path, rom: Rom) -> list[str]:
    path = rom.write(tmp_path / "guest.rom")
    return [sys.executable, "-m", "blockkit", "run", "-m", "2M", "--accel", "python", "--bios", path]


# -- words ---------------------------------------------------------------------------------------------------


def test_help_has_every_option_in_a_group_and_examples(cli: Callable) -> None:
    result = cli("run", "--help")
    assert result.code == 0
    for title in GROUPS:
        assert f"{title}:\n" in result.out
    names = {each.name for each in command.parameters if not each.is_argument}
    assert {name for group in GROUPS.values() for name in group} == names
    for example in command.examples:
        assert f"  {example}\n" in result.out
        words = example.split()[2:]
        build(command).make_context("run", words, parent=click.Context(root))
    assert set(CODES.values()) <= set(EXITS)


def test_words_become_a_machine() -> None:
    words = "--kernel k --kernel-decompress guest --append quiet --hpet --seed 7 --vga text a.img".split()
    context = build(command).make_context("run", words, parent=click.Context(root))
    config = configure(Settings(**context.params), at_terminal=False)
    assert (config.kernel, config.kernel_decompress, config.append) == ("k", "guest", "quiet")
    assert (config.hpet, config.seed, config.vga, config.realtime) == (True, 7, "text", False)
    assert [drive.image for drive in config.drives] == ["a.img"]


def test_drives_are_read_from_options() -> None:
    assert parse_drive("file=a.qcow2,if=ide,format=qcow2,readonly=on,serial=S1,on_error=stop,latency=hdd") == (
        DriveConfig("a.qcow2", "qcow2", {}, "ide", True, False, "S1", "stop", "hdd")
    )
    assert parse_drive("file=a,,b.img,media=cdrom,if=ide").interface == "cdrom"
    assert parse_drive("file=a.img,snapshot=on,lazy-refcounts=on").options == {"lazy_refcounts": "on"}
    found = parse_drive("driver=raw,file.driver=file,file.filename=x.img,if=virtio")
    assert found.image == {"driver": "raw", "file": {"driver": "file", "filename": "x.img"}}
    assert found.name == "x.img"
    for text, message in (
        ("if=ide", "no image is named"),
        ("file=a,if=scsi", "'scsi' is not one of virtio, ide, cdrom"),
        ("file=a,latency=fast", "'fast' is not one of"),
        ("file=a,serial=123456789012345678901", "not up to 20 characters"),
        ("file=a,readonly=perhaps", "is not on or off"),
    ):
        with pytest.raises(OptionError, match=message):
            parse_drive(text)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--append", "x"), 2, "are for a kernel"),
        (("--monitor", "stdio", "--serial", "stdio"), 2, "cannot both be at stdio"),
        (("--monitor", "tcp:1"), 2, "is not stdio or unix:PATH"),
        (("--serial", "loud"), 2, "serial 'loud' is not one of"),
        (("--serial", "file:/nonexistent/x"), 1, "no such file"),
        (("--until", ""), 2, "--until is empty"),
        (("--timeout", "-1"), 2, "expected a number of seconds"),
        (("-m", "3"), 2, "memory: 3 bytes"),
        (("--clock", "noon"), 2, "is no time"),
        (("--clock", "2026-01-01T00:00:00"), 2, "has no time zone"),
        (("--gdb", "nowhere"), 2, "is not \\[HOST:\\]PORT"),
        (("--load", "/nonexistent"), 1, "no such file"),
        (("gone.qcow2",), 1, "gone.qcow2: no such file"),
    ],
)
def test_words_that_mean_nothing(run: Callable, words: tuple[str, ...], code: int, message: str) -> None:
    done = run(echo(), *words)
    lines = [line for line in done.stderr.splitlines() if "accelerator" not in line]
    assert done.returncode == code
    assert len(lines) == 1
    assert lines[0].startswith("blockkit: ")
    assert __import__("re").search(message, lines[0])


# -- the serial port -------------------------------------------------------------------------------------------


def test_pipes_lead_to_the_serial_port(run: Callable) -> None:
    done = run(echo(), typed="abc\nq")
    assert (done.returncode, done.stdout) == (11, "hello\nabc\nq")
    assert done.stderr == "blockkit: accelerator python: as asked\n"


def test_much_input_waits_for_the_guest(run: Callable) -> None:
    text = "x" * 20_000
    done = run(sleeper(), typed=text + "q")
    assert done.stdout == f"ready\n{text}q"


def test_a_file_takes_what_the_guest_sends(run: Callable, tmp_path: Path) -> None:
    done = run(Rom().say("hi").exit(0), "--serial", f"file:{tmp_path / 'log'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert (tmp_path / "log").read_text() == "hi"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    made: list[subprocess.Popen[bytes]] = []

    def start(rom: Rom, *words: str, **more: Any) -> subprocess.Popen[bytes]:
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        made.append(subprocess.Popen([*program(tmp_path, rom), *words], **given | more))
        return made[-1]

    yield start
    for each in made:
        if each.poll() is None:
            each.kill()
        each.communicate()


def read_until(descriptor: int, text: bytes, seconds: float = 20) -> bytes:
    found, end = b"", time.monotonic() + seconds
    while text not in found:
        ready, _, _ = select.select([descriptor], [], [], max(0, end - time.monotonic()))
        assert ready, found
        found += os.read(descriptor, 1000)
    return found


def test_a_unix_socket_of_our_own_and_of_somebody_else(started: Callable, tmp_path: Path) -> None:
    path = str(tmp_path / "serial")
    process = started(sleeper(), "--serial", f"unix:{path},server")
    read_until(process.stderr.fileno(), b"serial port at")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.sendall(b"yes")
        assert read_until(peer.fileno(), b"yes").endswith(b"yes")
        peer.sendall(b"q")
        assert process.wait(20) == 3
    assert not os.path.exists(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = started(sleeper(), "--serial", f"unix:{path}")
        peer = listener.accept()[0]
        with peer:
            read_until(peer.fileno(), b"ready\n")
            peer.sendall(b"q")
            assert process.wait(20) == 3


def test_a_pseudo_terminal(started: Callable) -> None:
    process = started(sleeper(), "--serial", "pty")
    line = read_until(process.stderr.fileno(), b"/dev/pts/")
    line += read_until(process.stderr.fileno(), b"\n") if not line.endswith(b"\n") else b""
    name = line.split(b"serial port at ")[1].split()[0]
    terminal = os.open(name, os.O_RDWR | os.O_NOCTTY)
    os.write(terminal, b"abc")
    read_until(terminal, b"abc")
    os.write(terminal, b"q")
    assert process.wait(20) == 3
    os.close(terminal)


# -- how it ends -----------------------------------------------------------------------------------------------


def test_exit_codes(run: Callable) -> None:
    loop = Rom().say("almost there").label("on").jump("eb", "on")
    reset = Rom().out(0xCF9, 6).raw("f4")
    triple = Rom().raw("2e0f011e0800cceb00000000000000")
    assert run(Rom().exit(7)).returncode == 15
    assert run(reset, "--no-reboot").returncode == CODES[Outcome.RESET] == 6
    assert run(triple, "--no-reboot").returncode == CODES[Outcome.TRIPLE_FAULT] == 8
    assert run(Rom().raw("f4"), "--serial", "none").returncode == CODES[Outcome.IDLE] == 10
    assert run(loop, "--timeout", "0.2").returncode == 124
    assert run(loop, "--until", "most th").returncode == 0
    assert run(loop, "--until", "never", "--timeout", "0.2").returncode == 1
    assert run(Rom().raw("f4"), "--serial", "none", "--until", "never").returncode == 1


def test_signals_end_it(started: Callable) -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = started(sleeper(), stdin=subprocess.PIPE)
        read_until(process.stdout.fileno(), b"ready")
        process.send_signal(number)
        assert process.wait(20) == code


def test_a_table_of_accesses(run: Callable) -> None:
    done = run(Rom().say("abc").exit(0), "--exits")
    assert "\nserial             03f8 data                          0          3\n" in done.stderr


def test_a_machine_is_saved_and_loaded(run: Callable, tmp_path: Path) -> None:
    rom = Rom().say("one").label("on").jump("eb", "on")
    assert run(rom, "--until", "one", "--save", str(tmp_path / "saved")).returncode == 0
    done = run(rom, "--load", str(tmp_path / "saved"), "--timeout", "0.2")
    assert (done.returncode, done.stdout) == (124, "")
    (tmp_path / "saved").write_bytes(b"no")
    done = run(rom, "--load", str(tmp_path / "saved"))
    assert done.returncode == 3
    assert "saved: saved machine: header" in done.stderr


def test_a_monitor_at_standard_input(run: Callable) -> None:
    typed = '{"execute":"qmp_capabilities"}{"execute":"query-status","id":1}{"execute":"quit"}'
    done = run(Rom().label("on").jump("eb", "on"), "--monitor", "stdio", typed=typed)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert "QMP" in answers[0]
    assert answers[2]["return"]["status"] == "running"
    assert done.returncode == 0


# -- at a terminal ---------------------------------------------------------------------------------------------


class Typist:
    """A terminal with a guest in it."""

    def __init__(self, start: Callable[..., subprocess.Popen[bytes]], rom: Rom, *words: str) -> None:
        self.ours, theirs = os.openpty()
        self.before = termios.tcgetattr(theirs)
        self.process = start(rom, *words, stdin=theirs, stdout=theirs)
        self.theirs = theirs

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def read_until(self, text: bytes) -> bytes:
        return read_until(self.ours, text)

    def close(self) -> None:
        assert termios.tcgetattr(self.theirs) == self.before
        os.close(self.ours)
        os.close(self.theirs)


def test_the_guest_gets_every_key_but_ctrl_a(started: Callable) -> None:
    person = Typist(started, sleeper())
    person.read_until(b"ready")
    person.type(b"\x03\x1a\x04z")
    assert person.read_until(b"z").endswith(b"\x03\x1a\x04z")
    person.type(b"\x01\x01y")
    assert person.read_until(b"y").endswith(b"\x01y")
    person.type(b"\x01h")
    person.read_until(b"Ctrl-A x  quit")
    person.type(b"\x01x")
    assert person.process.wait(20) == 0
    person.close()


def test_the_monitor_shares_the_terminal(started: Callable) -> None:
    person = Typist(started, sleeper())
    person.read_until(b"ready")
    person.type(b"\x01c")
    person.read_until(b"(blockkit) ")
    person.type(b"infi\x7fo status\r")
    person.read_until(b"VM status: running")
    person.type(b"\x01cq")
    assert person.process.wait(20) == 3
    person.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(started: Callable, number: signal.Signals) -> None:
    person = Typist(started, sleeper())
    person.read_until(b"ready")
    assert termios.tcgetattr(person.theirs) != person.before
    person.process.send_signal(number)
    assert person.process.wait(20) == 128 + number
    person.close()


def test_keys_may_come_one_by_one() -> None:
    done: list[str] = []
    calls = [lambda word=word: done.append(word) for word in ("quit", "toggle", "screen")]
    keys = Keys(*calls, lambda text: done.append("help"))
    assert b"".join(keys(bytes([byte])) for byte in b"a\x01\x01b\x01xc\x01cd\x01h\x01se\x01z") == b"a\x01bcde"
    assert done == ["quit", "toggle", "help", "screen"]


def test_the_screen_is_drawn_when_it_changes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from types import SimpleNamespace

    from blockkit.cli.run import display

    vga = SimpleNamespace(text=lambda: ["one  ", "\x1b[2Jtwo"])
    session: Any = SimpleNamespace(pc=SimpleNamespace(vga=vga, between=[]))
    display.Display(session).close()
    assert capsys.readouterr().out == "one\n [2Jtwo\n"
    monkeypatch.setattr(display, "is_terminal", lambda stream: True)
    shown = display.Display(session)
    [draw] = session.pc.between
    draw()
    draw()
    assert capsys.readouterr().out == "\x1b[Hone\x1b[K\r\n [2Jtwo\x1b[J"
    shown.close()
    assert capsys.readouterr().out == "\r\n"
    assert not session.pc.between


def test_a_screen_in_the_terminal_has_a_keyboard(tmp_path: Path) -> None:
    # Waits for keys, and writes each one twice on the screen.
    code = "fa 31c0 8ed8 8ed0 bc007c fb b400 cd16 b40e cd10 cd10 ebf4"
    disk = tmp_path / "disk"
    disk.write_bytes(bytes.fromhex(code).ljust(510, b"\0") + b"\x55\xaa")
    words = [sys.executable, "-m", "blockkit", "run", "-m", "2M", "--accel", "python", "--bios", "builtin"]
    words += ["--vga", "text", "--serial", "none", "--drive", f"file={disk},format=raw"]

    def start(_: Rom, *more: str, **streams: Any) -> subprocess.Popen[bytes]:
        environment = os.environ | {"TERM": "xterm"}
        return subprocess.Popen([*words, *more], stderr=subprocess.PIPE, env=environment, **streams)

    person = Typist(start, Rom())
    try:
        person.read_until(b"\x1b[H")
        person.type(b"aB")
        person.read_until(b"aaBB")
        person.type(b"\x1b[A!")
        person.read_until(b"!!")
        person.type(b"\x01x")
        assert person.process.wait(20) == 0
    finally:
        person.process.kill()
        person.process.communicate()
    person.close()
