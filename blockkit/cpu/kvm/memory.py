"""The machine's memory as the kernel knows it: slots, which are made, kept and unmade as the memory map changes."""

from __future__ import annotations

from ctypes import addressof, c_char
from dataclasses import dataclass
from mmap import PAGESIZE
from typing import TYPE_CHECKING

from blockkit.cpu.kvm import interface as kvm
from blockkit.cpu.kvm.device import control
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.cpu.accelerator import Region


@dataclass(slots=True)
class _Slot:
    """One region.

    Attributes:
        held: Keeps the memory where it is; the kernel knows only the address.
    """

    number: int
    address: int
    size: int
    host: int
    writable: bool
    held: object
    logged: bool = False

    @property
    def key(self) -> tuple[int, int, int, bool]:
        return self.address, self.size, self.host, self.writable


class Memory:
    """The slots of one VM.

    Args:
        vm: Its descriptor.
        most: How many the kernel allows.
    """

    def __init__(self, vm: int, most: int) -> None:
        self._vm, self._most = vm, most
        self._slots: dict[int, _Slot] = {}

    def update(self, regions: Sequence[Region]) -> None:
        """Make the kernel know ``regions`` and nothing else; those that stay the same are left alone.

        Raises:
            EmulationError: a region does not consist of whole pages, here and there; or the kernel refuses it.
        """
        wanted = [_slot_for(region) for region in regions if region.memory.nbytes]
        if len(wanted) > self._most:
            raise EmulationError(f"kvm: memory has {len(wanted)} regions, expected {self._most} at most")
        keys = {slot.key for slot in wanted}
        for address, slot in list(self._slots.items()):
            if slot.key not in keys:
                self._tell(slot, 0)
                del self._slots[address]
        free = iter(sorted(set(range(len(wanted))) - {slot.number for slot in self._slots.values()}))
        for slot in wanted:
            if slot.address not in self._slots:
                slot.number = next(free)
                self._tell(slot, slot.size)
                self._slots[slot.address] = slot

    def log_writes(self, address: int, on: bool) -> None:
        """Begin or end to note which pages the guest writes, in the region that begins at ``address``."""
        slot = self._find(address)
        if slot.logged != on:
            slot.logged = on
            self._tell(slot, slot.size)

    def written_pages(self, address: int) -> bytes:
        """Return a bit for each page the guest wrote since the last call, the first page in bit 0; and forget them."""
        slot = self._find(address)
        if not slot.logged:
            raise EmulationError(f"kvm: writes to the memory at {address:#x} are not logged")
        # The kernel counts in words of 64 bits.
        bitmap = (c_char * (-(-slot.size // PAGESIZE // 64) * 8))()
        log = kvm.DirtyLog(slot=slot.number, dirty_bitmap=addressof(bitmap))
        control(self._vm, "KVM_GET_DIRTY_LOG", kvm.GET_DIRTY_LOG, log)
        return bitmap.raw[: -(-slot.size // PAGESIZE // 8)]

    def _find(self, address: int) -> _Slot:
        if address not in self._slots:
            raise EmulationError(f"kvm: no memory begins at {address:#x}")
        return self._slots[address]

    def _tell(self, slot: _Slot, size: int) -> None:
        """Tell the kernel about a slot; a size of 0 takes it away."""
        flags = (0 if slot.writable else kvm.MEM_READONLY) | (kvm.MEM_LOG_DIRTY_PAGES if slot.logged else 0)
        region = kvm.MemoryRegion(
            slot=slot.number,
            flags=flags if size else 0,
            guest_phys_addr=slot.address,
            memory_size=size,
            userspace_addr=slot.host,
        )
        name = f"KVM_SET_USER_MEMORY_REGION of {slot.size} bytes at {slot.address:#x}"
        control(self._vm, name, kvm.SET_USER_MEMORY_REGION, region)


def _slot_for(region: Region) -> _Slot:
    """Return a slot without a number for a region."""
    size = region.memory.nbytes
    try:
        held = (c_char * size).from_buffer(region.memory)
    except (TypeError, ValueError) as error:
        raise EmulationError(f"kvm: the memory at {region.address:#x} is no writable buffer: {error}") from error
    host = addressof(held)
    if region.address % PAGESIZE or size % PAGESIZE or host % PAGESIZE:
        where = f"{size:#x} bytes at {region.address:#x} (here at {host:#x})"
        raise EmulationError(f"kvm: memory of {where} is not aligned, expected whole pages")
    return _Slot(-1, region.address, size, host, region.writable, held)
