"""Memory as the processor's instructions see it: linear addresses, translated page by page and remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.dialect.plain import Fault
from blockkit.cpu.system.paging import ALLOWED, IMPLICIT, READ, SUPERVISOR, USER, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence, Sequence

    from blockkit.cpu.accelerator import GuestBus, Region

PAGE: Final = 4096
#: Code is watched in pieces of so many bytes.
_GRANULE_BITS: Final = 6
_CANONICAL: Final = 1 << 47


_RIGHTS: Final = (SUPERVISOR, USER, IMPLICIT, ALLOWED)


class Redo(Exception):  # noqa: N818 - no error
    """The instruction touches MMIO or code: it has to run again from its start, alone."""


class Memory:
    """What loads, stores and fetches of one processor go to.

    Args:
        slots: Its state.
        bus: What lies outside.

    Attributes:
        alone: An instruction runs by itself, and may touch MMIO and code.
        walk: Translates a linear address; see :func:`blockkit.cpu.system.paging.walk`.
        code_changed: Called with a physical page whose code is written.
    """

    def __init__(self, slots: MutableSequence[int], bus: GuestBus) -> None:
        self.slots, self.bus = slots, bus
        self.alone = False
        self.walk: Callable[[int, int, int], int]
        self.code_changed: Callable[[int], None]
        self._pages: dict[int, tuple[memoryview, bool] | None] = {}
        self._regions: Sequence[Region] = ()
        #: Physical page to the granules that hold code, a bit each.
        self._code: dict[int, int] = {}
        self._reads: list[dict[int, memoryview]] = [{} for _ in _RIGHTS]
        self._writes: list[dict[int, memoryview]] = [{} for _ in _RIGHTS]
        #: ``(load, store)`` with each kind of rights.
        self.accesses = [self._bind(rights) for rights in _RIGHTS]
        self.refresh()

    def refresh(self) -> None:
        """Ask the bus which addresses are memory."""
        self._regions = self.bus.memory_map()
        self._pages.clear()
        self.flush()

    # -- translations --------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Forget all translations."""
        for each in (*self._reads, *self._writes):
            each.clear()

    def flush_page(self, address: int) -> None:
        """Forget those of one page."""
        for each in (*self._reads, *self._writes):
            each.pop(address >> 12, None)

    def page(self, number: int) -> tuple[memoryview, bool] | None:
        """Return the bytes of a physical page and whether they can be written; None where no memory is."""
        try:
            return self._pages[number]
        except KeyError:
            pass
        found, address = None, number * PAGE
        for region in self._regions:
            if region.address <= address < region.address + len(region.memory):
                start = address - region.address
                found = (region.memory[start : start + PAGE], region.writable)
        self._pages[number] = found
        return found

    def forget_writes(self) -> None:
        """Make every store look first whether there is code."""
        for each in self._writes:
            each.clear()

    # -- code ------------------------------------------------------------------------------------------------

    def watch(self, address: int, size: int) -> None:
        """Watch ``size`` bytes of code at a physical address, all in one page."""
        number = address >> 12
        marks = self._marks(number)
        if not marks:
            self.forget_writes()
        self._mark(number, marks | _granules(address, size))

    def written(self, address: int, size: int) -> None:
        """Learn that somebody wrote physical memory."""
        while size > 0:
            piece = min(size, PAGE - address % PAGE)
            if self._marks(address >> 12) & _granules(address, piece):
                self.forget(address >> 12)
            address, size = address + piece, size - piece

    def forget(self, number: int) -> None:
        """Forget the code of a physical page: it is written."""
        self._mark(number, 0)
        self.code_changed(number)

    def _marks(self, number: int) -> int:
        """Return the granules of a physical page that hold code, a bit each."""
        return self._code.get(number, 0)

    def _mark(self, number: int, marks: int) -> None:
        if marks:
            self._code[number] = marks
        else:
            self._code.pop(number, None)

    # -- physical ----------------------------------------------------------------------------------------------

    def read_physical(self, address: int, size: int) -> int:
        """Read inside a page; all ones where no memory is."""
        found = self.page(address >> 12)
        if found is None:
            return (1 << 8 * size) - 1
        at = address % PAGE
        return int.from_bytes(found[0][at : at + size], "little")

    def write_physical(self, address: int, size: int, value: int) -> None:
        """Write inside a page."""
        found = self.page(address >> 12)
        if found is not None and found[1]:
            at = address % PAGE
            found[0][at : at + size] = value.to_bytes(size, "little")
            self.written(address, size)

    # -- linear ------------------------------------------------------------------------------------------------

    def fetch_page(self, address: int) -> tuple[int, memoryview | None]:
        """Return the physical address of code, and the bytes of its page; None where no memory is."""
        self._check(address)
        physical = self.walk(address, 2, USER if self.slots[state.CPL] == 3 else SUPERVISOR)
        found = self.page(physical >> 12)
        return physical, found[0] if found else None

    def _check(self, address: int) -> None:
        if address + _CANONICAL >> 48 & 0xFFFF:
            raise Fault(state.PROTECTION)

    def _bind(self, rights: int) -> tuple[Callable[[int, int], int], Callable[[int, int, int], None]]:
        """Return how to load and to store with some rights."""
        reads, writes = self._reads[rights], self._writes[rights]
        number = int.from_bytes

        def load(address: int, size: int) -> int:
            page = reads.get(address >> 12)
            at = address & 4095
            if page is None or at + size > 4096:
                return slow_load(address, size)
            return number(page[at : at + size], "little")

        def store(address: int, size: int, value: int) -> None:
            page = writes.get(address >> 12)
            at = address & 4095
            if page is None or at + size > 4096:
                slow_store(address, size, value)
            else:
                page[at : at + size] = value.to_bytes(size, "little")

        def slow_load(address: int, size: int) -> int:
            self._check(address)
            if address % PAGE + size > PAGE:
                self._check(address + size - 1 & (1 << 64) - 1)
                several = (load(self._beyond(address + index), 1) << 8 * index for index in range(size))
                return sum(several)
            physical = self.walk(address, READ, rights)
            found = self.page(physical >> 12)
            if found is None:
                return self._mmio_read(physical, size)
            reads[address >> 12] = found[0]
            at = address % PAGE
            return number(found[0][at : at + size], "little")

        def slow_store(address: int, size: int, value: int) -> None:
            self._check(address)
            if address % PAGE + size > PAGE:
                last = self._beyond(address + size - 1)
                self._check(last)
                # Both pages first, so that of a fault nothing is written.
                for each in (address, last):
                    self._touch(self.walk(each, WRITE, rights), 1)
                for index in range(size):
                    store(self._beyond(address + index), 1, value >> 8 * index & 0xFF)
                return
            physical = self.walk(address, WRITE, rights)
            found = self._touch(physical, size)
            if found is None or not found[1]:
                self._mmio_write(physical, size, value)
            else:
                at = address % PAGE
                found[0][at : at + size] = value.to_bytes(size, "little")
                if not self._marks(physical >> 12):
                    writes[address >> 12] = found[0]

        return load, store

    def _beyond(self, address: int) -> int:
        """Return a linear address that may have wrapped round."""
        return address & (1 << (64 if self.slots[state.MODE] & state.MODE_64 else 32)) - 1

    def _touch(self, physical: int, size: int) -> tuple[memoryview, bool] | None:
        """Prepare for a write: of code, MMIO and ROM only by an instruction that runs alone."""
        found = self.page(physical >> 12)
        if found is None or not found[1]:
            if not self.alone:
                raise Redo
        elif self._marks(physical >> 12) & _granules(physical, size):
            if not self.alone:
                raise Redo
            self.forget(physical >> 12)
        return found

    def probe(self, address: int, size: int, rights: int) -> None:
        """Fault as a store would."""
        last = self._beyond(address + size - 1)
        self._check(address)
        self.walk(address, WRITE, rights)
        if last >> 12 != address >> 12:
            self._check(last)
            self.walk(last, WRITE, rights)

    def copy(self, source: int, target: int, size: int, count: int, rights: int) -> int:
        """Copy elements upwards as loads and stores would, if both pages are in use; return how many.

        It goes no further than to the end of a page, nor to what it has written itself.
        """
        read, write = self._reads[rights].get(source >> 12), self._writes[rights].get(target >> 12)
        if read is None or write is None:
            return 0
        first, to = source % PAGE, target % PAGE
        count = min(count, (PAGE - max(first, to)) // size)
        if read is write and first < to:
            count = min(count, (to - first) // size)
        write[to : to + count * size] = read[first : first + count * size]
        return count

    def fill(self, target: int, size: int, count: int, value: int, rights: int) -> int:
        """Store a number again and again, likewise."""
        write = self._writes[rights].get(target >> 12)
        if write is None:
            return 0
        to = target % PAGE
        count = min(count, (PAGE - to) // size)
        write[to : to + count * size] = value.to_bytes(size, "little") * count
        return count

    def _mmio_read(self, physical: int, size: int) -> int:
        if not self.alone:
            raise Redo
        if size == 16:
            return self.bus.mmio_read(physical, 8) | self.bus.mmio_read(physical + 8, 8) << 64
        return self.bus.mmio_read(physical, size)

    def _mmio_write(self, physical: int, size: int, value: int) -> None:
        if size == 16:
            self.bus.mmio_write(physical, 8, value & (1 << 64) - 1)
            self.bus.mmio_write(physical + 8, 8, value >> 64)
        else:
            self.bus.mmio_write(physical, size, value)


def _granules(address: int, size: int) -> int:
    """Return the granules of a page that some bytes touch, a bit each."""
    first, last = address % PAGE >> _GRANULE_BITS, (address % PAGE + size - 1) >> _GRANULE_BITS
    return (2 << last) - (1 << first)
