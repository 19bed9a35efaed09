"""PUSHA, POPA and ENTER: instructions that move more than one item on the stack (SDM volume 2; volume 1, 6.5.1).

The stack pointer is changed last, so whatever faults before can be done again.
"""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, probe_store
from blockkit.cpu.state import RBP, RSP, SS
from blockkit.cpu.system.segments import check_segment
from blockkit.cpu.system.stacks import set_stack_pointer, stack_mask, stack_read, stack_write

_REGISTERS: Final = 8
_DEEPEST: Final = 31


def push_all(size: int) -> None:
    """PUSHA and PUSHAD: RSP as it was before."""
    number = 0
    while number < _REGISTERS:
        stack_write(S[RSP] - (number + 1) * size, size, S[number])
        number += 1
    set_stack_pointer(S[RSP] - _REGISTERS * size)


def pop_all(size: int) -> None:
    """POPA and POPAD: what is there for RSP is passed over."""
    # Whatever faults does so before anything is set.
    number = 0
    while number < _REGISTERS:
        stack_read(number * size, size)
        number += 1
    number = 0
    while number < _REGISTERS:
        if number != _REGISTERS - 1 - RSP:
            set_part(_REGISTERS - 1 - number, size, stack_read(number * size, size))
        number += 1
    set_stack_pointer(S[RSP] + _REGISTERS * size)


def set_part(number: int, size: int, value: int) -> None:
    """Set the low 2, 4 or 8 bytes of a general register, as instructions of that operand size do."""
    if size == 2:
        S[number] = S[number] & ~0xFFFF | value
    else:
        S[number] = value


def enter_frame(size: int, room: int, level: int) -> None:
    """ENTER: pushes RBP, and the frame pointers of the procedures around this one; then makes room.

    Args:
        size: Bytes of an item.
        room: Bytes for locals.
        level: How deep this procedure lies in others.
    """
    level &= _DEEPEST
    mask = stack_mask()
    stack_write(S[RSP] - size, size, S[RBP])
    frame = S[RSP] & ~mask | S[RSP] - size & mask
    pushed = size
    index = 1
    while index < level:
        # From the frame of the procedure that called, below which its own are.
        above = stack_read((S[RBP] - index * size & mask) - S[RSP], size)
        pushed += size
        stack_write(S[RSP] - pushed, size, above)
        index += 1
    if level:
        pushed += size
        stack_write(S[RSP] - pushed, size, frame)
    # It faults as a write at the new top of the stack would.
    probe_store(check_segment(SS, S[RSP] - pushed - room & mask, size, 1), size)
    set_stack_pointer(S[RSP] - pushed - room)
    # By the size of the stack, whatever that of the operand is.
    if mask == 0xFFFF:
        set_part(RBP, 2, frame & 0xFFFF)
    else:
        S[RBP] = frame
