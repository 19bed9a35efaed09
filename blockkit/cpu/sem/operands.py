"""Reading and writing the operands of an instruction, wherever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
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
    total = m.effective()
    bits = m.instruction.address_size * 8
    return total if bits == 64 else total & (1 << bits) - 1


def address(m: Machine, size: int = 1, *, write: bool = False, beyond: Value | int | None = None) -> Value:
    """Return the linear address of the memory operand.

    Args:
        m: The machine.
        size: Bytes that are going to be used there, which must be inside the segment.
        write: They are going to be written.
        beyond: Added to the effective address.
    """
    return m.address(size, write=write, beyond=beyond)


def linear(m: Machine, segment: int, where: Value, size: int, *, write: bool = False) -> Value:
    """Return the linear address of an offset in a segment."""
    if segment < _FS and m.flat and (segment != state.CS or m.mode & state.MODE_64 or not write):
        return where
    if m.mode & state.MODE_64:
        return where + m.slot(state.SEGMENT_BASES + segment)
    from blockkit.cpu.system.segments import check_segment

    return m.call(check_segment, segment, where, size, int(write))


def place(m: Machine, bits: int, *, write: bool = False) -> Value:
    """Return the linear address of the memory operand, found only once."""
    if m.place is None:
        m.place = m.name(address(m, bits // 8, write=write))
    return m.place


def get(m: Machine, index: int, *, write: bool = False) -> Value:
    """Read an operand; ``write``: it is going to be written, too."""
    found = m.instruction
    operand, bits = found.form.operands[index], size_of(m, index)
    where = operand.where
    if is_memory(m, index):
        return m.name(m.load(place(m, bits, write=write), bits))
    if where is Where.IMMEDIATE:
        # Those of four bytes are extended to eight.
        bits = found.operand_size * 8 if operand.size == "z" else bits
        return m.second(bits) if operand.size == "b2" else m.immediate(bits)
    if where is Where.FIXED:
        return m.constant(1, 8) if operand.name == "1" else m.register(_REGISTERS[operand.name], bits)
    number = _register(m, index)
    return m.byte_register(number) if bits == 8 else m.register(number, bits)


def put(m: Machine, index: int, value: Value) -> None:
    """Write an operand."""
    if is_memory(m, index):
        m.store(place(m, value.bits, write=True), value)
        return
    operand = m.instruction.form.operands[index]
    if operand.where is Where.FIXED:
        m.set_register(_REGISTERS[operand.name], value)
    elif value.bits == 8:
        m.set_byte_register(_register(m, index), value)
    else:
        m.set_register(_register(m, index), value)


def _register(m: Machine, index: int) -> int:
    """Return the number of a general register."""
    found = m.instruction
    return found.reg if found.form.operands[index].where is Where.REG else found.rm
