"""A board for one processor: memory that tests reach into, devices that keep a record, and modes to start in."""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.accelerator import Region, Stop
from blockkit.cpu.cpuid import changes
from blockkit.cpu.dialect.plain import Fault
from blockkit.cpu.portable.vcpu import PortableVcpu

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PAGE: Final = 4096
RAM: Final = 1 << 20
#: Where page tables are made; nothing of a test lies there.
TABLES: Final = 0xC0000
#: Physical addresses from here on are devices, which no paging hides.
MMIO: Final = 0x200000

_PRESENT, _WRITABLE = 1, 2
#: Attributes of segments: accessed code or data, present; with 4 GiB and default sizes.
CODE_64, CODE_32, CODE_16 = 0xA09B, 0xC09B, 0x809B
DATA_32, DATA_16 = 0xC093, 0x8093

Access = tuple[str, int, int, int]


class Bus:
    """Memory from 0 to RAM, and devices everywhere else.

    Attributes:
        ram: The memory.
        accesses: What devices saw: what it was, address, size, and value.
        answer: Called with each of them; what it returns is what is read.
        vectors: What interrupts are acknowledged with, the next one last.
    """

    def __init__(self) -> None:
        self.ram = memoryview(mmap.mmap(-1, RAM))
        self.accesses: list[Access] = []
        self.answer: Callable[[Access], int] = lambda access: 0
        self.vectors: list[int] = []

    def memory_map(self) -> Sequence[Region]:
        return (Region(0, self.ram),)

    def mmio_read(self, address: int, size: int) -> int:
        return self._note("read", address, size, 0)

    def mmio_write(self, address: int, size: int, value: int) -> None:
        self._note("write", address, size, value)

    def port_read(self, port: int, size: int) -> int:
        return self._note("in", port, size, 0)

    def port_write(self, port: int, size: int, value: int) -> None:
        self._note("out", port, size, value)

    def has_port(self, port: int) -> bool:
        return True

    def acknowledge_interrupt(self) -> int:
        return self.vectors.pop()

    def _note(self, what: str, address: int, size: int, value: int) -> int:
        self.accesses.append((what, address, size, value))
        return self.answer(self.accesses[-1]) & (1 << 8 * size) - 1


class Observed(PortableVcpu):
    """A processor that stops at exceptions, as if after a triple fault, instead of delivering them.

    Attributes:
        fault: The one that :meth:`run` stopped at.
    """

    fault: Fault | None = None

    def _deliver(self, vector: int, error: int, kind: int) -> None:
        self.fault = Fault(vector, error)
        self.slots[state.HALT] = state.SHUTDOWN

    def run(self, budget: int) -> Stop:
        if self.fault is not None:
            self.fault = None
            self.slots[state.HALT] = 0
        return super().run(budget)

    @property
    def flags(self) -> int:
        return state.rflags(self.slots)

    @property
    def registers(self) -> list[int]:
        return list(self.slots[:16])


class Board:
    """A processor and its bus."""

    def __init__(self, make: Callable[[Bus], PortableVcpu] = Observed) -> None:
        self.bus = Bus()
        self.cpu = make(self.bus)
        self._tables = TABLES

    def write(self, address: int, data: bytes) -> None:
        """Write physical memory as a device does."""
        self.bus.ram[address : address + len(data)] = data
        self.cpu.memory_written(address, len(data))

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.bus.ram[address : address + size])

    def start(self, slots: list[int], registers: Sequence[int], rip: int, flags: int = state.ALWAYS) -> None:
        """Begin at ``rip`` in the mode of ``slots``, which are changed."""
        slots[: len(registers)] = registers
        slots[state.RIP] = rip
        state.set_rflags(slots, flags)
        mode = slots[state.MODE]
        self.cpu.set_state(slots)
        assert self.cpu.slots[state.MODE] == mode

    def tables(self, pages: Mapping[int, int]) -> int:
        """Make tables of four levels, and return where they are: linear to physical addresses of pages."""
        self._tables = TABLES
        top = self._table()
        for linear, physical in pages.items():
            table = top
            for shift in (39, 30, 21):
                entry = table + (linear >> shift & 511) * 8
                (found,) = struct.unpack_from("<Q", self.bus.ram, entry)
                if not found:
                    found = self._table() | _PRESENT | _WRITABLE
                    struct.pack_into("<Q", self.bus.ram, entry, found)
                table = found & ~0xFFF
            struct.pack_into("<Q", self.bus.ram, table + (linear >> 12 & 511) * 8, physical | _PRESENT | _WRITABLE)
        return top

    def _table(self) -> int:
        made = self._tables
        assert made < RAM
        self.write(made, bytes(PAGE))
        self._tables += PAGE
        return made


