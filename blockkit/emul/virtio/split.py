"""Split virtqueues: a table of descriptors, a ring of what is available, and one of what is used (virtio 1.2, 2.7)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blockkit.emul.memory import GuestError
from blockkit.emul.virtio.queue import INDIRECT, NEXT, Chain, Descriptor, Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.emul.memory import GuestMemory
    from blockkit.emul.virtio.queue import QueueLayout

_DESCRIPTOR: Final = struct.Struct("<QIHH")
_USED: Final = struct.Struct("<II")
_WORD: Final = struct.Struct("<H")
_NO_INTERRUPT: Final = 1
_WRAP: Final = 0xFFFF
#: Where the index and the entries of a ring are.
_INDEX, _RING = 2, 4


class SplitQueue(Queue):
    """See :class:`Queue`. A queue's size is a power of two."""

    def __init__(self, memory: GuestMemory, layout: QueueLayout, *, event_index: bool, indirect: bool) -> None:
        super().__init__(memory, layout, event_index=event_index, indirect=indirect)
        size = layout.size
        if size & (size - 1):
            raise GuestError(f"a split queue of {size} entries, expected a power of two")
        self._mask = size - 1
        self._table = memory.view(layout.descriptors, 16 * size)
        # Behind the entries is a word for the event that the other side waits for (2.7.7).
        self._available = memory.view(layout.driver, 6 + 2 * size)
        self._used = memory.view(layout.device, 6 + 8 * size)
        self._next = self._put = self._told = 0

    def take(self) -> Chain | None:
        (end,) = _WORD.unpack_from(self._available, _INDEX)
        if self._next == end:
            return None
        if end - self._next & _WRAP > self.layout.size:
            raise GuestError(f"{end - self._next & _WRAP} chains in a queue of {self.layout.size}")
        (head,) = _WORD.unpack_from(self._available, _RING + 2 * (self._next & self._mask))
        self._next = self._next + 1 & _WRAP
        if self.event_index:
            # The next kick that is wanted: for whatever comes next.
            _WORD.pack_into(self._used, _RING + 8 * self.layout.size, self._next)
        if head >= self.layout.size:
            raise GuestError(f"a chain that begins at {head} in a queue of {self.layout.size}")
        return self.chain(head, 1, self._descriptors(head))

    def _descriptors(self, head: int) -> Iterator[Descriptor]:
        """Yield the descriptors of a chain, those of an indirect table in its place."""
        table, count, index = self._table, self.layout.size, head
        steps = 0
        while True:
            found = Descriptor(*_DESCRIPTOR.unpack_from(table, 16 * index))
            if found.flags & INDIRECT:
                if table is not self._table:
                    raise GuestError("an indirect table in an indirect table")
                table, count = self.table(found)
                index = steps = 0
                continue
            yield found
            steps += 1
            if not found.flags & NEXT:
                return
            index = found.link
            if index >= count or steps >= count:
                raise GuestError(f"a chain that goes on at {index} after {steps} of {count} descriptors")

    def put(self, chain: Chain, written: int) -> None:
        _USED.pack_into(self._used, _RING + 8 * (self._put & self._mask), chain.head, written)
        self._put = self._put + 1 & _WRAP
        _WORD.pack_into(self._used, _INDEX, self._put)

    def wants_interrupt(self) -> bool:
        before, self._told = self._told, self._put
        if self.event_index:
            (event,) = _WORD.unpack_from(self._available, _RING + 2 * self.layout.size)
            return bool(self._put - event - 1 & _WRAP < self._put - before & _WRAP)
        (flags,) = _WORD.unpack_from(self._available, 0)
        return not flags & _NO_INTERRUPT

    def save(self) -> list[int]:
        return [self._next, self._put, self._told]

    def load(self, saved: list[int]) -> None:
        self._next, self._put, self._told = saved
