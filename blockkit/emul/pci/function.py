"""One function of a PCI device: its configuration space (PCI Local Bus Specification 3.0, chapter 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.spaces import Device

COMMAND, STATUS, REVISION, CLASS, HEADER_TYPE = 0x04, 0x06, 0x08, 0x09, 0x0E
BAR0, SUBSYSTEM, ROM, CAPABILITIES, INTERRUPT_LINE, INTERRUPT_PIN = 0x10, 0x2C, 0x30, 0x34, 0x3C, 0x3D
COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER, COMMAND_NO_INTX = 1 << 0, 1 << 1, 1 << 2, 1 << 10
STATUS_INTX, STATUS_CAPABILITIES = 1 << 3, 1 << 4
_BAR_IO, _BAR_64 = 1, 4
_SIZE: Final = 256
_FIRST_CAPABILITY: Final = 0x40


class Bar(NamedTuple):
    """A base address register.

    Attributes:
        number: 0 to 5; one of 64 bits takes the next number too.
        size: Bytes of its window, a power of two: of I/O at least 4, of memory at least 16.
        device: What answers there.
        is_io: It is a window of ports.
        is_64: Its address has 64 bits.
    """

    number: int
    size: int
    device: Device
    is_io: bool = False
    is_64: bool = False


class PciFunction:
    """A function, before it is put into a slot. Subclasses are the devices, and override the hooks.

    Args:
        vendor: Its ID.
        device: Its ID.
        class_code: 24 bits: class, subclass, programming interface.
        revision: Of the device.
        subsystem: Vendor and device of the subsystem.
        pin: The interrupt pin: 1 to 4 for INTA# to INTD#, 0 for none.

    Attributes:
        config: The configuration space.
        writable: The bits of it that the guest may change.
        clear_by_one: Those that it clears by writing ones.
        bars: By number.
        moved: Called when a window may have come, gone or moved; the bus sets it.
        intx: Drives the interrupt pin; the bus sets it.
        message: Sends a message-signalled interrupt, an address and 32 bits of data; the bus sets it.
    """

    def __init__(
        self,
        *,
        vendor: int,
        device: int,
        class_code: int,
        revision: int = 0,
        subsystem: tuple[int, int] = (0, 0),
        pin: int = 0,
    ) -> None:
        self.config = bytearray(_SIZE)
        self.writable = bytearray(_SIZE)
        self.clear_by_one = bytearray(_SIZE)
        self.bars: dict[int, Bar] = {}
        self.moved: Callable[[PciFunction], None] = lambda *_: None
        self.intx: Callable[[bool], None] = lambda *_: None
        self.message: Callable[[int, int], None] = lambda *_: None
        self._level = False
        self._next_capability = _FIRST_CAPABILITY
        self._initial: bytes | None = None
        self.declare(0x00, 2, vendor)
        self.declare(0x02, 2, device)
        self.declare(COMMAND, 2, 0, writable=COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_INTX)
        self.declare(STATUS, 2, 0, clear_by_one=0xF900)
        self.declare(REVISION, 1, revision)
        self.declare(CLASS, 3, class_code)
        self.declare(SUBSYSTEM, 2, subsystem[0])
        self.declare(SUBSYSTEM + 2, 2, subsystem[1])
        self.declare(INTERRUPT_LINE, 1, 0, writable=0xFF if pin else 0)
        self.declare(INTERRUPT_PIN, 1, pin)

    # -- what a device declares ----------------------------------------------------------------------------

    def declare(self, offset: int, size: int, value: int, *, writable: int = 0, clear_by_one: int = 0) -> None:
        """Declare a register: what it holds after reset, and which of its bits the guest changes, and how."""
        for data, number in ((self.config, value), (self.writable, writable), (self.clear_by_one, clear_by_one)):
            data[offset : offset + size] = number.to_bytes(size, "little")

    def add_bar(self, bar: Bar) -> None:
        """Declare a base address register."""
        self.bars[bar.number] = bar
        at = BAR0 + 4 * bar.number
        kind = _BAR_IO if bar.is_io else _BAR_64 if bar.is_64 else 0
        mask = -bar.size & ((1 << 64) - 1 if bar.is_64 else 0xFFFFFFFF)
        self.declare(at, 8 if bar.is_64 else 4, kind, writable=mask)

    def add_capability(self, number: int, body: bytes, writable: bytes = b"") -> int:
        """Add a capability to the list, at its end.

        Args:
            number: Its ID.
            body: What follows its ID and the pointer to the next one.
            writable: The bits of ``body`` that the guest may change.

        Returns:
            Its offset.
        """
        at = self._next_capability
        self._next_capability = at + 2 + len(body) + 3 & ~3
        self.config[at : at + 2 + len(body)] = bytes([number, 0]) + body
        self.writable[at + 2 : at + 2 + len(writable)] = writable
        if not self.config[CAPABILITIES]:
            self.config[CAPABILITIES] = at
            self.config[STATUS] |= STATUS_CAPABILITIES
        else:
            last = self.config[CAPABILITIES]
            while self.config[last + 1]:
                last = self.config[last + 1]
            self.config[last + 1] = at
        return at

    # -- what the bus does ---------------------------------------------------------------------------------

    def number(self, offset: int, size: int) -> int:
        """Return a register as the configuration space holds it."""
        return int.from_bytes(self.config[offset : offset + size], "little")

    def read_config(self, offset: int, size: int) -> int:
        """Read configuration space: 1, 2 or 4 bytes, aligned."""
        self.config[STATUS] = self.config[STATUS] & ~STATUS_INTX | (STATUS_INTX if self._level else 0)
        return self.number(offset, size)

    def write_config(self, offset: int, size: int, value: int) -> None:
        """Write it."""
        for at, byte in enumerate((value & (1 << 8 * size) - 1).to_bytes(size, "little"), offset):
            mask = self.writable[at]
            kept = self.config[at] & ~(byte & self.clear_by_one[at])
            self.config[at] = kept & ~mask | byte & mask
        if offset < BAR0 + 24 and offset + size > COMMAND:
            self.moved(self)
            self._drive()
        self.config_written(offset, size)

    def window(self, bar: Bar) -> int | None:
        """Return where a window is; None while it is nowhere."""
        command = self.number(COMMAND, 2)
        if not command & (COMMAND_IO if bar.is_io else COMMAND_MEMORY):
            return None
        base = self.number(BAR0 + 4 * bar.number, 8 if bar.is_64 else 4) & -bar.size
        # While it is sized, or was never set, it answers nowhere.
        if base == 0 or base + bar.size > (1 << 16 if bar.is_io else 1 << 40):
            return None
        return None if base == -bar.size & 0xFFFFFFFF and not bar.is_64 else base

    @property
    def may_master(self) -> bool:
        """Whether it may access memory by itself."""
        return bool(self.config[COMMAND] & COMMAND_MASTER)

    def save(self) -> dict[str, Any]:
        """Return the state; subclasses add theirs."""
        return {"config": self.config.hex()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        config = bytes.fromhex(saved["config"])
        if len(config) != _SIZE:
            raise ValueError(f"a configuration space of {len(config)} bytes, expected {_SIZE}")
        self.config[:] = config
        self.moved(self)

    def reset(self) -> None:
        """Become as after RST#: subclasses reset their registers, too."""
        if self._initial is None:
            self._initial = bytes(self.config)
        self.config[:] = self._initial
        self.set_interrupt(False)
        self.moved(self)

    # -- what a device does --------------------------------------------------------------------------------

    def set_interrupt(self, level: bool) -> None:
        """Drive the interrupt pin."""
        self._level = level
        self._drive()

    def _drive(self) -> None:
        self.intx(self._level and not self.number(COMMAND, 2) & COMMAND_NO_INTX)

    def config_written(self, offset: int, size: int) -> None:
        """Do what comes of a write of configuration space; a hook."""
