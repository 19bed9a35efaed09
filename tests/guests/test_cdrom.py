"""ISOLINUX, started by firmware from a CD-ROM, starts Linux, which reads the CD-ROM by its own driver."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.conftest import run_program
from tests.guests.debian import Debian, directory, firmware_file, initrd

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

_CONFIG = """serial 0 115200
default linux
label linux
  kernel vmlinuz
  append initrd=initrd console=ttyS0 quiet panic=-1
"""
_SCRIPT = """
for try in $(seq 50); do [ -b /dev/sr0 ] && break; sleep 0.1; done
mount -t iso9660 -o ro /dev/sr0 /mnt
echo SUM $(md5sum </mnt/data)
umount /mnt
eject /dev/sr0 2>/dev/null
"""


@pytest.mark.interop("genisoimage")
@pytest.mark.parametrize("firmware", ["seabios", "builtin"])
def test_isolinux_starts_linux_from_a_cdrom(firmware: str, tmp_path: Path) -> None:
    data = random.Random(5).randbytes(3_000_001)
    tree, loaders = tmp_path / "tree", directory() / "amd64/usr/lib"
    tree.mkdir()
    (tree / "isolinux.bin").write_bytes((loaders / "ISOLINUX/isolinux.bin").read_bytes())
    (tree / "ldlinux.c32").write_bytes((loaders / "syslinux/modules/bios/ldlinux.c32").read_bytes())
    (tree / "isolinux.cfg").write_text(_CONFIG)
    (tree / "vmlinuz").write_bytes(Debian("amd64").kernel().read_bytes())
    (tree / "initrd").write_bytes(initrd("amd64", ("cdrom",), _SCRIPT))
    (tree / "data").write_bytes(data)
    iso = tmp_path / "disc.iso"
    boot = ("-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")
    run_program("genisoimage", "-quiet", "-o", iso, *boot, tree)
    with blockkit.Machine(
        cdrom=str(iso),
        firmware=firmware_file(firmware),
        accelerator="jit",
        reboot=False,
    ) as vm:
        vm.expect("ISOLINUX 6")
        vm.expect(f"SUM {hashlib.md5(data).hexdigest()}")
        assert vm.wait() is Outcome.POWER_OFF
