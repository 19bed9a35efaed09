"""Strings (SDM volume 1, 7.3.9): one element is described here, a repeated one ends the block after a slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.arithmetic import subtract_flags
from blockkit.cpu.sem.operands import linear, size_of
from blockkit.cpu.system import strings

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value

_REPEAT_EQUAL: Final = 0xF3
_STRING: Final = (Where.SOURCE, Where.TARGET)


def _bits(m: Machine) -> int:
    """Return the size of an element."""
    operands = m.instruction.form.operands
    return size_of(m, 0 if operands[0].where in _STRING else 1)


def _is_of_any_address(m: Machine) -> bool:
    """Whether address size and segment are known only when the instruction is executed."""
    return m.instruction.address_size == 0


def _mask(m: Machine) -> Value | int:
    """Return the bits of addresses."""
    return m.address_mask() if _is_of_any_address(m) else (1 << m.instruction.address_size * 8) - 1


def _segment(m: Machine) -> int:
    """Return the segment of the source."""
    segment = m.instruction.segment
    return state.DS if segment is None else segment


def _element(m: Machine, register: int, segment: int, bits: int, *, write: bool = False) -> Value:
    """Return the linear address of an element."""
    offset = m.name(m.register(register, m.instruction.address_size * 8).zero_extended(64))
    return m.name(linear(m, segment, offset, bits // 8, write=write))


def _advance(m: Machine, registers: tuple[int, ...], bits: int) -> None:
    """Go to the next elements, as DF says."""
    size = bits // 8
    down = (m.slot(state.SYSTEM_FLAGS) & state.DF) >> (state.DF // (2 * size)).bit_length() - 1
    step = m.name(m.constant(size, 64) - down)
    width = m.instruction.address_size * 8
    for register in registers:
        m.set_register(register, m.register(register, width) + step.truncated(width))


def _source(m: Machine) -> Value | int:
    """Return the segment of the source, which may be known only when the instruction is executed."""
    return m.segment() if _is_of_any_address(m) else _segment(m)


def _once(m: Machine, function: Callable[..., None], *arguments: Value | int) -> None:
    """Do it once, with any address."""
    m.call(function, _bits(m) // 8, _mask(m), *arguments)


def _repeat(m: Machine, function: Callable[..., None], *arguments: Value | int) -> None:
    """Do a slice of a repeated one."""
    m.call(function, _bits(m) // 8, _mask(m), *arguments, m.length())
    m.leave()


def movs(m: Machine) -> None:
    """MOVS."""
    if m.instruction.repeat:
        _repeat(m, strings.repeat_move, _source(m))
        return
    if _is_of_any_address(m):
        _once(m, strings.move_once, _source(m))
        return
    bits = _bits(m)
    value = m.name(m.load(_element(m, state.RSI, _segment(m), bits), bits))
    m.store(_element(m, state.RDI, state.ES, bits, write=True), value)
    _advance(m, (state.RSI, state.RDI), bits)


def stos(m: Machine) -> None:
    """STOS."""
    if m.instruction.repeat:
        _repeat(m, strings.repeat_fill)
        return
    if _is_of_any_address(m):
        _once(m, strings.fill_once)
        return
    bits = _bits(m)
    m.store(_element(m, state.RDI, state.ES, bits, write=True), m.register(state.RAX, bits))
    _advance(m, (state.RDI,), bits)


def lods(m: Machine) -> None:
    """LODS."""
    if m.instruction.repeat:
        _repeat(m, strings.repeat_load, _source(m))
        return
    if _is_of_any_address(m):
        _once(m, strings.load_once, _source(m))
        return
    bits = _bits(m)
    value = m.name(m.load(_element(m, state.RSI, _segment(m), bits), bits))
    m.set_register(state.RAX, value)
    _advance(m, (state.RSI,), bits)


def _until(m: Machine) -> int:
    return strings.WHEN_DIFFERENT if m.instruction.repeat == _REPEAT_EQUAL else strings.WHEN_SAME


def cmps(m: Machine) -> None:
    """CMPS: the flags of the source minus the other."""
    if m.instruction.repeat:
        _repeat(m, strings.repeat_compare, _segment(m), strings.WITH_SOURCE, _until(m))
        return
    bits = _bits(m)
    a = m.name(m.load(_element(m, state.RSI, _segment(m), bits), bits))
    b = m.name(m.load(_element(m, state.RDI, state.ES, bits), bits))
    subtract_flags(m, a, b, m.name(a - b))
    _advance(m, (state.RSI, state.RDI), bits)


def scas(m: Machine) -> None:
    """SCAS: the flags of the accumulator minus the element."""
    if m.instruction.repeat:
        _repeat(m, strings.repeat_compare, state.ES, strings.WITH_ACCUMULATOR, _until(m))
        return
    bits = _bits(m)
    b = m.name(m.load(_element(m, state.RDI, state.ES, bits), bits))
    a = m.name(m.register(state.RAX, bits))
    subtract_flags(m, a, b, m.name(a - b))
    _advance(m, (state.RDI,), bits)


def ins(m: Machine) -> None:
    """INS."""
    if m.instruction.repeat:
        _repeat(m, strings.repeat_input)
    else:
        m.call(strings.input_element, _bits(m) // 8, _mask(m))
        m.leave_next()


def outs(m: Machine) -> None:
    """OUTS."""
    if m.instruction.repeat:
        _repeat(m, strings.repeat_output, _segment(m))
    else:
        m.call(strings.output_element, _bits(m) // 8, _mask(m), _segment(m))
        m.leave_next()
