"""From what a machine is to be made of to the machine: the one place that knows both."""

from __future__ import annotations

import itertools
import os
from datetime import datetime
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.choose import choose
from blockkit.cpu.cpuid import changed, changes
from blockkit.emul.boot.kernel import Kernel, load, read_kernel
from blockkit.emul.drives import Drive, open_drive
from blockkit.emul.firmware.disks import FIRST_CD, FIRST_DISK
from blockkit.emul.firmware.firmware import Firmware
from blockkit.emul.firmware.rom import Rom
from blockkit.emul.ide.ata import AtaDrive
from blockkit.emul.ide.atapi import AtapiDrive
from blockkit.emul.machine import End
from blockkit.emul.pc import IDE_DRIVES, TABLES_POINTER, Pc
from blockkit.emul.randomness import Randomness
from blockkit.emul.serial.port import SerialLog
from blockkit.emul.virtio.blk import VirtioBlk
from blockkit.emul.virtio.pci import VirtioPci
from blockkit.errors import EmulationError, OptionError, from_os_error

if TYPE_CHECKING:
    from blockkit.emul.config import MachineConfig
    from blockkit.emul.disk import Disk
    from blockkit.emul.ide.drive import Drive as IdeDrive

#: ROMs are as long as the largest area that is switched between ROM and RAM, or a multiple of that.
_ROM_UNIT: Final = 64 << 10
_MOST_ROM: Final = 16 << 20
_MOST_KERNEL: Final = 1 << 30
#: Where distributions put SeaBIOS.
_SEABIOS: Final = ("/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin")
_BUILTIN: Final = "builtin"
#: What lets it write to the screen.
_VGA_BIOS: Final = "vgabios-isavga.bin"
#: A mass storage controller of no further kind.
_MASS_STORAGE: Final = 0x010000
#: What a disk is called in the boot order, by Open Firmware's device paths.
_VIRTIO_PATH, _IDE_PATH = "/pci@i0cf8/scsi@{:x}/disk@0,0", "/pci@i0cf8/ide@1,1/drive@{:x}/disk@{:x}"
#: Random bytes that Linux is given.
_SEED_SIZE: Final = 32
#: How long firmware waits when there is nothing to start.
_FOR_EVER: Final = b"\xff" * 8


