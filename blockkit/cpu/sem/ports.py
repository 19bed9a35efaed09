"""Input and output: what devices do may change anything, so the block ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu.sem.operands import get, put, size_of
from blockkit.cpu.system import ports

if TYPE_CHECKING:
    from blockkit.cpu.sem.machine import Machine


def in_(m: Machine) -> None:
    """IN."""
    bits = size_of(m, 0)
    value = m.call(ports.read_port, get(m, 1).zero_extended(64), bits // 8)
    put(m, 0, value.truncated(bits))
    m.leave_next()


def out(m: Machine) -> None:
    """OUT."""
    bits = size_of(m, 1)
    m.call(ports.write_port, get(m, 0).zero_extended(64), bits // 8, get(m, 1).zero_extended(64))
    m.leave_next()
