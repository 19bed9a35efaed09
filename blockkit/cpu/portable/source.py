"""Emitting the semantics of one block as the source of a Python function.

Every number in it is an unsigned int below two to the power of its width. The function keeps slots of the state in
local variables: each is read once, at the start, and written once, at the end. In between, what a slot holds is an
expression over variables that never change, so it costs nothing until somebody asks: flags that nobody looks at are
never computed. When an instruction faults, the same expressions tell, from the variables of the function that was left,
what the state was before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.sem.machine import Machine, Value

if TYPE_CHECKING:
    from blockkit.cpu.isa.decode import Instruction

_OPERATORS: Final = {"and": "&", "or": "|", "xor": "^", "shr": ">>", "div": "//", "rem": "%"}
#: Operators whose results may need to be cut to their width.
_WRAPPING: Final = {"add": "+", "sub": "-", "mul": "*", "shl": "<<"}


class PythonSource(Machine):
    """Collects the lines of one instruction after the other.

    Attributes:
        body: The lines so far.
        slots: What the slots hold that were read or set: expressions.
        incoming: The slots whose values at the start are used, in the variables ``r0``, ``r1`` and so on.
        taken: Where the block goes if ``taken_if`` holds; None if it goes to ``target`` in any case.
        taken_if: See ``taken``.
        target: An expression for where it goes otherwise; empty as long as it goes on.
        may_fault: Some instruction may raise an exception.
    """

    def __init__(self) -> None:
        self.body: list[str] = []
        self.slots: dict[int, Value] = {}
        self.incoming: set[int] = set()
        self.taken: int | None = None
        self.taken_if = self.target = ""
        self.may_fault = False
        self._names = 0

    def begin(self, instruction: Instruction, here: int) -> None:
        """Go on with the next instruction, at offset ``here`` of the code segment."""
        self.instruction, self.here = instruction, here
        self.place = None

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
            self.incoming.add(number)
            held = Value(self, f"r{number}", 64)
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

    # -- where it goes on ----------------------------------------------------------------------------------

    def jump(self, target: Value) -> None:
        self.target = target.text

    def branch(self, condition: Value, taken: int, otherwise: int) -> None:
        self.taken, self.taken_if, self.target = taken, condition.text, f"{otherwise:#x}"

    # -- the function ------------------------------------------------------------------------------------------

    def function(self, start: int) -> tuple[list[str], int, list[int]]:
        """Return the lines of the function, how many come before the body, and the slots one turn hands to the next.

        It is called with the state, how to load and to store, and how often the block may run. It returns how often it
        did: a block that jumps back to its own start goes round inside.

        Args:
            start: The offset of the block in the code segment.
        """
        loops = self.taken == start
        changed = {number: held.text for number, held in self.slots.items() if held.text != f"r{number}"}
        # What the next turn starts with; flags that it does not look at matter only if it may fault.
        carried = changed.keys() if self.may_fault else changed.keys() & self.incoming
        self.incoming |= carried if loops else set()
        head = ["def block(S, load, store, turns):"]
        head += [f" r{number} = S[{number}]" for number in sorted(self.incoming)]
        end = [f"S[{number}] = {text}" for number, text in sorted(changed.items())]
        if not loops:
            where = self.target if self.taken is None else f"{self.taken:#x} if {self.taken_if} else {self.target}"
            tail = [f" {line}" for line in (*end, f"S[{state.RIP}] = {where}", "return 1")]
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
