"""Reading and writing the operands of an instruction, wherever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.isa.decode import RIP
from blockkit.cpu.isa.operands import MEMORY_OR_REGISTER, Where

if TYPE_CHECKING:
    from blockkit.cpu.sem.machine import Machine, Value

_FS: Final = 4
_REGISTERS: Final = {"AL": 0, "AX": 0, "eAX": 0, "rAX": 0, "CL": 1, "DX": 2}


def size_of(m: Machine, index: int) -> int:
    """Return the bits of an operand."""
    instruction = m.instruction
    return 8 * instruction.form.operands[index].bytes(instruction.operand_size, long=instruction.mode == 64)


def is_memory(m: Machine, index: int) -> bool:
    """Whether an operand is memory."""
    where = m.instruction.form.operands[index].where
    return where is Where.MEMORY or where is Where.OFFSET or (where in MEMORY_OR_REGISTER and m.instruction.mod != 3)


def offset(m: Machine) -> Value:
    """Return the effective address of the memory operand, 64 bits, cut to the address size."""
    found = m.instruction
    bits = found.address_size * 8
    if found.base == RIP:
        return m.constant(0, 64) + m.constant(_after(m) + found.displacement & (1 << bits) - 1, 64)
    parts: list[Value] = []
    if found.base is not None:
        parts.append(m.slot(found.base))
    if found.index is not None:
        parts.append(m.slot(found.index) << found.scale if found.scale else m.slot(found.index))
    if found.displacement or not parts:
        parts.append(m.constant(found.displacement, 64))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total if bits == 64 else total & (1 << bits) - 1


def address(m: Machine) -> Value:
    """Return the linear address of the memory operand."""
    found = m.instruction
    segment = found.effective_segment
    if found.mode == 64 and segment < _FS:
        return offset(m)
    linear = offset(m) + m.slot(state.SEGMENT_BASES + segment)
    return linear if found.mode == 64 else linear & 0xFFFFFFFF


def _after(m: Machine) -> int:
    """Return the offset of the next instruction."""
    return m.here + m.instruction.length


def get(m: Machine, index: int) -> Value:
    """Read an operand."""
    found = m.instruction
    operand, bits = found.form.operands[index], size_of(m, index)
    where = operand.where
    if is_memory(m, index):
        if m.place is None:
            m.place = m.name(address(m))
        return m.name(m.load(m.place, bits))
    if where is Where.IMMEDIATE:
        # Those of four bytes are extended to eight.
        bits = found.operand_size * 8 if operand.size == "z" else bits
        return m.constant(found.second if operand.size == "b2" else found.immediate, bits)
    if where is Where.FIXED:
        return m.constant(1, 8) if operand.name == "1" else m.register(_REGISTERS[operand.name], bits)
    number, high = _register(m, index, bits)
    return m.register(number, bits, high=high)


def put(m: Machine, index: int, value: Value) -> None:
    """Write an operand."""
    if is_memory(m, index):
        if m.place is None:
            m.place = m.name(address(m))
        m.store(m.place, value)
        return
    operand = m.instruction.form.operands[index]
    if operand.where is Where.FIXED:
        m.set_register(_REGISTERS[operand.name], value)
        return
    number, high = _register(m, index, value.bits)
    m.set_register(number, value, high=high)


def _register(m: Machine, index: int, bits: int) -> tuple[int, bool]:
    """Return the number of a general register, and whether AH to BH are meant."""
    found = m.instruction
    number = found.reg if found.form.operands[index].where is Where.REG else found.rm
    if bits == 8 and 4 <= number < 8 and not found.rex:
        return number - 4, True
    return number, False
