"""What a processor asks of the bus when it leaves the guest: ports and addresses that are no memory."""

from __future__ import annotations

from struct import calcsize, unpack_from
from typing import TYPE_CHECKING, Final

from blockkit.cpu.kvm import interface as kvm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from mmap import mmap

    from blockkit.cpu.accelerator import GuestBus

_OUT: Final = 1
#: The data of a port lies somewhere in the page, that of MMIO after the address.
_MMIO_DATA: Final = kvm.RUN_EXIT + 8
_SIZES: Final = frozenset((1, 2, 4, 8))

assert calcsize(kvm.IO_FORMAT) == 16
assert calcsize(kvm.MMIO_FORMAT) == 21


def do_ports(page: mmap, bus: GuestBus) -> None:
    """Do an EXIT_IO: one access, or several of a string instruction."""
    direction, size, port, count, data = unpack_from(kvm.IO_FORMAT, page, kvm.RUN_EXIT)
    end = data + size * count
    if direction == _OUT:
        for at in range(data, end, size):
            bus.port_write(port, size, int.from_bytes(page[at : at + size], "little"))
        return
    for at in range(data, end, size):
        page[at : at + size] = _bytes(bus.port_read(port, size), size)


def do_mmio(page: mmap, bus: GuestBus) -> None:
    """Do an EXIT_MMIO."""
    address, data, length, write = unpack_from(kvm.MMIO_FORMAT, page, kvm.RUN_EXIT)
    for offset, size in _parts(address, length):
        if write:
            bus.mmio_write(address + offset, size, int.from_bytes(data[offset : offset + size], "little"))
        else:
            value = _bytes(bus.mmio_read(address + offset, size), size)
            page[_MMIO_DATA + offset : _MMIO_DATA + offset + size] = value


def give_up(page: mmap, reason: int) -> None:
    """Answer an exit that nobody answered as if nothing were there: all ones."""
    if reason == kvm.EXIT_MMIO:
        page[_MMIO_DATA : _MMIO_DATA + 8] = b"\xff" * 8
    elif reason == kvm.EXIT_IO:
        direction, size, _port, count, data = unpack_from(kvm.IO_FORMAT, page, kvm.RUN_EXIT)
        if direction != _OUT:
            page[data : data + size * count] = b"\xff" * (size * count)


def _parts(address: int, length: int) -> Iterator[tuple[int, int]]:
    """Split what an access across pages leaves, 3 bytes say, into accesses that a bus knows."""
    if length in _SIZES:
        yield 0, length
        return
    offset = 0
    while offset < length:
        size = 1 << (length - offset).bit_length() - 1
        size = min(size, (address + offset) & -(address + offset) or size)
        yield offset, size
        offset += size


def _bytes(value: int, size: int) -> bytes:
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")
