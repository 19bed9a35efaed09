"""A machine from the words of a command line, to the exit code."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Literal

from blockkit.cli.images import policy_named, warn
from blockkit.cli.output import echo
from blockkit.cli.run.display import Display
from blockkit.cli.run.terminal import Keys, RawTerminal, stdio_backend
from blockkit.cli.terminal import is_terminal
from blockkit.emul.build import Built
from blockkit.emul.config import MEMORY, DriveConfig, MachineConfig, parse_drive
from blockkit.emul.keys import typed
from blockkit.emul.monitor import human
from blockkit.emul.screen import screen_text
from blockkit.emul.serial.backends import Backend, parse_backend
from blockkit.emul.serial.console import Console
from blockkit.emul.session import Outcome, Session
from blockkit.errors import OptionError
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.observe.counts import AccessCounts

#: Seconds between two tables, and rows of each.
_EVERY: Final = 0.5
_ROWS: Final = 20

CODES: Final = {
    Outcome.POWER_OFF: 0,
    Outcome.QUIT: 0,
    Outcome.REACHED: 0,
    Outcome.RESET: 6,
    Outcome.TRIPLE_FAULT: 8,
    Outcome.IDLE: 10,
    Outcome.IO_ERROR: 12,
    Outcome.TIMEOUT: 124,
}
#: The codes of outcomes in which what --until names did not come.
_NOT_REACHED: Final = 1


class Settings(Frozen):
    """The words of a command line; see its help."""

    disk: str | None
    drives: tuple[str, ...]
    cdrom: str | None
    snapshot: bool
    policy: str
    kernel: str | None
    initrd: str | None
    append: str
    kernel_decompress: Literal["auto", "host", "guest"]
    bios: str
    load: str | None
    force_load: bool
    memory: int | None
    accel: str
    cpu: str | None
    vga: str | None
    hpet: bool
    clock: str | None
    seed: int
    realtime: bool | None
    reboot: bool
    serial: str | None
    monitor: str | None
    gdb: str | None
    until: str | None
    timeout: float | None
    save: str | None
    exits: bool
    trace: str | None


def configure(words: Settings, at_terminal: bool) -> MachineConfig:
    """Return the machine that is asked for; raises OptionError where the words contradict each other."""
    drives = [] if words.disk is None else [DriveConfig(words.disk, snapshot=words.snapshot)]
    drives += [parse_drive(text, snapshot=words.snapshot) for text in words.drives]
    if words.cdrom is not None:
        drives.append(DriveConfig(words.cdrom, format="raw", interface="cdrom", read_only=True))
    if words.kernel is not None and words.bios != "auto":
        raise OptionError("--kernel starts without firmware: --bios has no meaning")
    if words.serial == words.monitor == "stdio":
        raise OptionError("--serial and --monitor cannot both be at stdio; --serial none gives it to the monitor")
    if words.timeout is not None and not 0 <= words.timeout < 1e9:
        raise OptionError(f"--timeout {words.timeout}: expected a number of seconds")
    if words.until is not None and not words.until:
        raise OptionError("--until is empty")
    more = {} if words.clock is None else {"start": words.clock}
    return MachineConfig(
        memory=words.memory or MEMORY,
        accelerator=words.accel,
        cpu=words.cpu,
        drives=tuple(drives),
        kernel=words.kernel,
        initrd=words.initrd,
        append=words.append,
        kernel_decompress=words.kernel_decompress,
        firmware=words.bios,
        vga="none" if words.vga == "none" or (words.vga is None and words.kernel is not None) else "text",
        hpet=words.hpet,
        realtime=at_terminal if words.realtime is None else words.realtime,
        seed=words.seed,
        reboot=words.reboot,
        policy=policy_named(words.policy),
        **more,
    )


def run(words: Settings) -> int:
    """Run a machine and return the exit code."""
    serial = words.serial or ("none" if words.monitor == "stdio" else "stdio")
    config = configure(words, sys.stdin.isatty() and serial == "stdio" and words.until is None)
    with ExitStack() as last, ExitStack() as stack:
        built = Built(config)
        stack.callback(built.close)
        say(f"accelerator {built.why}")
        for drive in built.drives:
            if drive.warning:
                warn(drive.warning)
        session = Session(built)
        if words.load is not None:
            from blockkit.emul.saved.machine import load

            load(built, words.load, force=words.force_load)
        Around(session, words, serial, stack)
        reached = None if words.until is None else _appears(session, words.until)
        # Paused for good, with nobody to go on, is no way to be.
        outcome = session.run(timeout=words.timeout, reached=reached, wait=bool(session.inputs))
        if words.save is not None:
            from blockkit.emul.saved import disks, machine

            names = disks.paths(built.drives)
            machine.save(built, words.save)
            last.callback(machine.refresh, words.save, names)
    return exit_code(outcome, session.exit_code, words.until is not None)


def exit_code(outcome: Outcome, guest: int, has_until: bool) -> int:
    """Return what the process exits with."""
    if outcome is Outcome.EXIT:
        return guest & 0xFF
    if has_until and outcome is not Outcome.REACHED:
        return _NOT_REACHED
    return CODES.get(outcome, 1)


def say(text: str) -> None:
    """Print one line to standard error."""
    echo(f"blockkit: {text}", err=True)


class Around:
    """Everything that stands around a machine: the serial port's other end, monitors, the debugger, observers.

    Args:
        session: The machine.
        words: What is asked for.
        serial: Where the serial port leads.
        stack: Where the ends of all that are put.
    """

    def __init__(self, session: Session, words: Settings, serial: str, stack: ExitStack) -> None:
        self._session = session
        self._line = bytearray()
        self._keys: Keys | None = None
        self._attach_observers(words, serial == "stdio" and sys.stdout.isatty(), stack)
        if words.monitor is not None:
            self._attach_monitor(words.monitor, stack)
        if words.gdb is not None:
            from blockkit.emul.gdb.server import GdbServer

            server = GdbServer(session, words.gdb)
            stack.callback(server.close)
            say(f"waiting for gdb at {server.place}")
        shows_screen = words.vga == "text" and "stdio" not in (serial, words.monitor)
        terminal = stack.enter_context(RawTerminal()) if serial == "stdio" or shows_screen else None
        if terminal is not None and terminal.is_raw:
            call = session.call_soon
            self._keys = Keys(lambda: call(session.quit), self._toggle, lambda: call(self._show_screen), self._print)
        backend = parse_backend(serial, self._stdio)
        if backend.place:
            say(f"serial port at {backend.place}")
        console = Console(session, backend)
        stack.callback(console.close)
        if words.vga == "text" and serial != "stdio":
            stack.callback(Display(session).close)
        if shows_screen and self._keys is not None:
            keyboard = self._stdio()
            session.inputs += 1
            stack.callback(keyboard.close)
            keyboard.start(lambda data: session.call_soon(lambda: self._press(data)))

    def _press(self, data: bytes) -> None:
        self._session.pc.keyboard.press(typed(data.decode("latin-1")))

    def _stdio(self) -> Backend:
        return stdio_backend(self._keys)

    def _attach_observers(self, words: Settings, at_terminal: bool, stack: ExitStack) -> None:
        if words.exits:
            from blockkit.emul.observe.counts import AccessCounts

            counts = self._session.accesses = AccessCounts(self._session)
            stack.callback(lambda: echo("\n".join(counts.table()), err=True))
            stack.callback(counts.close)
            if not at_terminal and is_terminal(sys.stderr):
                self._session.pc.between.append(Live(counts).show)
        if words.trace is not None:
            from blockkit.emul.observe.output import open_output
            from blockkit.emul.observe.tracer import Tracer

            output = open_output(words.trace)
            stack.callback(output.close)
            stack.callback(Tracer(self._session, output).close)

    def _attach_monitor(self, where: str, stack: ExitStack) -> None:
        from blockkit.emul.monitor.server import Connection, MonitorServer

        if where == "stdio":
            import threading

            incoming = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115 - not ours to close
            connection = Connection(self._session, incoming, sys.stdout.buffer)
            self._session.inputs += 1
            threading.Thread(target=connection.serve, name="monitor", daemon=True).start()
            stack.callback(connection.close)
        elif where.startswith("unix:"):
            server = MonitorServer(self._session, where.removeprefix("unix:").partition(",")[0])
            stack.callback(server.close)
        else:
            raise OptionError(f"monitor {where!r} is not stdio or unix:PATH")

    # -- the monitor that shares the terminal with the guest -------------------------------------------------

    def _toggle(self) -> None:
        # At once, in the thread that reads: what is typed next is for the other one.
        assert self._keys is not None
        if self._keys.monitor is None:
            call = self._session.call_soon
            self._keys.monitor = lambda data: call(lambda: self._typed(data))
            self._print("\r\n(blockkit) ")
        else:
            self._keys.monitor = None
            self._print("\r\n")

    def _typed(self, data: bytes) -> None:
        for byte in data:
            if byte in b"\r\n":
                line, self._line = self._line.decode("utf-8", "replace"), bytearray()
                self._print("\r\n" + human.execute(self._session, line) + "(blockkit) ")
            elif byte in b"\x08\x7f":
                if self._line:
                    del self._line[-1:]
                    self._print("\b \b")
            elif byte >= 0x20 and len(self._line) < 1000:
                self._line.append(byte)
                self._print(chr(byte))

    def _show_screen(self) -> None:
        text = screen_text(self._session.pc)
        self._print("\r\n" + (text.replace("\n", "\r\n") if text else "there is no screen") + "\r\n")

    @staticmethod
    def _print(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class Live:
    """Shows a table of accesses again and again.

    Args:
        counts: The accesses.
    """

    def __init__(self, counts: AccessCounts) -> None:
        self._counts, self._next = counts, 0.0

    def show(self) -> None:
        """Show it, if the time has come."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            echo("\x1b[H\x1b[J" + "\n".join(self._counts.table(_ROWS)), err=True)


def _appears(session: Session, text: str) -> Callable[[], bool]:
    """Return what tells whether a text has come out of the serial port, or is on the screen."""
    from blockkit.emul.watch import TextWatch

    return TextWatch(session, text).has_come
