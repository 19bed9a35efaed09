"""Real code is the same on the portable processor and on the native one: processor, devices and all of memory, again
and again on the way.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from tests.guests.debian import Debian, firmware_file
from tests.guests.test_firmware import boot_disk
from tests.guests.test_menus import grub_disk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.guest, pytest.mark.slow]


def step_together(step: int, steps: int, **machine: Any) -> list[str]:
    """Run both for so many instructions so many times; return what came out of their serial ports."""
    with ExitStack() as stack:
        both = []
        for accelerator in ("python", "jit"):
            disks = [dict(each, snapshot=True) for each in machine.get("disks", ())]
            made = blockkit.Machine(**{**machine, "disks": disks}, accelerator=accelerator, reboot=False)
            both.append(stack.enter_context(made))
        for number in range(1, steps + 1):
            for vm in both:
                vm.run_until(number * step / 1e9, timeout=240)
            hashes = {vm.state_hash() for vm in both}
            assert len(hashes) == 1, f"they differ after {number * step} instructions, and did not {step} before"
        return [vm.serial_text for vm in both]


def test_firmware_and_a_boot_sector(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(boot_disk().ljust(1 << 20, b"\0"))
    disks = [{"file": str(disk), "format": "raw", "if": "ide"}]
    told = step_together(500_000, 14, disks=disks, firmware=firmware_file("seabios"), memory="32M")
    assert told[0] == told[1]


def test_linux_for_fifty_million_instructions() -> None:
    kernel = Debian("amd64").kernel()
    told = step_together(2_500_000, 20, kernel=kernel, append="console=ttyS0", memory="96M")
    assert told[0] == told[1]


def test_memtest_for_twenty_million_instructions() -> None:
    kernel = Debian("amd64").root / "boot/memtest86+x64.bin"
    step_together(2_000_000, 10, kernel=kernel, memory="6M", vga="text")


@pytest.mark.interop("grub-mkimage")
@pytest.mark.parametrize("firmware", ["seabios", "builtin"])
def test_grub_for_twenty_million_instructions(firmware: str, tmp_path: Path) -> None:
    disks = [{"file": str(grub_disk(tmp_path)), "format": "raw", "if": "ide"}]
    step_together(2_000_000, 10, disks=disks, firmware=firmware_file(firmware), memory="32M", vga="text")
