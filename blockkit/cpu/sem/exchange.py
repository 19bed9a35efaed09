"""CMPXCHG8B and CMPXCHG16B, and a checksum: what works on more than one register at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.sem.operands import get, place, put
from blockkit.cpu.system import checksum, flags

if TYPE_CHECKING:
    from blockkit.cpu.sem.machine import Machine, Value


def _pair(m: Machine, high: int, low: int, half: int) -> Value:
    """Return two registers as one number."""
    bits = 2 * half
    return (m.register(high, half).zero_extended(bits) << half) | m.register(low, half).zero_extended(bits)


def cmpxchg_pair(m: Machine) -> None:
    """CMPXCHG8B and CMPXCHG16B: memory is written in any case; of flags only ZF changes."""
    half = 64 if m.instruction.operand_size == 8 else 32
    bits = 2 * half
    where = place(m, bits, write=True)
    if half == 64:
        m.fault_if(~(where & 15).equals(0), state.PROTECTION)
    old = m.name(m.load(where, bits))
    same = m.name(old.equals(_pair(m, state.RDX, state.RAX, half)))
    m.store(where, m.select(same, _pair(m, state.RCX, state.RBX, half), old))
    for register, part in ((state.RAX, old.truncated(half)), (state.RDX, (old >> half).truncated(half))):
        m.set_slot(register, m.select(same, m.slot(register), part.zero_extended(64)))
    m.call(flags.set_zero_flag, same.zero_extended(64))


def crc32(m: Machine) -> None:
    """CRC32."""
    total, data = get(m, 0), get(m, 1)
    found = m.compute(checksum.crc32, total.zero_extended(64), data.zero_extended(64), data.bits)
    put(m, 0, found.truncated(total.bits))
