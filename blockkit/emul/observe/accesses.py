"""Every access of the guest to a register of a device, seen where the processor leaves for it.

Where no device is, nothing is seen: a processor need not leave for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blockkit.emul.registers import RegisterBank

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.machine import Bus
    from blockkit.emul.spaces import AddressSpace, Window


class Access(NamedTuple):
    """One access.

    Attributes:
        device: What answers there, as :func:`device_name` calls it.
        space: ``ports`` or ``memory``.
        address: Of the register.
        offset: In the device's window.
        register: The register's name, or its offset.
        is_write: Whether it writes.
        size: Bytes.
        value: What was written or read.
    """

    device: str
    space: str
    address: int
    offset: int
    register: str
    is_write: bool
    size: int
    value: int


def device_name(window: Window) -> str:
    """Return what to call the device behind a window: its ``name``, or that of its class."""
    device = window.device
    name = getattr(device, "name", "")
    return name if isinstance(name, str) and name else type(device).__name__.lower()


def register_name(window: Window, offset: int, is_write: bool) -> str:
    """Return what the data sheet calls a register, where the device is a bank of registers; else its offset."""
    device = window.device
    if isinstance(device, RegisterBank):
        name = device.register_at(offset, is_write)
        if name:
            return name
    return f"+{offset:x}"


class AccessObserver:
    """Tells of every access until it is closed.

    Args:
        bus: The machine's.
        before: Called before the device has done it, with the value that is written, or 0.
        after: Called after that, with the value that was read or written.
    """

    def __init__(self, bus: Bus, before: Callable[[Access], None], after: Callable[[Access], None]) -> None:
        self._before, self._after = before, after
        self._were: list[tuple[AddressSpace, Callable[[int, int], int], Callable[[int, int, int], None]]] = []
        for space in (bus.ports, bus.memory):
            self._watch(space)

    def _watch(self, space: AddressSpace) -> None:
        find, read, write = space.find, space.read, space.write
        self._were.append((space, read, write))
        before, after = self._before, self._after
        names: dict[tuple[object, int, bool], tuple[str, str]] = {}

        def describe(window: Window, address: int, size: int, value: int, is_write: bool) -> Access:
            offset = address - window.base
            key = (window.device, offset, is_write)
            found = names.get(key)
            if found is None:
                found = names[key] = (device_name(window), register_name(window, offset, is_write))
            return Access(found[0], space.name, address, offset, found[1], is_write, size, value)

        def observed_read(address: int, size: int) -> int:
            window = find(address)
            if window is None:
                return read(address, size)
            access = describe(window, address, size, 0, False)
            before(access)
            value = read(address, size)
            after(access._replace(value=value))
            return value

        def observed_write(address: int, size: int, value: int) -> None:
            window = find(address)
            if window is None:
                write(address, size, value)
                return
            access = describe(window, address, size, value, True)
            before(access)
            write(address, size, value)
            after(access)

        space.read, space.write = observed_read, observed_write  # type: ignore[method-assign]

    def close(self) -> None:
        """Look away; of several observers, the last one first."""
        for space, read, write in self._were:
            space.read, space.write = read, write  # type: ignore[method-assign, assignment]
