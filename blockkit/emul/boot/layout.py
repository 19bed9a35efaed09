"""Where in the first megabyte the things are that a kernel is told of; kernels lie above."""

from __future__ import annotations

from typing import Final

#: Linux's zero page, the descriptors, and the page tables of the entry of 64 bits.
PARAMETERS: Final = 0x10000
DESCRIPTORS: Final = 0x11000
PAGES: Final = 0x12000
#: PVH's start info, its list of modules and its memory map.
START_INFO: Final = 0x18000
MODULES: Final = 0x18100
MEMORY_MAP: Final = 0x18200
#: What Linux finds by way of the zero page: the list of setup_data.
SETUP_DATA: Final = 0x19000
#: The stack grows down to what is before; the command line begins where it does.
STACK: Final = 0x20000
COMMAND_LINE: Final = 0x20000
COMMAND_LINE_SIZE: Final = 0x10000
#: Kernels begin here or above.
KERNEL: Final = 0x100000
