"""The way into a kernel that Xen defined for PVH (docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h of Xen)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blockkit.emul.boot import layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.emul.boot.elf import Elf

#: XEN_ELFNOTE_PHYS32_ENTRY, and whose notes these are.
_PHYS32_ENTRY: Final = 18
_OWNER: Final = b"Xen"
_MAGIC, _VERSION = 0x336EC578, 1
_START_INFO: Final = struct.Struct("<IIIIQQQQII")
_MODULE: Final = struct.Struct("<QQQQ")
_REGION: Final = struct.Struct("<QQII")
_RAM: Final = 1


def entry(elf: Elf) -> int | None:
    """Return the physical address at which an ELF is entered, if it says so in a note."""
    for note in elf.notes:
        if note.name == _OWNER and note.kind == _PHYS32_ENTRY and len(note.data) in (4, 8):
            return int.from_bytes(note.data, "little")
    return None


def write(memory: memoryview, initrd: tuple[int, int], usable: Sequence[tuple[int, int]], rsdp: int) -> int:
    """Write the start info, whose command line is where :mod:`.layout` has it.

    Args:
        memory: From address 0.
        initrd: Address and size of the initial RAM disk; a size of 0 for none.
        usable: Addresses and sizes of RAM.
        rsdp: Where ACPI's tables begin.

    Returns:
        Where it is.
    """
    modules = 1 if initrd[1] else 0
    info = _START_INFO.pack(
        *(_MAGIC, _VERSION, 0, modules, layout.MODULES if modules else 0, layout.COMMAND_LINE, rsdp),
        *(layout.MEMORY_MAP, len(usable), 0),
    )
    memory[layout.START_INFO : layout.START_INFO + len(info)] = info
    module = _MODULE.pack(*initrd, 0, 0)
    memory[layout.MODULES : layout.MODULES + len(module)] = module
    regions = b"".join(_REGION.pack(address, size, _RAM, 0) for address, size in usable)
    memory[layout.MEMORY_MAP : layout.MEMORY_MAP + len(regions)] = regions
    return layout.START_INFO
