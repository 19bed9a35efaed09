"""A machine as Python programs use it: started, talked to, waited for, saved."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blockkit.emul.build import Built
from blockkit.emul.config import MEMORY, DriveConfig, MachineConfig, drive_from, parse_drive
from blockkit.emul.keys import chord, typed
from blockkit.emul.screen import screen_text
from blockkit.emul.session import FINAL, Outcome, Session, Status
from blockkit.emul.watch import TextWatch
from blockkit.errors import GuestEndedError, GuestTimeoutError
from blockkit.units import parse_size

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self, TypeAlias

    from blockkit.block.node import Node
    from blockkit.emul.disk import Disk, Request
    from blockkit.emul.observe.counts import AccessCounts

    #: What names a disk: an image, a node, the options of ``--drive`` as a tree, or a drive.
    DiskName: TypeAlias = "str | os.PathLike[str] | Node | Mapping[str, Any] | DriveConfig"

_SECOND: Final = 1_000_000_000
_MOST_REQUESTS: Final = 100_000
_SHOWN: Final = 400
#: Scan codes that wait for the guest at most.
_MOST_KEYS: Final = 16


class GuestRequest(NamedTuple):
    """A request that a guest made of a disk, and that has ended.

    Attributes:
        drive: ``drive0`` and so on.
        number: Of this disk's requests, from 1.
        operation: ``read``, ``write``, ``flush``, ``discard`` or ``zero``.
        offset: Bytes.
        length: Bytes.
        began: Virtual seconds.
        ended: Virtual seconds.
        succeeded: Whether it did, as the guest was told.
    """

    drive: str
    number: int
    operation: str
    offset: int
    length: int
    began: float
    ended: float
    succeeded: bool


class Machine:
    """A PC with disks. It runs while one of its methods waits for something, and stands still in between.

    Args:
        disks: In the order they are looked for something to start. An image's name or a node is a virtio disk; a
            mapping has the options of ``--drive``. Nodes are closed in the end.
        kernel: A bzImage or ELF that is started without firmware.
        initrd: Its initial RAM disk.
        append: Its command line.
        cdrom: An image for a CD-ROM drive.
        memory: Bytes, or text such as ``"512M"``.
        snapshot: What is written to the disks is dropped in the end.
        timeout: Seconds of the host after which waiting fails, unless a method is told otherwise.
        count_accesses: Count accesses to registers; see :attr:`accesses`.
        **more: What else :class:`~blockkit.emul.config.MachineConfig` has: ``accelerator``, ``cpu``,
            ``kernel_decompress``, ``firmware``, ``vga``, ``hpet``, ``start``, ``realtime``, ``seed``, ``reboot``,
            ``policy``.

    Attributes:
        requests: What the guest asked of its disks, the last 100,000.
        accesses: How often it touched which register; None unless ``count_accesses``.

    Raises:
        BlockkitError: something cannot be opened, or does not go together.
    """

    def __init__(
        self,
        disks: Iterable[DiskName] = (),
        *,
        kernel: str | os.PathLike[str] | None = None,
        initrd: str | os.PathLike[str] | None = None,
        append: str = "",
        cdrom: DiskName | None = None,
        memory: int | str = MEMORY,
        snapshot: bool = False,
        timeout: float = 120,
        count_accesses: bool = False,
        **more: Any,
    ) -> None:
        drives = [_drive(each, snapshot) for each in disks]
        if cdrom is not None:
            drives.append(_drive(cdrom, False, interface="cdrom", format="raw", read_only=True))
        config = MachineConfig(
            memory=parse_size(memory) if isinstance(memory, str) else memory,
            drives=tuple(drives),
            kernel=None if kernel is None else os.fspath(kernel),
            initrd=None if initrd is None else os.fspath(initrd),
            append=append,
            **more,
        )
        self._built = Built(config)
        self.session = Session(self._built)
        self.timeout = timeout
        self.requests: deque[GuestRequest] = deque(maxlen=_MOST_REQUESTS)
        self._begun: dict[tuple[str, int], float] = {}
        self._closed = False
        self._expected = 0
        self._saved: tuple[str, int] | None = None
        self._servers: list[Any] = []
        self.accesses: AccessCounts | None = None
        for drive in self._built.drives:
            self._follow(drive.name, drive.disk)
        if count_accesses:
            from blockkit.emul.observe.counts import AccessCounts

            self.accesses = self.session.accesses = AccessCounts(self.session)

    def _follow(self, name: str, disk: Disk) -> None:
        def began(request: Request) -> None:
            self._begun[name, request.number] = self.now

        def ended(request: Request, well: bool) -> None:
            operation, offset, length = request.operation.value, request.offset, request.length
            start = self._begun.pop((name, request.number), self.now)
            self.requests.append(GuestRequest(name, request.number, operation, offset, length, start, self.now, well))

        disk.observe, disk.observe_end = began, ended

    # -- what it is like -----------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual time, in seconds since the machine was made."""
        return self._built.pc.clock.now() / _SECOND

    @property
    def serial_text(self) -> str:
        """All that came out of the serial port, the last 16 MiB at least."""
        return self._built.serial.text

    @property
    def status(self) -> str:
        """``running``, ``paused``, ``io-error`` or ``shutdown``."""
        return self.session.status.value

    @property
    def outcome(self) -> Outcome | None:
        """Why the machine ended; None while it has not."""
        return self.session.outcome

    @property
    def exit_code(self) -> int:
        """What the guest gave as its exit code."""
        return self.session.exit_code

    @property
    def accelerator(self) -> str:
        """In one line, what runs the processor and why."""
        return self._built.why

    def screen(self) -> str:
        """Return the screen as lines of text."""
        return screen_text(self._built.pc)

    def state_hash(self) -> str:
        """Return a hash of the processor, the devices and the memory."""
        from blockkit.emul.saved.machine import fingerprint

        return fingerprint(self._built)

    # -- talking and waiting -------------------------------------------------------------------------------

    def send(self, text: str | bytes) -> None:
        """Type into the serial port; the guest reads it when it runs."""
        self._built.pc.serial.receive(text.encode() if isinstance(text, str) else text)

    def press(self, *keys: str) -> None:
        """Press keys one after the other: names such as ``a``, ``ret``, ``down`` or ``ctrl-alt-delete``.

        Raises:
            OptionError: there is no such key.
        """
        for codes in [chord(each) for each in keys]:
            self._press(codes)

    def type_text(self, text: str) -> None:
        """Type a text on the keyboard, for what looks at the screen; :meth:`send` is for the serial port.

        Raises:
            GuestTimeoutError: the guest does not read the keys.
            GuestEndedError: the machine ended meanwhile.
        """
        for letter in text:
            self._press(typed(letter))

    def _press(self, codes: bytes) -> None:
        keyboard = self._built.pc.keyboard
        if keyboard.backlog >= _MOST_KEYS:
            self._run("the keys to be read", lambda: keyboard.backlog < _MOST_KEYS, None, None)
        keyboard.press(codes)

    def expect(
        self,
        wanted: str | re.Pattern[str],
        *,
        timeout: float | None = None,
        within: float | None = None,
        screen: bool = False,
    ) -> re.Match[str]:
        """Run until the guest prints a text, behind what the last call has found.

        The machine stops with the byte that completes the first match.

        Args:
            wanted: The text, or a regular expression.
            timeout: Seconds of the host.
            within: Virtual seconds.
            screen: It may be on the screen instead of coming out of the serial port.

        Returns:
            The match.

        Raises:
            GuestTimeoutError: it did not come in time.
            GuestEndedError: the machine ended, or nothing will happen any more.
        """
        watch = TextWatch(self.session, wanted, start=self._expected, screen=screen)
        listeners = self._built.serial.listeners
        listeners.append(watch.byte_came)
        try:
            self._run(f"{wanted!r}", watch.has_come, timeout, within)
        finally:
            listeners.remove(watch.byte_came)
        assert watch.found is not None
        self._expected = watch.end
        return watch.found

    def run_until(
        self,
        reached: Callable[[Self], bool] | float,
        *,
        timeout: float | None = None,
        within: float | None = None,
    ) -> None:
        """Run until a function of the machine is true, or a virtual time has come.

        Args:
            reached: Asked often, but not after every instruction; or seconds of virtual time.
            timeout: Seconds of the host.
            within: Virtual seconds.

        Raises:
            GuestTimeoutError: it did not come in time.
            GuestEndedError: the machine ended, or nothing will happen any more.
        """
        if callable(reached):
            asked = reached
            self._run("that", lambda: asked(self), timeout, within)
        else:
            at = reached
            if self.now < at:
                self._run(f"{at} s", lambda: False, timeout, at - self.now, is_goal=True)

    def wait(self, *, timeout: float | None = None, within: float | None = None) -> Outcome:
        """Run until the machine ends, and return why.

        Raises:
            GuestTimeoutError: it did not in time.
        """
        outcome = self._advance(None, timeout, within)
        if outcome in (Outcome.TIMEOUT, Outcome.REACHED):
            raise GuestTimeoutError(self._failure("the end", outcome))
        return outcome

    def _run(
        self,
        what: str,
        reached: Callable[[], bool],
        timeout: float | None,
        within: float | None,
        *,
        is_goal: bool = False,
    ) -> None:
        if not is_goal and reached():
            return
        outcome = self._advance(reached, timeout, within)
        if reached() or (is_goal and outcome is Outcome.REACHED):
            return
        if outcome in (Outcome.TIMEOUT, Outcome.REACHED):
            raise GuestTimeoutError(self._failure(what, outcome))
        raise GuestEndedError(self._failure(what, outcome))

    def _advance(self, reached: Callable[[], bool] | None, timeout: float | None, within: float | None) -> Outcome:
        until = None if within is None else self._built.pc.clock.now() + round(within * _SECOND)
        return self.session.run(
            until=until,
            timeout=self.timeout if timeout is None else timeout,
            reached=reached,
            wait=bool(self.session.inputs),
        )

    def _failure(self, what: str, outcome: Outcome) -> str:
        why = "its virtual time is over" if outcome is Outcome.REACHED else outcome.value
        said = self.serial_text[-_SHOWN:]
        return f"waiting for {what}: {why}, after {self.now:.3f} virtual seconds; the guest's last words: {said!r}"

    # -- telling it what to do -----------------------------------------------------------------------------

    def stop(self) -> None:
        """Let it stand still, whoever waits for something."""
        self.session.stop()

    def cont(self) -> None:
        """Let it go on."""
        self.session.cont()

    def reset(self) -> None:
        """Press the reset button."""
        self.session.reset()

    def press_power_button(self) -> None:
        """Ask the guest to shut down, which it does if it has ACPI."""
        self.session.press_power_button()

    def command(self, name: str, **arguments: Any) -> Any:
        """Do a command of the monitor, as QMP has them, and return its result.

        Raises:
            EmulationError: it is not known, or cannot be done.
        """
        from blockkit.emul.monitor.commands import CommandError, execute
        from blockkit.errors import EmulationError

        try:
            return execute(self.session, name.replace("_", "-") if name.startswith("query") else name, arguments)
        except CommandError as error:
            raise EmulationError(f"monitor: {error}") from error

    def serve_monitor(self, path: str) -> None:
        """Take monitors (QMP) at a Unix socket from now on."""
        from blockkit.emul.monitor.server import MonitorServer

        self._servers.append(MonitorServer(self.session, path))

    def serve_gdb(self, where: str = "0") -> str:
        """Take debuggers from now on, and stand still until one lets the machine go on; returns where."""
        from blockkit.emul.gdb.server import GdbServer

        server = GdbServer(self.session, where)
        self._servers.append(server)
        return server.place

    # -- saving --------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the whole machine to a file; what was written to ``snapshot`` disks is in it.

        Raises:
            BlockkitError: a request does not end, or the file cannot be written.
        """
        from blockkit.emul.saved.machine import save

        save(self._built, os.fspath(path))
        self._saved = os.fspath(path), self._built.pc.clock.now()

    @classmethod
    def load(cls, path: str | os.PathLike[str], *arguments: Any, force: bool = False, **options: Any) -> Self:
        """Return a machine that goes on where a saved one was.

        Args:
            path: The file.
            *arguments: The disks, which must be what they were.
            force: Go on although they have been changed since.
            **options: The rest of what the machine was made with.

        Raises:
            FormatError: the file is damaged, or of a machine that is made of other parts.
            EmulationError: disks have been changed.
        """
        from blockkit.emul.saved.machine import load

        made = cls(*arguments, **options)
        try:
            load(made._built, os.fspath(path), force=force)
        except BaseException:
            made.close()
            raise
        return made

    # -- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the machine, and close its disks; idempotent."""
        if self._closed:
            return
        self._closed = True
        for server in self._servers:
            server.close()
        if self.session.outcome is None:
            self.session.outcome, self.session.status = Outcome.QUIT, Status.SHUTDOWN
        from blockkit.emul.saved.disks import paths

        names = paths(self._built.drives)
        self._built.close()
        if self._saved is not None and self._saved[1] == self._built.pc.clock.now():
            from blockkit.emul.saved.machine import refresh

            refresh(self._saved[0], names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self.outcome.value if self.outcome in FINAL else self.status
        return f"<Machine {state} at {self.now:.3f} s, {len(self._built.drives)} disks>"


def _drive(disk: DiskName, snapshot: bool, **defaults: Any) -> DriveConfig:
    from collections.abc import Mapping
    from dataclasses import replace

    if isinstance(disk, DriveConfig):
        return replace(disk, snapshot=True) if snapshot else disk
    if isinstance(disk, str) and disk.startswith("file="):
        return parse_drive(disk, snapshot=snapshot, **defaults)
    if isinstance(disk, Mapping):
        return drive_from(disk, **{"snapshot": snapshot, **defaults})
    return DriveConfig(disk, snapshot=snapshot, **defaults)
