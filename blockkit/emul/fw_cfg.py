"""What firmware asks the machine for by name: fw_cfg, with its DMA interface (docs/specs/fw_cfg of QEMU).

Numbers in its own structures are big-endian; what is in the files is for whoever made them to say.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.memory import GuestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blockkit.emul.memory import GuestMemory

SIGNATURE, IDENTITY, CPUS, BOOT_MENU, MOST_CPUS, DIRECTORY, FIRST_FILE = 0x00, 0x01, 0x05, 0x0E, 0x0F, 0x19, 0x20
_SELECT, _DATA, _DMA_HIGH, _DMA_LOW = 0, 1, 4, 8
#: The traditional interface and DMA.
_FEATURES: Final = 3
_DMA_SIGNATURE: Final = int.from_bytes(b"QEMU CFG", "big")
_ERROR, _READ, _SKIP, _SELECT_ITEM, _WRITE = 1, 2, 4, 8, 16
_DESCRIPTOR: Final = struct.Struct(">IIQ")
_ENTRY: Final = struct.Struct(">IHH56s")
#: Bytes of one transfer at most.
_MOST: Final = 1 << 30


class FirmwareConfig:
    """Ports 510h to 51Bh.

    Args:
        memory: Where DMA goes.
        files: What there is, by name.
    """

    def __init__(self, memory: GuestMemory, files: Mapping[str, bytes]) -> None:
        self._memory = memory
        self._items: dict[int, bytes] = {
            SIGNATURE: b"QEMU",
            IDENTITY: struct.pack("<I", _FEATURES),
            CPUS: struct.pack("<H", 1),
            MOST_CPUS: struct.pack("<H", 1),
            BOOT_MENU: struct.pack("<H", 0),
        }
        self._files = dict(files)
        self.add({})
        self.reset()

    def add(self, files: Mapping[str, bytes]) -> None:
        """Add files, before the machine starts: numbers go by the order of names."""
        self._files |= files
        directory = struct.pack(">I", len(self._files))
        for number, name in enumerate(sorted(self._files), FIRST_FILE):
            self._items[number] = self._files[name]
            directory += _ENTRY.pack(len(self._files[name]), number, 0, name.encode())
        self._items[DIRECTORY] = directory

    def reset(self) -> None:
        """Select the first item."""
        self._item = self._at = self._address = 0

    def read(self, offset: int, size: int) -> int:
        """Read a byte of the item, or what tells that there is DMA."""
        if offset == _DATA:
            return self._take(1)[0]
        if _DMA_HIGH <= offset < _DMA_LOW + 4:
            shift = 8 * (8 - (offset - _DMA_HIGH) - size)
            value = _DMA_SIGNATURE >> max(shift, 0) & (1 << 8 * size) - 1
            return int.from_bytes(value.to_bytes(size, "big"), "little")
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Select an item, or start a transfer: the lower half of its address is written last."""
        if offset == _SELECT:
            self._item, self._at = value & 0xFFFF, 0
        elif offset in (_DMA_HIGH, _DMA_LOW) and size == 4:
            half = int.from_bytes(value.to_bytes(4, "little"), "big")
            if offset == _DMA_HIGH:
                self._address = half << 32
            else:
                address, self._address = self._address | half, 0
                self._transfer(address)

    def _take(self, size: int) -> bytes:
        """Return the next bytes of the item, zeros behind its end."""
        data = self._items.get(self._item, b"")[self._at : self._at + size]
        self._at += size
        return data.ljust(size, b"\0")

    def _transfer(self, address: int) -> None:
        """Do what a descriptor in memory says, and write its control field."""
        try:
            control, length, target = _DESCRIPTOR.unpack(self._memory.read(address, _DESCRIPTOR.size))
            if control & _SELECT_ITEM:
                self._item, self._at = control >> 16, 0
            failed = control & _WRITE or length > _MOST
            if control & _READ and not failed:
                view = self._memory.view(target, length)
                view[:] = self._take(length)
                self._memory.wrote(target, length)
            elif control & _SKIP and not failed:
                self._at += length
            self._memory.write(address, struct.pack(">I", _ERROR if failed else 0))
        except GuestError:
            # What is not RAM is not written to.
            return

    def save(self) -> dict[str, Any]:
        """Return the state."""
        return {"item": self._item, "at": self._at, "address": self._address}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self._item, self._at = int(saved["item"]) & 0xFFFF, int(saved["at"]) & 0xFFFFFFFF
        self._address = int(saved["address"]) & (1 << 64) - 1
