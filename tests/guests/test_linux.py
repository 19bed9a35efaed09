"""Linux partitions a disk, makes a file system, writes and reads; what it leaves is whole, on the host as in the guest.

Each kernel with each kind of controller, from raw, from qcow2, and from qcow2 over a backing file.
"""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.conftest import find_program, run_program
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

SIZE = 64 << 20
#: Where fdisk begins the first partition, in the script below.
PARTITION = 2048 * 512
#: What the guest writes again and again, and how often.
LINE, LINES = b"0123456789abcde\n", 200_000
SCRIPT = f"""
for try in $(seq 50); do
  for disk in /dev/vda /dev/sda; do [ -b $disk ] && break 2; done
  sleep 0.1
done
echo FOUND $disk
printf 'n\\np\\n1\\n2048\\n\\nw\\n' | fdisk -u $disk >/dev/null 2>&1
/sbin/mke2fs -F -q -t ext4 -O ^metadata_csum ${{disk}}1 && echo MADE
mount -t ext4 ${{disk}}1 /mnt
yes {LINE.decode().strip()} | head -n {LINES} >/mnt/lines
head -c 1000 /mnt/lines >/mnt/few
rm /mnt/few
sync
umount /mnt
echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 -o ro ${{disk}}1 /mnt
echo SUM $(md5sum </mnt/lines)
umount /mnt
"""


def make_image(directory: Path, kind: str) -> Path:
    """Make a disk: the guest finds noise on it, of which it uses some."""
    noise = random.Random(kind).randbytes(1 << 20)
    path = directory / f"disk.{kind}"
    if kind == "backed":
        below = directory / "below.raw"
        blockkit.create_image(below, "raw", SIZE)
        with blockkit.open_image(below, format="raw", read_only=False) as node:
            node.write(SIZE // 2, noise)
        blockkit.create_image(path, "qcow2", SIZE, backing_file=str(below), backing_format="raw")
    else:
        blockkit.create_image(path, kind, SIZE)
        with blockkit.open_image(path, format=kind, read_only=False) as node:
            node.write(SIZE // 2, noise)
    return path


def check_outside(path: Path, driver: str, directory: Path) -> None:
    """See on the host that the file system is whole and holds what the guest wrote."""
    if driver == "qcow2":
        run_program("qemu-img", "check", path)
        run_program("qemu-img", "convert", "-O", "raw", path, directory / "flat.raw")
        path = directory / "flat.raw"
    partition = directory / "partition"
    with open(path, "rb") as whole, open(partition, "wb") as part:
        whole.seek(PARTITION)
        part.write(whole.read())
    run_program("e2fsck", "-f", "-n", partition)
    program = find_program("debugfs")
    assert program
    done = subprocess.run([program, "-R", "cat /lines", partition], capture_output=True, check=True)
    assert done.stdout == LINE * LINES


@pytest.mark.interop("qemu-img", "e2fsck", "debugfs")
@pytest.mark.parametrize("interface", ["virtio", "ide"])
@pytest.mark.parametrize(
    ("architecture", "kind"), [("amd64", "raw"), ("amd64", "qcow2"), ("amd64", "backed"), ("i386", "qcow2")]
)
def test_it_uses_its_disk(architecture: str, interface: str, kind: str, tmp_path: Path) -> None:
    disk = make_image(tmp_path, kind)
    ram_disk = tmp_path / "initrd"
    ram_disk.write_bytes(initrd(architecture, (interface,), SCRIPT, file_system=True))
    driver = "raw" if kind == "raw" else "qcow2"
    with blockkit.Machine(
        disks=[{"file": str(disk), "format": driver, "if": interface}],
        kernel=Debian(architecture).kernel(),
        initrd=ram_disk,
        append="console=ttyS0 panic=-1",
        accelerator="jit",
        reboot=False,
    ) as vm:
        found = vm.expect(re.compile(r"FOUND /dev/\w\w\w"))
        assert found[0].endswith("vda" if interface == "virtio" else "sda")
        vm.expect("MADE")
        vm.expect(f"SUM {hashlib.md5(LINE * LINES).hexdigest()}")
        assert vm.wait() is Outcome.POWER_OFF
        flushes = [request for request in vm.requests if request.operation == "flush"]
        assert flushes
        assert all(request.succeeded for request in flushes)
    check_outside(disk, driver, tmp_path)
