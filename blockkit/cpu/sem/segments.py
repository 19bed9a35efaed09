"""Segment registers, and the tables and tasks they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.operands import address, get, is_memory, put
from blockkit.cpu.sem.stack import move_stack, push_value, top
from blockkit.cpu.system import segments, tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value

#: Segment registers by their names.
NUMBERS: Final = {"ES": state.ES, "CS": state.CS, "SS": state.SS, "DS": state.DS, "FS": state.FS, "GS": state.GS}


def _fixed(m: Machine) -> int | None:
    """Return the segment register that the opcode names."""
    operand = m.instruction.form.operands[0]
    return NUMBERS.get(operand.name) if operand.where is Where.FIXED else None


def is_segment_move(m: Machine) -> bool:
    """Whether MOV is to or from a segment register."""
    return any(operand.where is Where.SEGMENT for operand in m.instruction.form.operands)


def move(m: Machine) -> None:
    """MOV to and from a segment register."""
    if m.instruction.form.operands[0].where is Where.SEGMENT:
        m.call(segments.move_to_segment, m.field("reg"), get(m, 1).truncated(16).zero_extended(64))
        m.leave_next()
        return
    selector = m.call(segments.selector_of, m.field("reg"))
    bits = 16 if is_memory(m, 0) else m.instruction.operand_size * 8
    put(m, 0, selector.truncated(bits))


def push(m: Machine) -> None:
    """PUSH of a segment register, with zeros above it."""
    register = _fixed(m)
    assert register is not None
    bits = m.instruction.operand_size * 8
    push_value(m, m.slot(state.SELECTORS + register).truncated(bits))


def pop(m: Machine) -> None:
    """POP of a segment register."""
    register = _fixed(m)
    assert register is not None
    size = m.instruction.operand_size
    selector = top(m, size * 8).truncated(16)
    _load_from_stack(m, register, selector, size)
    m.leave_next()


def _load_from_stack(m: Machine, register: int, selector: Value, size: int) -> None:
    """Load a segment register with what is on top of the stack, whose pointer has the size that SS had before."""
    if register == state.SS:
        m.call(segments.pop_stack_segment, selector.zero_extended(64), size)
    else:
        m.call(segments.load_segment, register, selector.zero_extended(64))
        move_stack(m, size)


def load_pointer(register: int) -> Callable[[Machine], None]:
    """LES, LSS, LDS, LFS and LGS."""

    def load(m: Machine) -> None:
        size = m.instruction.operand_size
        place = m.name(address(m, size + 2))
        offset = m.name(m.load(place, size * 8))
        selector = m.name(m.load(_beyond(m, place, size), 16))
        m.call(segments.load_segment, register, selector.zero_extended(64))
        m.set_register(m.instruction.reg, offset)
        m.leave_next()

    return load


def _beyond(m: Machine, place: Value, distance: int) -> Value:
    """Return a linear address a few bytes on."""
    return place + distance if m.mode & state.MODE_64 else place + distance & 0xFFFFFFFF


def load_table(which: int) -> Callable[[Machine], None]:
    """LGDT and LIDT."""

    def load(m: Machine) -> None:
        place = address(m, 6)
        m.call(tables.load_table, place, which, m.instruction.operand_size)

    return load


def store_table(which: int) -> Callable[[Machine], None]:
    """SGDT and SIDT."""

    def store(m: Machine) -> None:
        m.call(tables.store_table, address(m, 6, write=True), which)

    return store


def store_selector(function: Callable[[], int]) -> Callable[[Machine], None]:
    """SLDT and STR."""

    def store(m: Machine) -> None:
        selector = m.call(function)
        put(m, 0, selector.truncated(16 if is_memory(m, 0) else m.instruction.operand_size * 8))

    return store


def load_selector(function: Callable[[int], None]) -> Callable[[Machine], None]:
    """LLDT and LTR."""

    def load(m: Machine) -> None:
        m.call(tables.check_loading)
        m.call(function, get(m, 0).truncated(16).zero_extended(64))

    return load


def look(what: int) -> Callable[[Machine], None]:
    """LAR and LSL."""

    def look_at(m: Machine) -> None:
        m.call(tables.check_looking)
        selector = get(m, 1).truncated(16).zero_extended(64)
        old = m.slot(m.instruction.reg)
        m.set_slot(m.instruction.reg, m.call(tables.look_at, selector, what, old, m.instruction.operand_size))

    return look_at


def verify(write: int) -> Callable[[Machine], None]:
    """VERR and VERW."""

    def check(m: Machine) -> None:
        m.call(tables.check_looking)
        m.call(tables.verify, get(m, 0).truncated(16).zero_extended(64), write)

    return check


def arpl(m: Machine) -> None:
    """ARPL."""
    m.call(tables.check_looking)
    selector = m.name(get(m, 0, write=True).zero_extended(64))
    other = m.name(m.register(m.instruction.reg, 16).zero_extended(64))
    put(m, 0, m.call(tables.adjusted_level, selector, other).truncated(16))
    # The flag comes last: the store may fault.
    m.call(tables.tell_adjusted, selector, other)
