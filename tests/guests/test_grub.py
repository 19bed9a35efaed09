"""GRUB, started by firmware from a partitioned disk, finds Linux in an ext4 file system and starts it."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.conftest import find_program, run_program
from tests.guests.debian import Debian, directory, firmware_file, initrd
from tests.guests.stacks import Stack, all_stacks, parameter

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

_FIRST, _SECTORS = 2048, 120 << 11
_MODULES = "biosdisk part_msdos ext2 normal configfile linux serial terminal echo".split()
_EARLY = """serial --unit=0 --speed=115200
terminal_output serial
set root=(hd0,msdos1)
configfile /boot/grub.cfg
"""
_CONFIG = """echo GRUB-MENU
linux /boot/vmlinuz console=ttyS0 quiet panic=-1
initrd /boot/initrd
boot
"""
_SCRIPT = "sleep 1; for d in /dev/vda /dev/sda; do [ -b $d ] && echo FOUND $d; done"


def make_disk(path: Path, interface: str) -> None:
    """Make a raw disk: a boot sector, GRUB behind it, and a partition with an ext4 file system."""
    grub = directory() / "amd64/usr/lib/grub/i386-pc"
    tree = path.parent / "tree/boot"
    tree.mkdir(parents=True)
    (tree / "vmlinuz").write_bytes(Debian("amd64").kernel().read_bytes())
    (tree / "initrd").write_bytes(initrd("amd64", (interface,), _SCRIPT))
    (tree / "grub.cfg").write_text(_CONFIG)
    early, core, partition = path.parent / "early.cfg", path.parent / "core.img", path.parent / "partition"
    early.write_text(_EARLY)
    run_program("grub-mkimage", "-O", "i386-pc", "-d", grub, "-o", core, "-c", early, "-p", "/boot", *_MODULES)
    subprocess.run(
        [find_program("mke2fs"), "-q", "-t", "ext4", "-d", tree.parent, partition, f"{_SECTORS // 2}k"],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", _FIRST, _SECTORS)
    sector = (grub / "boot.img").read_bytes()[:440].ljust(446, b"\0") + entry.ljust(64, b"\0") + b"\x55\xaa"
    with open(path, "wb") as disk:
        disk.write(sector + core.read_bytes())
        disk.seek(_FIRST * 512)
        disk.write(partition.read_bytes())


@pytest.mark.interop("grub-mkimage", "mke2fs", "qemu-img")
@pytest.mark.parametrize("stack", [parameter(each) for each in all_stacks()])
@pytest.mark.parametrize(("firmware", "interface"), [("seabios", "virtio"), ("builtin", "ide")])
def test_grub_starts_linux(firmware: str, interface: str, stack: Stack, tmp_path: Path) -> None:
    start_linux(firmware, interface, stack, tmp_path)


@pytest.mark.long
@pytest.mark.interop("grub-mkimage", "mke2fs", "qemu-img")
@pytest.mark.parametrize("stack", [parameter(each) for each in all_stacks()])
@pytest.mark.parametrize(("firmware", "interface"), [("seabios", "ide"), ("builtin", "virtio")])
def test_grub_starts_linux_in_other_ways(firmware: str, interface: str, stack: Stack, tmp_path: Path) -> None:
    start_linux(firmware, interface, stack, tmp_path)


def start_linux(firmware: str, interface: str, stack: Stack, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    make_disk(raw, interface)
    with (
        stack.disk(raw, tmp_path) as disk,
        blockkit.Machine(
            disks=[disk.drive(interface)], firmware=firmware_file(firmware), accelerator="jit", reboot=False
        ) as vm,
    ):
        vm.expect("GRUB-MENU")
        vm.expect(f"FOUND /dev/{'vda' if interface == 'virtio' else 'sda'}")
        assert vm.wait() is Outcome.POWER_OFF
