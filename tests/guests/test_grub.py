"""GRUB, started by firmware from a partitioned disk, finds Linux in an ext4 file system and starts it."""

from __future__ import annotations

import itertools
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from tests.conftest import find_program, run_program
from tests.guests.debian import Debian, directory, firmware_file, initrd
from tests.guests.stacks import INTERFACES, Stack, all_stacks, parameter
from tests.guests.test_linux import check_inside, check_outside, script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.guest

#: The partition with the kernel, in sectors; and how many are free behind it, for another one.
_FIRST, _SECTORS, _FREE = 2048, 120 << 11, 64 << 11
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


def make_disk(path: Path, interface: str, architecture: str) -> None:
    """Make a raw disk: a boot sector, GRUB behind it, a partition with an ext4 file system, and room for another."""
    grub = directory() / "amd64/usr/lib/grub/i386-pc"
    tree = path.parent / "tree/boot"
    tree.mkdir(parents=True)
    (tree / "vmlinuz").write_bytes(Debian(architecture).kernel().read_bytes())
    (tree / "initrd").write_bytes(initrd(architecture, (interface,), script(2, _FIRST + _SECTORS), file_system=True))
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
        disk.truncate((_FIRST + _SECTORS + _FREE) * 512)


def cases() -> Iterator[Any]:
    """Yield what starts which kernel from what; what takes longer, or is done in other ways too, if it is asked for."""
    for architecture, firmware, interface in itertools.product(("amd64", "i386"), ("seabios", "builtin"), INTERFACES):
        is_long = architecture == "i386" or (firmware == "seabios") != (interface == "virtio")
        for stack in all_stacks():
            marks = (pytest.mark.long,) if is_long else ()
            yield parameter(stack, architecture, firmware, interface, marks=marks)


@pytest.mark.interop("grub-mkimage", "mke2fs", "qemu-img", "e2fsck", "debugfs")
@pytest.mark.parametrize(("architecture", "firmware", "interface", "stack"), [*cases()])
def test_grub_starts_linux_which_uses_its_disk(
    architecture: str, firmware: str, interface: str, stack: Stack, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    make_disk(raw, interface, architecture)
    with stack.disk(raw, tmp_path) as disk:
        with blockkit.Machine(
            disks=[disk.drive(interface)], firmware=firmware_file(firmware), accelerator="jit", reboot=False
        ) as vm:
            vm.expect("GRUB-MENU")
            check_inside(vm, interface)
        check_outside(disk, tmp_path, _FIRST + _SECTORS)
