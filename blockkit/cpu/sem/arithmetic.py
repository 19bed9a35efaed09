"""Addition, subtraction, logic, multiplication and division (SDM volume 1, 7.3.2 and 7.3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.sem.operands import get, is_memory, put, size_of

if TYPE_CHECKING:
    from blockkit.cpu.sem.machine import Machine, Value

DIVIDE_ERROR = 0


def add_flags(m: Machine, a: Value, b: Value, result: Value) -> None:
    """Set the flags of an addition: a bit carries if both are set, or one is and the sum is not."""
    m.set_flags(result, (a & b) | ((a | b) & ~result))


def subtract_flags(m: Machine, a: Value, b: Value, result: Value) -> None:
    """Set the flags of a subtraction, whose carries are borrows."""
    m.set_flags(result, (~a & b) | ((~a | b) & result))


def logic_flags(m: Machine, result: Value) -> None:
    """Set the flags of an operation without carries: CF, OF and AF are cleared."""
    m.set_flags(result, m.constant(0, result.bits))


def add(m: Machine) -> None:
    """ADD: all flags."""
    a, b = get(m, 0, write=True), get(m, 1)
    result = m.name(a + b)
    put(m, 0, result)
    add_flags(m, a, b, result)


def adc(m: Machine) -> None:
    """ADC: add with CF."""
    a, b = get(m, 0, write=True), get(m, 1)
    result = m.name(a + b + m.carry().zero_extended(a.bits))
    put(m, 0, result)
    add_flags(m, a, b, result)


def sub(m: Machine) -> None:
    """SUB: all flags."""
    a, b = get(m, 0, write=True), get(m, 1)
    result = m.name(a - b)
    put(m, 0, result)
    subtract_flags(m, a, b, result)


def sbb(m: Machine) -> None:
    """SBB: subtract with CF as a borrow."""
    a, b = get(m, 0, write=True), get(m, 1)
    result = m.name(a - b - m.carry().zero_extended(a.bits))
    put(m, 0, result)
    subtract_flags(m, a, b, result)


def cmp(m: Machine) -> None:
    """CMP: the flags of a subtraction."""
    a, b = get(m, 0), get(m, 1)
    subtract_flags(m, a, b, m.name(a - b))


def and_(m: Machine) -> None:
    """AND: CF and OF are cleared, AF is undefined."""
    result = m.name(get(m, 0, write=True) & get(m, 1))
    put(m, 0, result)
    logic_flags(m, result)


def or_(m: Machine) -> None:
    """OR: CF and OF are cleared, AF is undefined."""
    result = m.name(get(m, 0, write=True) | get(m, 1))
    put(m, 0, result)
    logic_flags(m, result)


def xor(m: Machine) -> None:
    """XOR: CF and OF are cleared, AF is undefined."""
    result = m.name(get(m, 0, write=True) ^ get(m, 1))
    put(m, 0, result)
    logic_flags(m, result)


def test(m: Machine) -> None:
    """TEST: the flags of AND."""
    logic_flags(m, m.name(get(m, 0) & get(m, 1)))


def neg(m: Machine) -> None:
    """NEG: subtract from zero."""
    a = get(m, 0, write=True)
    zero = m.constant(0, a.bits)
    result = m.name(zero - a)
    put(m, 0, result)
    subtract_flags(m, zero, a, result)


def not_(m: Machine) -> None:
    """NOT: no flags."""
    put(m, 0, ~get(m, 0, write=True))


def inc(m: Machine) -> None:
    """INC: all flags but CF."""
    a = get(m, 0, write=True)
    result = m.name(a + 1)
    carry = m.carry()
    put(m, 0, result)
    _keep_carry(m, a, m.constant(1, a.bits), result, carry, borrow=False)


def dec(m: Machine) -> None:
    """DEC: all flags but CF."""
    a = get(m, 0, write=True)
    result = m.name(a - 1)
    carry = m.carry()
    put(m, 0, result)
    _keep_carry(m, a, m.constant(1, a.bits), result, carry, borrow=True)


def _keep_carry(m: Machine, a: Value, b: Value, result: Value, carry: Value, *, borrow: bool) -> None:
    """Set all flags but CF, which stays ``carry``."""
    carries = (~a & b) | ((~a | b) & result) if borrow else (a & b) | ((a | b) & ~result)
    top = a.bits - 1
    overflow = carries.extract(top) ^ carries.extract(top - 1)
    set_carry_overflow(m, result, carries, carry, overflow)


def set_carry_overflow(m: Machine, result: Value, carries: Value, carry: Value, overflow: Value) -> None:
    """Set the flags of ``result``, but CF and OF as given; of ``carries`` only what tells AF is used."""
    bits = result.bits
    low = carries & (1 << bits - 2) - 1
    high = (carry.zero_extended(bits) << bits - 1) | ((carry ^ overflow).zero_extended(bits) << bits - 2)
    m.set_flags(result, low | high)


def xadd(m: Machine) -> None:
    """XADD: the source gets the old value; of one register with itself, the sum stays."""
    a, b = get(m, 0, write=True), get(m, 1)
    result = m.name(a + b)
    # Memory first, which may fault; of two registers the destination last, which may be the same.
    if is_memory(m, 0):
        put(m, 0, result)
        put(m, 1, a)
    else:
        put(m, 1, a)
        put(m, 0, result)
    add_flags(m, a, b, result)


def cmpxchg(m: Machine) -> None:
    """CMPXCHG: of a register that differs nothing is written, not even its upper half."""
    a, new = get(m, 0, write=True), get(m, 1)
    expected = m.name(m.register(state.RAX, a.bits))
    equal = m.name(a.equals(expected))
    if is_memory(m, 0):
        # Memory is written in either case.
        put(m, 0, m.name(m.select(equal, new, a)))
    elif a.bits == 32:
        number = m.instruction.rm
        m.set_slot(number, m.select(equal, new.zero_extended(64), m.slot(number)))
    else:
        put(m, 0, m.name(m.select(equal, new, a)))
    # Where they are equal the accumulator is not written, unless it is the destination.
    if a.bits == 32:
        m.set_slot(state.RAX, m.select(equal, m.slot(state.RAX), a.zero_extended(64)))
    else:
        m.set_register(state.RAX, m.select(equal, m.register(state.RAX, a.bits), a))
    subtract_flags(m, expected, a, m.name(expected - a))


def imul(m: Machine) -> None:
    """The forms with two and three operands, and that with one, which goes to :func:`wide_multiply`."""
    several = len(m.instruction.form.operands)
    if several == 1:
        wide_multiply(m, signed=True)
        return
    bits = size_of(m, 0)
    a = get(m, 1 if several == 3 else 0)
    b = get(m, 2 if several == 3 else 1)
    product = m.name(a.sign_extended(2 * bits) * b.sign_extended(2 * bits))
    result = m.name(product.truncated(bits))
    lost = m.name(~product.equals(result.sign_extended(2 * bits)))
    put(m, 0, result)
    set_carry_overflow(m, result, m.constant(0, bits), lost, lost)


def mul(m: Machine) -> None:
    """MUL: CF and OF tell whether the upper half is needed."""
    wide_multiply(m, signed=False)


def wide_multiply(m: Machine, *, signed: bool) -> None:
    """Multiply with the accumulator, into twice its width."""
    a = get(m, 0)
    bits = a.bits
    b = m.register(state.RAX, bits)
    if signed:
        product = m.name(a.sign_extended(2 * bits) * b.sign_extended(2 * bits))
    else:
        product = m.name(a.zero_extended(2 * bits) * b.zero_extended(2 * bits))
    low = m.name(product.truncated(bits))
    kept = low.sign_extended(2 * bits) if signed else low.zero_extended(2 * bits)
    lost = m.name(~product.equals(kept))
    if bits == 8:
        m.set_register(state.RAX, product)
    else:
        m.set_register(state.RAX, low)
        m.set_register(state.RDX, (product >> bits).truncated(bits))
    set_carry_overflow(m, low, m.constant(0, bits), lost, lost)


def div(m: Machine) -> None:
    """DIV: #DE where the quotient does not fit; all flags are undefined."""
    divisor = get(m, 0)
    high, low = _dividend(m, divisor.bits)
    # The quotient fits if the upper half is below the divisor; nothing is below zero.
    m.fault_if(~high.below(divisor), DIVIDE_ERROR)
    _put_quotient(m, *m.divide(high, low, divisor))


