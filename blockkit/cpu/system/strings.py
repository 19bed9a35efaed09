"""Strings, repeated (SDM volume 2, REP): one instruction does a slice of them.

After each element rSI, rDI and rCX are as the SDM says, so that a fault leaves the instruction where it can go on. A
slice ends where what is left in rCX is a multiple of SLICE, whatever happened before; there the instruction has run
once, and runs again, so that interrupts can be taken.
"""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import (
    S,
    copy_elements,
    fill_elements,
    load,
    port_in,
    port_out,
    probe_store,
    store,
)
from blockkit.cpu.state import (
    COUT,
    DF,
    ES,
    MODE,
    MODE_64,
    MODE_BREAK,
    MODE_TRAP,
    OWN,
    RAX,
    RCX,
    RDI,
    RDX,
    RES,
    RIP,
    RSI,
    SEGMENT_ATTRIBUTES,
    SEGMENT_LIMITS,
    SHIFT,
    SYSTEM_FLAGS,
)
from blockkit.cpu.system.descriptors import CODE, DOWN
from blockkit.cpu.system.ports import check_io
from blockkit.cpu.system.segments import check_segment

#: Elements at most between two chances for an interrupt.
SLICE: Final = 1024
#: What ends a loop of comparisons: an element that is different; one that is the same.
WHEN_DIFFERENT, WHEN_SAME = 0, 1
#: What SCAS and CMPS compare with: AL to RAX; DS:rSI.
WITH_ACCUMULATOR, WITH_SOURCE = 0, 1

_WORD: Final = 0xFFFF
#: What was read from a port, and bit 32, as long as it is not in memory yet: if the store has to be done again, it is
#: not read twice.
_PENDING: Final = OWN + 9
_HELD: Final = 1 << 32


def _slice_of(mask: int) -> int:
    """Return how many elements are done at once: none if rCX is zero, one when single steps are taken."""
    count = S[RCX] & mask
    if count == 0:
        return 0
    return 1 if S[MODE] & (MODE_TRAP | MODE_BREAK) else ((count - 1) & (SLICE - 1)) + 1


def _string_step(size: int) -> int:
    """Return the distance to the next element."""
    return 0 - size if S[SYSTEM_FLAGS] & DF else size


def _advance(register: int, distance: int, mask: int) -> None:
    """Add to a register of the address size: 32 bits clear those above, 16 leave them."""
    value = S[register] + distance & mask
    S[register] = S[register] & ~_WORD | value if mask == _WORD else value


def _end_slice(mask: int, length: int, over: int) -> None:
    """Go on behind the instruction if nothing is left or the loop is ``over``, else with the instruction itself."""
    if over or (S[RCX] & mask) == 0:
        after = S[RIP] + length
        S[RIP] = after if S[MODE] & MODE_64 else after & 0xFFFFFFFF


def _room_behind(register: int, offset: int, mask: int) -> int:
    """Return how many bytes from an offset on, which is inside a segment, are certainly inside it, too."""
    room = mask - offset
    if (S[MODE] & MODE_64) == 0:
        limit = S[SEGMENT_LIMITS + register]
        if S[SEGMENT_ATTRIBUTES + register] & (CODE | DOWN) == DOWN or limit < offset:
            return 0
        if limit - offset < room:
            room = limit - offset
    return room


def move_once(size: int, mask: int, segment: int) -> None:
    """MOVS; see :func:`repeat_move`."""
    value = load(check_segment(segment, S[RSI] & mask, size, 0), size)
    store(check_segment(ES, S[RDI] & mask, size, 1), size, value)
    _advance(RSI, _string_step(size), mask)
    _advance(RDI, _string_step(size), mask)


def fill_once(size: int, mask: int) -> None:
    """STOS."""
    store(check_segment(ES, S[RDI] & mask, size, 1), size, _accumulator(size))
    _advance(RDI, _string_step(size), mask)


def load_once(size: int, mask: int, segment: int) -> None:
    """LODS."""
    value = load(check_segment(segment, S[RSI] & mask, size, 0), size)
    _accumulate(value, size)
    _advance(RSI, _string_step(size), mask)


def _accumulate(value: int, size: int) -> None:
    """Put an element into AL to RAX: 32 bits clear those above."""
    if size < 4:
        value |= S[RAX] & ~((1 << size * 8) - 1)
    S[RAX] = value


