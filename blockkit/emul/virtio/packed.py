"""Packed virtqueues: one ring, in which descriptors are made available and are used (virtio 1.2, 2.8)."""

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
_USED: Final = struct.Struct("<IH")
_EVENT: Final = struct.Struct("<HH")
_WORD: Final = struct.Struct("<H")
_AVAILABLE, _USED_FLAG, _WRITTEN = 1 << 7, 1 << 15, 2
_FLAGS: Final = 14
#: Of the event suppression structure: interrupts for all, for none, for one descriptor.
_ENABLE, _DISABLE, _DESCRIPTOR_EVENT = range(3)
_WRAP_BIT: Final = 1 << 15


class PackedQueue(Queue):
    """See :class:`Queue`."""

    def __init__(self, memory: GuestMemory, layout: QueueLayout, *, event_index: bool, indirect: bool) -> None:
        super().__init__(memory, layout, event_index=event_index, indirect=indirect)
        self._ring = memory.view(layout.descriptors, 16 * layout.size)
        self._driver = memory.view(layout.driver, 4)
        self._device = memory.view(layout.device, 4)
        self._next = self._put = 0
        self._next_wrap = self._put_wrap = True
        #: Descriptors that were used since the driver was last told.
        self._since = 0
        _EVENT.pack_into(self._device, 0, 0, _ENABLE)

    def take(self) -> Chain | None:
        (flags,) = _WORD.unpack_from(self._ring, 16 * self._next + _FLAGS)
        available, used = bool(flags & _AVAILABLE), bool(flags & _USED_FLAG)
        if available is not self._next_wrap or used is self._next_wrap:
            return None
        found = list(self._ring_descriptors())
        self._next += len(found)
        if self._next >= self.layout.size:
            self._next -= self.layout.size
            self._next_wrap = not self._next_wrap
        return self.chain(found[-1].link, len(found), self._with_table(found))

    def _ring_descriptors(self) -> Iterator[Descriptor]:
        index, steps = self._next, 0
        while True:
            found = Descriptor(*self._unpack(self._ring, index))
            yield found
            steps += 1
            if not found.flags & NEXT:
                return
            if steps >= self.layout.size:
                raise GuestError(f"a chain of over {self.layout.size} descriptors")
            index = (index + 1) % self.layout.size

    @staticmethod
    def _unpack(ring: memoryview, index: int) -> tuple[int, int, int, int]:
        address, length, identity, flags = _DESCRIPTOR.unpack_from(ring, 16 * index)
        return address, length, flags, identity

    def _with_table(self, several: list[Descriptor]) -> Iterator[Descriptor]:
        for found in several:
            if not found.flags & INDIRECT:
                yield found
                continue
            table, count = self.table(found)
            for index in range(count):
                # NEXT means nothing in there (2.8.7).
                inner = Descriptor(*self._unpack(table, index))
                if inner.flags & INDIRECT:
                    raise GuestError("an indirect table in an indirect table")
                yield inner

    def put(self, chain: Chain, written: int) -> None:
        flags = (_AVAILABLE | _USED_FLAG) if self._put_wrap else 0
        at = 16 * self._put
        _USED.pack_into(self._ring, at + 8, written, chain.head)
        _WORD.pack_into(self._ring, at + _FLAGS, flags | (_WRITTEN if written else 0))
        self._put += chain.slots
        self._since += chain.slots
        if self._put >= self.layout.size:
            self._put -= self.layout.size
            self._put_wrap = not self._put_wrap

    def wants_interrupt(self) -> bool:
        since, self._since = self._since, 0
        offset, flags = map(int, _EVENT.unpack(self._driver))
        if flags & 3 != _DESCRIPTOR_EVENT or not self.event_index:
            return flags & 3 != _DISABLE
        # Positions, as if the ring went on for ever (2.8.10).
        size = self.layout.size
        event = offset & ~_WRAP_BIT
        if bool(offset & _WRAP_BIT) is not self._put_wrap:
            event -= size
        return 0 <= self._put - event - 1 < since

    def save(self) -> list[int]:
        return [self._next, self._put, int(self._next_wrap), int(self._put_wrap), self._since]

    def load(self, saved: list[int]) -> None:
        self._next, self._put = saved[:2]
        self._next_wrap, self._put_wrap, self._since = bool(saved[2]), bool(saved[3]), saved[4]
