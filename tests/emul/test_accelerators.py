"""The whole PC with each accelerator: the host's processor, too, starts ROMs and firmware in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

import blockkit
from blockkit.emul.guest import Machine
from blockkit.emul.session import Outcome
from tests.cpu.kernel import needs_kvm
from tests.emul.rom import Rom, echo, sleeper
from tests.guests.debian import directory
from tests.guests.test_firmware import MESSAGE, boot_disk

if TYPE_CHECKING:
    from pathlib import Path

ACCELERATORS: Final = ["python", "jit", pytest.param("kvm", marks=needs_kvm)]


def start(accelerator: str, **options: Any) -> Machine:
    return Machine(accelerator=accelerator, memory="4M", timeout=60, **options)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_interrupts_wake_it(accelerator: str, tmp_path: Path) -> None:
    with start(accelerator, firmware=sleeper().write(tmp_path / "rom")) as vm:
        vm.expect("ready\n")
        vm.send("abc")
        vm.expect("abc")
        vm.send("q")
        assert vm.wait() is Outcome.EXIT
        assert vm.exit_code == 3


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_it_is_reset_by_itself_and_from_outside(accelerator: str, tmp_path: Path) -> None:
    # The second time, what was written to RAM is still there.
    rom = Rom().raw("31c08ed8 a00006 fe060006 84c0").jump("75", "again").say("one").out(0xCF9, 6).raw("f4")
    rom.label("again").say("two").label("wait").jump("eb", "wait")
    with start(accelerator, firmware=rom.write(tmp_path / "rom")) as vm:
        vm.expect("onetwo")
        began = vm.now
        vm.session.reset()
        vm.expect("two")
        assert vm.now >= began


@pytest.mark.parametrize("before", ACCELERATORS)
@pytest.mark.parametrize("after", ACCELERATORS)
def test_it_goes_on_with_another_one(before: str, after: str, tmp_path: Path) -> None:
    rom = echo().write(tmp_path / "rom")
    with start(before, firmware=rom) as vm:
        vm.expect("hello")
        vm.save(tmp_path / "saved")
        began = vm.now
    options = {"firmware": rom, "memory": "4M", "timeout": 60, "accelerator": after}
    with Machine.load(tmp_path / "saved", **options) as vm:
        assert vm.now >= began
        vm.send("on")
        vm.expect("on")
        vm.send("q")
        assert vm.wait() is Outcome.EXIT
        assert vm.exit_code == 11


@needs_kvm
@pytest.mark.parametrize("interface", ["ide", "virtio"])
def test_firmware_starts_a_disk_on_the_hosts_processor(interface: str, tmp_path: Path) -> None:
    firmware = str(directory() / "amd64/usr/share/seabios/bios-256k.bin")
    (tmp_path / "disk").write_bytes(boot_disk() + bytes(1 << 20))
    drive = {"file": str(tmp_path / "disk"), "format": "raw", "if": interface}
    with blockkit.Machine([drive], firmware=firmware, memory="64M", accelerator="kvm", timeout=100) as vm:
        assert vm.wait() is Outcome.EXIT
        assert vm.exit_code == 0x21 << 1 | 1
        assert vm.serial_text.encode() == MESSAGE
