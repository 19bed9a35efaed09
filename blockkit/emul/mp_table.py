"""The tables of Intel's MultiProcessor Specification 1.4: interrupts for a kernel that is told to leave ACPI alone."""

from __future__ import annotations

import struct
from typing import Final

from blockkit.cpu.cpuid import MODEL
from blockkit.emul import ioapic, lapic
from blockkit.emul.pci.assign import LINES

_OEM, _PRODUCT = b"BLKKIT", b"BLOCKKIT"
_REVISION: Final = 4
#: Entries by what they are of (table 4-3).
_PROCESSOR, _BUS, _IO_APIC, _TO_IO, _TO_LOCAL = range(5)
_ENABLED, _BOOTS = 1, 2
#: PCI buses are called by their own numbers (D.1), ISA by any other.
_PCI_BUS, _ISA_BUS = 0, 1
#: The I/O APIC's own, which is to differ from the local APIC's.
_LOCAL_ID, _IO_ID, _ALL = 0, 1, 0xFF
_LOCAL_VERSION, _IO_VERSION = 0x14, 0x11
#: Types of interrupts, and their polarity and trigger (4.3.4): as the bus has it; active high and level-triggered.
_INTERRUPT, _NMI, _EXTERNAL = 0, 1, 3
_CONFORMS, _HIGH_LEVEL = 0x0, 0xD
_TIMER, _TIMER_PIN, _CASCADE, _ISA_LINES = 0, 2, 2, 16
_SLOTS, _PINS = 32, 4
_HEADER: Final = struct.Struct("<4sHBB8s12sIHHIHBx")
_POINTER: Final = struct.Struct("<4sIBBB5s")
_CHECKSUM_AT, _POINTER_CHECKSUM_AT = 7, 10


def _checked(data: bytes, at: int) -> bytes:
    """Return a structure whose bytes add up to zero."""
    return data[:at] + bytes([-sum(data) & 0xFF]) + data[at + 1 :]


def _interrupt(flags: int, bus: int, source: int, pin: int) -> bytes:
    """Return what leads from a bus to the I/O APIC (4.3.4)."""
    return struct.pack("<BBHBBBB", _TO_IO, _INTERRUPT, flags, bus, source, _IO_ID, pin)


def _entries() -> list[bytes]:
    signature, _, _, features = MODEL[1, 0]
    lines = [line for line in range(_ISA_LINES) if line != _CASCADE and line not in LINES]
    return [
        struct.pack("<BBBBII8x", _PROCESSOR, _LOCAL_ID, _LOCAL_VERSION, _ENABLED | _BOOTS, signature, features),
        struct.pack("<BB6s", _BUS, _PCI_BUS, b"PCI   "),
        struct.pack("<BB6s", _BUS, _ISA_BUS, b"ISA   "),
        struct.pack("<BBBBI", _IO_APIC, _IO_ID, _IO_VERSION, _ENABLED, ioapic.BASE),
        *(_interrupt(_CONFORMS, _ISA_BUS, line, _TIMER_PIN if line == _TIMER else line) for line in lines),
        # As ACPI's _PRT has them.
        *(
            _interrupt(_HIGH_LEVEL, _PCI_BUS, slot << 2 | pin, LINES[(slot + pin - 1) % _PINS])
            for slot in range(1, _SLOTS)
            for pin in range(_PINS)
        ),
        # The 8259s are at LINT0 of the processor, NMIs at LINT1.
        struct.pack("<BBHBBBB", _TO_LOCAL, _EXTERNAL, _CONFORMS, _ISA_BUS, 0, _ALL, 0),
        struct.pack("<BBHBBBB", _TO_LOCAL, _NMI, _CONFORMS, _ISA_BUS, 0, _ALL, 1),
    ]


def build(address: int) -> bytes:
    """Return the floating pointer for a place below 1 MiB where it is looked for, and the table behind it.

    Args:
        address: The place, a multiple of 16 between 0xF0000 and 0xFFFFF.
    """
    entries = _entries()
    body = b"".join(entries)
    size = _HEADER.size + len(body)
    header = _HEADER.pack(
        *(b"PCMP", size, _REVISION, 0, _OEM.ljust(8), _PRODUCT.ljust(12), 0, 0, len(entries), lapic.BASE, 0, 0)
    )
    # There is a table rather than one of the default configurations, and no register that disconnects the 8259s.
    pointer = _POINTER.pack(b"_MP_", address + _POINTER.size, _POINTER.size // 16, _REVISION, 0, bytes(5))
    return _checked(pointer, _POINTER_CHECKSUM_AT) + _checked(header + body, _CHECKSUM_AT)
