"""Disks for programs that move sectors, in images of several kinds, and what is in them afterwards."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple

import blockkit
from tests.guests.drivers import DRIVERS
from tests.guests.exerciser import COUNT, LENGTH, SECTOR, Task, pattern
from tests.guests.stacks import Stack, all_stacks

if TYPE_CHECKING:
    from pathlib import Path

#: By name.
STACKS: Final = {stack.name: stack for stack in all_stacks() if stack.protocol == "file"}
VAST: Final = "vast"
#: Sectors of disks for addresses of 28 bits, of more than 32, and of more than 40; and what is done with them. No file
#: of the host is as long as the last one, but those of qcow2 can be.
_SMALL, _LARGE, _VAST = 1 << 27, 3 << 31, 3 << 39
_TASKS: Final = {
    _SMALL: Task(source=0x3456788, target=0x7ADCAFE),
    _LARGE: Task(source=0x123456788, target=0x10BADCAFE),
    _VAST: Task(source=0x123456789A8, target=0x10BADCAFEED),
}


class Case(NamedTuple):
    """A disk, and what is done with it.

    Attributes:
        drive: Its options, as a machine takes them.
        driver: Its format.
        sectors: How many it has.
        task: What is read and written.
        contents: What it has at first, in some places by number of their first sector; all else is zero.
        below: The file it is based on, if any.
    """

    drive: dict[str, str]
    driver: str
    sectors: int
    task: Task
    contents: dict[int, bytes]
    below: Path | None = None

    def check(self) -> None:
        """Look at the image: what was written is there, and nothing else has changed."""
        task, after = self.task, dict(self.contents)
        around = after[task.target - 1]
        after[task.target - 1] = around[:SECTOR] + pattern(task.seed) + around[SECTOR + LENGTH :]
        # Where sectors would be if upper bits of their numbers were lost or exchanged.
        for sector in (task.source, task.target):
            for bits in (16, 24, 28, 32, 40):
                if sector >> bits:
                    after[sector & (1 << bits) - 1] = bytes(LENGTH)
        with blockkit.open_image(self.drive["file"], format=self.driver) as node:
            for sector, data in after.items():
                assert node.read(sector * SECTOR, len(data)) == data, hex(sector)
        if self.below is not None:
            with self.below.open("rb") as file:
                for sector, data in self.contents.items():
                    file.seek(sector * SECTOR)
                    assert file.read(len(data)) == data


def make(directory: Path, name: str, kind: str, again: int = 1) -> Case:
    """Make the disk for a driver: there is a sector before and one behind what is moved.

    Args:
        directory: Where.
        name: The driver's name.
        kind: One of STACKS; or VAST, for drivers that can address it.
        again: See :class:`Task`.
    """
    interface, sectors = DRIVERS[name].interface, DRIVERS[name].most or (_VAST if kind == VAST else _LARGE)
    task = _TASKS[sectors]._replace(again=again)
    rng = random.Random(f"{name} {kind}")
    contents = {each - 1: rng.randbytes((COUNT + 2) * SECTOR) for each in (task.source, task.target)}
    disk, size = directory / "disk", sectors * SECTOR
    stack = Stack(VAST, "qcow2") if kind == VAST else STACKS[kind]
    driver = stack.format
    below = directory / "below" if stack.backed else None
    if below is not None:
        _write_raw(below, size, contents)
        blockkit.create_image(disk, driver, size, backing_file=str(below), backing_format="raw")
    elif driver == "raw":
        _write_raw(disk, size, contents)
    else:
        blockkit.create_image(disk, driver, size, options="cluster_size=2M" if kind == VAST else None)
        with blockkit.open_image(disk, format=driver, read_only=False) as node:
            for sector, data in contents.items():
                node.write(sector * SECTOR, data)
    drive = {"file": str(disk), "format": driver, "if": interface}
    return Case(drive, driver, sectors, task, contents, below)


def _write_raw(path: Path, size: int, contents: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for sector, data in contents.items():
            file.seek(sector * SECTOR)
            file.write(data)
