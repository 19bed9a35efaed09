"""Address spaces: which device answers at which address."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable


#: Addresses that are remembered at most.
_MOST_KNOWN: Final = 4096


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

    Attributes:
        changed: Called when a window has come or gone.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._windows: list[Window] = []
        self._bases: list[int] = []
        self.changed: Callable[[], None] = lambda: None
        #: What reads and what writes at an address that was used before, and where its window begins.
        self._known: dict[int, tuple[Callable[[int, int], int], Callable[[int, int, int], None], int]] = {}

    def map(self, base: int, size: int, device: Device) -> None:
        """Add a window; raises EmulationError where another one is."""
        if not self.is_free(base, size):
            raise EmulationError(f"{self.name}: {base:#x} to {base + size - 1:#x} is another device's already")
        at = bisect_right(self._bases, base)
        self._windows.insert(at, Window(base, size, device))
        self._bases.insert(at, base)
        self._known.clear()
        self.changed()

    def is_free(self, base: int, size: int) -> bool:
        """Whether no window is there."""
        at = bisect_right(self._bases, base)
        around = self._windows[max(at - 1, 0) : at + 1]
        return all(other.base >= base + size or base >= other.base + other.size for other in around)

    def unmap(self, base: int) -> None:
        """Remove the window that begins at ``base``."""
        at = self._bases.index(base)
        del self._windows[at], self._bases[at]
        self._known.clear()
        self.changed()

    def find(self, address: int) -> Window | None:
        """Return the window an address is in."""
        at = bisect_right(self._bases, address) - 1
        if at < 0:
            return None
        window = self._windows[at]
        return window if address < window.base + window.size else None

    def _learn(self, address: int) -> tuple[Callable[[int, int], int], Callable[[int, int, int], None], int]:
        """Find the window an address is in, and remember it: accesses are many, addresses few."""
        window = self.find(address)
        device = _NOTHING if window is None else window.device
        found = device.read, device.write, address if window is None else window.base
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[address] = found
        return found

    def read(self, address: int, size: int) -> int:
        """Read ``size`` bytes."""
        read, _, base = self._known.get(address) or self._learn(address)
        return read(address - base, size) & (1 << 8 * size) - 1

    def write(self, address: int, size: int, value: int) -> None:
        """Write them."""
        _, write, base = self._known.get(address) or self._learn(address)
        write(address - base, size, value)


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


_NOTHING: Final = Ports()
