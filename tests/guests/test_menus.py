"""Boot loaders and firmware that are told what to do with keys, and show it on the screen."""

from __future__ import annotations

import re
import shutil
import struct
from typing import TYPE_CHECKING

import pytest

import blockkit
from tests.conftest import run_program
from tests.guests.debian import Debian, directory, firmware_file
from tests.guests.stacks import INTERFACES, Stack, all_stacks, parameter

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

_MODULES = "biosdisk part_msdos normal configfile memdisk tar linux16 echo".split()
_GRUB = """set timeout=-1
menuentry 'Nothing' { echo NOT THIS }
menuentry 'A test of memory' { linux16 /boot/grub/memtest.bin }
"""
_ISOLINUX = """prompt 0
timeout 0
ui menu.c32
menu title A CHOICE
label first
  menu label The first
  localboot -1
label memory
  menu label A test of memory
  linux memtest.bin
"""
_BOOT = ("-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")


def grub_disk(tmp_path: Path) -> Path:
    """Make a disk with GRUB, its menu, and memtest86+ in its own memory."""
    grub = directory() / "amd64/usr/lib/grub/i386-pc"
    (tmp_path / "grub.cfg").write_text(_GRUB)
    shutil.copy(Debian("amd64").root / "boot/memtest86+x64.bin", tmp_path / "memtest.bin")
    archive, core, disk = tmp_path / "memdisk.tar", tmp_path / "core", tmp_path / "made"
    run_program("tar", "-cf", archive, "-C", tmp_path, "--transform=s,^,boot/grub/,", "grub.cfg", "memtest.bin")
    prefix = "(memdisk)/boot/grub"
    run_program("grub-mkimage", "-O", "i386-pc", "-d", grub, "-o", core, "-m", archive, "-p", prefix, *_MODULES)
    sector = (grub / "boot.img").read_bytes()[:446].ljust(510, b"\0") + struct.pack("<H", 0xAA55)
    disk.write_bytes((sector + core.read_bytes()).ljust(4 << 20, b"\0"))
    return disk


def _pass_memtest(vm: blockkit.Machine) -> None:
    """See memtest86+ come to the tests that write patterns, in its first pass."""
    vm.expect(re.compile(r"Test #[4-9]"), screen=True)
    assert re.search(r"Pass: +0 +Errors: 0", vm.screen())


@pytest.mark.interop("grub-mkimage", "qemu-img")
@pytest.mark.parametrize("stack", [parameter(each) for each in all_stacks()])
@pytest.mark.parametrize("interface", INTERFACES)
def test_grub_has_a_menu_from_which_memtest_is_started(interface: str, stack: Stack, tmp_path: Path) -> None:
    with (
        stack.disk(grub_disk(tmp_path), tmp_path) as disk,
        blockkit.Machine(
            disks=[disk.drive(interface)],
            firmware=firmware_file("builtin" if interface == "ide" else "seabios"),
            accelerator="jit",
            vga="text",
            memory="8M",
        ) as vm,
    ):
        vm.expect("A test of memory", screen=True)
        vm.press("down", "ret")
        _pass_memtest(vm)


def _disc(tmp_path: Path) -> Path:
    """Make a CD-ROM with ISOLINUX, its menu, and memtest86+."""
    tree, loaders, iso = tmp_path / "tree", directory() / "amd64/usr/lib", tmp_path / "disc.iso"
    tree.mkdir()
    shutil.copy(loaders / "ISOLINUX/isolinux.bin", tree)
    for name in ("ldlinux", "menu", "libutil", "libcom32"):
        shutil.copy(loaders / f"syslinux/modules/bios/{name}.c32", tree)
    shutil.copy(Debian("amd64").root / "boot/memtest86+x64.bin", tree / "memtest.bin")
    (tree / "isolinux.cfg").write_text(_ISOLINUX)
    run_program("genisoimage", "-quiet", "-o", iso, *_BOOT, tree)
    return iso


@pytest.mark.interop("genisoimage")
@pytest.mark.parametrize("firmware", ["seabios", "builtin"])
def test_isolinux_has_a_menu_from_which_memtest_is_started(firmware: str, tmp_path: Path) -> None:
    with blockkit.Machine(
        cdrom=_disc(tmp_path), firmware=firmware_file(firmware), accelerator="jit", vga="text", memory="8M"
    ) as vm:
        vm.expect("A test of memory", screen=True)
        assert "A CHOICE" in vm.screen()
        vm.press("down", "ret")
        _pass_memtest(vm)


@pytest.mark.interop("qemu-img")
@pytest.mark.parametrize(
    ("firmware", "interface", "stack"),
    [
        parameter(stack, firmware, interface)
        for firmware, interface in (("builtin", "virtio"), ("seabios", "ide"))
        for stack in all_stacks()
    ]
    + [pytest.param(each, "cdrom", Stack("raw", "raw"), id=f"{each}-cdrom") for each in ("builtin", "seabios")],
)
def test_ipxe_has_a_prompt(firmware: str, interface: str, stack: Stack, tmp_path: Path) -> None:
    """Debian's disc has a boot sector too, so that ISOLINUX is started from disks as it is from CD-ROMs."""
    iso = directory() / "amd64/usr/lib/ipxe/ipxe.iso"
    with (
        stack.disk(iso, tmp_path) as disk,
        blockkit.Machine(
            disks=[disk.drive(interface)],
            firmware=firmware_file(firmware),
            accelerator="jit",
            vga="text",
            memory="64M",
            timeout=200,
        ) as vm,
    ):
        vm.expect("Ctrl-B", screen=True)
        vm.press("ctrl-b")
        vm.expect("iPXE>", screen=True)
        vm.type_text("echo It is $((6))\n")
        vm.type_text("show version\n")
        vm.expect("version:string = 1.", screen=True)
