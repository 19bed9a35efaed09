"""Every access of the guest to a register of a device, seen where the processor leaves for it.

Where no device is, nothing is seen: a processor need not leave for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blockkit.emul.observe.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.pc import Pc
    from blockkit.emul.spaces import AddressSpace, Window


class Access(NamedTuple):
    """One access.

    Attributes:
        device: What answers there, as :class:`~blockkit.emul.observe.names.Names` calls it.
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


class AccessObserver:
    """Tells of every access until it is closed.

    Args:
        pc: The machine.
        before: Called before the device has done it, with the value that is written, or 0.
        after: Called after that, with the value that was read or written.
    """

    def __init__(self, pc: Pc, before: Callable[[Access], None], after: Callable[[Access], None]) -> None:
        self._before, self._after = before, after
        self._were: list[tuple[AddressSpace, Callable[[int, int], int], Callable[[int, int, int], None]]] = []
        self._names = Names(pc)
        for space in (pc.bus.ports, pc.bus.memory):
            self._watch(space)

    def _watch(self, space: AddressSpace) -> None:
        find, read, write = space.find, space.read, space.write
        self._were.append((space, read, write))
        before, after, known = self._before, self._after, self._names
        names: dict[tuple[object, int, bool], tuple[str, str]] = {}

        def describe(window: Window, address: int, size: int, value: int, is_write: bool) -> Access:
            offset = address - window.base
            key = (window.device, offset, is_write)
            found = names.get(key)
            if found is None:
                found = names[key] = (known.device(window), known.register(window, offset, is_write))
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
