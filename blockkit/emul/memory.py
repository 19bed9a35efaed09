"""The RAM of a machine as devices see it: by physical address, without copying."""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final

from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: RAM ends here at most below 4 GiB, where devices begin; what is more lies above 4 GiB.
LOW_END: Final = 0xC0000000
_HIGH: Final = 1 << 32
_PAGE: Final = 4096


class GuestError(Exception):
    """A guest did what the specification of a device forbids; it never leaves that device."""


class GuestMemory:
    """All RAM of a machine.

    What lies between 640 KiB and 1 MiB is RAM here, whatever the processor sees there.

    Args:
        size: Bytes, a multiple of 4096, at least 1 MiB.

    Attributes:
        ram: The bytes, in one piece.
        low: How many of them lie from address 0; the rest lies from 4 GiB.
        changed: Called with address and length after a device wrote.
    """

    def __init__(self, size: int) -> None:
        if size < 1 << 20 or size % _PAGE:
            raise EmulationError(f"memory: {size} bytes, expected a multiple of 4096, and 1 MiB at least")
        self.ram = new_memory(size)
        self.size, self.low = size, min(size, LOW_END)
        self.changed: Callable[[int, int], None] = lambda *_: None

    def view(self, address: int, length: int) -> memoryview:
        """Return ``length`` bytes of RAM, to read and to write; whoever writes calls :meth:`wrote`.

        Raises:
            GuestError: not all of it is RAM.
        """
        if 0 <= address <= self.low - length:
            return self.ram[address : address + length]
        at = address - _HIGH + self.low
        if address >= _HIGH and length <= self.size - at:
            return self.ram[at : at + length]
        raise GuestError(f"{length} bytes at {address:#x} are not RAM")

    def wrote(self, address: int, length: int) -> None:
        """Tell the processor that RAM has other contents now, which may be code."""
        if length:
            self.changed(address, length)

    def read(self, address: int, length: int) -> bytes:
        """Return a copy; raises GuestError as :meth:`view` does."""
        return bytes(self.view(address, length))

    def write(self, address: int, data: bytes) -> None:
        """Write; raises GuestError as :meth:`view` does."""
        self.view(address, len(data))[:] = data
        self.wrote(address, len(data))

    def e820(self) -> bytes:
        """Return RAM as firmware is told of it: addresses, lengths and the type RAM, all of it."""
        found = [(0, self.low)]
        if self.size > self.low:
            found.append((_HIGH, self.size - self.low))
        return b"".join(struct.pack("<QQI", address, length, 1) for address, length in found)

    def usable(self) -> Sequence[tuple[int, int]]:
        """Return where RAM is that an operating system may use, as addresses and lengths: no ROM, no shadow of it."""
        found = [(0, 0x9FC00), (0x100000, self.low - 0x100000)]
        if self.size > self.low:
            found.append((_HIGH, self.size - self.low))
        return [(address, length) for address, length in found if length]


def new_memory(size: int) -> memoryview:
    """Return zeros that are no cost until they are touched: whole pages of the host, as its own processor needs them.

    Args:
        size: Bytes, at least one.
    """
    return memoryview(mmap.mmap(-1, size))
