"""Emitting the semantics of one block as the source of a Python function.

Every number in it is an unsigned int below two to the power of its width. The function keeps slots of the state in
local variables: each is read once, at the start, and written once, at the end. In between, what a slot holds is an
expression over variables that never change, so it costs nothing until somebody asks: flags that nobody looks at are
never computed. When an instruction faults, the same expressions tell, from the variables of the function that was left,
what the state was before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.isa.decode import RIP
from blockkit.cpu.portable.packed import WIDE
from blockkit.cpu.sem.machine import Machine, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.isa.decode import Instruction

_OPERATORS: Final = {"and": "&", "or": "|", "xor": "^", "shr": ">>", "div": "//", "rem": "%"}
#: Operators whose results may need to be cut to their width.
_WRAPPING: Final = {"add": "+", "sub": "-", "mul": "*", "shl": "<<"}


class Mark(NamedTuple):
    """A place from which on an exception leaves the state in some way.

    Attributes:
        line: The first line that counts.
        number: Of the instruction in the block.
        offset: Of it in the code segment; None after system code, which set RIP.
        slots: What the slots held before: expressions; those that are missing hold what they hold.
    """

    line: int
    number: int
    offset: int | None
    slots: dict[int, str]


class PythonSource(Machine):
    """Collects the lines of one instruction after the other.

    Args:
        mode: What MODE holds where the block runs.

    Attributes:
        body: The lines so far.
        marks: Where instructions begin, and where system code took over: see :class:`Mark`.
        slots: What the slots hold that were read or set: expressions.
        incoming: The slots whose values at the start are used, in the variables ``r0``, ``r1`` and so on.
        taken: Where the block goes if ``taken_if`` holds; None if it goes to ``target`` in any case.
        taken_if: See ``taken``.
        target: An expression for where it goes otherwise; empty as long as it goes on.
        leaves: The engine has to look at what changed.
        may_fault: Some instruction may raise an exception.
        functions: The system code that is called, by name.
    """

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.body: list[str] = []
        self.marks: list[Mark] = []
        self.functions: set[str] = set()
        self.leaves = False
        self._called = False
        self._index = -1
        self.slots: dict[int, Value] = {}
        self.incoming: set[int] = set()
        self.taken: int | None = None
        self.taken_if = self.target = ""
        self.may_fault = False
        self._names = 0
        self._read: dict[int, str] = {}

    def begin(self, instruction: Instruction, here: int) -> None:
        """Go on with the next instruction, at offset ``here`` of the code segment."""
        self.instruction, self.here = instruction, here
        self.place = None
        self._index += 1
        self._mark()

    def _mark(self, *, after_call: bool = False) -> None:
        held = {number: value.text for number, value in self.slots.items()}
        self.marks.append(Mark(len(self.body), self._index, None if after_call else self.here, held))

    # -- parts of the instruction --------------------------------------------------------------------------

    def immediate(self, bits: int) -> Value:
        return self.constant(self.instruction.immediate, bits)

    def second(self, bits: int) -> Value:
        return self.constant(self.instruction.second, bits)

    def displacement(self) -> Value:
        return self.constant(self.instruction.displacement, 64)

    def effective(self) -> Value:
        found = self.instruction
        if found.base == RIP:
            return self.constant(self.here + found.length + found.displacement, 64)
        parts: list[Value] = []
        if found.base is not None:
            parts.append(self.slot(found.base))
        if found.index is not None:
            parts.append(self.slot(found.index) << found.scale if found.scale else self.slot(found.index))
        if found.displacement or not parts:
            parts.append(self.displacement())
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def length(self) -> Value:
        return self.constant(self.instruction.length, 64)

    def next(self) -> Value:
        return self.constant(self._after(), 64)

    def _after(self) -> int:
        """Return the offset of the next instruction."""
        return self.here + self.instruction.length & (1 << (64 if self.instruction.mode == 64 else 32)) - 1

    def segment(self) -> Value:
        return self.constant(self.instruction.effective_segment, 64)

    def field(self, name: str) -> Value:
        number = self.instruction.reg if name == "reg" else self.instruction.rm
        return self.constant(number, 64)

    def _high(self, number: int) -> bool:
        return 4 <= number < 8 and not self.instruction.rex

    def byte_register(self, number: int) -> Value:
        high = self._high(number)
        return self.register(number - 4 if high else number, 8, high=high)

    def set_byte_register(self, number: int, value: Value) -> None:
        high = self._high(number)
        self.set_register(number - 4 if high else number, value, high=high)

    # -- numbers -----------------------------------------------------------------------------------------

    def constant(self, number: int, bits: int) -> Value:
        number &= (1 << bits) - 1
        return Value(self, str(number) if number < 1000 else f"{number:#x}", bits)

    def operate(self, name: str, first: Value, second: Value) -> Value:
        assert first.bits == second.bits, (name, first.bits, second.bits)
        bits, a, b = first.bits, first.text, second.text
        if name in _OPERATORS:
            return Value(self, f"({a} {_OPERATORS[name]} {b})", bits)
        mask = (1 << bits) - 1
        if name == "sar":
            sign = 1 << bits - 1
            return Value(self, f"(({a} ^ {sign:#x}) - {sign:#x} >> {b} & {mask:#x})", bits)
        return Value(self, f"({a} {_WRAPPING[name]} {b} & {mask:#x})", bits)

    def compare(self, name: str, first: Value, second: Value) -> Value:
        assert first.bits == second.bits, (name, first.bits, second.bits)
        return Value(self, f"({first.text} {'==' if name == 'eq' else '<'} {second.text})", 1)

    def resize(self, name: str, value: Value, bits: int) -> Value:
        if name == "trunc":
            return Value(self, f"({value.text} & {(1 << bits) - 1:#x})", bits)
        if name == "sext":
            sign = 1 << value.bits - 1
            return Value(self, f"(({value.text} ^ {sign:#x}) - {sign:#x} & {(1 << bits) - 1:#x})", bits)
        # A truth value may be a bool, which this makes a number.
        return Value(self, f"(+{value.text})" if value.bits == 1 else value.text, bits)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        assert yes.bits == no.bits, (yes.bits, no.bits)
        return Value(self, f"({yes.text} if {condition.text} else {no.text})", yes.bits)

    def count_ones(self, value: Value) -> Value:
        return Value(self, f"({value.text}).bit_count()", value.bits)

    def bit_length(self, value: Value) -> Value:
        return Value(self, f"({value.text}).bit_length()", value.bits)

    def name(self, value: Value) -> Value:
        if value.text.isidentifier() or value.text[0].isdigit():
            return value
        self._names += 1
        name = f"t{self._names}"
        self.body.append(f"{name} = {value.text}")
        return Value(self, name, value.bits)

    # -- state -------------------------------------------------------------------------------------------

    def slot(self, number: int) -> Value:
        held = self.slots.get(number)
        if held is None:
            if self._called:
                # System code may have changed it.
                held = self.name(Value(self, f"S[{number}]", 64))
            else:
                self.incoming.add(number)
                held = Value(self, f"r{number}", 64)
            self._read[number] = held.text
        held = self.slots[number] = self.name(held)
        return held

    def set_slot(self, number: int, value: Value) -> None:
        assert value.bits == 64, value.bits
        self.slots[number] = value

    def load(self, address: Value, bits: int) -> Value:
        self.may_fault = True
        return self.name(Value(self, f"load({address.text}, {bits // 8})", bits))

    def store(self, address: Value, value: Value) -> None:
        self.may_fault = True
        self.body.append(f"store({address.text}, {value.bits // 8}, {value.text})")

    def fault_if(self, condition: Value, vector: int) -> None:
        self.may_fault = True
        self.body.append(f"if {condition.text}: raise Fault({vector})")

    def call(self, function: Callable[..., int | None], *arguments: Value | int) -> Value:
        self.may_fault = self._called = True
        self.functions.add(function.__name__)
        given = ", ".join(str(each) if isinstance(each, int) else f"+{each.text}" for each in arguments)
        self._flush()
        self.body.append(f"S[{state.RIP}] = {self.here:#x}")
        self.body.append(f"S[{state.EXECUTED}] = before + {self._index}")
        # From here on the state itself says what an exception leaves.
        self._mark(after_call=True)
        self._names += 1
        self.body.append(f"t{self._names} = {function.__name__}({given})")
        return Value(self, f"t{self._names}", 64)

    def compute(self, function: Callable[..., int | None], *arguments: Value | int) -> Value:
        self.may_fault = True
        self.functions.add(function.__name__)
        given = ", ".join(str(each) if isinstance(each, int) else f"+{each.text}" for each in arguments)
        self._names += 1
        self.body.append(f"t{self._names} = {function.__name__}({given})")
        return Value(self, f"t{self._names}", 64)

    def _flush(self) -> None:
        """Write all slots back, and forget them."""
        changed = {number: held.text for number, held in self.slots.items() if not self._is_kept(number, held)}
        several = sorted(changed)
        self.body += [f"S[{number}] = {changed[number]}" for number in several]
        self.slots.clear()
        self._read.clear()

    def _is_kept(self, number: int, held: Value) -> bool:
        """Whether a slot still holds what it held when it was read."""
        return held.text == self._read.get(number)

    def packed(self, name: str, lane_bits: int, *values: Value) -> Value:
        self.functions.add(f"packed_{name}")
        given = ", ".join(each.text for each in values)
        # Some must know how wide the first is.
        total = f"{values[0].bits}, " if name in WIDE else ""
        result = f"packed_{name}({total}{lane_bits}, {given})"
        if values[0].bits == 64:
            result = f"({result} & {(1 << 64) - 1:#x})"
        return self.name(Value(self, result, values[0].bits))

    def mmx(self, number: int) -> Value:
        return super().mmx(number & 7)

    def set_mmx(self, number: int, value: Value) -> None:
        super().set_mmx(number & 7, value)

    # -- where it goes on ----------------------------------------------------------------------------------

    def jump(self, target: Value) -> None:
        self.target = target.text

    def jump_relative(self, condition: Value | None) -> None:
        found = self.instruction
        bits = 64 if found.mode == 64 else found.operand_size * 8
        taken = self._after() + found.immediate & (1 << bits) - 1
        if condition is None:
            self.target = f"{taken:#x}"
        else:
            # Not taken, IP is not cut.
            self.taken, self.taken_if, self.target = taken, condition.text, f"{self._after():#x}"

    def leave(self) -> None:
        self.target, self.leaves = f"S[{state.RIP}]", True

    def fault(self, vector: int) -> None:
        """End the block with an exception."""
        self.may_fault = True
        self.body.append(f"raise Fault({vector})")
        self.target = f"{self.here:#x}"

    def after(self) -> int:
        """Return the offset of the next instruction."""
        return self._after()

    def leave_next(self) -> None:
        self.target, self.leaves = f"{self._after():#x}", True

    # -- the function ------------------------------------------------------------------------------------------

    def function(self, start: int) -> tuple[list[str], int, list[int]]:
        """Return the lines of the function, how many come before the body, and the slots one turn hands to the next.

        It is called with the state, how to load and to store, and how often the block may run. It returns how often it
        did, or -1 for once if the engine has to look at what changed. A block that jumps back to its own start goes
        round inside.

        Args:
            start: The offset of the block in the code segment.
        """
        loops = self.taken == start and not self._called
        changed = {number: held.text for number, held in self.slots.items() if not self._is_kept(number, held)}
        # What the next turn starts with; flags that it does not look at matter only if it may fault.
        carried = changed.keys() if self.may_fault else changed.keys() & self.incoming
        self.incoming |= carried if loops else set()
        head = ["def block(S, load, store, turns):"]
        head += [f" r{number} = S[{number}]" for number in sorted(self.incoming)]
        if self._called:
            head.append(f" before = S[{state.EXECUTED}]")
        end = [f"S[{number}] = {text}" for number, text in sorted(changed.items())]
        if not loops:
            where = self.target if self.taken is None else f"{self.taken:#x} if {self.taken_if} else {self.target}"
            tail = [f" {line}" for line in (*end, f"S[{state.RIP}] = {where}", f"return {-1 if self.leaves else 1}")]
            return [*head, *(f" {line}" for line in self.body), *tail], len(head), []
        head += [" turn = 1", " while True:"]
        tail = [f"  if {self.taken_if}:", "   if turn < turns:", "    turn += 1"]
        if carried:
            several = sorted(carried)
            names = ", ".join(f"r{number}" for number in several)
            tail.append(f"    {names} = {', '.join(changed[number] for number in several)}")
        tail += ["    continue", f"   S[{state.RIP}] = {start:#x}", "  else:", f"   S[{state.RIP}] = {self.target}"]
        tail += [f"  {line}" for line in (*end, "return turn")]
        return [*head, *(f"  {line}" for line in self.body), *tail], len(head), sorted(carried)