def idiv(m: Machine) -> None:
    """IDIV: rounds towards zero, and the remainder has the sign of the dividend."""
    divisor = get(m, 0)
    bits = divisor.bits
    high, low = _dividend(m, bits)
    number = m.name((high.zero_extended(2 * bits) << bits) | low.zero_extended(2 * bits))
    zero = m.constant(0, bits)
    negative, other = m.name(high.is_negative()), m.name(divisor.is_negative())
    size = m.name(m.select(negative, m.constant(0, 2 * bits) - number, number))
    by = m.name(m.select(other, zero - divisor, divisor))
    upper = m.name((size >> bits).truncated(bits))
    m.fault_if(~upper.below(by), DIVIDE_ERROR)
    quotient, remainder = m.divide(upper, size.truncated(bits), by)
    # Its size may be 2**(bits - 1) only where it is negative.
    limit = m.select(negative ^ other, m.constant(1 << bits - 1, bits), m.constant((1 << bits - 1) - 1, bits))
    m.fault_if(limit.below(quotient), DIVIDE_ERROR)
    _put_quotient(
        m,
        m.select(negative ^ other, zero - quotient, quotient),
        m.select(negative, zero - remainder, remainder),
    )


def _dividend(m: Machine, bits: int) -> tuple[Value, Value]:
    """Return the halves of AX, or rDX and rAX: upper, lower."""
    if bits == 8:
        return m.name(m.register(state.RAX, 8, high=True)), m.name(m.register(state.RAX, 8))
    return m.register(state.RDX, bits), m.register(state.RAX, bits)


def _put_quotient(m: Machine, quotient: Value, remainder: Value) -> None:
    quotient, remainder = m.name(quotient), m.name(remainder)
    m.set_register(state.RAX, quotient)
    if quotient.bits == 8:
        m.set_register(state.RAX, remainder, high=True)
    else:
        m.set_register(state.RDX, remainder)
