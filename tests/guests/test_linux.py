"""Linux partitions a disk, makes a file system, writes and reads; what it leaves is whole, on the host as in the guest.

Each kernel with each kind of controller, from every stack of :mod:`tests.guests.stacks`; that of 32 bits, which takes
longer, from one of them unless ``--long`` is given.
"""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.conftest import find_program, run_program
from tests.guests.debian import Debian, initrd
from tests.guests.stacks import INTERFACES, Stack, all_stacks, parameter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.guests.stacks import StackedDisk

pytestmark = pytest.mark.guest

SIZE = 64 << 20
#: The first sector of the partition that the script below makes of an empty disk.
PARTITION = 2048
#: What the guest writes again and again, and how often.
LINE, LINES = b"0123456789abcde\n", 200_000
_SCRIPT = f"""
for try in $(seq 50); do
  for disk in /dev/vda /dev/sda; do [ -b $disk ] && break 2; done
  sleep 0.1
done
echo FOUND $disk
printf 'n\\np\\n@NUMBER\\n@FIRST\\n\\nw\\n' | fdisk -u $disk >/dev/null 2>&1
/sbin/mke2fs -F -q -t ext4 -O ^metadata_csum ${{disk}}@NUMBER && echo MADE
mount -t ext4 ${{disk}}@NUMBER /mnt
yes {LINE.decode().strip()} | head -n {LINES} >/mnt/lines
head -c 1000 /mnt/lines >/mnt/few
rm /mnt/few
sync
umount /mnt
echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 -o ro ${{disk}}@NUMBER /mnt
echo SUM $(md5sum </mnt/lines)
umount /mnt
"""


def script(number: int, first: int) -> str:
    """Return what the guest does: all that is free from a sector on becomes a partition, which it uses."""
    return _SCRIPT.replace("@NUMBER", str(number)).replace("@FIRST", str(first))


def make_contents(path: Path) -> Path:
    """Make what is on the disk at first: noise, some of which the guest uses."""
    with open(path, "wb") as file:
        file.truncate(SIZE)
        file.seek(SIZE // 2)
        file.write(random.Random(path.name).randbytes(1 << 20))
    return path


def check_inside(vm: blockkit.Machine, interface: str) -> None:
    """See that the guest does all that, durably, and powers off."""
    found = vm.expect(re.compile(r"FOUND /dev/\w\w\w"))
    assert found[0].endswith("vda" if interface == "virtio" else "sda")
    vm.expect("MADE")
    vm.expect(f"SUM {hashlib.md5(LINE * LINES).hexdigest()}")
    assert vm.wait() is Outcome.POWER_OFF
    flushes = [request for request in vm.requests if request.operation == "flush"]
    assert flushes
    assert all(request.succeeded for request in flushes)


def check_outside(disk: StackedDisk, directory: Path, first: int = PARTITION) -> None:
    """See on the host that the file system from a sector on is whole and holds what the guest wrote."""
    disk.check()
    partition = directory / "partition"
    with open(disk.contents(directory), "rb") as whole, open(partition, "wb") as part:
        whole.seek(first * 512)
        part.write(whole.read())
    run_program("e2fsck", "-f", "-n", partition)
    program = find_program("debugfs")
    assert program
    done = subprocess.run([program, "-R", "cat /lines", partition], capture_output=True, check=True)
    assert done.stdout == LINE * LINES


def cases() -> Iterator[Any]:
    for architecture in ("amd64", "i386"):
        for stack in all_stacks():
            is_long = architecture == "i386" and stack.name != "qcow2"
            yield parameter(stack, architecture, marks=(pytest.mark.long,) if is_long else ())


@pytest.mark.interop("qemu-img", "e2fsck", "debugfs")
@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize(("architecture", "stack"), [*cases()])
def test_it_uses_its_disk(architecture: str, interface: str, stack: Stack, tmp_path: Path) -> None:
    ram_disk = tmp_path / "initrd"
    ram_disk.write_bytes(initrd(architecture, (interface,), script(1, PARTITION), file_system=True))
    with stack.disk(make_contents(tmp_path / "noise"), tmp_path) as disk:
        with blockkit.Machine(
            disks=[disk.drive(interface)],
            kernel=Debian(architecture).kernel(),
            initrd=ram_disk,
            append="console=ttyS0 panic=-1",
            accelerator="jit",
            reboot=False,
        ) as vm:
            check_inside(vm, interface)
        check_outside(disk, tmp_path)
