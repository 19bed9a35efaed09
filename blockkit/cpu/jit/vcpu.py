"""A processor that runs native code, and leaves to Python what is rare."""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.jit import layout
from blockkit.cpu.jit.memory_map import NativeMemory, address_of
from blockkit.cpu.portable.blocks import LONGEST
from blockkit.cpu.portable.vcpu import PortableVcpu

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence
    from typing import Any

    from blockkit.cpu.accelerator import GuestBus
    from blockkit.cpu.jit.elf import Loaded
    from blockkit.cpu.portable.memory import Memory

#: Instructions between two looks at whether somebody kicked.
_SLICE: Final = 2_000_000
#: Bytes for blocks; when they are used up all blocks are forgotten.
_ARENA: Final = 64 << 20
_BLOCK_ENTRIES: Final = 1 << 18
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
    """

    def __init__(self, bus: GuestBus, loaded: Loaded) -> None:
        self._loaded = loaded
        self._symbols = symbols = loaded.symbols
        self._failure: BaseException | None = None
        self._area = mmap.mmap(-1, layout.ALL_SLOTS * 8)
        self._state = address_of(self._area)
        self._arena = mmap.mmap(-1, _ARENA)
        self._table = mmap.mmap(-1, _BLOCK_ENTRIES * layout.BLOCK_ENTRY)
        self._enter = _VOID(symbols["enter"])
        self._deliver_event = _EVENT(symbols["deliver_event"])
        for name in ("mend_block", "set_key", "forget_all_translations", "forget_all_jumps", "forget_all_writes"):
            setattr(self, f"_{name}", _SIMPLE(symbols[name]))
        self._forget_code_page = _WITH_NUMBER(symbols["forget_code_page"])
        super().__init__(bus)
        self._install()

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
        self._callbacks = []
        for number, function in (
            (layout.MMIO_READ, lambda address, size, _: bus.mmio_read(address, size)),
            (layout.MMIO_WRITE, bus.mmio_write),
            (layout.PORT_IN, lambda port, size, _: bus.port_read(port, size)),
            (layout.PORT_OUT, bus.port_write),
            (layout.CODE_WRITTEN, lambda address, _, __: self.memory.forget(address >> 12)),
        ):
            callback = _CALLBACK(self._guarded(function))
            self._callbacks.append(callback)
            slots[number] = ctypes.cast(callback, ctypes.c_void_p).value or 0
        self._forget_all()

    def _guarded(self, function: Callable[[int, int, int], int | None]) -> Callable[[int, int, int], int]:
        """Return a function that raises nothing: what it would is raised when native code is left."""

        def call(first: int, second: int, third: int) -> int:
            try:
                return (function(first, second, third) or 0) & (1 << 64) - 1
            except BaseException as error:
                self._failure = self._failure or error
                self.slots[layout.STOP] = 1
                return 0

        return call

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
        start = address_of(self._arena)
        # Records begin at multiples of their size.
        slots[layout.ARENA_NEXT] = start + -start % layout.RECORD_SIZE
        slots[layout.ARENA_END] = start + _ARENA
        slots[layout.BLOCKS_USED] = slots[layout.PATCHED] = 0
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
            self._run_native(min(left - LONGEST, _SLICE), 0)
        else:
            self._run_native(0, left)

    def _run_native(self, left: int, short: int) -> None:
        """Execute blocks until less than nothing is left, or what there is in one of ``short`` instructions."""
        slots = self.slots
        slots[layout.LEFT], slots[layout.LIMIT] = left, slots[state.EXECUTED] + left
        slots[layout.SHORT] = short
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
