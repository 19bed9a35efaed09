"""The stack: its pointer has the size that SS and the mode say (SDM volume 1, 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.sem.operands import address, get, linear, put
from blockkit.cpu.system import frames

if TYPE_CHECKING:
    from blockkit.cpu.sem.machine import Machine, Value

_SS = 2


def _cut(m: Machine, value: Value) -> Value:
    """Return an offset as wide as the stack pointer, in 64 bits."""
    return value if m.stack_bits == 64 else value & (1 << m.stack_bits) - 1


def _set(m: Machine, value: Value) -> None:
    m.set_register(state.RSP, value.truncated(m.stack_bits))


def pointer(m: Machine) -> Value:
    """Return the stack pointer, as 64 bits."""
    return m.name(_cut(m, m.slot(state.RSP)))


def move_stack(m: Machine, distance: Value | int) -> None:
    """Add to the stack pointer."""
    _set(m, m.slot(state.RSP) + distance)


def top(m: Machine, bits: int) -> Value:
    """Return what is on top of the stack."""
    return m.name(m.load(linear(m, _SS, pointer(m), bits // 8), bits))


def push_value(m: Machine, value: Value) -> None:
    """Store ``value`` below the top of the stack; a fault leaves the stack pointer alone."""
    below = m.name(_cut(m, m.slot(state.RSP) - value.bits // 8))
    m.store(linear(m, _SS, below, value.bits // 8, write=True), value)
    _set(m, below)


def push(m: Machine) -> None:
    """PUSH: an immediate is extended to the operand size."""
    bits = m.instruction.operand_size * 8
    value = get(m, 0)
    push_value(m, value.sign_extended(bits) if value.bits < bits else value)


def pop(m: Machine) -> None:
    """POP: a destination in memory is found with rSP as it is afterwards; a fault leaves rSP alone."""
    found = m.instruction
    size = found.operand_size
    value = top(m, size * 8)
    if found.is_memory:
        m.place = m.name(address(m, size, write=True, beyond=size if found.base == state.RSP else None))
        put(m, 0, value)
        move_stack(m, size)
    else:
        # In this order: POP of rSP itself leaves what was read.
        move_stack(m, size)
        put(m, 0, value)


def leave(m: Machine) -> None:
    """LEAVE."""
    bits = m.instruction.operand_size * 8
    frame = m.name(_cut(m, m.slot(state.RBP)))
    value = m.name(m.load(linear(m, _SS, frame, bits // 8), bits))
    _set(m, frame + bits // 8)
    m.set_register(state.RBP, value)


def push_all(m: Machine) -> None:
    """PUSHA and PUSHAD."""
    m.call(frames.push_all, m.instruction.operand_size)


def pop_all(m: Machine) -> None:
    """POPA and POPAD."""
    m.call(frames.pop_all, m.instruction.operand_size)


def enter(m: Machine) -> None:
    """ENTER."""
    room, level = m.immediate(16), m.second(8)
    m.call(frames.enter_frame, m.instruction.operand_size, room.zero_extended(64), level.zero_extended(64))
