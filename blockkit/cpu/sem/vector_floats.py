"""SSE: floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem import operands
from blockkit.cpu.sem.operands import size_of
from blockkit.cpu.sem.vectors import get, half, join, lane, put, whole
from blockkit.cpu.system import simd
from blockkit.cpu.system import softfloat_convert as convert

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value

    Function = Callable[..., int]


def _lanes(m: Machine, value: Value, bits: int, count: int) -> list[Value]:
    return [lane(m, value, bits, index) for index in range(count)]


def _scalar(m: Machine, index: int, bits: int) -> Value:
    return m.name(get(m, index, bits).zero_extended(64))


def _put_scalar(m: Machine, value: Value, bits: int) -> None:
    put(m, 0, value.truncated(bits), keep=True)


def arithmetic(function: Function, bits: int, *, scalar: bool, unary: bool = False) -> Callable[[Machine], None]:
    """ADDPS and the like: a function of one lane, or of two."""

    def operate(m: Machine) -> None:
        if scalar:
            several = [_scalar(m, 1, bits)] if unary else [_scalar(m, 0, bits), _scalar(m, 1, bits)]
            result = m.compute(function, *several)
            m.compute(simd.finish_simd)
            _put_scalar(m, result, bits)
            return
        count = 128 // bits
        second = _lanes(m, get(m, 1), bits, count)
        if unary:
            results = [m.compute(function, each) for each in second]
        else:
            first = _lanes(m, get(m, 0), bits, count)
            results = [m.compute(function, a, b) for a, b in zip(first, second, strict=True)]
        m.compute(simd.finish_simd)
        put(m, 0, join(m, results, bits))

    return operate


def with_control(function: Function, bits: int, *, scalar: bool, unary: bool) -> Callable[[Machine], None]:
    """CMPPS and the like, ROUNDPS and the like: functions that get the immediate too."""

    def operate(m: Machine) -> None:
        control = m.immediate(8).zero_extended(64)
        if scalar:
            several = [_scalar(m, 1, bits)] if unary else [_scalar(m, 0, bits), _scalar(m, 1, bits)]
            result = m.compute(function, *several, control)
            m.compute(simd.finish_simd)
            _put_scalar(m, result, bits)
            return
        count = 128 // bits
        second = _lanes(m, get(m, 1), bits, count)
        if unary:
            results = [m.compute(function, each, control) for each in second]
        else:
            first = _lanes(m, get(m, 0), bits, count)
            results = [m.compute(function, a, b, control) for a, b in zip(first, second, strict=True)]
        m.compute(simd.finish_simd)
        put(m, 0, join(m, results, bits))

    return operate


def compare(function: Function, bits: int, signaling: int) -> Callable[[Machine], None]:
    """COMISS, COMISD, UCOMISS and UCOMISD."""

    def tell(m: Machine) -> None:
        order = m.compute(function, _scalar(m, 0, bits), _scalar(m, 1, bits), signaling)
        m.compute(simd.finish_simd)
        equal, unordered = order.equals(1), order.equals(3)
        carry = order.equals(0) | unordered
        zero = equal | unordered
        # The parity of 0 is even, which only an unordered result is to say.
        odd = m.select(equal, m.constant(2, 64), m.constant(0, 64))
        m.set_slot(state.RES, m.select(zero, m.constant(0, 64), m.constant(1, 64)))
        m.set_slot(state.COUT, m.select(carry, m.constant(3 << 62, 64), m.constant(0, 64)) | odd)
        m.set_slot(state.SHIFT, m.constant(0, 64))

    return tell


# -- conversions -----------------------------------------------------------------------------------------------


def from_general(to: int) -> Callable[[Machine], None]:
    """CVTSI2SS and CVTSI2SD."""

    def change(m: Machine) -> None:
        value = operands.get(m, 1)
        function = getattr(convert, f"i{value.bits}_to_f{to}")
        result = m.compute(function, value.zero_extended(64))
        m.compute(simd.finish_simd)
        _put_scalar(m, result, to)

    return change


def to_general(of: int, truncate: int) -> Callable[[Machine], None]:
    """CVTSS2SI and the like."""

    def change(m: Machine) -> None:
        bits = size_of(m, 0)
        result = m.compute(getattr(convert, f"f{of}_to_i{bits}"), _scalar(m, 1, of), truncate)
        m.compute(simd.finish_simd)
        m.set_register(m.instruction.reg, result.truncated(bits))

    return change


def between_scalars(of: int) -> Callable[[Machine], None]:
    """CVTSS2SD and CVTSD2SS."""

    def change(m: Machine) -> None:
        to = 96 - of
        result = m.compute(getattr(convert, f"f{of}_to_f{to}"), _scalar(m, 1, of))
        m.compute(simd.finish_simd)
        _put_scalar(m, result, to)

    return change


def vector(function: Function, of: int, to: int, *more: int) -> Callable[[Machine], None]:
    """CVTDQ2PS and the like: lanes of ``of`` bits become lanes of ``to`` bits; what is left over becomes zero."""

    def change(m: Machine) -> None:
        mmx = m.instruction.form.operands[0].where is Where.MMX
        from_mmx = m.instruction.form.operands[1].where is Where.MMX_RM
        total = 64 if mmx or from_mmx else 128
        count = min(total // of, 128 // to) if not mmx else 64 // to
        value = get(m, 1)
        results = [m.compute(function, lane(m, value, of, index), *more) for index in range(count)]
        m.compute(simd.finish_simd)
        joined = join(m, results, to)
        # CVTPI2PS leaves the upper half.
        put(m, 0, joined, keep=from_mmx and to == 32)

    return change


# -- the rest -----------------------------------------------------------------------------------------------------


def pairs(add: Function, bits: int) -> Callable[[Machine], None]:
    """HADDPS and the like: neighbours of the first operand, then of the second."""

    def operate(m: Machine) -> None:
        count = 128 // bits
        second = get(m, 1)
        lanes = _lanes(m, get(m, 0), bits, count) + _lanes(m, second, bits, count)
        results = [m.compute(add, lanes[at], lanes[at + 1]) for at in range(0, 2 * count, 2)]
        m.compute(simd.finish_simd)
        put(m, 0, join(m, results, bits))

    return operate


def alternate(even: Function, odd: Function, bits: int) -> Callable[[Machine], None]:
    """ADDSUBPS and ADDSUBPD."""

    def operate(m: Machine) -> None:
        count = 128 // bits
        second = _lanes(m, get(m, 1), bits, count)
        first = _lanes(m, get(m, 0), bits, count)
        results = [
            m.compute(odd if index & 1 else even, a, b) for index, (a, b) in enumerate(zip(first, second, strict=True))
        ]
        m.compute(simd.finish_simd)
        put(m, 0, join(m, results, bits))

    return operate


def dot(function: Function, bits: int) -> Callable[[Machine], None]:
    """DPPS and DPPD."""

    def operate(m: Machine) -> None:
        b, a = get(m, 1), get(m, 0)
        control = m.name(m.immediate(8).zero_extended(64))
        parts = (half(m, a, 0), half(m, a, 1), half(m, b, 0), half(m, b, 1))
        total = m.compute(function, *parts, control)
        m.compute(simd.finish_simd)
        zero = m.constant(0, 64)
        results = [m.select((control >> index & 1).equals(0), zero, total) for index in range(128 // bits)]
        put(m, 0, join(m, results, bits) if bits == 32 else whole(m, *results))

    return operate


def load_control(m: Machine) -> None:
    """LDMXCSR."""
    m.require("sse")
    m.compute(simd.load_mxcsr, operands.get(m, 0).zero_extended(64))


def store_control(m: Machine) -> None:
    """STMXCSR."""
    m.require("sse")
    operands.put(m, 0, m.compute(simd.store_mxcsr).truncated(32))
