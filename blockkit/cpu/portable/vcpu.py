"""A processor that runs code block by block, each translated to a Python function when it is first met."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.accelerator import Stop
from blockkit.cpu.dialect import plain
from blockkit.cpu.dialect.plain import Fault
from blockkit.cpu.portable import packed
from blockkit.cpu.portable.blocks import LONGEST, Block, translate
from blockkit.cpu.portable.breakpoints import Breakpoints
from blockkit.cpu.portable.memory import PAGE, Memory, Redo
from blockkit.cpu.reset import reset
from blockkit.cpu.system import MODULES
from blockkit.cpu.system.paging import IMPLICIT

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence, Sequence

    from blockkit.cpu.accelerator import GuestBus

#: Blocks that are kept at most; then all are forgotten.
_MOST_BLOCKS: Final = 50_000

_EXTERNAL, _EXCEPTION = 0, 1
_SHUTDOWN_VECTOR: Final = 255
_NMI: Final = 2
_DR6_SINGLE_STEP: Final = 1 << 14


class PortableVcpu:
    """See :class:`blockkit.cpu.accelerator.Vcpu`.

    Attributes:
        slots: The state; its arithmetic flags are as the last instruction left them.
        port_time: Units of virtual time that an access to a port takes beside those of its instruction.
    """

    #: Instructions between two looks at whether somebody kicked.
    _slice = 20_000

    def __init__(self, bus: GuestBus) -> None:
        self.bus = bus
        self.slots = self._new_slots()
        self.memory = self._new_memory()
        self._interrupt = self._nmi = self._kicked = False
        self.port_time = 0
        self.task_priority_changed: Callable[[int], None] = lambda _: None
        #: The CR8 that everybody knows.
        self._told_priority = 0
        #: What ports took since it was last added to EXECUTED.
        self._waited = 0
        #: What is known by RIP alone, for each way to come there; and everything, by physical address.
        self._jumps: dict[tuple[int, ...], dict[int, Block]] = {}
        self._blocks: dict[tuple[int, ...], Block] = {}
        self._keys: dict[int, set[tuple[int, ...]]] = {}
        self._breakpoints = Breakpoints(self.slots)
        self._watching = False
        self._scope = self._bind()
        self._rights = self._scope["rights_now"]
        self.memory.walk = self._scope["walk"]
        self.memory.code_changed = self._forget_page
        self.reset()

    def _new_slots(self) -> MutableSequence[int]:
        return state.new_state()

    def _new_memory(self) -> Memory:
        return Memory(self.slots, self.bus)

    def _bind(self) -> dict[str, Callable[..., int]]:
        """Return the system code, bound to this processor."""
        slots, memory = self.slots, self.memory
        accesses = memory.accesses

        def load(address: int, size: int) -> int:
            return self._accesses()[0](address, size)

        def store(address: int, size: int, value: int) -> None:
            self._accesses()[1](address, size, value)

        def probe_store(address: int, size: int) -> None:
            memory.probe(address, size, self._rights())

        def copy_elements(source: int, target: int, size: int, count: int) -> int:
            return 0 if self._watching else memory.copy(source, target, size, count, self._rights())

        def fill_elements(target: int, size: int, count: int, value: int) -> int:
            return 0 if self._watching else memory.fill(target, size, count, value, self._rights())

        environment: dict[str, Callable[..., int | None]] = {
            "copy_elements": copy_elements,
            "fill_elements": fill_elements,
            "load": load,
            "store": store,
            "load_system": accesses[IMPLICIT][0],
            "store_system": accesses[IMPLICIT][1],
            "probe_store": probe_store,
            "read_physical": memory.read_physical,
            "write_physical": memory.write_physical,
            "port_in": self._port_in,
            "port_out": self._port_out,
            "flush_tlb": self._flush,
            "flush_page": self._flush_page,
        }
        scope = plain.functions([import_module(name) for name in MODULES], slots, environment)
        return scope | {f"packed_{name}": function for name, function in packed.FUNCTIONS.items()}

    # -- what a machine calls ------------------------------------------------------------------------------

    @property
    def executed(self) -> int:
        """Instructions since the processor was made and time that was skipped, also while it runs."""
        return self.slots[state.EXECUTED]

    def skip(self, units: int) -> None:
        """Let virtual time pass in which nothing is executed."""
        self.slots[state.EXECUTED] += units

    def set_interrupt_line(self, level: bool) -> None:
        """Raise or lower INTR."""
        self._interrupt = level

    def set_task_priority(self, value: int) -> None:
        """Set CR8."""
        self.slots[state.CR8] = self._told_priority = value

    def inject_nmi(self) -> None:
        """Raise NMI once."""
        self._nmi = True

    def kick(self) -> None:
        """Make :meth:`run` return soon; from any thread."""
        self._kicked = True

    def reset(self) -> None:
        """Bring the processor to the state after RESET."""
        executed = self.slots[state.EXECUTED]
        reset(self.slots)
        self.slots[state.EXECUTED] = executed
        self._interrupt = self._nmi = False
        self._told_priority = 0
        self._flush(1)

    def get_state(self) -> list[int]:
        """Return all slots."""
        slots = list(self.slots[: state.SLOTS])
        state.set_rflags(slots, state.rflags(slots))
        return slots

    def set_state(self, slots: Sequence[int]) -> None:
        """Set them."""
        for number, value in enumerate(slots):
            self.slots[number] = value
        self._told_priority = self.slots[state.CR8]
        self._scope["update_mode"]()
        self._flush(1)

    def memory_map_changed(self) -> None:
        """Ask the bus for its memory again."""
        self.memory.refresh()
        self._forget_all()

    def port_map_changed(self) -> None:
        """Learn that other ports are answered now: nothing is remembered of them."""

    def memory_written(self, address: int, size: int) -> None:
        """Learn that somebody else wrote memory."""
        self.memory.written(address, size)

    # -- running -------------------------------------------------------------------------------------------

    def run(self, budget: int) -> Stop:
        """Execute ``budget`` instructions, exactly, unless something else ends it before."""
        slots = self.slots
        end = slots[state.EXECUTED] + budget
        while True:
            if self._waited:
                slots[state.EXECUTED] += self._waited
                self._waited = 0
            # Before anybody else has a word: whoever saves the machine then saves what the local APIC knows.
            if slots[state.CR8] != self._told_priority:
                self._told_priority = slots[state.CR8]
                self.task_priority_changed(self._told_priority)
            if slots[state.EXECUTED] >= end:
                return Stop.BUDGET
            if self._kicked:
                self._kicked = False
                return Stop.KICKED
            if slots[state.SHADOW]:
                slots[state.SHADOW] = 0
                self._run_alone()
                continue
            if (self._interrupt or self._nmi) and self._take_interrupt():
                continue
            if slots[state.HALT]:
                return Stop.SHUTDOWN if slots[state.HALT] == state.SHUTDOWN else Stop.HALTED
            if slots[state.MODE] & (state.MODE_TRAP | state.MODE_BREAK):
                self._run_alone()
                continue
            self._run_blocks(min(end, slots[state.EXECUTED] + self._slice))

    def _accesses(self) -> tuple[Callable[[int, int], int], Callable[[int, int, int], None]]:
        """Return how an instruction loads and stores now."""
        found = self.memory.accesses[self._rights()]
        return self._breakpoints.watching(*found) if self._watching else found

    def _take_interrupt(self) -> bool:
        """Deliver an NMI or an interrupt, if one may be taken now."""
        slots = self.slots
        if slots[state.HALT] == state.SHUTDOWN:
            return False
        if self._nmi and not slots[state.NMI_BLOCKED]:
            self._nmi = False
            slots[state.NMI_BLOCKED] = 1
            vector = _NMI
        elif self._interrupt and slots[state.SYSTEM_FLAGS] & state.IF:
            vector = self.bus.acknowledge_interrupt()
        else:
            return False
        slots[state.HALT] = 0
        self._deliver(vector, 0, _EXTERNAL)
        return True

    def _run_blocks(self, end: int) -> None:
        """Execute until ``end``, or until something has to be looked at."""
        slots = self.slots
        jump = self._jump()
        load, store = self._accesses()
        executed = slots[state.EXECUTED]
        block: Block | None = None
        try:
            while executed < end:
                block = jump.get(slots[16])
                if block is None:
                    block = self._find(jump)
                length = block.length
                turns = (end - executed) // length
                if not turns:
                    self._run_alone()
                    return
                count = block.run(slots, load, store, turns)
                if count < 0:
                    slots[state.EXECUTED] = executed + length
                    return
                executed += count * length
                slots[state.EXECUTED] = executed
        except Fault as fault:
            if block is not None:
                block.restore(slots, fault, executed)
            self._raise(fault)
        except Redo as redo:
            assert block is not None
            block.restore(slots, redo, executed)
            self._run_alone()

    def _run_alone(self) -> None:
        """Execute one instruction, which may touch anything."""
        slots, memory = self.slots, self.memory
        mode, flags, before = slots[state.MODE], slots[state.SYSTEM_FLAGS], slots[state.EXECUTED]
        self._watching = bool(mode & state.MODE_BREAK)
        if self._watching and self._breakpoints.begin(self._linear_now()):
            slots[state.DEBUG + 6] |= self._breakpoints.hit
            self._deliver(state.DEBUG_EXCEPTION, 0, _EXCEPTION)
            return
        block: Block | None = None
        memory.alone = True
        try:
            block = self._find(None)
            block.run(slots, *self._accesses(), 1)
            slots[state.EXECUTED] = before + 1
        except Fault as fault:
            if block is not None:
                block.restore(slots, fault, before)
            self._raise(fault)
            return
        finally:
            memory.alone = self._watching = False
        if mode & (state.MODE_TRAP | state.MODE_BREAK):
            self._trap(mode, flags, block.last)

    def _trap(self, mode: int, flags: int, name: str) -> None:
        """Do what comes after an instruction that was looked at: single steps, and breakpoints on data."""
        slots = self.slots
        if flags & state.RF and not name.startswith("IRET"):
            slots[state.SYSTEM_FLAGS] &= ~state.RF
        found = self._breakpoints.hit if mode & state.MODE_BREAK else 0
        # Software interrupts clear TF; nothing comes between MOV SS and the next instruction.
        if mode & state.MODE_TRAP and not name.startswith("INT") and slots[state.SHADOW] < 2:
            found |= _DR6_SINGLE_STEP
        if found:
            slots[state.DEBUG + 6] |= found
            self._deliver(state.DEBUG_EXCEPTION, 0, _EXCEPTION)

    # -- exceptions ------------------------------------------------------------------------------------------

    def _raise(self, fault: Fault) -> None:
        self._deliver(fault.vector, fault.error, _EXCEPTION)

    def _deliver(self, vector: int, error: int, kind: int) -> None:
        """Deliver an exception or an interrupt, and those that come of it; it takes the time of an instruction."""
        slots, memory, scope = self.slots, self.memory, self._scope
        slots[state.EXECUTED] += 1
        memory.alone = True
        try:
            while True:
                try:
                    scope["deliver"](vector, error, int(vector in state.WITH_ERROR and kind == _EXCEPTION), kind)
                    return
                except Fault as second:
                    first = vector if kind == _EXCEPTION else _NMI
                    vector = scope["combine_faults"](first, second.vector)
                    error = 0 if vector == state.DOUBLE_FAULT else second.error
                    kind = _EXCEPTION
                    if vector == _SHUTDOWN_VECTOR:
                        slots[state.HALT] = state.SHUTDOWN
                        return
        finally:
            memory.alone = False

    # -- blocks ----------------------------------------------------------------------------------------------

    def _jump(self) -> dict[int, Block]:
        """Return the blocks known by RIP as things are now."""
        slots = self.slots
        key = (
            slots[state.MODE],
            slots[state.CPL],
            slots[state.SEGMENT_BASES + state.CS],
            slots[state.SEGMENT_LIMITS + state.CS],
        )
        jump = self._jumps.get(key)
        if jump is None:
            jump = self._jumps[key] = {}
        return jump

    def _find(self, jump: dict[int, Block] | None) -> Block:
        """Return the block at RIP; only its first instruction without ``jump``, to which it is added otherwise."""
        slots = self.slots
        rip, mode = slots[state.RIP], slots[state.MODE]
        limit = (1 << 64) - 1 if mode & state.MODE_64 else slots[state.SEGMENT_LIMITS + state.CS]
        physical, page = self.memory.fetch_page(self._linear(rip, limit))
        longest = 1 if jump is None or page is None else LONGEST
        key = (physical, rip, mode, limit, longest)
        block = self._blocks.get(key)
        if block is None:
            room = PAGE - physical % PAGE
            block = translate(rip, mode, room, longest, self._fetcher(limit), self._scope)
            if block.bytes > room or page is None:
                # What the rest of it is depends on another page, or on a device.
                if page is not None:
                    self._watch(physical, room, key)
                return block
            if len(self._blocks) >= _MOST_BLOCKS:
                self._forget_all()
            self._blocks[key] = block
            self._watch(physical, block.bytes, key)
        if jump is not None:
            jump[rip] = block
        return block

    def _watch(self, physical: int, size: int, key: tuple[int, ...]) -> None:
        self.memory.watch(physical, size)
        self._keys.setdefault(physical >> 12, set()).add(key)

    def _linear_now(self) -> int:
        """Return the linear address of the next instruction."""
        slots = self.slots
        base = 0 if slots[state.MODE] & state.MODE_64 else slots[state.SEGMENT_BASES + state.CS]
        return base + slots[state.RIP] & (1 << 64) - 1

    def _linear(self, offset: int, limit: int) -> int:
        """Return the linear address of code."""
        if offset > limit:
            raise Fault(state.PROTECTION)
        if self.slots[state.MODE] & state.MODE_64:
            return offset
        return self.slots[state.SEGMENT_BASES + state.CS] + offset & 0xFFFFFFFF

    def _fetcher(self, limit: int) -> Callable[[int, int], bytes]:
        def fetch(offset: int, size: int) -> bytes:
            physical, page = self.memory.fetch_page(self._linear(offset, limit))
            at = physical % PAGE
            size = min(size, PAGE - at, limit - offset + 1)
            if page is None:
                return b"\xff" * size
            return bytes(page[at : at + size])

        return fetch

    def _forget_page(self, number: int) -> None:
        """Forget the blocks of a physical page: it was written."""
        for key in self._keys.pop(number, ()):
            self._blocks.pop(key, None)
        self._jumps.clear()

    def _forget_all(self) -> None:
        self._blocks.clear()
        self._jumps.clear()

    # -- for system code -------------------------------------------------------------------------------------

    def _flush(self, everything: int) -> None:
        self.memory.flush()
        self._jumps.clear()

    def _flush_page(self, address: int) -> None:
        self.memory.flush_page(address)
        self._jumps.clear()

    def _port_in(self, port: int, size: int) -> int:
        if self._watching:
            self._breakpoints.port(port, size)
        self._waited += self.port_time
        return self.bus.port_read(port, size)

    def _port_out(self, port: int, size: int, value: int) -> None:
        if self._watching:
            self._breakpoints.port(port, size)
        self._waited += self.port_time
        self.bus.port_write(port, size, value)
