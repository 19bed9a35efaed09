"""Transfers to other segments, other levels and handlers (SDM volume 3, 5.8 and chapter 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.operands import address
from blockkit.cpu.system import delivery, returns, syscalls, transfers

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value


def is_far(m: Machine) -> bool:
    """Whether JMP or CALL has a selector."""
    return m.instruction.form.operands[0].size == "p"


def _pointer(m: Machine) -> tuple[Value, Value]:
    """Return selector and offset, 64 bits each."""
    size = m.instruction.operand_size
    if m.instruction.form.operands[0].where is Where.FAR:
        return m.second(64), m.immediate(64)
    place = m.name(address(m, size + 2))
    offset = m.name(m.load(place, size * 8).zero_extended(64))
    beyond = place + size if m.mode & state.MODE_64 else place + size & 0xFFFFFFFF
    return m.name(m.load(beyond, 16).zero_extended(64)), offset


def jump(m: Machine) -> None:
    """JMP to another segment."""
    selector, offset = _pointer(m)
    m.call(transfers.far_jump, selector, offset, m.instruction.operand_size, m.length())
    m.leave()


def call(m: Machine) -> None:
    """CALL of another segment."""
    selector, offset = _pointer(m)
    m.call(transfers.far_call, selector, offset, m.instruction.operand_size, m.length())
    m.leave()


def ret(m: Machine) -> None:
    """RET to another segment."""
    drop = m.immediate(16).zero_extended(64) if m.instruction.form.operands else 0
    m.call(transfers.far_return, m.instruction.operand_size, drop)
    m.leave()


def iret(m: Machine) -> None:
    """IRET."""
    m.call(returns.interrupt_return, m.instruction.operand_size, m.length())
    m.leave()


def interrupt(m: Machine) -> None:
    """INT n."""
    m.call(delivery.interrupt_instruction, m.immediate(8).zero_extended(64), m.length())
    m.leave()


def fixed_interrupt(vector: int, kind: int) -> Callable[[Machine], None]:
    """INT3 and INT1."""

    def interrupt_there(m: Machine) -> None:
        m.call(delivery.software_interrupt, vector, kind, m.length())
        m.leave()

    return interrupt_there


def into(m: Machine) -> None:
    """INTO."""
    m.call(delivery.overflow_interrupt, m.overflow().zero_extended(64), m.length())
    m.leave()


def bound(m: Machine) -> None:
    """BOUND."""
    size = m.instruction.operand_size
    place = m.name(address(m, 2 * size))
    index = m.register(m.instruction.reg, size * 8)
    lower = m.name(m.load(place, size * 8))
    upper = m.name(m.load(place + size & 0xFFFFFFFF, size * 8))
    sign = 1 << size * 8 - 1
    # Signed numbers compare like these do without sign.
    outside = (index ^ sign).below(lower ^ sign) | (upper ^ sign).below(index ^ sign)
    m.fault_if(outside, state.BOUND_RANGE)


def syscall(m: Machine) -> None:
    """SYSCALL."""
    m.call(syscalls.system_call, m.length())
    m.leave()


def sysret(m: Machine) -> None:
    """SYSRET."""
    m.call(syscalls.system_return, m.instruction.operand_size)
    m.leave()


def sysenter(m: Machine) -> None:
    """SYSENTER."""
    m.call(syscalls.fast_enter)
    m.leave()


def sysexit(m: Machine) -> None:
    """SYSEXIT."""
    m.call(syscalls.fast_exit, m.instruction.operand_size)
    m.leave()