def new_state() -> list[int]:
    """Return the state of a processor that has all it may have."""
    slots = state.new_state()
    slots[state.CPUID_CHANGES : state.CPUID_CHANGES + 3] = changes("max")
    return slots


def long_mode(tables: int) -> list[int]:
    """Return a state in 64-bit mode, at privilege level 0."""
    slots = protected_mode()
    slots[state.CR0] |= state.CR0_PG
    slots[state.CR3] = tables
    slots[state.CR4] |= state.CR4_PAE
    slots[state.EFER] = state.EFER_LME | state.EFER_LMA | state.EFER_NXE
    slots[state.SEGMENT_ATTRIBUTES + state.CS] = CODE_64
    slots[state.MODE] = state.MODE_64 | state.MODE_FLAT | state.MODE_PROTECTED | state.MODE_STACK_32
    return slots


def protected_mode(code: int = CODE_32, stack: int = DATA_32) -> list[int]:
    """Return a state in protected mode without paging, at privilege level 0, all segments from 0 to 4 GiB.

    Args:
        code: Attributes of CS.
        stack: Attributes of SS.
    """
    slots = new_state()
    slots[state.CR0] = state.CR0_PE | state.CR0_ET | state.CR0_NE
    slots[state.CR4] = state.CR4_OSFXSR
    for segment in range(6):
        slots[state.SELECTORS + segment] = 8 * (segment + 1)
        slots[state.SEGMENT_LIMITS + segment] = 0xFFFFFFFF
        slots[state.SEGMENT_ATTRIBUTES + segment] = DATA_32
    slots[state.SEGMENT_ATTRIBUTES + state.CS] = code
    slots[state.SEGMENT_ATTRIBUTES + state.SS] = stack
    slots[state.MODE] = (
        (state.MODE_32 if code & 0x4000 else state.MODE_16)
        | (state.MODE_STACK_32 if stack & 0x4000 else 0)
        | state.MODE_FLAT
        | state.MODE_PROTECTED
    )
    return slots


def real_mode(selectors: Sequence[int]) -> list[int]:
    """Return a state in real mode, with the segments at ES, CS, SS, DS, FS, GS."""
    slots = new_state()
    slots[state.CR0] = state.CR0_ET
    slots[state.CR4] = state.CR4_OSFXSR
    for segment, selector in enumerate(selectors):
        slots[state.SELECTORS + segment] = selector
        slots[state.SEGMENT_BASES + segment] = selector << 4
        slots[state.SEGMENT_LIMITS + segment] = 0xFFFF
        slots[state.SEGMENT_ATTRIBUTES + segment] = 0x9B if segment == state.CS else 0x93
    slots[state.MODE] = state.MODE_16
    return slots


class LongBoard(Board):
    """64-bit mode with one page of data at a linear address, and code that ends where its page does.

    Nothing else is mapped: after the code comes #PF.
    """

    #: The linear page of code; where code and data are physically.
    PAGE_OF_CODE = 0x1000
    _CODE, _DATA = 0x5000, 0x8000

    def __init__(self, data: int) -> None:
        super().__init__()
        assert isinstance(self.cpu, Observed)
        self.observed = self.cpu
        self._slots = long_mode(self.tables({self.PAGE_OF_CODE: self._CODE, data: self._DATA}))

    def begin(self, data: bytes, code: bytes, registers: Sequence[int], flags: int = state.ALWAYS) -> Observed:
        """Begin at the first byte of ``code``."""
        self.write(self._CODE + PAGE - len(code), code)
        self.write(self._DATA, data)
        self.start(list(self._slots), registers, self.offset(code), flags)
        return self.observed

    def offset(self, code: bytes) -> int:
        return self.PAGE_OF_CODE + PAGE - len(code)

    @property
    def data(self) -> bytes:
        return self.read(self._DATA, PAGE)