def repeat_move(size: int, mask: int, segment: int, length: int) -> None:
    """REP MOVS.

    Args:
        size: Of an element, in bytes.
        mask: The bits of addresses.
        segment: Of the source.
        length: Of the instruction.
    """
    left = _slice_of(mask)
    step = _string_step(size)
    while left:
        from_offset = S[RSI] & mask
        to_offset = S[RDI] & mask
        source = check_segment(segment, from_offset, size, 0)
        target = check_segment(ES, to_offset, size, 1)
        done = 0
        if step == size:
            room = _room_behind(segment, from_offset, mask)
            other = _room_behind(ES, to_offset, mask)
            room = (other if other < room else room) // size
            done = copy_elements(source, target, size, left if left < room else room)
        if done == 0:
            store(target, size, load(source, size))
            done = 1
        _advance(RSI, done * step, mask)
        _advance(RDI, done * step, mask)
        _advance(RCX, 0 - done, mask)
        left -= done
    _end_slice(mask, length, 0)


def repeat_fill(size: int, mask: int, length: int) -> None:
    """REP STOS."""
    left = _slice_of(mask)
    step = _string_step(size)
    value = _accumulator(size)
    while left:
        offset = S[RDI] & mask
        target = check_segment(ES, offset, size, 1)
        done = 0
        if step == size:
            room = _room_behind(ES, offset, mask) // size
            done = fill_elements(target, size, left if left < room else room, value)
        if done == 0:
            store(target, size, value)
            done = 1
        _advance(RDI, done * step, mask)
        _advance(RCX, 0 - done, mask)
        left -= done
    _end_slice(mask, length, 0)


def repeat_load(size: int, mask: int, segment: int, length: int) -> None:
    """REP LODS."""
    left = _slice_of(mask)
    step = _string_step(size)
    while left:
        _accumulate(load(check_segment(segment, S[RSI] & mask, size, 0), size), size)
        _advance(RSI, step, mask)
        _advance(RCX, 0 - 1, mask)
        left -= 1
    _end_slice(mask, length, 0)


def repeat_compare(size: int, mask: int, segment: int, what: int, until: int, length: int) -> None:
    """REPE and REPNE with CMPS and SCAS: a fault leaves the flags as they were before the instruction.

    Args:
        size: Of an element, in bytes.
        mask: The bits of addresses.
        segment: Of the source.
        what: WITH_ACCUMULATOR or WITH_SOURCE.
        until: WHEN_DIFFERENT or WHEN_SAME.
        length: Of the instruction.
    """
    left = _slice_of(mask)
    step = _string_step(size)
    first = _accumulator(size)
    second = 0
    over = 0
    some = left
    while left:
        if what == WITH_SOURCE:
            first = load(check_segment(segment, S[RSI] & mask, size, 0), size)
        second = load(check_segment(ES, S[RDI] & mask, size, 0), size)
        if what == WITH_SOURCE:
            _advance(RSI, step, mask)
        _advance(RDI, step, mask)
        _advance(RCX, 0 - 1, mask)
        left -= 1
        if (first == second) == (until == WHEN_SAME):
            over = 1
            break
    if some:
        # The flags of a subtraction: see the table of slots.
        result = first - second
        shift = 64 - size * 8
        S[RES] = result << shift
        S[COUT] = (~first & second | (~first | second) & result) << shift & ~3
        S[SHIFT] = shift
    _end_slice(mask, length, over)


def _accumulator(size: int) -> int:
    """Return AL, AX, EAX or RAX."""
    return S[RAX] if size == 8 else S[RAX] & (1 << size * 8) - 1


def input_element(size: int, mask: int) -> None:
    """INS, once: the port is read when nothing can fault any more."""
    port = S[RDX] & 0xFFFF
    check_io(port, size)
    target = check_segment(ES, S[RDI] & mask, size, 1)
    probe_store(target, size)
    if S[_PENDING] == 0:
        S[_PENDING] = port_in(port, size) | _HELD
    store(target, size, S[_PENDING] & ~_HELD)
    S[_PENDING] = 0
    _advance(RDI, _string_step(size), mask)


def output_element(size: int, mask: int, segment: int) -> None:
    """OUTS, once."""
    port = S[RDX] & 0xFFFF
    check_io(port, size)
    value = load(check_segment(segment, S[RSI] & mask, size, 0), size)
    _advance(RSI, _string_step(size), mask)
    port_out(port, size, value)


def repeat_input(size: int, mask: int, length: int) -> None:
    """REP INS."""
    left = _slice_of(mask)
    while left:
        input_element(size, mask)
        _advance(RCX, 0 - 1, mask)
        left -= 1
    _end_slice(mask, length, 0)


def repeat_output(size: int, mask: int, segment: int, length: int) -> None:
    """REP OUTS."""
    left = _slice_of(mask)
    while left:
        output_element(size, mask, segment)
        _advance(RCX, 0 - 1, mask)
        left -= 1
    _end_slice(mask, length, 0)
