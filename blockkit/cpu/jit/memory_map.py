"""The memory of a machine as native code finds it: regions with their addresses in this process."""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING

from blockkit.cpu.jit import layout
from blockkit.cpu.portable.memory import PAGE, Memory
from blockkit.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence

    from blockkit.cpu.accelerator import GuestBus

#: What is kept of each page's code: the pieces that are watched, and the newest block.
#: The fields of a page's marks.
_FIELDS, _BLOCKS, _PYTHON = layout.MARKS_SIZE // 8, layout.MARKS_BLOCKS // 8, layout.MARKS_PYTHON // 8


def address_of(memory: memoryview | mmap.mmap) -> int:
    """Return where a writable buffer lies."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class NativeMemory(Memory):
    """Python's view of memory, where the code that is watched is marked for native code too.

    Attributes:
        marked: Called when a page gets its first mark.
    """

    def __init__(self, slots: MutableSequence[int], bus: GuestBus, marked: Callable[[], None]) -> None:
        self.marked = marked
        #: First page, number of pages and marks of each writable region; and what must not be freed.
        self._maps: list[tuple[int, int, memoryview]] = []
        self._kept: list[object] = []
        super().__init__(slots, bus)

    def refresh(self) -> None:
        super().refresh()
        slots, before = self.slots, self._maps
        if len(self._regions) > layout.MOST_REGIONS:
            raise EmulationError(f"jit: {len(self._regions)} regions of memory, expected {layout.MOST_REGIONS} at most")
        self._maps, self._kept = [], [before]
        for index, region in enumerate(self._regions):
            memory = region.memory
            first, count = region.address // PAGE, len(memory) // PAGE
            if memory.readonly:
                copy = mmap.mmap(-1, len(memory))
                copy[:] = memory
                memory = memoryview(copy)
            marks = 0
            if region.writable:
                area = mmap.mmap(-1, count * layout.MARKS_SIZE)
                marks = address_of(area)
                self._maps.append((first, count, memoryview(area).cast("Q")))
                self._kept.append(area)
            self._kept.append(memory)
            at = layout.REGIONS + index * 4
            for offset, value in enumerate((first, count, address_of(memory), marks)):
                slots[at + offset] = value
        slots[layout.REGION_COUNT] = len(self._regions)

    def unmark_all(self) -> None:
        """Watch nothing any more."""
        for _, count, marks in self._maps:
            for number in range(0, count * _FIELDS, _FIELDS):
                if marks[number]:
                    marks[number] = marks[number + _BLOCKS] = marks[number + _PYTHON] = 0

    def _cell(self, number: int) -> tuple[memoryview, int] | None:
        for first, count, marks in self._maps:
            if first <= number < first + count:
                return marks, (number - first) * _FIELDS
        return None

    def _marks(self, number: int) -> int:
        found = self._cell(number)
        if found is None:
            return 0
        value = found[0][found[1]]
        assert isinstance(value, int)
        return value

    def _mark(self, number: int, marks: int) -> None:
        found = self._cell(number)
        if found is not None:
            before = found[0][found[1]]
            found[0][found[1]] = found[0][found[1] + _PYTHON] = marks
            if marks and not before:
                self.marked()
