"""The operands of MMX and SSE instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem import operands
from blockkit.cpu.sem.operands import is_memory, place, size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value

_XMM: Final = frozenset((Where.XMM, Where.XMM_RM, Where.XMM_REGISTER))
_MMX: Final = frozenset((Where.MMX, Where.MMX_RM, Where.MMX_REGISTER))
_BY_REG: Final = frozenset((Where.XMM, Where.MMX))
#: The status word's error summary, and where TOP is in it.
_PENDING, _TOP = 1 << 7, 7 << 11


def begin(m: Machine) -> None:
    """Raise what any instruction raises that uses these registers while it must not; before all else."""
    if uses_mmx(m):
        m.require("mmx")
        m.fault_if(~(m.slot(state.FSW) & _PENDING).equals(0), state.MATH_FAULT)
    else:
        m.require("sse")


def uses_mmx(m: Machine) -> bool:
    """Whether an operand is an MMX register; one of CVTPI2PD in memory is none."""
    return any(
        operand.where in _MMX and not (m.instruction.name == "CVTPI2PD" and is_memory(m, index))
        for index, operand in enumerate(m.instruction.form.operands)
    )


def finish(m: Machine) -> None:
    """Leave the x87 as an MMX instruction does: all registers valid, TOP 0 (SDM volume 1, 9.5.2)."""
    if uses_mmx(m):
        m.set_slot(state.FTW, m.constant(0, 64))
        m.set_slot(state.FSW, m.slot(state.FSW) & ~_TOP)


def described(function: Callable[[Machine], None]) -> Callable[[Machine], None]:
    """Return an instruction that begins and finishes as all of these do."""

    def describe(m: Machine) -> None:
        begin(m)
        function(m)
        finish(m)

    return describe


def _number(m: Machine, index: int) -> int:
    by_reg = m.instruction.form.operands[index].where in _BY_REG
    return m.instruction.reg if by_reg else m.instruction.rm


def width(m: Machine, index: int) -> int:
    """Return the bits of a whole register of the kind of an operand."""
    return 64 if m.instruction.form.operands[index].where in _MMX else 128


def get(m: Machine, index: int, bits: int | None = None, *, aligned: bool = True) -> Value:
    """Return an operand.

    Args:
        m: The machine.
        index: Which.
        bits: Only the lowest of its bits; what the map says by default.
        aligned: 16 bytes in memory must be at a multiple of 16, else #GP(0).
    """
    where = m.instruction.form.operands[index].where
    size = size_of(m, index)
    bits = bits or size
    if is_memory(m, index):
        at = place(m, bits)
        if bits == 128 and aligned:
            check_alignment(m, at)
        return m.name(m.load(at, bits))
    if where in _XMM:
        number = _number(m, index)
        return m.xmm(number) if bits == 128 else m.name(m.xmm_half(number, 0).truncated(bits))
    if where in _MMX:
        return m.mmx(_number(m, index)).truncated(bits)
    return operands.get(m, index)


def check_alignment(m: Machine, at: Value) -> None:
    """Raise #GP(0) for an address that is no multiple of 16."""
    m.fault_if(~(at & 15).equals(0), state.PROTECTION)


def put(m: Machine, index: int, value: Value, *, aligned: bool = True, keep: bool = False) -> None:
    """Set an operand.

    Args:
        m: The machine.
        index: Which.
        value: 32, 64 or 128 bits.
        aligned: As for :func:`get`.
        keep: What is above in a register stays; it becomes zero otherwise.
    """
    if is_memory(m, index):
        at = place(m, value.bits, write=True)
        if value.bits == 128 and aligned:
            check_alignment(m, at)
        m.store(at, value)
        return
    number = _number(m, index)
    if m.instruction.form.operands[index].where in _MMX:
        m.set_mmx(number, value.zero_extended(64))
    elif value.bits == 128:
        m.set_xmm(number, value)
    else:
        low = value
        if value.bits == 32:
            low = value.zero_extended(64)
            low = m.xmm_half(number, 0) & ~0xFFFFFFFF | low if keep else low
        m.set_xmm_half(number, 0, low)
        if not keep:
            m.set_xmm_half(number, 1, m.constant(0, 64))


def half(m: Machine, value: Value, which: int) -> Value:
    """Return the lower or the upper half of 128 bits; of 64 bits the whole."""
    if value.bits == 64:
        return value
    return m.name((value >> 64 if which else value).truncated(64))


def whole(m: Machine, low: Value, high: Value) -> Value:
    """Return two halves as one."""
    return m.name(low.zero_extended(128) | high.zero_extended(128) << 64)


def lane(m: Machine, value: Value, bits: int, index: int) -> Value:
    """Return one lane, 64 bits, with zeros above."""
    part = half(m, value, index * bits // 64)
    at = index * bits % 64
    moved = part >> at if at else part
    return m.name(moved.truncated(bits).zero_extended(64)) if bits < 64 else moved


def join(m: Machine, lanes: list[Value], bits: int) -> Value:
    """Return lanes, each in 64 bits with zeros above, as one number of 64 or 128 bits."""
    halves: list[Value] = []
    for first in range(0, len(lanes), 64 // bits):
        total = lanes[first]
        for index, each in enumerate(lanes[first + 1 : first + 64 // bits], 1):
            total = total | each << index * bits
        halves.append(m.name(total))
    return halves[0] if len(halves) == 1 else whole(m, halves[0], halves[1])
