"""Where a CD says that it can be booted ("El Torito" Bootable CD-ROM Format Specification 1.0)."""

from __future__ import annotations

from typing import Final, NamedTuple

#: The sector that tells where the boot catalog is.
RECORD: Final = 17
_RECORD_NAME: Final = b"\x00CD001\x01EL TORITO SPECIFICATION"
_CATALOG_AT: Final = 0x47
_X86, _BOOTABLE, _NO_EMULATION, _SEGMENT, _SECTOR, _CD_SECTOR = 0, 0x88, 0, 0x7C0, 512, 2048
#: The stack of whoever starts it ends here, and has this many bytes at most; behind _END real mode has no memory.
_STACK, _STACK_SIZE = 0x7C00, 0x100
_BEGIN, _END = 0x500, 0x9FC00


class BootEntry(NamedTuple):
    """An image that is loaded as it is, without pretending that it is a disk.

    Attributes:
        sector: Where, in sectors of 2048 bytes.
        sectors: How much, of 512 bytes each.
        segment: Where to.
    """

    sector: int
    sectors: int
    segment: int

    @property
    def length(self) -> int:
        """Bytes, of whole sectors of the CD."""
        return -(-self.sectors * _SECTOR // _CD_SECTOR) * _CD_SECTOR


def catalog(record: bytes) -> int | None:
    """Return the sector of the boot catalog, if the boot record says that there is one."""
    if not record.startswith(_RECORD_NAME):
        return None
    return int.from_bytes(record[_CATALOG_AT : _CATALOG_AT + 4], "little")


def entry(data: bytes) -> BootEntry | None:
    """Return the initial entry of a boot catalog, if it is for this kind of machine and needs no emulation."""
    words = [int.from_bytes(data[at : at + 2], "little") for at in range(0, 32, 2)]
    if len(data) < 64 or data[0] != 1 or data[1] != _X86 or data[30:32] != b"\x55\xaa" or sum(words) & 0xFFFF:
        return None
    first = data[32:64]
    if first[0] != _BOOTABLE or first[1] & 15 != _NO_EMULATION:
        return None
    segment = int.from_bytes(first[2:4], "little") or _SEGMENT
    count = int.from_bytes(first[6:8], "little")
    found = BootEntry(int.from_bytes(first[8:12], "little"), count, segment)
    begin, end = segment << 4, (segment << 4) + found.length
    fits = _BEGIN <= begin < end <= _END and (end <= _STACK - _STACK_SIZE or begin >= _STACK)
    return found if fits else None
