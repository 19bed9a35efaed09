"""The tables of ACPI are what Intel's compiler makes of what it reads in them, and add up."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

import pytest

from blockkit.emul.acpi import loader, tables
from tests.conftest import run_program

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.interop("iasl")
def test_the_compiler_reads_them(tmp_path: Path) -> None:
    found = {"dsdt": tables.dsdt(), "apic": tables.madt(), "facp": tables.fadt(0x1000, 0x2000)}
    for name, data in found.items():
        (tmp_path / f"{name}.aml").write_bytes(data)
        run_program("iasl", "-d", tmp_path / f"{name}.aml")
        text = (tmp_path / f"{name}.dsl").read_text()
        assert "Incorrect checksum" not in text
        assert "Invalid" not in text
    text = (tmp_path / "dsdt.dsl").read_text()
    assert re.search(r'Name \(_HID, EisaId \("PNP0A03"\)', text)
    assert len(re.findall(r"0x0003FFFF", text)) == 4
    told = run_program("iasl", "-p", tmp_path / "again", tmp_path / "dsdt.dsl")
    assert "0 Errors, 0 Warnings" in told
    # What it compiles is as long as what we wrote, but for what it writes shorter.
    assert 0 <= len(found["dsdt"]) - len((tmp_path / "again.aml").read_bytes()) < 16
    assert re.search(r"PM Timer Block Address : 00000608", (tmp_path / "facp.dsl").read_text())


def checked(data: bytes) -> bool:
    return sum(data) & 0xFF == 0


def test_everything_leads_to_everything() -> None:
    made = tables.build(0xE0000)
    assert checked(made.pointer[:20])
    assert checked(made.pointer)
    (rsdt,) = struct.unpack_from("<I", made.pointer, 16)
    (xsdt,) = struct.unpack_from("<Q", made.pointer, 24)

    def table(address: int) -> bytes:
        at = address - made.address
        (size,) = struct.unpack_from("<I", made.data, at + 4)
        return made.data[at : at + size]

    assert checked(table(rsdt))
    assert checked(table(xsdt))
    entries = struct.unpack("<2I", table(rsdt)[36:])
    assert entries == struct.unpack("<2Q", table(xsdt)[36:])
    assert [table(each)[:4] for each in entries] == [b"FACP", b"APIC"]
    facs, dsdt = struct.unpack_from("<2I", table(entries[0]), 36)
    assert (table(facs)[:4], table(dsdt)[:4]) == (b"FACS", b"DSDT")
    assert all(checked(table(each)) for each in (*entries, dsdt))


def test_firmware_that_does_as_it_is_told_gets_the_same_tables() -> None:
    # The loader's commands, done as firmware does them.
    files = {name: bytearray(data) for name, data in loader.files().items()}
    commands, places = files.pop(loader.COMMANDS), {loader.TABLES: 0x7FE0000, loader.POINTER: 0xF5000}
    for at in range(0, len(commands), 128):
        (code,) = struct.unpack_from("<I", commands, at)
        name = commands[at + 4 : at + 60].rstrip(b"\0").decode()
        if code == 2:
            source = commands[at + 60 : at + 116].rstrip(b"\0").decode()
            offset, size = struct.unpack_from("<IB", commands, at + 116)
            value = int.from_bytes(files[name][offset : offset + size], "little") + places[source]
            files[name][offset : offset + size] = value.to_bytes(size, "little")
        elif code == 3:
            place, start, length = struct.unpack_from("<III", commands, at + 60)
            files[name][place] = files[name][place] - sum(files[name][start : start + length]) & 0xFF
    made = tables.build(places[loader.TABLES])
    assert files[loader.TABLES] == made.data
    assert files[loader.POINTER] == made.pointer
