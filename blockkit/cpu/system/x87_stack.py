"""The registers of the x87 as a stack, its status, and pending exceptions (SDM volume 1, 8.1)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load_system, raise_fault
from blockkit.cpu.state import (
    CR0,
    CR0_NE,
    CS,
    FCS,
    FCW,
    FDP,
    FDS,
    FIP,
    FOP,
    FSW,
    FTW,
    MATH_FAULT,
    MODE,
    MODE_64,
    RIP,
    SEGMENT_BASES,
    SELECTORS,
    X87,
)
from blockkit.cpu.system.x87_round import (
    NOTED,
    RESULT_MANTISSA,
    RESULT_WORD,
    X87_C1,
    X87_INVALID,
    X87_STACK_FAULT,
    x87_give_invalid,
)

#: Exceptions in the control and status words; those before which nothing is computed, and before which nothing is
#: stored in memory.
X87_EXCEPTIONS: Final = 0x3F
BEFORE_RESULT: Final = 7
BEFORE_STORE: Final = 0x1F
#: In the status word: an unmasked exception waits (twice); the top of the stack.
X87_PENDING: Final = 0x8080
X87_TOP: Final = 7 << 11
X87_CONDITIONS: Final = 0x4700


def x87_wait() -> None:
    """Raise #MF if an unmasked exception is pending.

    Without CR0.NE, nothing happens: as if IGNNE# were asserted.
    """
    if S[FSW] & 0x80 and S[CR0] & CR0_NE:
        raise_fault(MATH_FAULT, 0)


def x87_begin() -> None:
    """Begin an instruction without an operand in memory."""
    x87_wait()
    S[FIP] = S[RIP]
    S[FCS] = S[SELECTORS + CS]
    S[NOTED] = 0


def x87_begin_memory(offset: int, segment: int) -> None:
    """Begin one whose operand is at an offset in a segment, given by its number."""
    x87_begin()
    S[FDP] = offset
    S[FDS] = S[SELECTORS + segment]


def x87_opcode() -> int:
    """Return 11 bits of the opcode of this instruction, as the last instruction's opcode register has it."""
    base = 0 if S[MODE] & MODE_64 else S[SEGMENT_BASES + CS]
    address = base + S[RIP]
    count = 0
    while count < 15:
        byte = load_system(address, 1)
        if byte & 0xF8 == 0xD8:
            return (byte & 7) << 8 | load_system(address + 1, 1)
        address += 1
        count += 1
    return 0


def x87_register(index: int) -> int:
    """Return the slot of the mantissa of ST(index); its word is in the next."""
    return X87 + ((S[FSW] >> 11) + index & 7) * 2


def x87_is_empty(index: int) -> int:
    """Whether ST(index) holds nothing."""
    return 1 if S[FTW] >> ((S[FSW] >> 11) + index & 7) * 2 & 3 == 3 else 0


def x87_tag(index: int, tag: int) -> None:
    """Set the tag of ST(index): 0 or 3."""
    place = ((S[FSW] >> 11) + index & 7) * 2
    S[FTW] = S[FTW] & ~(3 << place) | tag << place


def x87_move_top(distance: int) -> None:
    """Add to the number of the register at the top."""
    status = S[FSW]
    S[FSW] = status & ~X87_TOP | status + (distance << 11) & X87_TOP


def x87_pop() -> None:
    """Empty the top, and go to the next."""
    x87_tag(0, 3)
    x87_move_top(1)


def x87_underflow() -> None:
    """Note that a register is empty whose value is needed; gives the default NaN."""
    S[NOTED] = X87_STACK_FAULT
    x87_give_invalid()


def x87_settle(before: int) -> int:
    """Add what was noted to the status word, and return whether the result counts.

    Args:
        before: The exceptions that leave everything as it was, if they are not masked.
    """
    noted = S[NOTED]
    unmasked = noted & ~S[FCW] & X87_EXCEPTIONS
    if unmasked & BEFORE_RESULT:
        # Nothing was computed: so there is nothing to say about a result.
        noted &= BEFORE_RESULT | X87_STACK_FAULT | (X87_C1 if noted & X87_STACK_FAULT else 0)
    S[FSW] = S[FSW] & ~X87_C1 | noted | (X87_PENDING if unmasked else 0)
    if unmasked:
        S[FOP] = x87_opcode()
    return 0 if unmasked & before else 1


def x87_set(index: int) -> None:
    """Set ST(index) to the result."""
    place = x87_register(index)
    S[place] = S[RESULT_MANTISSA]
    S[place + 1] = S[RESULT_WORD]
    x87_tag(index, 0)


def x87_finish(index: int) -> int:
    """Settle, and set ST(index) to the result if it counts; return whether it did."""
    if x87_settle(BEFORE_RESULT):
        x87_set(index)
        return 1
    return 0


def x87_finish_push() -> None:
    """Settle, and push the result if it counts; on a full stack that is a NaN."""
    if x87_is_empty(7) == 0 and (S[NOTED] & X87_STACK_FAULT) == 0:
        S[NOTED] = X87_STACK_FAULT
        x87_give_invalid()
        S[NOTED] |= X87_C1
    # A denormal number is pushed even if that is not masked.
    if x87_settle(X87_INVALID):
        x87_move_top(7)
        x87_set(0)


def x87_summarize() -> None:
    """Make the status word say whether an unmasked exception waits, after it or the control word was set."""
    if S[FSW] & ~S[FCW] & X87_EXCEPTIONS:
        S[FSW] |= X87_PENDING
    else:
        S[FSW] &= ~X87_PENDING


def x87_invalid_unmasked() -> int:
    """Whether invalid operations are not masked."""
    return 1 if (S[FCW] & X87_INVALID) == 0 else 0
