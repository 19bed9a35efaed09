"""A processor that runs native code, and leaves to Python what is rare."""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.jit import layout
from blockkit.cpu.jit.hot import ROOM, HotBlocks
from blockkit.cpu.jit.memory_map import NativeMemory, address_of
from blockkit.cpu.jit.near import NearMemory
from blockkit.cpu.portable.blocks import LONGEST
from blockkit.cpu.portable.vcpu import PortableVcpu

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence
    from typing import Any

    from blockkit.cpu.accelerator import GuestBus
    from blockkit.cpu.portable.memory import Memory
    from blockkit.native.elf import Loaded

#: Bytes for blocks; when they are used up all blocks are forgotten.
_ARENA: Final = 64 << 20
_BLOCK_ENTRIES: Final = 1 << 18
_PORTS: Final = 1 << 16
_VOID: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_SIMPLE: Final = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_WITH_NUMBER: Final = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)
_EVENT: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
_CALLBACK: Final = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)


class JitVcpu(PortableVcpu):
    """See :class:`blockkit.cpu.accelerator.Vcpu`.

    Args:
        bus: What lies outside.
        loaded: The native functions, which stay in memory as long as the processor does.
        stencils: The object file of the stencils.
    """

    def __init__(self, bus: GuestBus, loaded: Loaded, stencils: bytes) -> None:
        self._loaded = loaded
        self._symbols = symbols = loaded.symbols
        self._failure: BaseException | None = None
        self._area = mmap.mmap(-1, layout.ALL_SLOTS * 8)
        self._state = address_of(self._area)
        self._arena = NearMemory(_ARENA + ROOM, symbols["enter"])
        self._absent_ports = mmap.mmap(-1, _PORTS)
        self._known_ports: set[int] = set()
        self._table = mmap.mmap(-1, _BLOCK_ENTRIES * layout.BLOCK_ENTRY)
        self._enter = _VOID(symbols["enter"])
        self._deliver_event = _EVENT(symbols["deliver_event"])
        for name in ("mend_block", "set_key", "forget_all_translations", "forget_all_jumps", "forget_all_writes"):
            setattr(self, f"_{name}", _SIMPLE(symbols[name]))
        self._forget_code_page = _WITH_NUMBER(symbols["forget_code_page"])
        super().__init__(bus)
        self._hot = HotBlocks(self.slots, self._arena, _ARENA, self._symbols, stencils)
        self._install()

    #: Native code is left anyway when there is something to look at.
    _slice = 1 << 40

    _mend_block: Callable[[int], None]
    _set_key: Callable[[int], None]
    _forget_all_translations: Callable[[int], None]
    _forget_all_jumps: Callable[[int], None]
    _forget_all_writes: Callable[[int], None]

    def _new_slots(self) -> MutableSequence[int]:
        slots: Any = memoryview(self._area).cast("Q")
        return slots  # type: ignore[no-any-return]

    def _new_memory(self) -> Memory:
        return NativeMemory(self.slots, self.bus, lambda: self._forget_all_writes(self._state))

    def _install(self) -> None:
        """Tell native code where everything is."""
        slots, bus = self.slots, self.bus
        slots[layout.STATE] = self._state
        slots[layout.HANDLERS] = self._symbols["handlers"]
        slots[layout.BLOCKS], slots[layout.BLOCKS_MASK] = address_of(self._table), _BLOCK_ENTRIES - 1
        mmio_read, port_read, port_write = bus.mmio_read, bus.port_read, bus.port_write
        slots[layout.ABSENT_PORTS] = address_of(self._absent_ports)

        def read_port(port: int, size: int, _: int) -> int:
            if port not in self._known_ports:
                self._learn_port(port)
            return port_read(port, size)

        def write_port(port: int, size: int, value: int) -> None:
            if port not in self._known_ports:
                self._learn_port(port)
            port_write(port, size, value)

        self._callbacks = [
            _CALLBACK(self._asking(lambda address, size, _: mmio_read(address, size))),
            _CALLBACK(self._telling(bus.mmio_write)),
            _CALLBACK(self._asking(read_port)),
            _CALLBACK(self._telling(write_port)),
            _CALLBACK(self._telling(lambda address, *_: self.memory.forget(address >> 12))),
        ]
        numbers = (layout.MMIO_READ, layout.MMIO_WRITE, layout.PORT_IN, layout.PORT_OUT, layout.CODE_WRITTEN)
        for number, callback in zip(numbers, self._callbacks, strict=True):
            slots[number] = ctypes.cast(callback, ctypes.c_void_p).value or 0
        self._forget_all()

    # What functions of Python would raise is raised when native code is left: nothing may be raised through it.

    def _asking(self, function: Callable[[int, int, int], int]) -> Callable[[int, int, int], int]:
        def call(first: int, second: int, third: int) -> int:
            try:
                return function(first, second, third)
            except BaseException as error:
                self._fail(error)
                return 0

        return call

    def _telling(self, function: Callable[[int, int, int], None]) -> Callable[[int, int, int], int]:
        def call(first: int, second: int, third: int) -> int:
            try:
                function(first, second, third)
            except BaseException as error:
                self._fail(error)
            return 0

        return call

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self.slots[layout.STOP] = 1

    def _learn_port(self, port: int) -> None:
        """Have native code pass over a port where nothing answers."""
        self._known_ports.add(port)
        self._absent_ports[port] = 0 if self.bus.has_port(port) else 1

    def port_map_changed(self) -> None:
        self._known_ports.clear()
        self._absent_ports[:] = bytes(_PORTS)

    # -- what changes --------------------------------------------------------------------------------------

    def set_interrupt_line(self, level: bool) -> None:
        super().set_interrupt_line(level)
        self._set_pending()

    def inject_nmi(self) -> None:
        super().inject_nmi()
        self._set_pending()

    def _set_pending(self) -> None:
        self.slots[layout.PENDING] = 2 if self._nmi else int(self._interrupt)

    def _forget_page(self, number: int) -> None:
        super()._forget_page(number)
        self._forget_code_page(self._state, number << 12)

    def _forget_all(self) -> None:
        super()._forget_all()
        slots = self.slots
        start = self._arena.address
        # Records begin at multiples of their size.
        slots[layout.ARENA_NEXT] = start + -start % layout.RECORD_SIZE
        slots[layout.ARENA_END] = start + _ARENA
        slots[layout.BLOCKS_USED] = slots[layout.PATCHED] = 0
        if hasattr(self, "_hot"):
            self._hot.forget()
        self._table[:] = bytes(len(self._table))
        if isinstance(self.memory, NativeMemory):
            self.memory.unmark_all()
        self._forget_all_jumps(self._state)
        self._forget_all_translations(self._state)

    def kick(self) -> None:
        super().kick()
        self.slots[layout.STOP] = 1

    def _flush(self, everything: int) -> None:
        super()._flush(everything)
        self._forget_all_translations(self._state)

    def _flush_page(self, address: int) -> None:
        super()._flush_page(address)
        self._forget_all_translations(self._state)

    def _forget_contexts(self) -> None:
        for place in range(layout.CONTEXTS, layout.CONTEXTS + layout.MOST_CONTEXTS * layout.CONTEXT_SLOTS):
            self.slots[place] = 0

    # -- running -------------------------------------------------------------------------------------------

    def _run_blocks(self, end: int) -> None:
        left = end - self.slots[state.EXECUTED]
        if left > LONGEST:
            self._run_native(min(left - LONGEST, self._hot.slice), 0)
            self._hot.sample()
        else:
            self._run_native(0, left)

    def _run_alone(self) -> None:
        # Native code does not tell which pages it has found code in.
        self.memory.forget_writes()
        super()._run_alone()

    def _run_native(self, left: int, short: int) -> None:
        """Execute blocks until less than nothing is left, or what there is in one of ``short`` instructions."""
        slots = self.slots
        slots[layout.LEFT], slots[layout.LIMIT] = left, slots[state.EXECUTED] + left
        slots[layout.SHORT] = short
        slots[layout.PORT_TIME] = self.port_time
        slots[layout.TOLD_PRIORITY] = self._told_priority
        slots[state.ATTENTION] = 0
        self._set_key(self._state)
        self._enter(self._state, 0)
        self._mend_block(self._state)
        self._catch_up()
        reason = slots[layout.EXIT]
        if reason == layout.FALLBACK:
            self._run_alone()
        elif reason == layout.FULL:
            self._forget_all()

    def _catch_up(self) -> None:
        """Learn in Python what native code did; raises what a callback raised."""
        slots = self.slots
        slots[layout.STOP] = int(self._kicked)
        # Whoever runs on looks around anyway.
        slots[state.ATTENTION] = 0
        if slots[layout.STALE]:
            slots[layout.STALE] = 0
            super()._flush(1)
            self._forget_contexts()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _deliver(self, vector: int, error: int, kind: int) -> None:
        slots = self.slots
        slots[state.EXECUTED] += 1
        self._deliver_event(self._state, vector, error, kind)
        self._catch_up()
