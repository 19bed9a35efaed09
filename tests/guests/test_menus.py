"""Boot loaders and firmware that are told what to do with keys, and show it on the screen."""

from __future__ import annotations

import re
import shutil
import struct
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.conftest import run_program
from tests.guests.debian import Debian, directory, firmware_file
from tests.guests.stacks import Stack

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

_MODULES = "biosdisk part_msdos normal configfile halt test echo keystatus".split()
_GRUB = """set timeout=-1
menuentry 'the first' { echo NOT THIS }
menuentry 'the second' { echo CHOSEN; halt }
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


@pytest.mark.interop("grub-mkimage")
@pytest.mark.parametrize("firmware", ["seabios", "builtin"])
@pytest.mark.parametrize("interface", ["virtio", "ide"])
def test_grub_has_a_menu(interface: str, firmware: str, tmp_path: Path) -> None:
    grub = directory() / "amd64/usr/lib/grub/i386-pc"
    config, archive, core, disk = (tmp_path / name for name in ("grub.cfg", "memory.tar", "core", "disk"))
    config.write_text(_GRUB)
    run_program("tar", "-cf", archive, "-C", tmp_path, "--transform=s,^,boot/grub/,", "grub.cfg")
    modules = [*_MODULES, "memdisk", "tar"]
    prefix = "(memdisk)/boot/grub"
    run_program("grub-mkimage", "-O", "i386-pc", "-d", grub, "-o", core, "-m", archive, "-p", prefix, *modules)
    sector = (grub / "boot.img").read_bytes()[:446].ljust(510, b"\0") + struct.pack("<H", 0xAA55)
    disk.write_bytes((sector + core.read_bytes()).ljust(4 << 20, b"\0"))
    with blockkit.Machine(
        [{"file": str(disk), "format": "raw", "if": interface}],
        firmware=firmware_file(firmware),
        accelerator="jit",
        vga="text",
    ) as vm:
        vm.expect("the second", screen=True)
        vm.press("down", "ret")
        vm.expect("CHOSEN", screen=True)
        # Without APM, GRUB cannot do more than stand still.
        if firmware == "seabios":
            assert vm.wait() is Outcome.POWER_OFF


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
        # Its first pass has come to the tests that write patterns.
        vm.expect(re.compile(r"Test #[4-9]"), screen=True)
        assert re.search(r"Pass: +0 +Errors: 0", vm.screen())


@pytest.mark.parametrize(
    ("firmware", "interface", "kind"),
    [("builtin", "cdrom", "raw"), ("seabios", "ide", "qcow2"), ("builtin", "virtio", "backed")],
)
def test_ipxe_has_a_prompt(firmware: str, interface: str, kind: str, tmp_path: Path) -> None:
    """Debian's disc has a boot sector too, so that ISOLINUX is started from disks as it is from CD-ROMs."""
    iso = directory() / "amd64/usr/lib/ipxe/ipxe.iso"
    stack = Stack(kind, "raw" if kind == "raw" else "qcow2", backed=kind == "backed")
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
