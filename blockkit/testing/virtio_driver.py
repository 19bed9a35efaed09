"""A driver for virtio devices behind PCI, for tests of devices: it does what the specification asks of drivers.

It knows nothing of how devices are made: it looks for capabilities, negotiates, and builds rings in guest memory, split
(virtio 1.2, 2.7) or packed (2.8), by the modern interface (4.1.4) or the legacy one (4.1.4.8).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.emul.memory import GuestMemory
    from blockkit.emul.pci.function import PciFunction

NEXT, WRITE, INDIRECT = 1, 2, 4
_INDIRECT_DESC, _EVENT_IDX, _VERSION_1, _PACKED = 28, 29, 32, 34
_DESCRIPTOR: Final = struct.Struct("<QIHH")
_COMMON, _NOTIFY, _ISR, _DEVICE = 1, 2, 3, 4
_PAGE: Final = 4096


class Used(NamedTuple):
    """A chain that came back: what it was known by, and how many bytes the device wrote."""

    head: int
    length: int


class Buffer(NamedTuple):
    """A part of a chain."""

    address: int
    length: int
    device_writes: bool = False


class _Window(NamedTuple):
    bar: int
    offset: int
    multiplier: int = 0


class VirtioDriver:
    """A driver of one device with one queue.

    Args:
        memory: Guest memory.
        function: The device.
        legacy: Use the legacy interface.
        packed: Choose packed rings.
        indirect: Choose indirect descriptors, and use them for every chain.
        event_index: Choose event indices.
        msix: Enable MSI-X, and give the queue vector 1.
        area: Where in memory rings and tables go; 1 MiB.
    """

    def __init__(
        self,
        memory: GuestMemory,
        function: PciFunction,
        *,
        legacy: bool = False,
        packed: bool = False,
        indirect: bool = False,
        event_index: bool = False,
        msix: bool = False,
        area: int = 0x100000,
    ) -> None:
        self.memory, self.function, self.legacy, self.packed = memory, function, legacy, packed
        self.indirect, self.event_index, self.msix, self._area = indirect, event_index, msix, area
        self.messages: list[tuple[int, int]] = []
        self.level = False
        function.message = lambda address, data: self.messages.append((address, data))
        function.intx = self._drive
        function.write_config(4, 2, 7)
        self._windows = self._find()
        self.size = 0
        self._next = self._seen = 0
        self._wrap = self._seen_wrap = True
        self._slots: dict[int, int] = {}

    def _drive(self, level: bool) -> None:
        self.level = level

    def _find(self) -> dict[int, _Window]:
        """Look for the structures in the list of capabilities."""
        found: dict[int, _Window] = {}
        read = self.function.read_config
        at = read(0x34, 1)
        while at:
            if read(at, 1) == 9:
                kind, bar, offset = read(at + 3, 1), read(at + 4, 1), read(at + 8, 4)
                found.setdefault(kind, _Window(bar, offset, read(at + 16, 4) if kind == _NOTIFY else 0))
            at = read(at + 1, 1)
        return found

    # -- registers -----------------------------------------------------------------------------------------

    def read(self, kind: int, offset: int, size: int) -> int:
        """Read a register of a structure."""
        window = self._windows[kind]
        return self.function.bars[window.bar].device.read(window.offset + offset, size)

    def write(self, kind: int, offset: int, size: int, value: int) -> None:
        """Write one."""
        window = self._windows[kind]
        self.function.bars[window.bar].device.write(window.offset + offset, size, value)

    def read_port(self, offset: int, size: int) -> int:
        """Read a register of the legacy interface."""
        return self.function.bars[0].device.read(offset, size)

    def write_port(self, offset: int, size: int, value: int) -> None:
        """Write one."""
        self.function.bars[0].device.write(offset, size, value)

    @property
    def status(self) -> int:
        """The device status."""
        return self.read_port(0x12, 1) if self.legacy else self.read(_COMMON, 0x14, 1)

    @status.setter
    def status(self, value: int) -> None:
        if self.legacy:
            self.write_port(0x12, 1, value)
        else:
            self.write(_COMMON, 0x14, 1, value)

    def read_isr(self) -> int:
        """Read the ISR status, which lets go of the interrupt pin."""
        return self.read_port(0x13, 1) if self.legacy else self.read(_ISR, 0, 1)

    def read_config(self, offset: int, size: int) -> int:
        """Read the device's configuration."""
        if self.legacy:
            return self.read_port((0x18 if self.msix else 0x14) + offset, size)
        return self.read(_DEVICE, offset, size)

    def write_config(self, offset: int, size: int, value: int) -> None:
        """Write it."""
        if self.legacy:
            self.write_port((0x18 if self.msix else 0x14) + offset, size, value)
        else:
            self.write(_DEVICE, offset, size, value)

    # -- beginning (3.1) -----------------------------------------------------------------------------------

    def offered(self) -> int:
        """Return the features that the device offers."""
        if self.legacy:
            return self.read_port(0, 4)
        found = 0
        for half in range(2):
            self.write(_COMMON, 0, 4, half)
            found |= self.read(_COMMON, 4, 4) << 32 * half
        return found

    def start(self, features: int = 0) -> int:
        """Reset the device, negotiate ``features`` beside those of rings, and begin; return what was chosen."""
        self.status = 0
        assert self.status == 0
        self.status = 1
        self.status = 3
        for bit, wanted in ((_INDIRECT_DESC, self.indirect), (_EVENT_IDX, self.event_index), (_PACKED, self.packed)):
            features |= int(wanted) << bit
        features |= int(not self.legacy) << _VERSION_1
        chosen = features & self.offered()
        if self.msix:
            self._enable_messages()
        if self.legacy:
            self.write_port(4, 4, chosen)
        else:
            for half in range(2):
                self.write(_COMMON, 8, 4, half)
                self.write(_COMMON, 0xC, 4, chosen >> 32 * half & 0xFFFFFFFF)
            self.status = 11
            assert self.status & 8, "the features were refused"
        self._open_queue()
        self.status = self.status | 4
        return chosen

    def _enable_messages(self) -> None:
        at = self.function.read_config(0x34, 1)
        while self.function.read_config(at, 1) != 0x11:
            at = self.function.read_config(at + 1, 1)
        table = self.function.bars[self.function.read_config(at + 4, 4) & 7].device
        for number in range(2):
            for offset, value in ((0, 0xFEE00000), (4, 0), (8, 0x40 + number), (12, 0)):
                table.write(16 * number + offset, 4, value)
        self.function.write_config(at + 2, 2, 0x8000)

    def _open_queue(self) -> None:
        area = self._area
        self.memory.write(area, bytes(16 * _PAGE))
        self._descriptors = area
        if self.legacy:
            self.write_port(0xE, 2, 0)
            self.size = self.read_port(0xC, 2)
            if self.msix:
                self.write_port(0x16, 2, 1)
            self._driver = area + 16 * self.size
            used = self._driver + 6 + 2 * self.size
            self._device = used + -used % _PAGE
            self.write_port(8, 4, area // _PAGE)
            return
        self.write(_COMMON, 0x16, 2, 0)
        self.size = self.read(_COMMON, 0x18, 2)
        if self.msix:
            self.write(_COMMON, 0x1A, 2, 1)
        self._driver, self._device = area + 4 * _PAGE, area + 8 * _PAGE
        for offset, address in ((0x20, self._descriptors), (0x28, self._driver), (0x30, self._device)):
            self.write(_COMMON, offset, 4, address & 0xFFFFFFFF)
            self.write(_COMMON, offset + 4, 4, address >> 32)
        self.write(_COMMON, 0x1C, 2, 1)

    # -- chains --------------------------------------------------------------------------------------------

    def add(self, buffers: Sequence[Buffer]) -> int:
        """Make a chain available, without a kick; return what it is known by."""
        flagged = [(each.address, each.length, WRITE if each.device_writes else 0) for each in buffers]
        if self.indirect:
            table = self._area + 0x20000 + self._next % self.size * 0x200
            last = len(flagged) - 1
            for index, (address, length, flags) in enumerate(flagged):
                more = NEXT if index < last and not self.packed else 0
                words = (length, flags | more, index + 1) if not self.packed else (length, 0, flags)
                self._descriptor(table + 16 * index, address, *words)
            flagged = [(table, 16 * len(flagged), INDIRECT)]
        return self._add_packed(flagged) if self.packed else self._add_split(flagged)

    def _descriptor(self, at: int, address: int, length: int, first: int, second: int) -> None:
        self.memory.write(at, _DESCRIPTOR.pack(address, length, first, second))

    def _add_split(self, several: list[tuple[int, int, int]]) -> int:
        head = self._next * 8 % self.size
        for index, (address, length, flags) in enumerate(several):
            more = NEXT if index < len(several) - 1 else 0
            number = (head + index) % self.size
            self._descriptor(self._descriptors + 16 * number, address, length, flags | more, (number + 1) % self.size)
        self.memory.write(self._driver + 4 + 2 * (self._next % self.size), struct.pack("<H", head))
        self._next += 1
        self.memory.write(self._driver + 2, struct.pack("<H", self._next & 0xFFFF))
        return head

    def _add_packed(self, several: list[tuple[int, int, int]]) -> int:
        identity, first = len(self._slots) + 100, None
        for index, (address, length, flags) in enumerate(several):
            more = NEXT if index < len(several) - 1 else 0
            turn = 1 << 7 if self._wrap else 1 << 15
            at = self._descriptors + 16 * self._next
            if index:
                self._descriptor(at, address, length, identity, flags | more | turn)
            else:
                # The first one becomes available last.
                first = at, flags | more | turn
                self._descriptor(at, address, length, identity, self._flags(at))
            self._next += 1
            if self._next == self.size:
                self._next, self._wrap = 0, not self._wrap
        assert first is not None
        self.memory.write(first[0] + 14, struct.pack("<H", first[1]))
        self._slots[identity] = len(several)
        return identity

    def _flags(self, at: int) -> int:
        return int.from_bytes(self.memory.read(at + 14, 2), "little")

    def kick(self) -> None:
        """Tell the device that there is something."""
        if self.legacy:
            self.write_port(0x10, 2, 0)
        else:
            self.write(_NOTIFY, self._windows[_NOTIFY].multiplier * 0, 2, 0)

    def used(self) -> list[Used]:
        """Return what came back since this was last asked."""
        found: list[Used] = []
        while True:
            one = self._used_packed() if self.packed else self._used_split()
            if one is None:
                return found
            found.append(one)

    def _used_split(self) -> Used | None:
        index = int.from_bytes(self.memory.read(self._device + 2, 2), "little")
        if index == self._seen & 0xFFFF:
            return None
        at = self._device + 4 + 8 * (self._seen % self.size)
        self._seen += 1
        if self.event_index:
            self.memory.write(self._driver + 4 + 2 * self.size, struct.pack("<H", self._seen & 0xFFFF))
        return Used(*struct.unpack("<II", self.memory.read(at, 8)))

    def _used_packed(self) -> Used | None:
        at = self._descriptors + 16 * self._seen
        flags = self._flags(at)
        if bool(flags & 1 << 7) is not self._seen_wrap or bool(flags & 1 << 15) is not self._seen_wrap:
            return None
        length, identity = struct.unpack("<IH", self.memory.read(at + 8, 6))
        self._seen += self._slots[identity]
        if self._seen >= self.size:
            self._seen, self._seen_wrap = self._seen - self.size, not self._seen_wrap
        return Used(identity, length)
