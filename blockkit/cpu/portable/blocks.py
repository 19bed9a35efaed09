"""From the bytes of a block to a Python function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.dialect.plain import Fault
from blockkit.cpu.isa.decode import MAX_LENGTH, DecodeError, Instruction, TooLongError, TruncatedError, decode
from blockkit.cpu.portable.source import PythonSource
from blockkit.cpu.sem.table import ends, semantics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableSequence

    from blockkit.cpu.portable.source import Mark

#: Instructions of one block at most.
LONGEST: Final = 32
_SIZES: Final = {state.MODE_16: 16, state.MODE_32: 32, state.MODE_64: 64}


class Block:
    """One translated block.

    Attributes:
        run: What executes it: called with the state, how to load and to store, and how often it may run; returns how
            often it did, or -1 for once after which the engine has to look at what changed.
        length: How many instructions.
        bytes: How many bytes of code.
        marks: Where its instructions begin, by lines of the function.
        carried: The slots that a later turn finds in the variables ``r0``, ``r1`` and so on.
        last: The mnemonic of the last instruction.
    """

    __slots__ = ("bytes", "carried", "last", "length", "marks", "run")

    def __init__(self, run: Callable[..., int], marks: list[Mark], carried: list[int], length: int, size: int) -> None:
        self.run, self.marks, self.carried, self.length, self.bytes = run, marks, carried, length, size
        self.last = ""

    def restore(self, slots: MutableSequence[int], error: BaseException, before: int) -> None:
        """Bring the state to where it was before the instruction that raised ``error``.

        It is found by the line of the function in which it was raised.

        Args:
            slots: The state.
            error: What left the function.
            before: What EXECUTED was when it was entered.
        """
        trace = error.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code is self.run.__code__:
                known: Mapping[str, object] = frame.f_locals
                found = self.marks[0]
                for mark in self.marks:
                    if mark.line <= trace.tb_lineno:
                        found = mark
                held = {number: f"r{number}" for number in self.carried} | found.slots
                values = {number: eval(text, {}, known) for number, text in held.items()}
                for number, value in values.items():
                    slots[number] = value
                if found.offset is not None:
                    slots[state.RIP] = found.offset
                turn = known.get("turn", 1)
                assert isinstance(turn, int)
                slots[state.EXECUTED] = before + (turn - 1) * self.length + found.number
                return
            trace = trace.tb_next


def translate(
    here: int, mode: int, room: int, longest: int, fetch: Callable[[int, int], bytes], scope: Mapping[str, object]
) -> Block:
    """Translate the block at an offset of the code segment.

    Args:
        here: The offset.
        mode: What MODE holds.
        room: How many bytes are left in its page; only the first instruction may go beyond.
        longest: How many instructions it may have.
        fetch: Returns code at an offset, so many bytes or fewer; raises Fault where there is none.
        scope: The system code, by name.

    Raises:
        Fault: there is no instruction there.
    """
    source = PythonSource(mode)
    at, count, left = here, 0, room
    names: list[str] = []
    while count < longest and not source.target:
        try:
            each = _decode(at, _SIZES[mode & state.MODE_CODE], fetch, beyond=not count)
        except Fault:
            if not count:
                raise
            break
        left -= each.length
        meaning = semantics(each)
        source.begin(each, at)
        if meaning is None:
            source.fault(state.UNDEFINED)
        else:
            meaning(source)
        names.append(each.name)
        assert bool(source.target) == (meaning is None or ends(each.form, repeated=bool(each.repeat))), each.name
        at = source.after()
        count += 1
        if left <= 0:
            break
    if not source.target:
        source.jump(source.constant(at, 64))
    lines, before, carried = source.function(here)
    names_known: dict[str, object] = {"Fault": Fault}
    for function in source.functions:
        names_known[function] = scope[function]
    exec(compile("\n".join(lines), f"<block {here:#x}>", "exec"), names_known)
    run = names_known["block"]
    assert callable(run)
    marks = [mark._replace(line=before + mark.line + 1) for mark in source.marks]
    block = Block(run, marks, carried, count, room - left)
    block.last = names[-1]
    return block


def _decode(at: int, bits: int, fetch: Callable[[int, int], bytes], *, beyond: bool) -> Instruction:
    """Return the instruction at an offset.

    It goes on to the next page, which may fault and is marked as accessed, only if the instruction goes on there, and
    not at all unless it may go ``beyond`` the first.

    Raises:
        Fault: there is none.
    """
    try:
        code = fetch(at, MAX_LENGTH)
        while True:
            try:
                return decode(code, bits)
            except TruncatedError:
                if not beyond:
                    raise Fault(state.PAGE_FAULT) from None
                code += fetch(at + len(code) & (1 << 64) - 1, MAX_LENGTH - len(code))
    except TooLongError as error:
        raise Fault(state.PROTECTION) from error
    except DecodeError as error:
        raise Fault(state.UNDEFINED) from error
