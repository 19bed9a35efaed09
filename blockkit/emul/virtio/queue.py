"""What every virtqueue is: chains of buffers that a driver makes available and a device uses (virtio 1.2, 2.6)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.emul.memory import GuestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blockkit.emul.memory import GuestMemory

NEXT, WRITE, INDIRECT = 1, 2, 4
DESCRIPTOR_SIZE: Final = 16
#: The largest queue there may be (2.7).
LARGEST: Final = 32768
#: Descriptors that a chain may have, and the bytes they may be in all, whatever a driver says.
_MOST_DESCRIPTORS: Final = 1024
_MOST_BYTES: Final = 1 << 30


class Descriptor(NamedTuple):
    """One buffer.

    Attributes:
        address: Where it is.
        length: In bytes.
        flags: NEXT, WRITE, INDIRECT.
        link: The next one of a split ring; the buffer's ID in a packed ring.
    """

    address: int
    length: int
    flags: int
    link: int


class Chain(NamedTuple):
    """Buffers that belong together.

    Attributes:
        head: What the driver knows them by.
        slots: How many entries of the ring they take.
        readable: What the driver wrote for the device.
        writable: What the device may write, with its addresses.
    """

    head: int
    slots: int
    readable: list[memoryview]
    writable: list[tuple[int, memoryview]]


class QueueLayout(NamedTuple):
    """Where a queue is.

    Attributes:
        size: Entries.
        descriptors: The descriptor area.
        driver: The driver area: the available ring, or its events.
        device: The device area: the used ring, or its events.
    """

    size: int
    descriptors: int
    driver: int
    device: int


class Queue(ABC):
    """A virtqueue that is in use.

    Args:
        memory: Where it lies.
        layout: Where in it.
        event_index: VIRTIO_F_EVENT_IDX was negotiated.
        indirect: VIRTIO_F_INDIRECT_DESC was.
    """

    def __init__(self, memory: GuestMemory, layout: QueueLayout, *, event_index: bool, indirect: bool) -> None:
        if not 0 < layout.size <= LARGEST:
            raise GuestError(f"a queue of {layout.size} entries")
        self.memory, self.layout = memory, layout
        self.event_index, self.indirect = event_index, indirect

    @abstractmethod
    def take(self) -> Chain | None:
        """Return the next chain, if there is one; raises GuestError where the driver broke the rules."""

    @abstractmethod
    def put(self, chain: Chain, written: int) -> None:
        """Give a chain back, of which ``written`` bytes were written."""

    @abstractmethod
    def wants_interrupt(self) -> bool:
        """Whether the driver wants to hear of what was put since this was last asked."""

    @abstractmethod
    def save(self) -> list[int]:
        """Return where in its rings the device is."""

    @abstractmethod
    def load(self, saved: list[int]) -> None:
        """Go on there."""

    def chain(self, head: int, slots: int, descriptors: Iterable[Descriptor]) -> Chain:
        """Return the buffers of descriptors; raises GuestError for those that are no RAM, or out of order."""
        readable: list[memoryview] = []
        writable: list[tuple[int, memoryview]] = []
        total, view = 0, self.memory.view
        for address, length, flags, _ in descriptors:
            total += length
            if total > _MOST_BYTES or len(readable) + len(writable) >= _MOST_DESCRIPTORS:
                raise GuestError(f"a chain of over {_MOST_DESCRIPTORS} descriptors or {_MOST_BYTES} bytes")
            if flags & WRITE:
                writable.append((address, view(address, length)))
            elif writable:
                raise GuestError("a buffer to read behind one to write")
            else:
                readable.append(view(address, length))
        return Chain(head, slots, readable, writable)

    def table(self, found: Descriptor) -> tuple[memoryview, int]:
        """Return an indirect table and how many descriptors it has; raises GuestError for one that is not allowed."""
        if not self.indirect or found.flags & NEXT or found.length % DESCRIPTOR_SIZE:
            raise GuestError(f"an indirect table of {found.length} bytes with flags {found.flags:#x}")
        count = found.length // DESCRIPTOR_SIZE
        if not 0 < count <= _MOST_DESCRIPTORS:
            raise GuestError(f"an indirect table of {count} descriptors")
        return self.memory.view(found.address, found.length), count
