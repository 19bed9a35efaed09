"""A whole Debian 12 with systemd: it starts, root logs in and writes, it powers off, and its disk is whole.

``tools/make-debian-guest`` makes it.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.conftest import find_program, run_program
from tests.guests.debian import Debian, initrd, root_file_system
from tests.guests.stacks import INTERFACES, Stack, all_stacks, parameter

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(1800)]

PASSWORD = "blockkit"
#: Seconds that one step of it may take on a busy host; starting took 15 on an idle one.
PATIENCE = 600
#: Virtual seconds of the same. A guest that waits for ever lets them pass in no time.
TIME = 300
#: What the initial RAM disk does: as Debian's own, but for the disk being given.
SCRIPT = """
for try in $(seq 50); do
  for disk in /dev/vda /dev/sda; do [ -b $disk ] && break 2; done
  sleep 0.1
done
mount -t ext4 $disk /mnt
for each in dev proc sys; do mount --move /$each /mnt/$each; done
exec switch_root /mnt /sbin/init
"""
NUMBERS = 100_000


class Shell:
    """A shell of a guest at its serial port."""

    def __init__(self, vm: blockkit.Machine) -> None:
        self.vm = vm

    def log_in(self) -> None:
        self.expect("debian login: ")
        self.vm.send("root\n")
        self.expect("Password: ")
        self.vm.send(f"{PASSWORD}\n")
        self.expect("root@debian:~# ")
        # The editor of bash would write more than what is typed.
        self.vm.send("exec sh\n")
        self.expect(r"[\r\n]# ")

    def run(self, command: str) -> str:
        """Run a command to its end, which must be good, and return what it printed."""
        self.vm.send(f"{command}; echo ENDED $?\n")
        told = self.expect(r"\n((?:.*\n)*)ENDED (\d+)\r\n# ")
        assert told[2] == "0", f"{command}: exit {told[2]}\n{told[1]}"
        return told[1].replace("\r", "").strip()

    def expect(self, pattern: str) -> re.Match[str]:
        return self.vm.expect(re.compile(pattern), timeout=PATIENCE, within=TIME)


@pytest.mark.interop("qemu-img", "e2fsck", "debugfs")
@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("stack", [parameter(each) for each in all_stacks()])
def test_root_logs_in_and_writes(interface: str, stack: Stack, tmp_path: Path) -> None:
    source, name = root_file_system(), "vda" if interface == "virtio" else "sda"
    ram_disk = tmp_path / "initrd"
    ram_disk.write_bytes(initrd("amd64", (interface,), SCRIPT, file_system=True))
    lines = "".join(f"{number}\n" for number in range(1, NUMBERS + 1)).encode()
    with stack.disk(source, tmp_path) as disk:
        with blockkit.Machine(
            disks=[disk.drive(interface)],
            kernel=Debian("amd64").kernel(),
            initrd=ram_disk,
            append="console=ttyS0 panic=-1",
            accelerator="jit",
            reboot=False,
        ) as vm:
            shell = Shell(vm)
            shell.log_in()
            assert shell.run("cat /proc/1/comm") == "systemd"
            assert shell.run("systemctl is-system-running --wait") == "running"
            assert shell.run("findmnt -n -o SOURCE,FSTYPE /").split() == [f"/dev/{name}", "ext4"]
            shell.run(f"seq {NUMBERS} >/root/numbers && sync")
            shell.run("echo 3 >/proc/sys/vm/drop_caches")
            assert shell.run("md5sum </root/numbers").split()[0] == hashlib.md5(lines).hexdigest()
            assert any(each.operation == "write" for each in vm.requests)
            vm.send("systemctl poweroff\n")
            assert vm.wait(timeout=PATIENCE, within=TIME) is Outcome.POWER_OFF
            assert any(each.operation == "flush" for each in vm.requests)
            assert all(each.succeeded for each in vm.requests)
        disk.check()
        contents = disk.contents(tmp_path)
        run_program("e2fsck", "-f", "-n", contents)
        program = find_program("debugfs")
        assert program
        done = subprocess.run([program, "-R", "cat /root/numbers", contents], capture_output=True, check=True)
        assert done.stdout == lines
