"""Running code block by block, each translated to a Python function when it is first met."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Protocol

from blockkit.cpu import state
from blockkit.cpu.isa.decode import (
    MAX_LENGTH,
    DecodeError,
    Instruction,
    TooLongError,
    TruncatedError,
    decode,
)
from blockkit.cpu.portable.source import PythonSource
from blockkit.cpu.sem.table import ENDS, semantics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Instructions of one block at most.
_MAX_BLOCK: Final = 32

UNDEFINED: Final = 6
PROTECTION: Final = 13


class Memory(Protocol):
    """Memory at linear addresses."""

    def load(self, address: int, size: int) -> int:
        """Read a number of ``size`` bytes, lowest first; raises :class:`Fault` where there is nothing."""
        ...

    def store(self, address: int, size: int, value: int) -> None:
        """Write one; either all of it or nothing."""
        ...

    def fetch(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of code, or as many as can be read, at least one; raises :class:`Fault`."""
        ...


class Fault(Exception):  # noqa: N818 - what the SDM calls it
    """An exception of the processor; the state is as it was before the instruction that raised it.

    Attributes:
        vector: Its number.
        error: Its error code; None for those without.
    """

    def __init__(self, vector: int, error: int | None = None) -> None:
        super().__init__(vector, error)
        self.vector, self.error = vector, error


class Stop(enum.Enum):
    """Why :meth:`Engine.run` came back."""

    BUDGET = "budget"  #: so many instructions have run
    FAULT = "fault"  #: an exception, which nobody delivers yet


class _Start:
    """Where an instruction starts in its block.

    Attributes:
        line: Of the function.
        offset: In the code segment.
        slots: What the slots hold there: expressions over the function's variables.
    """

    __slots__ = ("line", "offset", "slots")

    def __init__(self, line: int, offset: int, slots: dict[int, str]) -> None:
        self.line, self.offset, self.slots = line, offset, slots


class _Block:
    """One translated block.

    Attributes:
        run: What executes it, and returns how often it did.
        starts: Its instructions.
        carried: The slots that a later turn finds in the variables ``r0``, ``r1`` and so on.
        length: How many instructions.
    """

    __slots__ = ("carried", "length", "run", "starts")

    def __init__(self, run: Callable[..., int], starts: list[_Start], carried: list[int]) -> None:
        self.run, self.starts, self.carried, self.length = run, starts, carried, len(starts)


class Engine:
    """A processor in 64-bit mode with flat segments.

    Args:
        memory: What loads, stores and fetches go to.

    Attributes:
        state: The slots; see :mod:`blockkit.cpu.state`.
        fault: What :data:`Stop.FAULT` was about.
        executed: Instructions that have run to their ends.
    """

    def __init__(self, memory: Memory) -> None:
        self.state = state.new_state()
        self.memory = memory
        self.fault: Fault | None = None
        self.executed = 0
        self._blocks: dict[int, _Block] = {}

    def forget(self) -> None:
        """Forget all translations: code has changed."""
        self._blocks.clear()

    def run(self, budget: int) -> Stop:
        """Execute ``budget`` instructions, up to the end of the block in which the last one is.

        Returns:
            Why it ended; after a fault RIP is that of the instruction that raised it.
        """
        slots, blocks = self.state, self._blocks
        load, store = self.memory.load, self.memory.store
        end = self.executed + budget
        while self.executed < end:
            here = slots[state.RIP]
            try:
                block = blocks.get(here)
                if block is None:
                    block = blocks[here] = self._translate(here)
                length = block.length
                self.executed += length * block.run(slots, load, store, -(-(end - self.executed) // length))
            except Fault as fault:
                self.fault = fault
                self._restore(fault, here)
                return Stop.FAULT
        return Stop.BUDGET

    def _restore(self, fault: Fault, here: int) -> None:
        """Bring the state to where it was before the instruction that raised ``fault``.

        It is found by the line of the block in which it was raised; a block that could not be translated changed
        nothing.
        """
        trace, block = fault.__traceback__, self._blocks.get(here)
        while block is not None and trace is not None:
            frame = trace.tb_frame
            if frame.f_code is block.run.__code__:
                known: Mapping[str, object] = frame.f_locals
                index = sum(start.line <= trace.tb_lineno for start in block.starts) - 1
                start = block.starts[index]
                held = {number: f"r{number}" for number in block.carried} | start.slots
                for number, text in held.items():
                    self.state[number] = eval(text, {}, known)
                self.state[state.RIP] = start.offset
                turn = known.get("turn", 1)
                assert isinstance(turn, int)
                self.executed += (turn - 1) * block.length + index
                return
            trace = trace.tb_next

    def _translate(self, here: int) -> _Block:
        """Translate the block at an offset; one that begins with no instruction raises its exception."""
        source = PythonSource()
        marks: list[tuple[int, int, dict[int, str]]] = []
        at = here
        while len(marks) < _MAX_BLOCK and not source.target:
            try:
                each = self._decode(at)
            except Fault:
                if not marks:
                    raise
                break
            marks.append((len(source.body), at, {number: held.text for number, held in source.slots.items()}))
            source.begin(each, at)
            meaning = semantics(each)
            assert meaning is not None, "it was asked when it was decoded"
            meaning(source)
            assert bool(source.target) == (each.name in ENDS), each.name
            at = at + each.length & (1 << 64) - 1
        if not source.target:
            source.jump(source.constant(at, 64))
        lines, before, carried = source.function(here)
        names: dict[str, object] = {"Fault": Fault}
        exec(compile("\n".join(lines), f"<block {here:#x}>", "exec"), names)
        block = names["block"]
        assert callable(block)
        return _Block(block, [_Start(before + line + 1, offset, slots) for line, offset, slots in marks], carried)

    def _decode(self, at: int) -> Instruction:
        try:
            found = self._fetch(at)
        except TooLongError as error:
            raise Fault(PROTECTION, 0) from error
        except DecodeError as error:
            raise Fault(UNDEFINED) from error
        if semantics(found) is None:
            raise Fault(UNDEFINED)
        return found

    def _fetch(self, at: int) -> Instruction:
        """Return the instruction at an offset, going on to the next page, which may fault, only if it goes on there."""
        code = self.memory.fetch(at, MAX_LENGTH)
        while True:
            try:
                return decode(code, 64)
            except TruncatedError:
                code += self.memory.fetch(at + len(code) & (1 << 64) - 1, MAX_LENGTH - len(code))
