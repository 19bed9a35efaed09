"""A Linux guest talked to, saved at its prompt, and brought back with its disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.guest import Machine
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = 'echo READY; while read line; do eval "$line"; done'


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.parametrize(("interface", "device"), [("virtio", "vda"), ("ide", "sda")])
def test_a_shell_is_saved_and_goes_on(tmp_path: Path, interface: str, device: str) -> None:
    pytest.importorskip("llvmlite")
    (tmp_path / "initrd").write_bytes(initrd("amd64", (interface,), SCRIPT))
    blockkit.create_image(tmp_path / "disk.qcow2", "qcow2", 16 << 20)
    given: dict[str, Any] = {
        "disks": [{"file": str(tmp_path / "disk.qcow2"), "if": interface, "snapshot": "on"}],
        "kernel": Debian("amd64").kernel(),
        "initrd": tmp_path / "initrd",
        "append": "console=ttyS0 quiet panic=-1 nokaslr",
        "memory": "256M",
        "accelerator": "jit",
        "vga": "none",
        "timeout": 200,
    }
    with Machine(**given) as vm:
        vm.expect("READY")
        vm.send(f"secret=4321; echo 8765 | dd of=/dev/{device} bs=512 seek=7 conv=sync,fsync; echo ok $((6*7))\n")
        vm.expect("ok 42")
        vm.save(tmp_path / "saved")
        began = vm.now
    with Machine.load(tmp_path / "saved", **given) as vm:
        vm.send("echo $secret | rev\n")
        vm.expect("1234")
        vm.send(f"echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/{device} bs=512 skip=7 count=1 | head -c 4 | rev\n")
        vm.expect("5678")
        assert began < vm.now < began + 5
        assert vm.requests[-1].operation == "read"
    with blockkit.open_image(tmp_path / "disk.qcow2") as disk:
        assert disk.read(7 * 512, 4) == bytes(4)
