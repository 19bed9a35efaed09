"""A virtio device, whatever its transport: features, status and queues (virtio 1.2, chapters 2 and 3)."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.memory import GuestError
from blockkit.emul.virtio.packed import PackedQueue
from blockkit.emul.virtio.split import SplitQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.memory import GuestMemory
    from blockkit.emul.virtio.queue import Chain, Queue, QueueLayout

_log = logging.getLogger(__name__)

#: Device status bits (2.1).
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
#: Features that all devices may have (chapter 6), as numbers of bits.
NOTIFY_ON_EMPTY, ANY_LAYOUT, INDIRECT_DESC, EVENT_IDX, VERSION_1, RING_PACKED = 24, 27, 28, 29, 32, 34


class VirtioDevice(ABC):
    """What is the same for all devices. Their transport calls it, and gives it ``notify_driver`` and ``broken``.

    Args:
        memory: Where queues and buffers lie.
        features: The bits that the device offers beside those of all devices.
        queues: How many queues it has.
        queue_size: Entries of each at most.
        packed: Offer packed rings.

    Attributes:
        device_id: The type (chapter 5).
        offered: All features that are offered.
        accepted: Those that the driver chose.
        status: The device status.
        notify_driver: Called with the number of a queue whose driver wants to hear of it.
        broken: Called when the device needs a reset.
    """

    device_id: int

    def __init__(self, memory: GuestMemory, *, features: int, queues: int, queue_size: int, packed: bool) -> None:
        self.memory, self.queue_count, self.queue_size = memory, queues, queue_size
        common = (1 << ANY_LAYOUT) | (1 << INDIRECT_DESC) | (1 << EVENT_IDX) | (1 << VERSION_1)
        self.offered: Final = features | common | (1 << RING_PACKED if packed else 0)
        self.notify_driver: Callable[[int], None] = lambda _: None
        self.broken: Callable[[], None] = lambda: None
        self.accepted = self.status = 0
        self.queues: dict[int, Queue] = {}
        #: Counts resets: what was begun before one is nobody's any more.
        self.generation = 0

    def has(self, feature: int) -> bool:
        """Whether a feature was negotiated."""
        return bool(self.accepted >> feature & 1)

    def reset(self) -> None:
        """Become as after power-on; requests that are on their way are forgotten."""
        self.generation += 1
        self.accepted = self.status = 0
        self.queues.clear()

    def choose(self, features: int) -> bool:
        """Take the features that the driver chose; whether that is possible."""
        if features & ~self.offered:
            return False
        self.accepted = features
        return True

    def open_queue(self, number: int, layout: QueueLayout) -> None:
        """Begin to use a queue; a layout that cannot be breaks the device."""
        kind = PackedQueue if self.has(RING_PACKED) else SplitQueue
        try:
            self.queues[number] = kind(
                self.memory, layout, event_index=self.has(EVENT_IDX), indirect=self.has(INDIRECT_DESC)
            )
        except GuestError as error:
            self.fail(str(error))

    def kick(self, number: int) -> None:
        """Serve what is available in a queue."""
        queue = self.queues.get(number)
        if queue is None or not self.status & DRIVER_OK or self.status & NEEDS_RESET:
            return
        try:
            while (chain := queue.take()) is not None:
                self.serve(number, chain)
        except GuestError as error:
            self.fail(str(error))

    def fail(self, why: str) -> None:
        """Do nothing more until the driver resets the device (2.1.2)."""
        _log.warning("virtio: the guest broke a rule: %s", why)
        self.status |= NEEDS_RESET
        self.broken()

    def give_back(self, number: int, chain: Chain, written: int) -> None:
        """Put a chain into the used ring, and tell the driver if it wants to know."""
        queue = self.queues.get(number)
        if queue is None:
            return
        queue.put(chain, written)
        if queue.wants_interrupt():
            self.notify_driver(number)

    @abstractmethod
    def serve(self, number: int, chain: Chain) -> None:
        """Do what a chain asks for, now or later, and give it back; raises GuestError."""

    @abstractmethod
    def read_config(self, offset: int, size: int) -> int:
        """Read device-specific configuration."""

    @abstractmethod
    def write_config(self, offset: int, size: int, value: int) -> None:
        """Write it."""

    def save(self) -> dict[str, Any]:
        """Return the state, with queues, as JSON can hold it."""
        queues = [[number, *queue.layout, queue.save()] for number, queue in sorted(self.queues.items())]
        return {"accepted": self.accepted, "status": self.status, "queues": queues}

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from it."""
        from blockkit.emul.virtio.queue import QueueLayout

        self.reset()
        self.accepted, self.status = saved["accepted"], saved["status"]
        for number, size, descriptors, driver, device, places in saved["queues"]:
            self.open_queue(number, QueueLayout(size, descriptors, driver, device))
            self.queues[number].load(places)
