"""The tables of the MultiProcessor Specification 1.4 add up, and Linux without ACPI finds its interrupts by them."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.cpu.cpuid import MODEL
from blockkit.emul import mp_table
from blockkit.emul.acpi import tables
from tests.emul import kernels
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path

PLACE = 0xF0040
SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}


def entries(data: bytes) -> list[bytes]:
    """Walk through the table as a system does; what is behind the pointer."""
    (size,) = struct.unpack_from("<H", data, 16 + 4)
    (count,) = struct.unpack_from("<H", data, 16 + 34)
    at, found = 16 + 44, []
    for _ in range(count):
        length = SIZES[data[at]]
        found.append(data[at : at + length])
        at += length
    assert at == 16 + size == len(data)
    return found


def test_the_pointer_and_the_table_add_up() -> None:
    # 4.1, 4.2
    data = mp_table.build(PLACE)
    pointer = data[:16]
    assert pointer[:4] == b"_MP_"
    assert struct.unpack_from("<IBB", pointer, 4) == (PLACE + 16, 1, 4)
    assert pointer[11:] == bytes(5)
    assert sum(pointer) & 0xFF == 0
    (size,) = struct.unpack_from("<H", data, 16 + 4)
    assert data[16:20] == b"PCMP"
    assert data[22] == 4
    assert sum(data[16 : 16 + size]) & 0xFF == 0
    assert struct.unpack_from("<I", data, 16 + 36) == (0xFEE00000,)
    assert PLACE + len(data) < 0x100000


def test_everything_is_there_once() -> None:
    found = entries(mp_table.build(PLACE))
    assert [each[0] for each in found] == sorted(each[0] for each in found), "entries are in the order of their types"
    [processor] = [each for each in found if each[0] == 0]
    assert struct.unpack_from("<BBBII", processor, 1) == (0, 0x14, 3, MODEL[1, 0][0], MODEL[1, 0][3])
    buses = {each[1]: each[2:] for each in found if each[0] == 1}
    # D.1: a bus of PCI has its own number.
    assert buses == {0: b"PCI   ", 1: b"ISA   "}
    [io_apic] = [each for each in found if each[0] == 2]
    assert struct.unpack_from("<BBBI", io_apic, 1) == (1, 0x11, 1, 0xFEC00000)
    assert io_apic[1] != processor[1]
    sources = [struct.unpack_from("<HBB", each, 2) for each in found if each[0] == 3]
    assert len({(bus, source) for _, bus, source in sources}) == len(sources)
    local = [(each[1], each[6], each[7]) for each in found if each[0] == 4]
    assert local == [(3, 0xFF, 0), (1, 0xFF, 1)]


def test_it_says_of_interrupts_what_acpi_says() -> None:
    routes = {
        (bus, source): (flags, pin)
        for _, _, flags, bus, source, _, pin in (
            struct.unpack("<BBHBBBB", each) for each in entries(mp_table.build(PLACE)) if each[0] == 3
        )
    }
    assert routes[1, 0] == (0, 2)
    assert routes[1, 4] == (0, 4)
    overrides = dict(
        struct.unpack_from("<BI", tables.madt(), at + 3)
        for at in range(44, len(tables.madt()))
        if tables.madt()[at : at + 3] == bytes([2, 10, 0])
    )
    assert overrides[0] == 2
    text = tables.dsdt()
    for slot in range(1, 32):
        for pin in range(4):
            flags, line = routes[0, slot << 2 | pin]
            assert flags == 0xD
            assert overrides[line] == line
            # A package of _PRT: the slot, the pin, no device, the line.
            address = (slot << 16 | 0xFFFF).to_bytes(4, "little")
            number = {0: b"\0", 1: b"\1"}.get(pin, bytes([0x0A, pin]))
            assert b"\x0c" + address + number + b"\0" + bytes([0x0A, line]) in text


def test_a_kernel_without_firmware_finds_it(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(kernels.code_elf(b"\xf4"))
    with blockkit.Machine(kernel=tmp_path / "kernel", memory="2M", accelerator="python") as vm:
        memory = bytes(vm.session.pc.ram[0xF0000:0x100000])
    # It is looked for at multiples of 16.
    assert memory.count(b"_MP_") == 1
    at = memory.index(b"_MP_")
    assert at % 16 == 0
    assert memory[at:].startswith(mp_table.build(0xF0000 + at))
    assert memory.count(b"RSD PTR ") == 1


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "more", "interface", "device"),
    [
        ("i386", "", "ide", "sda"),
        ("i386", " pci=nomsi", "virtio", "vda"),
        # It has no support for these tables: the 8259s do.
        ("amd64", " pci=nomsi", "virtio", "vda"),
    ],
)
def test_linux_without_acpi_uses_its_disk(
    tmp_path: Path, architecture: str, more: str, interface: str, device: str
) -> None:
    pytest.importorskip("llvmlite")
    script = f"""
for try in $(seq 50); do [ -b /dev/{device} ] && break; sleep 0.1; done
dd if=/dev/{device} bs=64k count=16 2>/dev/null | md5sum
cat /proc/interrupts
dmesg | grep -i "MPTABLE\\|buggy"
echo THE END
"""
    (tmp_path / "initrd").write_bytes(initrd(architecture, (interface,), script))
    blockkit.create_image(tmp_path / "disk.qcow2", "qcow2", 16 << 20)
    with blockkit.Machine(
        [{"file": str(tmp_path / "disk.qcow2"), "if": interface}],
        kernel=Debian(architecture).kernel(),
        initrd=tmp_path / "initrd",
        append=f"console=ttyS0 quiet panic=-1 acpi=off{more}",
        accelerator="jit",
        reboot=False,
        timeout=200,
    ) as vm:
        vm.expect("THE END")
        text = vm.serial_text
    assert "b6d81b360a5672d80c27430f39153e2c" in text
    assert "buggy" not in text
    if architecture == "i386":
        assert "MPTABLE: Product ID: BLOCKKIT" in text
        assert re.search(r"0: +\d+ +IO-APIC +2-edge +timer", text)
    if architecture == "i386" and interface == "virtio":
        assert re.search(r"IO-APIC +1[01]-fasteoi +virtio0", text)