class Built:
    """A machine with its disks, before it starts.

    Args:
        config: What it is made of.

    Attributes:
        pc: The machine.
        drives: Its disks.
        serial: What came out of its serial port.
        accelerator: The name of what runs its processor.
        firmware: ``builtin``, or the file of a ROM; empty for none.
        why: In one line, what runs its processor and why.

    Raises:
        BlockkitError: something cannot be opened, or does not fit.
    """

    def __init__(self, config: MachineConfig) -> None:
        self.config = config
        accelerator, self.why = choose(config.accelerator)
        self.accelerator = accelerator.name
        self._cpuid_changes = changes(config.cpu or "base")
        if config.cpu is not None and accelerator.name == "kvm":
            from blockkit.cpu.kvm import KvmAccelerator

            accelerator = KvmAccelerator(cpuid=changed(config.cpu))
        self.serial = SerialLog()
        self.firmware = "" if config.kernel is not None else config.firmware
        if self.firmware == "auto":
            self.firmware = _seabios() or _BUILTIN
        image = _firmware(self.firmware) if self.firmware else b""
        start, screen = _start_time(config.start), config.vga == "text"
        self.pc = Pc(accelerator, config.memory, self.serial.send, start, image, screen, config.hpet)
        if screen and image:
            self.pc.fw_cfg.add(_vga_bios(self.firmware))
        self.drives: list[Drive] = []
        self._cds: list[AtapiDrive] = []
        try:
            for number, each in enumerate(config.drives):
                stop = self._stop_for_error
                self.drives.append(open_drive(f"drive{number}", each, self.pc.clock, config.policy, stop))
            self._attach()
            if self.firmware == _BUILTIN:
                self._add_firmware()
            self._kernel = _kernel(config)
            self._initrd = _read(config.initrd, "initrd") if config.initrd is not None else b""
            self.start()
        except BaseException:
            self.close()
            raise

    def _stop_for_error(self) -> None:
        self.pc.stop(End.STOPPED)

    def _attach(self) -> None:
        """Put each disk behind its controller."""
        cable: list[IdeDrive | None] = []
        media: list[IdeDrive | None] = []
        slots: dict[str, int] = {}
        on_cable: dict[str, IdeDrive] = {}
        for drive in self.drives:
            if drive.config.interface == "virtio":
                function = VirtioPci(VirtioBlk(self.pc.memory, drive.disk), _MASS_STORAGE)
                slots[drive.name] = self.pc.add_pci(drive.name, function)
            elif drive.config.interface == "ide":
                cable.append(on_cable.setdefault(drive.name, AtaDrive(drive.disk)))
            else:
                self._cds.append(AtapiDrive(drive.disk))
                media.append(on_cable.setdefault(drive.name, self._cds[-1]))
        if len(cable) + len(media) > IDE_DRIVES:
            raise EmulationError(f"{len(cable) + len(media)} drives of IDE, expected {IDE_DRIVES} at most")
        # CD-ROMs are on the second cable, where there is room.
        cable += [None] * (min(IDE_DRIVES // 2, IDE_DRIVES - len(media)) - len(cable)) if media else []
        cable += media
        self.pc.add_ide([*cable, *[None] * (IDE_DRIVES - len(cable))])
        order = []
        for drive in self.drives:
            if drive.name in slots:
                order.append(_VIRTIO_PATH.format(slots[drive.name]))
            else:
                order.append(_IDE_PATH.format(*divmod(cable.index(on_cable[drive.name]), 2)))
        self.pc.fw_cfg.add({"bootorder": "\n".join(order).encode() + b"\0", "etc/boot-fail-wait": _FOR_EVER})

    def _add_firmware(self) -> None:
        """Put Python behind the stubs of the built-in ROM."""
        order: list[int] = []
        disks: list[Disk] = []
        numbers = itertools.count(FIRST_CD)
        for drive in self.drives:
            if drive.config.interface == "cdrom":
                order.append(next(numbers))
            else:
                order.append(FIRST_DISK + len(disks))
                disks.append(drive.disk)
        self.pc.add_firmware(Firmware(self.pc, disks, self._cds, order))

    def start(self) -> None:
        """Bring the processor to where it begins."""
        random = Randomness(self.config.seed)
        if self._kernel is not None:
            self.pc.prepare()
            memory = self.pc.memory
            low = memory.ram[: memory.low]
            line, usable = self.config.append, memory.usable()
            seed = random.draw("Linux", _SEED_SIZE)
            slots = load(low, self._kernel, line, self._initrd, usable, TABLES_POINTER, seed)
        else:
            slots = self.pc.cpu.get_state()
        slots[state.RANDOM] = random.number("RDRAND")
        slots[state.CPUID_CHANGES : state.CPUID_CHANGES + 3] = self._cpuid_changes
        self.pc.cpu.set_state(slots)

    def reset(self) -> None:
        """Start again, as after the reset button."""
        executed = self.pc.cpu.executed
        for drive in self.drives:
            drive.disk.forget()
        self.pc.reset_devices()
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


def _firmware(name: str) -> bytes:
    """Return a ROM."""
    if name == _BUILTIN:
        return Rom().data
    if name == "seabios":
        found = _seabios()
        if found is None:
            raise EmulationError("firmware seabios: SeaBIOS is not installed (Debian's package seabios); try builtin")
        name = found
    data = _read(name, "firmware")
    if not data or len(data) > _MOST_ROM:
        raise EmulationError(f"{name}: {len(data)} bytes, expected a ROM of up to {_MOST_ROM >> 20} MiB")
    return bytes(-len(data) % _ROM_UNIT) + data


def _seabios() -> str | None:
    return next((path for path in _SEABIOS if os.path.exists(path)), None)


def _vga_bios(name: str) -> dict[str, bytes]:
    """Return the file by which SeaBIOS writes to a screen; it lies beside SeaBIOS, or where that is installed."""
    places = (os.path.dirname(name), *map(os.path.dirname, _SEABIOS))
    paths = (os.path.join(place, _VGA_BIOS) for place in places if place)
    found = next((path for path in paths if os.path.exists(path)), None)
    return {} if found is None else {f"vgaroms/{_VGA_BIOS}": _read(found, "firmware")}


def _kernel(config: MachineConfig) -> Kernel | None:
    """Return what is started without firmware, if anything is."""
    if config.kernel is None:
        return None
    return read_kernel(_read(config.kernel, "kernel"), config.kernel_decompress)


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
