"""A ROM on our PC, and on QEMU's with the same devices in the same places, to compare them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

import blockkit
from blockkit.emul.session import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM: Final = "qemu-system-x86_64"
_DEVICES: Final = {"ide": "ide-hd,bus=ide.0,unit=0", "virtio": "virtio-blk-pci,addr=3"}


class Ended(NamedTuple):
    """How a guest ended.

    Attributes:
        exit_code: What it asked for.
        said: What it sent to the serial port.
    """

    exit_code: int
    said: str


def run_here(rom: Path, drive: dict[str, str], timeout: float = 100) -> Ended:
    """Run it here, as :func:`run` does there."""
    with blockkit.Machine(
        [drive], firmware=str(rom), memory="16M", accelerator="jit", timeout=timeout, reboot=False
    ) as vm:
        assert vm.wait() is Outcome.EXIT
        return Ended(vm.exit_code, vm.serial_text)


def run(rom: Path, drive: dict[str, str] | None = None, timeout: float = 60) -> Ended:
    """Run a ROM with a disk, whose options are a machine's."""
    disk = []
    if drive is not None:
        disk = ["-drive", f"if=none,id=disk,file={drive['file']},format={drive['format']}"]
        disk += ["-device", f"{_DEVICES[drive['if']]},drive=disk,serial={drive.get('serial', '')}"]
    found = subprocess.run(
        [
            *(PROGRAM, "-accel", "tcg", "-machine", "pc", "-m", "16", "-nodefaults", "-no-reboot", "-display", "none"),
            *("-vga", "none", "-bios", str(rom), "-device", "isa-debug-exit,iobase=0x501,iosize=1"),
            *("-serial", "stdio", *disk),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert found.stderr == "", found.stderr
    return Ended(found.returncode, found.stdout)


def both(
    rom: Path, drive: dict[str, str], contents: bytes, read: Callable[[str], object]
) -> list[tuple[object, bytes]]:
    """Run a ROM here and there, each with a raw disk of its own beside it.

    Args:
        rom: It.
        drive: Options of the disk, but for what it is.
        contents: Of the disk.
        read: Reads what the program said.

    Returns:
        For each: what was read, and what the disk has afterwards.
    """
    found = []
    for who, runs in (("here", run_here), ("there", run)):
        disk = rom.parent / who
        disk.write_bytes(contents)
        said = runs(rom, {"file": str(disk), "format": "raw", **drive}).said
        found.append((read(said), disk.read_bytes()))
    return found
