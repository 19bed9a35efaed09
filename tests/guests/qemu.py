"""QEMU's PC, with the same devices in the same places, to compare with."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
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
