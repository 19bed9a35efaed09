"""Starting Linux without firmware (Documentation/arch/x86/boot.rst of Linux, boot protocol 2.06 and later)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER: Final = 0x1F1
_MAGIC: Final = b"HdrS"
_PARAMETERS, _TABLES, _COMMAND_LINE, _KERNEL = 0x10000, 0x11000, 0x20000, 0x100000
_E820_COUNT, _E820 = 0x1E8, 0x2D0
_RAM, _RESERVED = 1, 2
#: Attributes and selectors of flat segments of 32 bits.
_CODE, _DATA = 0xC09B, 0xC093
_CODE_SELECTOR, _DATA_SELECTOR = 0x10, 0x18


class Kernel(NamedTuple):
    """A bzImage.

    Attributes:
        setup: Its header, and what comes before it.
        code: What is loaded at one megabyte.
        initrd_limit: The highest address an initrd may have.
    """

    setup: bytes
    code: bytes
    initrd_limit: int


def read_kernel(data: bytes) -> Kernel:
    """Read a bzImage; raises EmulationError where it is none."""
    if len(data) < 0x260 or data[0x202:0x206] != _MAGIC:
        raise EmulationError("kernel: no bzImage: there is no HdrS at offset 0x202")
    (version,) = struct.unpack_from("<H", data, 0x206)
    if version < 0x206 or not data[0x211] & 1:
        raise EmulationError(
            f"kernel: boot protocol {version:#x}, expected 0x206 or later, and one that is loaded high"
        )
    sectors = data[0x1F1] or 4
    (limit,) = struct.unpack_from("<I", data, 0x22C)
    return Kernel(data[: 0x202 + data[0x201]], data[(sectors + 1) * 512 :], limit)


def load(
    memory: memoryview, kernel: Kernel, command_line: str, initrd: bytes, usable: Sequence[tuple[int, int]]
) -> list[int]:
    """Put a kernel into memory.

    Args:
        memory: From address 0.
        kernel: It.
        command_line: Its command line.
        initrd: Its initial RAM disk, or nothing.
        usable: Addresses and sizes of RAM.

    Returns:
        The state in which the processor begins.
    """
    parameters = bytearray(4096)
    parameters[_HEADER : len(kernel.setup)] = kernel.setup[_HEADER:]
    parameters[0x210] = 0xFF
    struct.pack_into("<I", parameters, 0x228, _COMMAND_LINE)
    if initrd:
        at = min(len(memory), kernel.initrd_limit + 1) - len(initrd) & ~0xFFF
        if at < _KERNEL + len(kernel.code):
            raise EmulationError(f"initrd: {len(initrd)} bytes do not fit into {len(memory)} bytes of memory")
        memory[at : at + len(initrd)] = initrd
        struct.pack_into("<II", parameters, 0x218, at, len(initrd))
    parameters[_E820_COUNT] = len(usable)
    for index, (address, size) in enumerate(usable):
        struct.pack_into("<QQI", parameters, _E820 + index * 20, address, size, _RAM)
    line = command_line.encode() + b"\0"
    memory[_COMMAND_LINE : _COMMAND_LINE + len(line)] = line
    memory[_KERNEL : _KERNEL + len(kernel.code)] = kernel.code
    memory[_PARAMETERS : _PARAMETERS + len(parameters)] = parameters
    table = struct.pack("<4Q", 0, 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
    memory[_TABLES : _TABLES + len(table)] = table
    return _entry_state(len(table))


def _entry_state(table: int) -> list[int]:
    """Return flat protected mode, at the entry of 32 bits."""
    slots = state.new_state()
    slots[state.CR0] = state.CR0_PE | state.CR0_ET
    for register in range(6):
        is_code = register == state.CS
        slots[state.SELECTORS + register] = _CODE_SELECTOR if is_code else _DATA_SELECTOR
        slots[state.SEGMENT_LIMITS + register] = 0xFFFFFFFF
        slots[state.SEGMENT_ATTRIBUTES + register] = _CODE if is_code else _DATA
    slots[state.SEGMENT_ATTRIBUTES + state.LDTR] = 0x82
    slots[state.SEGMENT_ATTRIBUTES + state.TR] = 0x8B
    slots[state.GDT_BASE], slots[state.GDT_LIMIT] = _TABLES, table - 1
    slots[state.RIP], slots[state.RSI], slots[state.RSP] = _KERNEL, _PARAMETERS, _TABLES
    slots[state.FCW], slots[state.FTW], slots[state.MXCSR] = 0x37F, 0xFFFF, 0x1F80
    slots[state.PAT] = 0x0007040600070406
    slots[state.APIC_BASE] = 0xFEE00900
    slots[state.DEBUG + 6], slots[state.DEBUG + 7] = 0xFFFF0FF0, 0x400
    return slots
