"""Memory at linear addresses, as the guest's own page tables map them (SDM volume 3, chapter 4); nothing is marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.emul.machine import Machine

_PAGE: Final = 4096
_PRESENT, _LARGE = 1, 1 << 7
_ADDRESS: Final = 0x000FFFFF_FFFFF000


class LinearMemory:
    """Memory as code that runs now would see it, but without rights.

    Args:
        machine: The machine; it stands still.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._slots = machine.cpu.get_state()

    def read(self, address: int, length: int) -> bytes | None:
        """Return bytes, as many as are memory from the first on; None if there are none."""
        found = bytearray()
        for physical, size in self._pieces(address, length):
            view = self._view(physical, size)
            if view is None:
                break
            found += view
        return bytes(found) if found or not length else None

    def read_physical(self, address: int, length: int) -> bytes | None:
        """Do the same at a physical address."""
        found = bytearray()
        while length > 0:
            size = min(length, _PAGE - address % _PAGE)
            view = self._view(address, size)
            if view is None:
                break
            found += view
            address, length = address + size, length - size
        return bytes(found) if found or not length else None

    def write(self, address: int, data: bytes) -> bool:
        """Write bytes; False, having written nothing, if not all of them are RAM."""
        pieces = list(self._pieces(address, len(data)))
        views = [self._view(physical, size, write=True) for physical, size in pieces]
        if sum(size for _, size in pieces) != len(data) or None in views:
            return False
        at = 0
        for (physical, size), view in zip(pieces, views, strict=True):
            assert view is not None
            view[:] = data[at : at + size]
            at += size
            self._machine.cpu.memory_written(physical, size)
        return True

    def _pieces(self, address: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield physical addresses and lengths, as far as there are pages."""
        mask = (1 << 64) - 1 if self._slots[state.MODE] & state.MODE_64 else 0xFFFFFFFF
        while length > 0:
            address &= mask
            size = min(length, _PAGE - address % _PAGE)
            physical = self.translate(address)
            if physical is None:
                return
            yield physical, size
            address, length = address + size, length - size

    def _view(self, physical: int, size: int, *, write: bool = False) -> memoryview | None:
        for region in self._machine.bus.memory_map():
            at = physical - region.address
            if 0 <= at <= len(region.memory) - size:
                return region.memory[at : at + size] if region.writable or not write else None
        return None

    def _entry(self, physical: int, size: int) -> int:
        view = self._view(physical, size)
        return 0 if view is None else int.from_bytes(view, "little")

    def translate(self, address: int) -> int | None:
        """Return the physical address; None where no page is."""
        slots = self._slots
        if not slots[state.CR0] & state.CR0_PG:
            return address
        if slots[state.EFER] & state.EFER_LMA:
            return self._walk(address, slots[state.CR3] & _ADDRESS, (39, 30, 21, 12), (30, 21))
        if slots[state.CR4] & state.CR4_PAE:
            return self._walk(address & 0xFFFFFFFF, slots[state.CR3] & 0xFFFFFFE0, (30, 21, 12), (21,))
        return self._walk_32(address & 0xFFFFFFFF)

    def _walk(self, address: int, table: int, shifts: tuple[int, ...], large: tuple[int, ...]) -> int | None:
        for shift in shifts:
            entry = self._entry(table + 8 * (address >> shift & 0x1FF), 8)
            if not entry & _PRESENT:
                return None
            if shift == shifts[-1] or (shift in large and entry & _LARGE):
                below = (1 << shift) - 1
                return entry & _ADDRESS & ~below | address & below
            table = entry & _ADDRESS
        return None

    def _walk_32(self, address: int) -> int | None:
        entry = self._entry((self._slots[state.CR3] & 0xFFFFF000) + 4 * (address >> 22), 4)
        if not entry & _PRESENT:
            return None
        if entry & _LARGE and self._slots[state.CR4] & state.CR4_PSE:
            return entry & 0xFFC00000 | (entry >> 13 & 0xFF) << 32 | address & 0x3FFFFF
        entry = self._entry((entry & 0xFFFFF000) + 4 * (address >> 12 & 0x3FF), 4)
        return entry & 0xFFFFF000 | address & 0xFFF if entry & _PRESENT else None
