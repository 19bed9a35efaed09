"""The PIIX3's IDE function: two channels in legacy mode, and the bus master (82371SB data sheet, 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.ide.channel import Channel
from blockkit.emul.pci.function import Bar, PciFunction
from blockkit.emul.spaces import Ports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.emul.ide.drive import Drive
    from blockkit.emul.lines import Line
    from blockkit.emul.machine import Bus
    from blockkit.emul.memory import GuestMemory

#: Ports of the command and the control block of each channel.
_COMMAND, _CONTROL = (0x1F0, 0x170), (0x3F6, 0x376)
_MASTER_BAR, _MASTER_SIZE, _MASTER_CHANNEL = 4, 16, 8
#: IDETIM of each channel, whose top bit has it answer.
_TIMING: Final = 0x40
_DECODE: Final = 1 << 15


class PiixIde(PciFunction):
    """Function 1 of the PIIX3.

    Args:
        memory: Where the bus master works.
        bus: Where the channels' ports are.
        lines: The interrupts of the channels: 14 and 15.
        drives: Primary master and slave, secondary master and slave; None where there is none.
    """

    def __init__(self, memory: GuestMemory, bus: Bus, lines: Sequence[Line], drives: Sequence[Drive | None]) -> None:
        super().__init__(vendor=0x8086, device=0x7010, class_code=0x010180)
        self._bus = bus
        self.channels = [
            Channel(memory, line, drives[2 * number : 2 * number + 2], lambda: self.may_master)
            for number, line in enumerate(lines)
        ]
        # Both answer from the beginning, as firmware has it.
        self.declare(_TIMING, 2, _DECODE, writable=0xFFFF)
        self.declare(_TIMING + 2, 2, _DECODE, writable=0xFFFF)
        self.declare(0x44, 1, 0, writable=0xFF)
        self.declare(0x04, 2, 1, writable=0x0005)
        self.add_bar(Bar(_MASTER_BAR, _MASTER_SIZE, Ports(self._read_master, self._write_master), is_io=True))
        for number, channel in enumerate(self.channels):
            bus.ports.map(_COMMAND[number], 8, channel)
            bus.ports.map(_CONTROL[number], 1, Ports(channel.read_control, channel.write_control))

    def _read_master(self, offset: int, size: int) -> int:
        number, at = divmod(offset, _MASTER_CHANNEL)
        return self.channels[number].read_master(at, size)

    def _write_master(self, offset: int, size: int, value: int) -> None:
        number, at = divmod(offset, _MASTER_CHANNEL)
        self.channels[number].write_master(at, size, value)

    def reset(self) -> None:
        super().reset()
        for channel in self.channels:
            channel.reset()

    def save(self) -> dict[str, Any]:
        return super().save() | {"channels": [channel.save() for channel in self.channels]}

    def load(self, saved: dict[str, Any]) -> None:
        super().load(saved)
        for channel, state in zip(self.channels, saved["channels"], strict=True):
            channel.load(state)
