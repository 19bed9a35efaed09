"""MMX and SSE: arithmetic on packed integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.vectors import get, half, join, lane, put, whole
from blockkit.cpu.system import vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value


def lanewise(name: str, bits: int) -> Callable[[Machine], None]:
    """Return an instruction that is one operation of :mod:`blockkit.cpu.sem.packed`."""

    def operate(m: Machine) -> None:
        other = get(m, 1)
        put(m, 0, m.packed(name, bits, get(m, 0), other))

    return operate


def unary(name: str, bits: int) -> Callable[[Machine], None]:
    """PABSB and the like, PMOVSXBW and the like."""

    def operate(m: Machine) -> None:
        other = get(m, 1)
        total = 64 if m.instruction.form.operands[0].where is Where.MMX else 128
        put(m, 0, m.packed(name, bits, other.zero_extended(total)))

    return operate


def shift(name: str, bits: int) -> Callable[[Machine], None]:
    """PSLLW and the like, by an immediate or by 64 bits of a register or memory."""

    def move(m: Machine) -> None:
        if m.instruction.form.operands[1].where is Where.IMMEDIATE:
            count = m.immediate(8).zero_extended(64)
        else:
            count = half(m, get(m, 1), 0)
        put(m, 0, m.packed(name, bits, get(m, 0), count))

    return move


def shift_bytes(name: str) -> Callable[[Machine], None]:
    """PSLLDQ and PSRLDQ."""

    def move(m: Machine) -> None:
        value = get(m, 0)
        low, high = half(m, value, 0), half(m, value, 1)
        zero = m.constant(0, 64)
        count = m.name(m.immediate(8).zero_extended(64))
        if name == "shr":
            parts = (low, high, zero, zero)
            put(m, 0, whole(m, m.compute(vectors.align_bytes, *parts, count), _next(m, parts, count)))
            return
        # By 16 and more nothing is left.
        count = m.name(m.select(count.below(16), m.constant(16, 64) - count, m.constant(32, 64)))
        parts = (zero, zero, low, high)
        nothing = count.equals(32)
        put(
            m,
            0,
            whole(
                m,
                m.select(nothing, zero, m.compute(vectors.align_bytes, *parts, count)),
                m.select(nothing, zero, _next(m, parts, count)),
            ),
        )

    return move


def _next(m: Machine, parts: tuple[Value, Value, Value, Value], count: Value) -> Value:
    return m.compute(vectors.align_bytes, *parts, count + 8)


def by_halves(function: Callable[..., int], *more: int) -> Callable[[Machine], None]:
    """Return an instruction that does the same with each half of two operands."""

    def operate(m: Machine) -> None:
        a, b = get(m, 0), get(m, 1)
        parts = [m.compute(function, half(m, a, which), half(m, b, which), *more) for which in range(a.bits // 64)]
        put(m, 0, parts[0] if len(parts) == 1 else whole(m, *parts))

    return operate


def horizontal(bits: int, negate: int, saturate: int) -> Callable[[Machine], None]:
    """PHADDW and the like: pairs of the first operand, then of the second."""

    def operate(m: Machine) -> None:
        a, b = get(m, 0), get(m, 1)
        parts = [
            m.compute(vectors.horizontal, half(m, value, which), bits, negate, saturate)
            for value in (a, b)
            for which in range(a.bits // 64)
        ]
        halves = [m.name(parts[at] | parts[at + 1] << 32) for at in range(0, len(parts), 2)]
        put(m, 0, halves[0] if len(halves) == 1 else whole(m, *halves))

    return operate


def multiply_even(*, signed: bool) -> Callable[[Machine], None]:
    """PMULUDQ and PMULDQ."""

    def multiply(m: Machine) -> None:
        a, b = get(m, 0), get(m, 1)
        parts = []
        for which in range(a.bits // 64):
            pair = [half(m, value, which).truncated(32) for value in (a, b)]
            wide = [each.sign_extended(64) if signed else each.zero_extended(64) for each in pair]
            parts.append(m.name(wide[0] * wide[1]))
        put(m, 0, parts[0] if len(parts) == 1 else whole(m, *parts))

    return multiply


def greater_quad(m: Machine) -> None:
    """PCMPGTQ."""
    a, b = get(m, 0), get(m, 1)
    top = 1 << 63
    truths = [(lane(m, b, 64, index) ^ top).below(lane(m, a, 64, index) ^ top).sign_extended(64) for index in range(2)]
    put(m, 0, join(m, truths, 64))


def equal_quad(m: Machine) -> None:
    """PCMPEQQ."""
    a, b = get(m, 0), get(m, 1)
    put(m, 0, join(m, [lane(m, a, 64, at).equals(lane(m, b, 64, at)).sign_extended(64) for at in range(2)], 64))


def test(m: Machine) -> None:
    """PTEST: ZF is whether nothing is common, CF whether the first covers the second."""
    a, b = get(m, 0), get(m, 1)
    common, rest = m.name(a & b), m.name(b & ~a)
    zero = (half(m, common, 0) | half(m, common, 1)).equals(0)
    carry = (half(m, rest, 0) | half(m, rest, 1)).equals(0)
    result = m.select(zero, m.constant(0, 64), m.constant(1, 64))
    # SF, OF, AF and PF are clear: PF of 0 would be set, and the two below the top are alike.
    top = m.select(carry, m.constant(3 << 62, 64), m.constant(0, 64))
    m.set_slot(state.RES, result)
    m.set_slot(state.COUT, top | m.select(zero, m.constant(2, 64), m.constant(0, 64)))
    m.set_slot(state.SHIFT, m.constant(0, 64))


def smallest_word(m: Machine) -> None:
    """PHMINPOSUW."""
    value = get(m, 1)
    put(m, 0, m.compute(vectors.smallest_word, half(m, value, 0), half(m, value, 1)))


def sums_of_differences(m: Machine) -> None:
    """MPSADBW."""
    a, b = get(m, 0), get(m, 1)
    control = m.immediate(8).zero_extended(64)
    parts = (half(m, a, 0), half(m, a, 1), half(m, b, 0), half(m, b, 1), control)
    low = m.compute(vectors.sums_of_differences, *parts, 0)
    put(m, 0, whole(m, low, m.compute(vectors.sums_of_differences, *parts, 4)))
