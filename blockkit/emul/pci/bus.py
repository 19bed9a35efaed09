"""The bus: which function is in which slot, configuration mechanism #1, interrupt pins (PCI 3.0, 3.2.2.3, 2.2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.lines import SharedLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.machine import Bus
    from blockkit.emul.pci.function import Bar, PciFunction
    from blockkit.emul.spaces import AddressSpace

_ENABLE: Final = 1 << 31
_MULTI_FUNCTION: Final = 0x80
_HEADER_TYPE: Final = 0x0E
_ADDRESS, _DATA = 0, 4


class PciBus:
    """Bus 0, behind ports CF8h to CFFh.

    Args:
        bus: Where windows are mapped.
        pirqs: PIRQA# to PIRQD#: called with the level.
        message: Takes message-signalled interrupts: address and data.
    """

    def __init__(self, bus: Bus, pirqs: list[Callable[[bool], None]], message: Callable[[int, int], None]) -> None:
        self._bus, self._message = bus, message
        self._pirqs = [SharedLine(changed) for changed in pirqs]
        self._functions: dict[tuple[int, int], PciFunction] = {}
        self._mapped: dict[tuple[PciFunction, int], tuple[int, Bar]] = {}
        self._address = 0

    def add(self, slot: int, number: int, function: PciFunction) -> None:
        """Put function ``number`` of a device into a slot."""
        self._functions[slot, number] = function
        pin = function.config[0x3D]
        if pin:
            function.intx = self._pirqs[(slot + pin - 2) % 4].source().set
        function.message = self._message
        function.moved = self._place
        several = [each for (at, _), each in self._functions.items() if at == slot]
        if len(several) > 1:
            for each in several:
                each.config[_HEADER_TYPE] |= _MULTI_FUNCTION
        function.reset()

    def functions(self) -> dict[tuple[int, int], PciFunction]:
        """Return all functions by slot and number."""
        return dict(self._functions)

    def reset(self) -> None:
        """Reset all functions."""
        self._address = 0
        for function in self._functions.values():
            function.reset()

    def _place(self, function: PciFunction) -> None:
        """Map the windows of a function where its registers say; one that would overlap another answers nowhere."""
        for bar in function.bars.values():
            key = function, bar.number
            wanted, present = function.window(bar), self._mapped.get(key)
            if present is not None and present[0] != wanted:
                self._space(bar).unmap(present[0])
                del self._mapped[key]
            if wanted is not None and key not in self._mapped and self._space(bar).is_free(wanted, bar.size):
                self._space(bar).map(wanted, bar.size, bar.device)
                self._mapped[key] = wanted, bar

    def _space(self, bar: Bar) -> AddressSpace:
        return self._bus.ports if bar.is_io else self._bus.memory

    def save(self) -> dict[str, Any]:
        """Return what the functions do not know."""
        return {"address": self._address}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self._address = int(saved["address"]) & 0x80FFFFFC

    # -- ports CF8h to CFFh --------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Read CONFIG_ADDRESS, all four bytes, or a part of CONFIG_DATA."""
        if offset < _DATA:
            return self._address if size == 4 and offset == _ADDRESS else (1 << 8 * size) - 1
        found = self._selected()
        at = (self._address & 0xFC) + offset - _DATA
        if found is None or offset + size > 8:
            return (1 << 8 * size) - 1
        return found.read_config(at, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write them."""
        if offset < _DATA:
            if size == 4 and offset == _ADDRESS:
                self._address = value & 0x80FFFFFC
            return
        found = self._selected()
        if found is not None and offset + size <= 8:
            found.write_config((self._address & 0xFC) + offset - _DATA, size, value)

    def _selected(self) -> PciFunction | None:
        address = self._address
        if not address & _ENABLE or address >> 16 & 0xFF:
            return None
        return self._functions.get((address >> 11 & 31, address >> 8 & 7))
