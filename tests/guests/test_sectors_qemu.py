"""The programs that move sectors do on QEMU what they do here: so they, too, are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.guests import modes, qemu
from tests.guests.disks import STACKS, make
from tests.guests.drivers import DRIVERS
from tests.guests.exerciser import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.interop(qemu.PROGRAM, "qemu-img")


@pytest.mark.parametrize(
    ("name", "bits", "kind"),
    [
        *((name, driver.modes[0], kind) for name, driver in DRIVERS.items() for kind in STACKS),
        *((name, bits, "raw") for name, driver in DRIVERS.items() for bits in driver.modes[1:]),
    ],
)
def test_a_program_does_the_same_on_qemu(
    name: str, bits: int, kind: str, tmp_path: Path, qemu_img: Callable[..., str]
) -> None:
    rom = tmp_path / "rom"
    found = []
    disks = []
    for where in ("here", "there"):
        (tmp_path / where).mkdir()
        case = make(tmp_path / where, name, kind, again=20)
        rom.write_bytes(modes.build(program(DRIVERS[name], case.task), bits))
        found.append(qemu.run_here(rom, case.drive) if where == "here" else qemu.run(rom, case.drive))
        assert found[-1] == found[0]
        case.check()
        disks.append(case.drive["file"])
    formats = ("-f", case.driver, "-F", case.driver)
    assert "Images are identical" in qemu_img("compare", *formats, *disks)
