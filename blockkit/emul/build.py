"""From what a machine is to be made of to the machine: the one place that knows both."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from blockkit.cpu.accelerator import Region
from blockkit.cpu.choose import choose
from blockkit.emul import linux
from blockkit.emul.drives import Drive, open_drive
from blockkit.emul.machine import End
from blockkit.emul.pc import Pc
from blockkit.emul.serial.port import SerialLog
from blockkit.errors import EmulationError, OptionError, from_os_error

if TYPE_CHECKING:
    from blockkit.emul.config import MachineConfig

_PAGE: Final = 4096
_MOST_ROM: Final = 16 << 20
_MOST_KERNEL: Final = 1 << 30
_BELOW_1M: Final = 128 << 10


class Built:
    """A machine with its disks, before it starts.

    Args:
        config: What it is made of.

    Attributes:
        pc: The machine.
        drives: Its disks.
        serial: What came out of its serial port.
        accelerator: The name of what runs its processor.
        why: In one line, what runs its processor and why.

    Raises:
        BlockkitError: something cannot be opened, or does not fit.
    """

    def __init__(self, config: MachineConfig) -> None:
        self.config = config
        accelerator, self.why = choose(config.accelerator)
        self.accelerator = accelerator.name
        self.serial = SerialLog()
        self.pc = Pc(accelerator, config.memory, self.serial.send, _start_time(config.start))
        self.drives: list[Drive] = []
        try:
            for number, each in enumerate(config.drives):
                stop = self._stop_for_error
                self.drives.append(open_drive(f"drive{number}", each, self.pc.clock, config.policy, stop))
            self._attach()
            self._kernel = linux.read_kernel(_read(config.kernel, "kernel")) if config.kernel is not None else None
            self._initrd = _read(config.initrd, "initrd") if config.initrd is not None else b""
            if self._kernel is None:
                self._place_firmware()
            self.start()
        except BaseException:
            self.close()
            raise

    def _stop_for_error(self) -> None:
        self.pc.stop(End.STOPPED)

    def _attach(self) -> None:
        """Put each disk behind its controller."""
        for drive in self.drives:
            raise EmulationError(f"{drive.config.name}: there is no {drive.config.interface} controller")

    def _place_firmware(self) -> None:
        name = self.config.firmware
        if name in ("auto", "builtin", "seabios"):
            raise EmulationError(f"firmware {name}: not there; give a kernel or the file of a ROM")
        data = _read(name, "firmware")
        if not data or len(data) > _MOST_ROM:
            raise EmulationError(f"{name}: {len(data)} bytes, expected a ROM of up to {_MOST_ROM >> 20} MiB")
        data = bytes(-len(data) % _PAGE) + data
        self.pc.bus.add_memory(Region((1 << 32) - len(data), memoryview(bytearray(data)), writable=False))
        low = memoryview(bytearray(data[-_BELOW_1M:]))
        self.pc.bus.add_memory(Region((1 << 20) - len(low), low, writable=False))
        self.pc.cpu.memory_map_changed()

    def start(self) -> None:
        """Bring the processor to where it begins."""
        if self._kernel is not None:
            usable = [(0, 0x9FC00), (0x100000, self.config.memory - 0x100000)]
            self.pc.cpu.set_state(linux.load(self.pc.ram, self._kernel, self.config.append, self._initrd, usable))

    def reset(self) -> None:
        """Start again, as after the reset button."""
        executed = self.pc.cpu.executed
        self.pc.cpu.reset()
        self.start()
        self.pc.cpu.skip(executed - self.pc.cpu.executed)

    def close(self) -> None:
        """Close the disks; all of them, whatever one says."""
        failure: BaseException | None = None
        for drive in self.drives:
            try:
                drive.node.close()
            except BaseException as error:
                failure = failure or error
        if failure is not None:
            raise failure


def _start_time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise OptionError(f"clock: {text!r} is no time, expected one like 2026-01-31T12:00:00+00:00") from error
    if found.tzinfo is None:
        raise OptionError(f"clock: {text!r} has no time zone, expected one like 2026-01-31T12:00:00+00:00")
    return found


def _read(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_KERNEL + 1)
    except OSError as error:
        raise from_os_error(error, f"{what}: {path}") from error
    if len(data) > _MOST_KERNEL:
        raise EmulationError(f"{what}: {path}: more than {_MOST_KERNEL >> 30} GiB")
    return data
