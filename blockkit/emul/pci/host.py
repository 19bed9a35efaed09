"""The host bridge of the 440FX: who answers between 640 KiB and 1 MiB (82441FX data sheet, 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blockkit.cpu.accelerator import Region
from blockkit.emul.memory import new_memory
from blockkit.emul.pci.function import PciFunction

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.memory import GuestMemory

#: PAM0 to PAM6: two fields each, but of PAM0 the lower one.
_PAM, _PAM_COUNT = 0x59, 7
_READ, _WRITE = 1, 2
#: Where ROM and RAM are one behind the other.
SHADOW, SHADOW_SIZE = 0xC0000, 0x40000
_TOP: Final = 0x100000
_SMALL, _LARGE = 0x4000, 0x10000
_VGA: Final = 0xA0000
_HIGH: Final = 1 << 32


class _Piece(NamedTuple):
    """A part of a memory at an address."""

    address: int
    memory: memoryview
    offset: int
    size: int
    writable: bool

    def region(self) -> Region:
        return Region(self.address, self.memory[self.offset : self.offset + self.size], self.writable)


class HostBridge(PciFunction):
    """Function 0 of slot 0. It decides what the processor's memory is.

    Args:
        memory: RAM.
        rom: The firmware, which ends at 4 GiB, and of which the last 128 KiB are below 1 MiB too; may be empty.
        changed: Called with all memory when it is other than before.
        screen: There is RAM of a VGA below what the shadow is of.
    """

    def __init__(
        self, memory: GuestMemory, rom: bytes, changed: Callable[[list[Region]], None], *, screen: bool = False
    ) -> None:
        super().__init__(vendor=0x8086, device=0x1237, class_code=0x060000, revision=2)
        self._memory, self._changed = memory, changed
        self._below = SHADOW if screen else _VGA
        self._rom = memoryview(b"")
        if rom:
            self._rom = new_memory(len(rom))
            self._rom[:] = rom
        self._attributes: tuple[int, ...] = ()
        for offset in range(_PAM, _PAM + _PAM_COUNT):
            self.declare(offset, 1, 0, writable=0x30 if offset == _PAM else 0x33)

    def areas(self) -> list[tuple[int, int, int]]:
        """Return the areas that have attributes: address, size, and whether RAM is read (1) and written (2)."""
        found = []
        at = SHADOW
        for offset in range(_PAM + 1, _PAM + _PAM_COUNT):
            value = self.config[offset]
            for field in (value & 3, value >> 4 & 3):
                found.append((at, _SMALL, field))
                at += _SMALL
        return [*found, (at, _LARGE, self.config[_PAM] >> 4 & 3)]

    def regions(self) -> list[Region]:
        """Return the processor's memory."""
        memory, ram, rom = self._memory, self._memory.ram, self._rom
        pieces = [_Piece(0, ram, 0, self._below, True)]
        for address, size, attributes in self.areas():
            if attributes & _READ:
                pieces.append(_Piece(address, ram, address, size, bool(attributes & _WRITE)))
            elif len(rom) >= _TOP - address:
                pieces.append(_Piece(address, rom, len(rom) - (_TOP - address), size, False))
        pieces.append(_Piece(_TOP, ram, _TOP, memory.low - _TOP, True))
        pieces.append(_Piece(_HIGH - len(rom), rom, 0, len(rom), False))
        pieces.append(_Piece(_HIGH, ram, memory.low, memory.size - memory.low, True))
        return [piece.region() for piece in _joined(pieces) if piece.size]

    def write_shadow(self, offset: int, size: int, value: int) -> None:
        """Write where ROM is read: to the RAM behind it, where attributes say so."""
        for at in range(SHADOW + offset, min(SHADOW + offset + size, _TOP)):
            area = next(each for each in self.areas() if each[0] <= at < each[0] + each[1])
            if area[2] & _WRITE:
                self._memory.write(at, bytes((value & 0xFF,)))
            value >>= 8

    def open_shadow(self) -> None:
        """Make all of it RAM, as firmware does that has copied itself."""
        for offset in range(_PAM, _PAM + _PAM_COUNT):
            self.write_config(offset, 1, 0x33)

    def reset(self) -> None:
        super().reset()
        self._update()

    def config_written(self, offset: int, size: int) -> None:
        if offset < _PAM + _PAM_COUNT and offset + size > _PAM:
            self._update()

    def _update(self) -> None:
        attributes = tuple(field for _, _, field in self.areas())
        if attributes != self._attributes:
            self._attributes = attributes
            self._changed(self.regions())

    def load(self, saved: dict[str, Any]) -> None:
        super().load(saved)
        self._update()


def _joined(pieces: list[_Piece]) -> list[_Piece]:
    """Return pieces of which neighbours that go on in the same memory are one."""
    found: list[_Piece] = []
    for each in pieces:
        last = found[-1] if found else each
        goes_on = last.address + last.size == each.address and last.offset + last.size == each.offset
        if found and goes_on and last.memory is each.memory and last.writable is each.writable:
            found[-1] = last._replace(size=last.size + each.size)
        else:
            found.append(each)
    return found
