"""Moving data between registers and memory (SDM volume 1, 7.3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.sem.operands import get, is_memory, linear, offset, put, size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value


def mov(m: Machine) -> None:
    """MOV between general registers, memory and immediates."""
    put(m, 0, get(m, 1))


def movzx(m: Machine) -> None:
    """MOVZX."""
    put(m, 0, get(m, 1).zero_extended(size_of(m, 0)))


def movsx(m: Machine) -> None:
    """MOVSX and MOVSXD."""
    put(m, 0, get(m, 1).sign_extended(size_of(m, 0)))


def lea(m: Machine) -> None:
    """LEA: the offset without the base of a segment, cut to the operand size."""
    put(m, 0, offset(m).truncated(size_of(m, 0)))


def xchg(m: Machine) -> None:
    """XCHG."""
    a, b = m.name(get(m, 0, write=True)), m.name(get(m, 1, write=True))
    # Memory first, which may fault.
    for index in (1, 0) if is_memory(m, 1) else (0, 1):
        put(m, index, (b, a)[index])


def xlat(m: Machine) -> None:
    """XLAT: the byte at rBX + AL."""
    found = m.instruction
    bits = found.address_size * 8
    where = m.register(state.RBX, bits).zero_extended(64) + m.register(state.RAX, 8).zero_extended(64)
    where = m.name(where if bits == 64 else where & (1 << bits) - 1)
    segment = state.DS if found.segment is None else found.segment
    m.set_register(state.RAX, m.load(linear(m, segment, where, 1), 8))


def bswap(m: Machine) -> None:
    """BSWAP: of 16 bits it is undefined, and processors clear it."""
    a = get(m, 0)
    put(m, 0, _reversed(m, a) if a.bits > 16 else m.constant(0, 16))


def movbe(m: Machine) -> None:
    """MOVBE: the bytes in reverse."""
    put(m, 0, _reversed(m, get(m, 1)))


def _reversed(m: Machine, a: Value) -> Value:
    """Return the bytes of ``a`` in reverse."""
    size = a.bits // 8
    total = m.constant(0, a.bits)
    for index in range(size):
        total = total | (a >> 8 * index & 0xFF) << 8 * (size - 1 - index)
    return total


def widen_accumulator(m: Machine) -> None:
    """CBW, CWDE and CDQE."""
    bits = m.instruction.operand_size * 8
    m.set_register(state.RAX, m.register(state.RAX, bits // 2).sign_extended(bits))


def widen_into_rdx(m: Machine) -> None:
    """CWD, CDQ and CQO."""
    bits = m.instruction.operand_size * 8
    m.set_register(state.RDX, m.register(state.RAX, bits).arithmetic_shift(bits - 1))


def cmov(code: int) -> Callable[[Machine], None]:
    """CMOVcc: the source is read, and a destination of 32 bits extended, whatever the condition."""

    def move(m: Machine) -> None:
        new = get(m, 1)
        put(m, 0, m.select(m.condition(code), new, get(m, 0)))

    return move


def setcc(code: int) -> Callable[[Machine], None]:
    """SETcc."""
    return lambda m: put(m, 0, m.condition(code).zero_extended(8))


def nop(m: Machine) -> None:
    """NOP, and hints."""


def clear_direction(m: Machine) -> None:
    """CLD."""
    m.set_slot(state.SYSTEM_FLAGS, m.slot(state.SYSTEM_FLAGS) & ~state.DF)


def set_direction(m: Machine) -> None:
    """STD."""
    m.set_slot(state.SYSTEM_FLAGS, m.slot(state.SYSTEM_FLAGS) | state.DF)


def clear_carry(m: Machine) -> None:
    """CLC."""
    m.set_carry(m.constant(0, 1))


def set_carry(m: Machine) -> None:
    """STC."""
    m.set_carry(m.constant(1, 1))


def complement_carry(m: Machine) -> None:
    """CMC."""
    m.set_carry(~m.carry())
