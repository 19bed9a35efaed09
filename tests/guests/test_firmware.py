"""Debian's SeaBIOS, and the built-in firmware, start a boot sector from any disk behind any controller."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.cpu.kernel import needs_kvm
from tests.guests.debian import firmware_file
from tests.guests.services import BUFFER_SIZE, Call, answers, boot_sector
from tests.guests.stacks import INTERFACES, Stack, all_stacks, parameter

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.guest

DISK = 0x80
MESSAGE = b"started from the disk\r\n"
#: A boot sector that reads the next sector by INT 13h and sends what is in it, up to a zero, to the first serial port;
#: then it leaves with 21h at port 501h, or 22h if the sector could not be read.
CODE = bytes.fromhex(
    "fa 31c0 8ed8 8ec0 8ed0 bc007c fb"  # cli; xor %ax, %ax; ds, es, ss = 0; mov $7c00h, %sp; sti
    "bb0080 b80102 b90200 b600 cd13"  # bx = 8000h; ax = 0201h; cx = 0002h; dh = 0; int 13h
    "b022 7211"  # al = 22h; jc away
    "be0080 baf803 fc"  # si = 8000h; dx = 3f8h; cld
    "ac 84c0 7403 ee ebf8"  # 1: lodsb; test %al, %al; jz 2f; out %al, %dx; jmp 1b
    "b021"  # 2: al = 21h
    "ba0105 ee fa f4"  # away: dx = 501h; out %al, %dx; cli; hlt
)


def boot_disk() -> bytes:
    return CODE.ljust(510, b"\0") + struct.pack("<H", 0xAA55) + MESSAGE.ljust(512, b"\0")


@pytest.mark.interop("qemu-img")
@pytest.mark.parametrize("stack", [parameter(each) for each in all_stacks()])
@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("firmware", ["seabios", "builtin"])
def test_a_boot_sector_starts(firmware: str, interface: str, stack: Stack, tmp_path: Path) -> None:
    contents = tmp_path / "contents"
    contents.write_bytes(boot_disk().ljust(4 << 20, b"\0"))
    with (
        stack.disk(contents, tmp_path) as disk,
        blockkit.Machine(
            disks=[disk.drive(interface)],
            firmware=firmware_file(firmware),
            memory="64M",
            accelerator="jit",
            reboot=False,
        ) as vm,
    ):
        assert vm.wait() is Outcome.EXIT
        assert vm.exit_code == 0x21 << 1 | 1
        assert vm.serial_text.encode() == MESSAGE
        # What it takes is counted, not timed: firmware comes to the boot sector within some million instructions.
        assert vm.now < 0.1


#: Sectors of the disk, where its programs move what; all else is random.
SECTORS, PACKET, SOURCE, TARGET, COPY = 8192, 2, 1000, 2000, 40
#: What the packet tells: 16 bytes, two sectors, at 0:9200h, from SOURCE on; and another one to TARGET.
FROM, TO = (struct.pack("<BBHHHQ", 16, 0, 2, 0x9200, 0, sector) for sector in (SOURCE, TARGET))


def moving_disk() -> bytes:
    calls = [
        Call(0x13, 0x0201, 0x9000, PACKET + 1, DISK),  # the packet
        Call(0x13, 0x4200, edx=DISK),  # two sectors, by it
        Call(0x13, 0x0302, 0x9200, COPY + 1, DISK),  # to cylinder 0, head 0, sector 41
        Call(0x13, 0x0402, 0x9200, COPY + 1, DISK),
        Call(0x13, 0x0201, 0x9000, COPY + 1, DISK),  # one back again, over the packet
        Call(0x13, 0x0201, 0x9000, PACKET + 2, DISK),  # the other packet
        Call(0x13, 0x4300, edx=DISK),
        Call(0x13, 0x4400, edx=DISK),
        Call(0x13, 0x4700, edx=DISK),
    ]
    data = bytearray(random.Random(7).randbytes(SECTORS * 512))
    data[:512] = boot_sector(*calls)
    data[PACKET * 512 : PACKET * 512 + len(FROM)] = FROM
    data[(PACKET + 1) * 512 : (PACKET + 1) * 512 + len(TO)] = TO
    return bytes(data)


ACCELERATORS = [("builtin", "python"), ("builtin", "jit"), ("seabios", "jit")]


@pytest.mark.interop("qemu-img")
@pytest.mark.parametrize("stack", [parameter(each) for each in all_stacks()])
@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize(("firmware", "accelerator"), [*ACCELERATORS, pytest.param("builtin", "kvm", marks=needs_kvm)])
def test_sectors_are_moved_by_interrupt_13(
    firmware: str, accelerator: str, interface: str, stack: Stack, tmp_path: Path
) -> None:
    contents, before = tmp_path / "first", moving_disk()
    contents.write_bytes(before)
    with stack.disk(contents, tmp_path) as disk:
        with blockkit.Machine(
            disks=[disk.drive(interface)],
            firmware=firmware_file(firmware),
            memory="16M",
            accelerator=accelerator,
            reboot=False,
        ) as vm:
            assert vm.wait() is Outcome.EXIT
            found = answers(bytes(vm.session.built.serial.since(0)))
        assert [each.ah for each in found] == [0] * 9
        assert not any(each.carry for each in found)
        moved = before[SOURCE * 512 : (SOURCE + 2) * 512]
        assert [found[number].buffer for number in (1, 4)] == [
            before[PACKET * 512 : PACKET * 512 + BUFFER_SIZE],
            moved[:BUFFER_SIZE],
        ]
        disk.check()
        after = disk.contents(tmp_path).read_bytes()
    expected = bytearray(before)
    for sector in (COPY, TARGET):
        expected[sector * 512 : (sector + 2) * 512] = moved
    assert after == expected


#: Reads sector 2 to 8000h and calls it, then sector 3 likewise; each puts a character into AL, which is sent.
CHAIN = bytes.fromhex(
    "fa 31c0 8ed8 8ec0 8ed0 bc007c fb"
    "bb0080 b80102 b90200 ba8000 cd13 e8e203"  # bx = 8000h; ax = 0201h; cx = 2; dx = 80h; int 13h; call 8000h
    "bb0080 b80102 b90300 ba8000 cd13 e8d103"
    "b000 ba0105 ee fa f4"
)
#: al = '1'; dx = 3f8h; out %al, %dx; ret
ONE, TWO = (bytes.fromhex(f"b0{code:02x} baf803 ee c3") for code in b"12")


@pytest.mark.parametrize("accelerator", ["python", "jit"])
def test_code_that_is_read_over_code_is_what_runs(accelerator: str, tmp_path: Path) -> None:
    if accelerator == "jit":
        pytest.importorskip("llvmlite")
    disk = tmp_path / "disk"
    disk.write_bytes(CHAIN.ljust(510, b"\0") + b"\x55\xaa" + ONE.ljust(512, b"\0") + TWO.ljust(512, b"\0"))
    with blockkit.Machine(
        [{"file": str(disk), "format": "raw"}], firmware="builtin", memory="2M", accelerator=accelerator
    ) as vm:
        assert vm.wait() is Outcome.EXIT
        assert vm.serial_text == "12"
