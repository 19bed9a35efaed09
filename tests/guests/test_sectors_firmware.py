"""The programs that move sectors, started by firmware from the disk they work on, which it has used before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.guests.debian import firmware_file
from tests.guests.disks import make
from tests.guests.drivers import DRIVERS
from tests.guests.exerciser import SECTOR, WELL, program, says
from tests.guests.modes import boot_disk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest


@pytest.mark.parametrize("firmware", ["seabios", "builtin"])
@pytest.mark.parametrize("kind", ["raw", "qcow2-over-raw"])
@pytest.mark.parametrize("name", [name for name, driver in DRIVERS.items() if 16 in driver.modes])
def test_firmware_starts_a_program_that_moves_sectors(name: str, kind: str, firmware: str, tmp_path: Path) -> None:
    case = make(tmp_path, name, kind)
    boot = boot_disk(program(DRIVERS[name], case.task))
    with blockkit.open_image(case.drive["file"], format=case.driver, read_only=False) as node:
        node.write(0, boot)
    with blockkit.Machine(
        [case.drive],
        firmware=firmware_file(firmware),
        memory="64M",
        accelerator="jit",
        reboot=False,
        timeout=60,
    ) as vm:
        assert vm.wait() is Outcome.EXIT
        assert vm.serial_text == says(case.sectors, case.contents[case.task.source - 1][SECTOR:-SECTOR])
        assert vm.exit_code == WELL << 1 | 1
    case.check()
    with blockkit.open_image(case.drive["file"], format=case.driver) as node:
        assert node.read(0, len(boot)) == boot
