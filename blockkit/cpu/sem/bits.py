"""Looking for, counting and testing bits (SDM volume 1, 7.3.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.operands import address, get, is_memory, put, size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value


def bsf(m: Machine) -> None:
    """BSF: the lowest bit that is set."""
    a = get(m, 1)
    low = a & (m.constant(0, a.bits) - a)
    found(m, a, m.bit_length(low) - 1)


def bsr(m: Machine) -> None:
    """BSR: the highest bit that is set."""
    a = get(m, 1)
    found(m, a, m.bit_length(a) - 1)


def found(m: Machine, a: Value, index: Value, *, otherwise: tuple[Value, Value] | None = None) -> None:
    """Store a bit's number and set ZF; nothing found leaves the destination alone, all 64 bits of it.

    ``otherwise`` is a condition under which another value is stored, whatever was found.
    """
    none = m.name(a.equals(0))
    if otherwise is not None:
        none = m.name(none & ~otherwise[0])
        index = m.select(otherwise[0], otherwise[1], index)
    index = m.name(index)
    number = m.instruction.reg
    if a.bits == 16:
        m.set_register(number, m.select(none, m.register(number, 16), index))
    else:
        m.set_slot(number, m.select(none, m.slot(number), index.zero_extended(64)))
    # Of the flags only ZF is defined, which says whether the source was zero.
    m.set_flags(a, m.constant(0, a.bits))


def popcnt(m: Machine) -> None:
    """POPCNT: ZF tells that there was none, and all other flags are cleared."""
    a = get(m, 1)
    count = m.name(m.count_ones(a))
    put(m, 0, count)
    # ZF alone; PF and SF are cleared, which a result of 1 says where it is not zero.
    none = a.equals(0)
    m.set_slot(state.RES, m.select(none, m.constant(0, 64), m.constant(1, 64)))
    m.set_slot(state.COUT, m.select(none, m.constant(2, 64), m.constant(0, 64)))
    m.set_slot(state.SHIFT, m.constant(0, 64))


def bit_test(change: str) -> Callable[[Machine], None]:
    """BT, BTS, BTR and BTC: ``change`` is empty, ``set``, ``reset`` or ``complement``."""

    def test(m: Machine) -> None:
        bits = size_of(m, 0)
        index = m.name(get(m, 1).zero_extended(64) if _is_immediate(m) else get(m, 1).sign_extended(64))
        if is_memory(m, 0) and not _is_immediate(m):
            # The index reaches beyond the operand: whole operands up or down from it.
            away = index.arithmetic_shift(bits.bit_length() - 1) << (bits // 8).bit_length() - 1
            m.place = m.name(address(m, bits // 8, write=bool(change), beyond=away))
        a = get(m, 0, write=bool(change))
        bit = m.name((index & bits - 1).truncated(bits) if bits < 64 else index & 63)
        carry = m.name((a >> bit).truncated(1))
        mask = m.constant(1, bits) << bit
        if change == "set":
            put(m, 0, a | mask)
        elif change == "reset":
            put(m, 0, a & ~mask)
        elif change == "complement":
            put(m, 0, a ^ mask)
        m.set_carry(carry)

    return test


def _is_immediate(m: Machine) -> bool:
    return m.instruction.form.operands[1].where is Where.IMMEDIATE
