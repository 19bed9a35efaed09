"""The tables of the machine, and where they are put."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.emul import hpet, ioapic, lapic
from blockkit.emul.acpi import aml
from blockkit.emul.pci import power
from blockkit.emul.pci.assign import LINES

if TYPE_CHECKING:
    from collections.abc import Iterable

_OEM, _OEM_TABLE, _CREATOR = b"BLKKIT", b"BLOCKKIT", b"BLKK"
_HEADER: Final = struct.Struct("<4sIBB6s8sI4sI")
_CHECKSUM_AT: Final = 9
_SCI: Final = 9
#: Fixed features (5.2.9): WBINVD works, C1 is there, no sleep button, RESET_REG is there.
_FADT_FLAGS: Final = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 10
#: There are devices of the ISA bus, and an 8042.
_BOOT_ARCHITECTURE: Final = 3
_RESET_PORT, _RESET_VALUE = 0xCF9, 6
#: Polarity and trigger of an interrupt (5.2.12.5): as the bus has it; active high and level-triggered.
_CONFORMS, _HIGH_LEVEL = 0x0, 0xD
_SLOTS: Final = 32
#: What the timers have of the address space, and the least period of one, in counts: 100 us.
_HPET_SIZE, _HPET_TICKS = 0x400, 10_000
_PINS: Final = 4


class Tables(NamedTuple):
    """All tables.

    Attributes:
        address: Where the first byte of ``data`` is to be.
        data: The tables, one behind the other.
        pointer: The RSDP, which may be anywhere that it is looked for.
        pointers: Where in ``data`` there are addresses of other parts of it, and of how many bytes each is.
        headers: Where in ``data`` there are tables with a checksum, and how long each is.
    """

    address: int
    data: bytes
    pointer: bytes
    pointers: list[tuple[int, int]]
    headers: list[tuple[int, int]]


def _checked(data: bytes, at: int = _CHECKSUM_AT) -> bytes:
    """Return a structure whose bytes add up to zero."""
    return data[:at] + bytes([-sum(data) & 0xFF]) + data[at + 1 :]


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    header = _HEADER.pack(signature, _HEADER.size + len(body), revision, 0, _OEM, _OEM_TABLE, 1, _CREATOR, 1)
    return _checked(header + body)


def dsdt(*, has_hpet: bool = False) -> bytes:
    """Return the devices that cannot be found without being told of them."""
    routes = [
        aml.package(
            aml.integer(slot << 16 | 0xFFFF),
            aml.integer(pin),
            aml.integer(0),
            aml.integer(LINES[(slot + pin - 1) % _PINS]),
        )
        for slot in range(1, _SLOTS)
        for pin in range(_PINS)
    ]
    windows = aml.resources(
        aml.bus_numbers(0, 0),
        aml.io(0xCF8, 8),
        aml.port_range(0, 0xCF7),
        aml.port_range(0xD00, 0xFFFF),
        aml.memory_range(0xA0000, 0xBFFFF),
        aml.memory_range(0xC0000000, 0xFEBFFFFF),
    )
    serial = aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),
        aml.name("_UID", aml.integer(1)),
        aml.name("_CRS", aml.resources(aml.io(0x3F8, 8), aml.irq(4))),
    )
    keyboard = aml.device(
        "KBD",
        aml.name("_HID", aml.eisa_id("PNP0303")),
        aml.name("_CRS", aml.resources(aml.io(0x60, 1), aml.io(0x64, 1), aml.irq(1))),
    )
    clock = aml.device(
        "RTC",
        aml.name("_HID", aml.eisa_id("PNP0B00")),
        aml.name("_CRS", aml.resources(aml.io(0x70, 2), aml.irq(8))),
    )
    timers = aml.device(
        "HPET",
        aml.name("_HID", aml.eisa_id("PNP0103")),
        aml.name("_CRS", aml.resources(aml.memory_fixed(hpet.BASE, _HPET_SIZE))),
    )
    bridge = aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_BBN", aml.integer(0)),
        aml.name("_CRS", windows),
        aml.name("_PRT", aml.package(*routes)),
        aml.device("ISA", aml.name("_ADR", aml.integer(0x10000)), serial, keyboard, clock),
    )
    off = aml.integer(power.SLEEP_OFF)
    terms = aml.name("\\_S5", aml.package(off, off, aml.integer(0), aml.integer(0))) + aml.scope(
        "\\_SB", bridge, *([timers] if has_hpet else [])
    )
    return _table(b"DSDT", 2, terms)


def facs() -> bytes:
    """Return the structure that firmware and operating systems share (5.2.10)."""
    return struct.pack("<4sIIIIIQB31x", b"FACS", 64, 0, 0, 0, 0, 0, 2)


def fadt(facs_at: int, dsdt_at: int) -> bytes:
    """Return where the power management is (5.2.9)."""
    body = bytearray(244 - _HEADER.size)

    def put(offset: int, code: str, value: int) -> None:
        struct.pack_into(f"<{code}", body, offset - _HEADER.size, value)

    put(36, "I", facs_at)
    put(40, "I", dsdt_at)
    put(46, "H", _SCI)
    put(48, "I", 0xB2)
    put(52, "B", power.ACPI_ENABLE)
    put(53, "B", power.ACPI_DISABLE)
    put(56, "I", power.BASE)
    put(64, "I", power.BASE + 4)
    put(76, "I", power.BASE + 8)
    put(88, "B", 4)
    put(89, "B", 2)
    put(91, "B", 4)
    # C2 and C3 are not there.
    put(96, "H", 101)
    put(98, "H", 1001)
    put(108, "B", 0x32)
    put(109, "H", _BOOT_ARCHITECTURE)
    put(112, "I", _FADT_FLAGS)
    # RESET_REG: eight bits of I/O.
    put(116, "I", 1 | 8 << 8)
    put(120, "Q", _RESET_PORT)
    put(128, "B", _RESET_VALUE)
    return _table(b"FACP", 3, bytes(body))


def madt() -> bytes:
    """Return the interrupt controllers (5.2.12): there is an 8259 pair too."""
    entries = struct.pack("<BBBBI", 0, 8, 0, 0, 1)
    entries += struct.pack("<BBBBII", 1, 12, 0, 0, ioapic.BASE, 0)
    entries += struct.pack("<BBBBIH", 2, 10, 0, 0, 2, _CONFORMS)
    for line in (_SCI, *sorted(set(LINES))):
        entries += struct.pack("<BBBBIH", 2, 10, 0, line, line, _HIGH_LEVEL)
    entries += struct.pack("<BBBHB", 4, 6, 0xFF, 0, 1)
    return _table(b"APIC", 3, struct.pack("<II", lapic.BASE, 1) + entries)


def hpet_table() -> bytes:
    """Return the high precision event timers (IA-PC HPET specification 1.0a, 3.2.4)."""
    # In system memory, 64 bits wide.
    place = struct.pack("<BBBBQ", 0, 64, 0, 0, hpet.BASE)
    return _table(b"HPET", 1, struct.pack("<I", hpet.IDENTITY) + place + struct.pack("<BHB", 0, _HPET_TICKS, 0))


def _pointers(signature: bytes, code: str, addresses: Iterable[int]) -> bytes:
    return _table(signature, 1, b"".join(struct.pack(code, each) for each in addresses))


def build(address: int, *, has_hpet: bool = False) -> Tables:
    """Return all tables for a place in memory, a multiple of 64 below 4 GiB.

    Args:
        address: The place.
        has_hpet: There are high precision event timers.
    """
    data = bytearray()
    pointers: list[tuple[int, int]] = []
    headers: list[tuple[int, int]] = []

    def add(table: bytes, size: int = 0, *places: int) -> int:
        data.extend(bytes(-len(data) % 64))
        start = len(data)
        data.extend(table)
        pointers.extend((start + place, size) for place in places)
        if not table.startswith(b"FACS"):
            headers.append((start, len(table)))
        return address + start

    facs_at, dsdt_at = add(facs()), add(dsdt(has_hpet=has_hpet))
    tables = [add(fadt(facs_at, dsdt_at), 4, 36, 40), add(madt())]
    if has_hpet:
        tables.append(add(hpet_table()))
    first_entry = _HEADER.size
    rsdt = add(_pointers(b"RSDT", "<I", tables), 4, *(first_entry + 4 * index for index in range(len(tables))))
    xsdt = add(_pointers(b"XSDT", "<Q", tables), 8, *(first_entry + 8 * index for index in range(len(tables))))
    first = _checked(struct.pack("<8sB6sBI", b"RSD PTR ", 0, _OEM, 2, rsdt), 8)
    pointer = _checked(first + struct.pack("<IQB3x", 36, xsdt, 0), 32)
    return Tables(address, bytes(data), pointer, pointers, headers)
