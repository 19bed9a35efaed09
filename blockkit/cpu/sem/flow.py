"""Jumps, calls and loops inside the code segment (SDM volume 1, 7.3.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.operands import get
from blockkit.cpu.sem.stack import move_stack, push_value, top

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value


def _target(m: Machine) -> Value:
    """Return where an indirect jump goes."""
    return m.name(get(m, 0).zero_extended(64))


def _is_relative(m: Machine) -> bool:
    return m.instruction.form.operands[0].where is Where.RELATIVE


def jmp(m: Machine) -> None:
    """JMP inside the segment."""
    if _is_relative(m):
        m.jump_relative(None)
    else:
        m.jump(_target(m))


def call(m: Machine) -> None:
    """CALL inside the segment: nothing changes if the push faults."""
    target = None if _is_relative(m) else _target(m)
    push_value(m, m.next().truncated(m.instruction.operand_size * 8))
    if target is None:
        m.jump_relative(None)
    else:
        m.jump(target)


def ret(m: Machine) -> None:
    """RET, which may drop bytes from the stack."""
    bits = m.instruction.operand_size * 8
    target = top(m, bits)
    drop = m.constant(bits // 8, 64)
    if m.instruction.form.operands:
        drop = drop + m.immediate(16).zero_extended(64)
    move_stack(m, drop)
    m.jump(target.zero_extended(64))


def jcc(code: int) -> Callable[[Machine], None]:
    """Jcc."""

    def jump(m: Machine) -> None:
        m.jump_relative(m.condition(code))

    return jump


def jump_if_counter_zero(m: Machine) -> None:
    """JCXZ, JECXZ and JRCXZ."""
    counter = m.register(state.RCX, m.instruction.address_size * 8)
    m.jump_relative(counter.equals(0))


def loop(condition: int | None) -> Callable[[Machine], None]:
    """LOOP, LOOPE and LOOPNE, whose condition is that of Jcc."""

    def turn(m: Machine) -> None:
        left = m.name(m.register(state.RCX, m.instruction.address_size * 8) - 1)
        m.set_register(state.RCX, left)
        again = ~left.equals(0)
        if condition is not None:
            again = again & m.condition(condition)
        m.jump_relative(again)

    return turn
