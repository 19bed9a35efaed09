"""Address spaces: which device answers at which address."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable


class Device(Protocol):
    """What answers accesses; offsets are into its own window, and it never raises for what a guest does."""

    def read(self, offset: int, size: int) -> int:
        """Return ``size`` bytes, little-endian."""
        ...

    def write(self, offset: int, size: int, value: int) -> None:
        """Take them."""
        ...


class Window(NamedTuple):
    """Addresses of a device.

    Attributes:
        base: The first.
        size: How many.
        device: It.
    """

    base: int
    size: int
    device: Device


class AddressSpace:
    """Windows that do not overlap; where there is none, reads give ones and writes nothing.

    Args:
        name: For messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._windows: list[Window] = []
        self._bases: list[int] = []

    def map(self, base: int, size: int, device: Device) -> None:
        """Add a window; raises EmulationError where another one is."""
        if not self.is_free(base, size):
            raise EmulationError(f"{self.name}: {base:#x} to {base + size - 1:#x} is another device's already")
        at = bisect_right(self._bases, base)
        self._windows.insert(at, Window(base, size, device))
        self._bases.insert(at, base)

    def is_free(self, base: int, size: int) -> bool:
        """Whether no window is there."""
        at = bisect_right(self._bases, base)
        around = self._windows[max(at - 1, 0) : at + 1]
        return all(other.base >= base + size or base >= other.base + other.size for other in around)

    def unmap(self, base: int) -> None:
        """Remove the window that begins at ``base``."""
        at = self._bases.index(base)
        del self._windows[at], self._bases[at]

    def find(self, address: int) -> Window | None:
        """Return the window an address is in."""
        at = bisect_right(self._bases, address) - 1
        if at < 0:
            return None
        window = self._windows[at]
        return window if address < window.base + window.size else None

    def read(self, address: int, size: int) -> int:
        """Read ``size`` bytes."""
        window = self.find(address)
        if window is None:
            return (1 << 8 * size) - 1
        return window.device.read(address - window.base, size) & (1 << 8 * size) - 1

    def write(self, address: int, size: int, value: int) -> None:
        """Write them."""
        window = self.find(address)
        if window is not None:
            window.device.write(address - window.base, size, value)


class Ports:
    """A device made of two functions.

    Args:
        read: Called with offset and size.
        write: Called with offset, size and value.
    """

    def __init__(
        self,
        read: Callable[[int, int], int] = lambda _, size: (1 << 8 * size) - 1,
        write: Callable[[int, int, int], None] = lambda *_: None,
    ) -> None:
        self.read, self.write = read, write
