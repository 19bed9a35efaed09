"""IDE disks here and in QEMU do the same when they are given the same commands, as far as the standard fixes it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.guests import qemu
from tests.guests.registers import (
    DIAGNOSTIC,
    IDENTIFY,
    NATIVE_MAX,
    NATIVE_MAX_48,
    POWER_MODE,
    READS_28,
    READS_48,
    SMART,
    WRITES_28,
    WRITES_48,
    Command,
    Line,
    read,
    rom,
    some,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop(qemu.PROGRAM)

#: Two cylinders of what both take for a disk's geometry.
HEADS, PER_TRACK = 16, 63
SECTORS = 2 * HEADS * PER_TRACK
#: All of the status but DSC, which has no meaning any more.
_STATUS = 0xA9
_ERROR = 1


def fixed(command: Command, line: Line) -> list[Any]:
    """Return what a line has that the standard fixes for a command."""
    status = line.status & _STATUS
    if status & _ERROR:
        # Which error it is, is told with more or less detail; and blocks in front of it may or may not be transferred.
        return [status]
    found: list[Any] = [status, line.blocks]
    if command.code in (*READS_28, *READS_48):
        found.append(line.sum)
    elif command.code in (*WRITES_28, *WRITES_48, IDENTIFY, SMART):
        pass
    elif command.code == DIAGNOSTIC:
        found.append(line.registers[:5])
    elif command.code in (NATIVE_MAX, NATIVE_MAX_48):
        found.append(line.registers[2:6])
    elif command.code == POWER_MODE:
        found.append(line.registers[1])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_disk_takes_commands_as_qemus_does(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    commands = some(rng, 800, SECTORS, HEADS, PER_TRACK)
    path, contents = tmp_path / "rom", rng.randbytes(SECTORS * 512)
    path.write_bytes(rom(commands))
    drives = [{"file": str(tmp_path / who), "format": "raw", "if": "ide"} for who in ("here", "there")]
    for drive in drives:
        with open(drive["file"], "wb") as file:
            file.write(contents)
    with blockkit.Machine(
        drives[:1], firmware=str(path), memory="16M", accelerator="jit", timeout=100, reboot=False
    ) as vm:
        assert vm.wait() is Outcome.EXIT
        ours = read(vm.serial_text)
    theirs = read(qemu.run(path, drives[1]).said)
    assert len(ours) == len(theirs) == len(commands)
    for number, (command, here, there) in enumerate(zip(commands, ours, theirs, strict=True)):
        assert fixed(command, here) == fixed(command, there), (number, command, here, there)
    assert {line.status & _STATUS for line in ours} == {0, _ERROR}
    after = [(tmp_path / who).read_bytes() for who in ("here", "there")]
    assert after[0] == after[1] != contents
