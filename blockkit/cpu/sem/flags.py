"""RFLAGS as a whole, and interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.sem.stack import move_stack, push_value, top
from blockkit.cpu.system import flags

if TYPE_CHECKING:
    from blockkit.cpu.sem.machine import Machine


def pushf(m: Machine) -> None:
    """PUSHF."""
    value = m.call(flags.flags_to_push)
    push_value(m, value.truncated(m.instruction.operand_size * 8))


def popf(m: Machine) -> None:
    """POPF."""
    size = m.instruction.operand_size
    m.call(flags.check_pop_flags)
    value = top(m, size * 8)
    move_stack(m, size)
    m.call(flags.pop_flags, value.zero_extended(64), size)
    m.leave_next()


def cli(m: Machine) -> None:
    """CLI."""
    m.call(flags.clear_interrupts)


def sti(m: Machine) -> None:
    """STI."""
    m.call(flags.set_interrupts)
    m.leave_next()


def lahf(m: Machine) -> None:
    """LAHF."""
    m.set_register(state.RAX, m.call(flags.read_flags).truncated(8), high=True)


def sahf(m: Machine) -> None:
    """SAHF."""
    m.call(flags.load_low_flags, m.register(state.RAX, 8, high=True).zero_extended(64))


def salc(m: Machine) -> None:
    """SALC: AL becomes the sign of CF."""
    m.set_register(state.RAX, m.select(m.carry(), m.constant(0xFF, 8), m.constant(0, 8)))
