"""What Linux is told: the zero page (Documentation/arch/x86/boot.rst and zero-page.rst of Linux)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blockkit.emul.boot import layout
from blockkit.emul.boot.bzimage import HEADER, MAGIC, MAGIC_AT

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZE: Final = 4096
_ACPI_RSDP: Final = 0x70
#: The first of the list of setup_data, from this version of the protocol on; what it says of itself; its type.
_SETUP_DATA, _HAS_SETUP_DATA = 0x250, 0x209
_SETUP_HEADER: Final = struct.Struct("<QII")
_RNG_SEED: Final = 9
_E820_COUNT, _E820 = 0x1E8, 0x2D0
_RAM: Final = 1
_BOOT_FLAG: Final = 0xAA55
_VERSION: Final = 0x20F
#: A loader without a number of its own.
_LOADER: Final = 0xFF
_LOADED_HIGH: Final = 1


def header() -> bytes:
    """Return the setup header of a kernel that comes without one, and as much before it as there is in a bzImage."""
    setup = bytearray(0x268)
    struct.pack_into("<H", setup, 0x1FE, _BOOT_FLAG)
    setup[MAGIC_AT : MAGIC_AT + len(MAGIC)] = MAGIC
    struct.pack_into("<H", setup, 0x206, _VERSION)
    setup[0x211] = _LOADED_HIGH
    return bytes(setup)


def write(
    memory: memoryview, setup: bytes, initrd: tuple[int, int], usable: Sequence[tuple[int, int]], rsdp: int, seed: bytes
) -> int:
    """Write the zero page; the command line is where :mod:`.layout` has it.

    Args:
        memory: From address 0.
        setup: The kernel's header, and what comes before it.
        initrd: Address and size of the initial RAM disk; a size of 0 for none.
        usable: Addresses and sizes of RAM.
        rsdp: Where ACPI's tables begin.
        seed: Random bytes for its random number generator.

    Returns:
        Where it is.
    """
    page = bytearray(_SIZE)
    page[HEADER : len(setup)] = setup[HEADER:]
    page[0x210] = _LOADER
    struct.pack_into("<I", page, 0x228, layout.COMMAND_LINE)
    if initrd[1]:
        struct.pack_into("<II", page, 0x218, *initrd)
    struct.pack_into("<Q", page, _ACPI_RSDP, rsdp)
    if int.from_bytes(page[0x206:0x208], "little") >= _HAS_SETUP_DATA:
        data = _SETUP_HEADER.pack(0, _RNG_SEED, len(seed)) + seed
        memory[layout.SETUP_DATA : layout.SETUP_DATA + len(data)] = data
        struct.pack_into("<Q", page, _SETUP_DATA, layout.SETUP_DATA)
    page[_E820_COUNT] = len(usable)
    for index, (address, size) in enumerate(usable):
        struct.pack_into("<QQI", page, _E820 + index * 20, address, size, _RAM)
    memory[layout.PARAMETERS : layout.PARAMETERS + _SIZE] = page
    return layout.PARAMETERS
