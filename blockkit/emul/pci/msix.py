"""MSI-X: a table of messages in a window of the function (PCI Local Bus Specification 3.0, 6.8.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.pci.function import Bar

if TYPE_CHECKING:
    from blockkit.emul.pci.function import PciFunction

_CAPABILITY: Final = 0x11
_CONTROL: Final = 2
_ENABLE, _MASK_ALL = 1 << 15, 1 << 14
_ENTRY: Final = 16
_VECTOR_CONTROL: Final = 12
#: Where the pending bits are in the window.
_PENDING: Final = 0x800
_WINDOW: Final = 0x1000


class MsixTable:
    """The table, the pending bits, and the capability that points to them.

    Args:
        function: Whose it is.
        bar: The number of the window.
        count: Messages, 1 to 128.
    """

    def __init__(self, function: PciFunction, bar: int, count: int) -> None:
        self._function, self._count = function, count
        self._table = bytearray()
        self._pending = 0
        body = (count - 1).to_bytes(2, "little") + bar.to_bytes(4, "little") + (_PENDING | bar).to_bytes(4, "little")
        self._at = function.add_capability(_CAPABILITY, body, writable=(_ENABLE | _MASK_ALL).to_bytes(2, "little"))
        function.add_bar(Bar(bar, _WINDOW, self))
        self.reset()

    def reset(self) -> None:
        """Mask all messages."""
        self._table = bytearray(_ENTRY * self._count)
        for number in range(self._count):
            self._table[number * _ENTRY + _VECTOR_CONTROL] = 1
        self._pending = 0

    @property
    def enabled(self) -> bool:
        """Whether messages take the place of the interrupt pin."""
        return bool(self._control & _ENABLE)

    @property
    def count(self) -> int:
        """How many messages there are."""
        return self._count

    @property
    def control_end(self) -> int:
        """Where its control word ends in configuration space: after a write there, :meth:`send_pending`."""
        return self._at + _CONTROL + 2

    @property
    def _control(self) -> int:
        return self._function.number(self._at + _CONTROL, 2)

    def send(self, number: int) -> None:
        """Send a message, or keep it pending while it is masked."""
        if number >= self._count or not self.enabled:
            return
        at = number * _ENTRY
        if self._control & _MASK_ALL or self._table[at + _VECTOR_CONTROL] & 1:
            self._pending |= 1 << number
            return
        address = int.from_bytes(self._table[at : at + 8], "little")
        self._function.message(address, int.from_bytes(self._table[at + 8 : at + 12], "little"))

    def send_pending(self) -> None:
        """Send what is not masked any more."""
        for number in range(self._count):
            if self._pending >> number & 1:
                self._pending &= ~(1 << number)
                self.send(number)

    def read(self, offset: int, size: int) -> int:
        """Read the table or the pending bits."""
        if offset + size <= len(self._table):
            return int.from_bytes(self._table[offset : offset + size], "little")
        if offset >= _PENDING:
            return self._pending >> 8 * (offset - _PENDING) & (1 << 8 * size) - 1
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Write the table."""
        if offset + size <= len(self._table):
            self._table[offset : offset + size] = value.to_bytes(size, "little")
            if self._pending:
                self.send_pending()

    def save(self) -> dict[str, Any]:
        """Return the table and what is pending."""
        return {"table": self._table.hex(), "pending": self._pending}

    def load(self, saved: dict[str, Any]) -> None:
        """Take them back."""
        self._table[:] = bytes.fromhex(saved["table"])
        self._pending = saved["pending"]
