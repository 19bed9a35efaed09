"""Jumps, calls and loops inside the code segment (SDM volume 1, 7.3.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.moves import push_value
from blockkit.cpu.sem.operands import get

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value


def _next(m: Machine) -> int:
    """Return the offset of the next instruction."""
    return _cut(m, m.here + m.instruction.length)


def _cut(m: Machine, offset: int) -> int:
    found = m.instruction
    return offset & (1 << (64 if found.mode == 64 else found.operand_size * 8)) - 1


def _target(m: Machine) -> Value:
    """Return where an unconditional jump goes."""
    if m.instruction.form.operands[0].where is Where.RELATIVE:
        return m.constant(_cut(m, m.here + m.instruction.length + m.instruction.immediate), 64)
    return m.name(get(m, 0).zero_extended(64))


def jmp(m: Machine) -> None:
    """JMP inside the segment."""
    m.jump(_target(m))


def call(m: Machine) -> None:
    """CALL inside the segment: nothing changes if the push faults."""
    target = _target(m)
    push_value(m, m.constant(_next(m), m.instruction.operand_size * 8))
    m.jump(target)


def ret(m: Machine) -> None:
    """RET, which may drop bytes from the stack."""
    bits = m.instruction.operand_size * 8
    top = m.name(m.slot(state.RSP))
    target = m.name(m.load(top, bits).zero_extended(64))
    extra = m.instruction.immediate if m.instruction.form.operands else 0
    m.set_slot(state.RSP, top + (bits // 8 + extra))
    m.jump(target)


def jcc(code: int) -> Callable[[Machine], None]:
    """Jcc."""

    def jump(m: Machine) -> None:
        m.branch(m.condition(code), _cut(m, m.here + m.instruction.length + m.instruction.immediate), _next(m))

    return jump


def jump_if_counter_zero(m: Machine) -> None:
    """JCXZ, JECXZ and JRCXZ."""
    counter = m.register(state.RCX, m.instruction.address_size * 8)
    m.branch(counter.equals(0), _cut(m, m.here + m.instruction.length + m.instruction.immediate), _next(m))


def loop(condition: int | None) -> Callable[[Machine], None]:
    """LOOP, LOOPE and LOOPNE, whose condition is that of Jcc."""

    def turn(m: Machine) -> None:
        left = m.name(m.register(state.RCX, m.instruction.address_size * 8) - 1)
        m.set_register(state.RCX, left)
        again = ~left.equals(0)
        if condition is not None:
            again = again & m.condition(condition)
        m.branch(again, _cut(m, m.here + m.instruction.length + m.instruction.immediate), _next(m))

    return turn
