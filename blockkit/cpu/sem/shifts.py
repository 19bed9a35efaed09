"""Shifts and rotations (SDM volume 1, 7.3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.sem.arithmetic import set_carry_overflow
from blockkit.cpu.sem.operands import get, put

if TYPE_CHECKING:
    from blockkit.cpu.sem.machine import Machine, Value


def _count(m: Machine, index: int, bits: int) -> Value:
    """Return the count, cut to 5 bits, or 6 where 64 bits are shifted, as 64 bits."""
    return m.name(get(m, index).zero_extended(64) & (63 if bits == 64 else 31))


def _with_flags(m: Machine, count: Value, result: Value, carry: Value, overflow: Value) -> None:
    """Set all flags, unless the count is zero, which leaves them as they are."""
    kept = [m.name(m.slot(number)) for number in (state.RES, state.COUT, state.SHIFT)]
    set_carry_overflow(m, result, m.constant(0, result.bits), carry, overflow)
    none = m.name(count.equals(0))
    for number, before in zip((state.RES, state.COUT, state.SHIFT), kept, strict=True):
        m.set_slot(number, m.select(none, before, m.slot(number)))


def _wide(m: Machine, value: Value) -> Value:
    """Return ``value`` in twice 64 bits, in which no count shifts everything out."""
    return m.name(value.zero_extended(128))


def shl(m: Machine) -> None:
    """SHL, and SAL: CF is the last bit that left at the top."""
    a = get(m, 0, write=True)
    count = _count(m, 1, a.bits)
    shifted = m.name(_wide(m, a) << count.zero_extended(128))
    result = m.name(shifted.truncated(a.bits))
    carry = m.name(shifted.extract(a.bits))
    put(m, 0, result)
    _with_flags(m, count, result, carry, result.is_negative() ^ carry)


def shr(m: Machine) -> None:
    """SHR: OF is the old top bit."""
    a = get(m, 0, write=True)
    count = _count(m, 1, a.bits)
    # One bit more below, where the last bit that was shifted out comes to lie.
    shifted = m.name((_wide(m, a) << 1) >> count.zero_extended(128))
    result = m.name((shifted >> 1).truncated(a.bits))
    put(m, 0, result)
    _with_flags(m, count, result, m.name(shifted.truncated(1)), a.is_negative())


def sar(m: Machine) -> None:
    """SAR: OF is cleared."""
    a = get(m, 0, write=True)
    count = _count(m, 1, a.bits)
    shifted = m.name((m.name(a.sign_extended(128)) << 1).arithmetic_shift(count.zero_extended(128)))
    result = m.name((shifted >> 1).truncated(a.bits))
    put(m, 0, result)
    _with_flags(m, count, result, m.name(shifted.truncated(1)), m.constant(0, 1))


def shld(m: Machine) -> None:
    """SHLD: bits of the source enter from below."""
    _double(m, left=True)


def shrd(m: Machine) -> None:
    """SHRD: bits of the source enter from above."""
    _double(m, left=False)


def _double(m: Machine, *, left: bool) -> None:
    """Shift the first operand, filling from the second; with 16 bits and more than 16, what comes is undefined."""
    a, b = get(m, 0, write=True), get(m, 1)
    bits = a.bits
    count = _count(m, 2, bits)
    both, by = 2 * bits, count.zero_extended(128)
    if left:
        pair = m.name((_wide(m, a) << bits) | b.zero_extended(128))
        shifted = m.name(pair << by)
        result = m.name((shifted >> bits).truncated(bits))
        carry = m.name(shifted.extract(both) if both < 128 else (a >> (m.constant(64, 64) - count & 63)).truncated(1))
    else:
        pair = m.name((b.zero_extended(128) << bits) | a.zero_extended(128))
        result = m.name((pair >> by).truncated(bits))
        carry = m.name((a.zero_extended(64) >> (count - 1 & 63)).truncated(1))
    put(m, 0, result)
    _with_flags(m, count, result, carry, result.is_negative() ^ a.is_negative())


def _set_carry(m: Machine, changed: Value, carry: Value, overflow: Value) -> None:
    """Set CF and OF where ``changed`` holds, and leave the other flags."""
    old = m.name(m.slot(state.COUT))
    # AF lies at bit 3 of the operand, which is bit 62 of an operand of 4 bits: never here.
    high = (carry.zero_extended(64) << 63) | ((carry ^ overflow).zero_extended(64) << 62)
    m.set_slot(state.COUT, m.select(changed, old & (1 << 62) - 1 | high, old))


def rol(m: Machine) -> None:
    """ROL: CF and OF only."""
    _rotate(m, left=True)


def ror(m: Machine) -> None:
    """ROR: CF and OF only."""
    _rotate(m, left=False)


def _rotate(m: Machine, *, left: bool) -> None:
    a = get(m, 0, write=True)
    bits = a.bits
    count = _count(m, 1, bits)
    by = m.name(count & bits - 1).zero_extended(128)
    double = m.name((_wide(m, a) << bits) | a.zero_extended(128))
    result = m.name(((double << by) >> bits).truncated(bits) if left else (double >> by).truncated(bits))
    put(m, 0, result)
    top = result.is_negative()
    if left:
        carry = m.name(result.truncated(1))
        overflow = top ^ carry
    else:
        carry = m.name(top)
        overflow = carry ^ result.extract(bits - 2)
    _set_carry(m, m.name(~count.equals(0)), carry, overflow)


def rcl(m: Machine) -> None:
    """RCL: rotate with CF above the top bit."""
    _rotate_carry(m, left=True)


def rcr(m: Machine) -> None:
    """RCR: rotate with CF below the lowest bit."""
    _rotate_carry(m, left=False)


def _rotate_carry(m: Machine, *, left: bool) -> None:
    """Rotate the operand with CF above it."""
    a = get(m, 0, write=True)
    bits = a.bits
    count = _count(m, 1, bits)
    old = m.name(m.carry())
    turns = m.name(count.remainder(m.constant(bits + 1, 64))) if bits < 32 else count
    whole = m.name((old.zero_extended(256) << bits) | a.zero_extended(256))
    double = m.name((whole << (bits + 1)) | whole)
    by = turns.zero_extended(256)
    turned = m.name((double << by) >> (bits + 1) if left else double >> by)
    result, carry = m.name(turned.truncated(bits)), m.name(turned.extract(bits))
    put(m, 0, result)
    top = result.is_negative()
    _set_carry(m, m.name(~count.equals(0)), carry, top ^ carry if left else top ^ result.extract(bits - 2))
