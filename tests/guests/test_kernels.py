"""Debian's kernels come up however they are started without firmware, and what the host decompresses saves work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.boot.bzimage import read_bzimage
from blockkit.emul.boot.kernel import Entry, read_kernel
from blockkit.emul.boot.payload import unpack
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

#: Instructions that the guest needs at least for what the host can do: LZ4 with KASLR, and XZ.
SAVED = {"amd64": 50_000_000, "i386": 1_500_000_000}


def boot(tmp_path: Path, architecture: str, kernel: Path, **more: Any) -> tuple[int, str]:
    """Start a kernel; return how many instructions it took, and what it said."""
    (tmp_path / "initrd").write_bytes(initrd(architecture, (), "cat /proc/cmdline; echo READY $(uname -m)"))
    with blockkit.Machine(
        kernel=kernel,
        initrd=tmp_path / "initrd",
        append="console=ttyS0 panic=-1 said=once",
        accelerator="jit",
        reboot=False,
        **more,
    ) as vm:
        vm.expect("READY")
        vm.expect("x86_64" if architecture == "amd64" else "i686")
        return vm.session.pc.cpu.executed, vm.serial_text


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["amd64", "i386"])
def test_it_comes_up_and_does_less_where_the_host_decompresses(tmp_path: Path, architecture: str) -> None:
    kernel = Debian(architecture).kernel()
    of_guest, _ = boot(tmp_path, architecture, kernel, kernel_decompress="guest")
    of_host, text = boot(tmp_path, architecture, kernel, kernel_decompress="host")
    assert of_guest - of_host > SAVED[architecture]
    assert "\nconsole=ttyS0 panic=-1 said=once" in text.replace("\r", "")
    assert "ACPI: RSDP 0x00000000000F0000" in text


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "how"), [("amd64", Entry.PVH), ("i386", Entry.LINUX_32)])
def test_an_elf_comes_up(tmp_path: Path, architecture: str, how: Entry) -> None:
    inside = unpack(read_bzimage(Debian(architecture).kernel().read_bytes()).payload, slowly=True)
    assert inside is not None
    assert read_kernel(inside).how is how
    (tmp_path / "vmlinux").write_bytes(inside)
    _, text = boot(tmp_path, architecture, tmp_path / "vmlinux")
    assert "ACPI: RSDP 0x00000000000F0000" in text


@pytest.mark.parametrize("architecture", ["amd64", "i386"])
def test_both_processors_begin_with_it_in_the_same_state(architecture: str) -> None:
    hashes = set()
    for accelerator in ("python", "jit"):
        with blockkit.Machine(
            kernel=Debian(architecture).kernel(), kernel_decompress="host", accelerator=accelerator
        ) as vm:
            vm.run_until(0.001)
            hashes.add(vm.state_hash())
    assert len(hashes) == 1
