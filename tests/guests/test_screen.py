"""What SeaBIOS and what it starts write to the screen, and which disk it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.guests.debian import Debian, firmware_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

#: A boot sector that writes to the screen by INT 10h and leaves with 21h at port 501h.
CODE = bytes.fromhex(
    "31c0 8ed8 be407c fc"  # xor %ax, %ax; ds = 0; si = 7c40h; cld
    "ac 84c0 7409"  # 1: lodsb; test %al, %al; jz 2f
    "b40e bb0700 cd10 ebf2"  # ah = 0eh; bx = 7; int 10h; jmp 1b
    "b021 ba0105 ee fa f4"  # 2: al = 21h; dx = 501h; out %al, %dx; cli; hlt
)


def boot_disk() -> bytes:
    return (CODE.ljust(0x40, b"\0") + b"on screen").ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20)


def machine(*drives: Any, **options: Any) -> blockkit.Machine:
    return blockkit.Machine(
        drives, firmware=firmware_file("seabios"), memory="64M", accelerator="jit", timeout=60, **options
    )


def drive(path: Path, interface: str, data: bytes) -> dict[str, str]:
    path.write_bytes(data)
    return {"file": str(path), "format": "raw", "if": interface}


@pytest.mark.parametrize("vga", ["none", "text"])
def test_a_boot_sector_writes_to_the_screen(tmp_path: Path, vga: str) -> None:
    with machine(drive(tmp_path / "disk", "ide", boot_disk()), vga=vga) as vm:
        assert vm.wait() is Outcome.EXIT
        lines = [line for line in vm.screen().splitlines() if line]
    if vga == "none":
        assert lines == []
    else:
        assert lines[0].startswith("SeaBIOS (version ")
        assert lines[-1] == "on screen"


@pytest.mark.parametrize(("first", "second"), [("ide", "virtio"), ("virtio", "ide")])
def test_disks_are_tried_in_their_order(tmp_path: Path, first: str, second: str) -> None:
    both = [drive(tmp_path / first, first, boot_disk()), drive(tmp_path / second, second, boot_disk())]
    with machine(*both) as vm:
        assert vm.wait() is Outcome.EXIT
        assert {each.drive for each in vm.requests if each.offset == 0 and each.operation == "read"} == {"drive0"}


def test_nothing_to_start_is_said_on_the_screen() -> None:
    with machine() as vm:
        vm.expect("No bootable device", screen=True)
        # It waits for ever, rather than to try again.
        vm.run_until(lambda vm: b"No bootable device.\n" in vm.session.pc.debug_log, within=1)


def test_memtest_draws_its_screen() -> None:
    kernel = Debian("amd64").root / "boot/memtest86+x64.bin"
    with blockkit.Machine(kernel=kernel, memory="16M", accelerator="jit", vga="text", timeout=100) as vm:
        vm.expect("Memtest86+", screen=True)
        assert "│" in vm.screen()
