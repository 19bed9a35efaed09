"""What to call the devices and registers of a PC: by the I/O map of the AT, by PCI function, by data sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.emul.registers import RegisterBank

if TYPE_CHECKING:
    from blockkit.emul.pc import Pc
    from blockkit.emul.spaces import Window

#: Ports that are always at the same place, by the first.
_PORTS: Final = {
    0x20: "pic.0",
    0x60: "keyboard",
    0x64: "keyboard.control",
    0xA0: "pic.1",
    0x1F0: "ide.0",
    0x170: "ide.1",
    0x3F6: "ide.0.control",
    0x376: "ide.1.control",
    0x3F8: "serial",
    0x4D0: "pic.elcr",
    0x501: "exit",
    0xCF8: "pci.address",
    0xCFA: "pci.data",
}
#: Registers by their offsets, of devices that are no banks of registers: read and written.
_COMMAND_BLOCK: Final = (
    *("data", "error/features", "sector count", "lba low", "lba mid", "lba high", "device", "status/command"),
)
_UART: Final = ("data", "ier", "iir/fcr", "lcr", "mcr", "lsr", "msr", "scratch")
_REGISTERS: Final = {
    "ide.0": _COMMAND_BLOCK,
    "ide.1": _COMMAND_BLOCK,
    "ide.0.control": ("alternate status/device control",),
    "ide.1.control": ("alternate status/device control",),
    "serial": _UART,
}
_BUS_MASTER: Final = {0: "command", 2: "status", 4: "prd table"}
_VIRTIO: Final = {0x0000: "common", 0x1000: "isr", 0x2000: "config", 0x3000: "notify"}
_PAGE: Final = 0xFFF


class Names:
    """Names of what is behind windows.

    Args:
        pc: The machine.
    """

    def __init__(self, pc: Pc) -> None:
        functions = {id(device): name for name, device in pc.devices().items()}
        #: By the device behind a base address register: the function's name, and whether the window is of ports.
        self._bars: dict[int, tuple[str, bool]] = {}
        for function in pc.pci.functions().values():
            name = functions.get(id(function), type(function).__name__.lower())
            for bar in function.bars.values():
                self._bars[id(bar.device)] = (f"{name}.bar{bar.number}", bar.is_io)

    def device(self, window: Window) -> str:
        """Return what to call the device behind a window."""
        device = window.device
        own = getattr(device, "name", "")
        if isinstance(own, str) and own:
            return own
        if id(device) in self._bars:
            return self._bars[id(device)][0]
        return _PORTS.get(window.base) or type(device).__name__.lower()

    def register(self, window: Window, offset: int, is_write: bool) -> str:
        """Return the data sheet's name of a register, if it is known; its offset otherwise."""
        device = window.device
        if isinstance(device, RegisterBank) and (name := device.register_at(offset, is_write)):
            return name
        known = _REGISTERS.get(_PORTS.get(window.base, ""), ())
        if offset < len(known):
            return known[offset]
        bar, is_io = self._bars.get(id(device), ("", False))
        if bar.startswith("ide."):
            return f"{_BUS_MASTER.get(offset & 7, f'+{offset:x}')} {offset >> 3}"
        if bar and not is_io and offset & ~_PAGE in _VIRTIO and bar.startswith("drive"):
            return f"{_VIRTIO[offset & ~_PAGE]} +{offset & _PAGE:x}"
        return f"+{offset:x}"
