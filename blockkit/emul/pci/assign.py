"""Giving functions their addresses and interrupt lines, which is what firmware does before it looks for a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.emul.pci.function import BAR0, COMMAND, COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY, INTERRUPT_LINE

if TYPE_CHECKING:
    from blockkit.emul.pci.bus import PciBus

#: Where windows of ports and of memory begin.
_PORTS, _MEMORY = 0xC000, 0xE0000000
#: The lines of PIRQA# to PIRQD#, and the registers that say so.
LINES: Final = (10, 10, 11, 11)
_ROUTES: Final = 0x60
_ISA_BRIDGE: Final = 0x7000
_ELCR: Final = 0x4D0


def assign(pci: PciBus) -> None:
    """Give all functions of a bus addresses, tell them their lines, and switch them on."""
    ports, memory = _PORTS, _MEMORY
    for (slot, _), function in sorted(pci.functions().items()):
        if function.number(2, 2) == _ISA_BRIDGE:
            for pin, line in enumerate(LINES):
                function.write_config(_ROUTES + pin, 1, line)
        command = function.number(COMMAND, 2)
        for bar in function.bars.values():
            at = ports if bar.is_io else memory
            at += -at % bar.size
            function.write_config(BAR0 + 4 * bar.number, 4, at)
            if bar.is_io:
                ports = at + bar.size
                command |= COMMAND_IO
            else:
                memory = at + bar.size
                command |= COMMAND_MEMORY
        pin = function.config[0x3D]
        if pin:
            function.write_config(INTERRUPT_LINE, 1, LINES[(slot + pin - 2) % 4])
        if function.bars:
            function.write_config(COMMAND, 2, command | COMMAND_MASTER)
