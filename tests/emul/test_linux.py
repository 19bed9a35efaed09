"""A Linux guest talked to, saved at its prompt, and brought back, with nothing but memory and a serial port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from blockkit.emul.guest import Machine
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = 'echo READY; while read line; do eval "$line"; done'


@pytest.mark.guest
@pytest.mark.slow
def test_a_shell_is_saved_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    (tmp_path / "initrd").write_bytes(initrd("amd64", (), SCRIPT))
    given: dict[str, Any] = {
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
        vm.send("secret=4321; echo ok $((6*7))\n")
        vm.expect("ok 42")
        vm.save(tmp_path / "saved")
        began = vm.now
    with Machine.load(tmp_path / "saved", **given) as vm:
        vm.send("echo $secret | rev\n")
        vm.expect("1234")
        assert began < vm.now < began + 5
