"""Finding the block at an offset, translating it where there is none, and forgetting those whose code is written."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, host_read, host_write, raise_fault
from blockkit.cpu.jit.layout import (
    ARENA_END,
    ARENA_NEXT,
    AT,
    BLOCK_ENTRY,
    BLOCKS,
    BLOCKS_MASK,
    BLOCKS_USED,
    BYTES,
    BYTES_SHIFT,
    CELL_OFFSET,
    CELL_TAKEN,
    CONTEXT_NEXT,
    CONTEXT_SLOTS,
    CONTEXTS,
    ENDS,
    EXIT,
    FALLBACK,
    FOUND_BYTES,
    FOUND_CROSSING,
    FOUND_MARKS,
    FOUND_SHORT,
    FULL,
    H_ATTENTION,
    H_DEAD,
    HANDLER,
    HEADER_BYTES,
    HEADER_ENTRY,
    HEADER_NEXT,
    HEADER_OFFSET,
    HEADER_SIZE,
    JUMP_ENTRIES,
    JUMP_KEY,
    JUMPS,
    KEYS_GIVEN,
    MARKS,
    MARKS_BLOCKS,
    MARKS_PYTHON,
    MOST_CONTEXTS,
    NUMBER,
    OTHERWISE,
    PATCHED,
    PATCHED_HANDLER,
    PENDING,
    RECORD_SIZE,
    SCRATCH,
    SHORT,
    SIZE,
    STALE,
    STATE,
    STOP,
    TAKEN,
    TLB,
    TLB_ENTRIES,
    TLB_POINTER,
    TOLD_PRIORITY,
)
from blockkit.cpu.jit.memory import (
    beyond,
    check_canonical,
    forget_jumps,
    forget_writes,
    granules,
    host_page,
)
from blockkit.cpu.jit.translate import decode_record, handler_address, translate_block
from blockkit.cpu.state import (
    ATTENTION,
    CPL,
    CR8,
    CS,
    EXECUTED,
    HALT,
    IF,
    MODE,
    MODE_64,
    MODE_BREAK,
    MODE_TRAP,
    PROTECTION,
    RIP,
    SEGMENT_BASES,
    SEGMENT_LIMITS,
    SHADOW,
    SYSTEM_FLAGS,
)
from blockkit.cpu.system.paging import FETCH, rights_now, walk

_INSIDE: Final = 4095
_PAGE: Final = 4096
_LONGEST: Final = 32
#: Room that the longest block takes, and some.
_ROOM: Final = (_LONGEST + 6) * RECORD_SIZE
#: In the key of a block on two pages.
_CROSSING: Final = 1 << 63
_GONE: Final = (1 << 64) - 1
_OFFSET_BITS: Final = (1 << 48) - 1


def header_of(record: int) -> int:
    """Return the header of the block that a record is in."""
    return record - host_read(record + NUMBER, 1) * RECORD_SIZE - HEADER_SIZE


def code_key() -> int:
    """Return what blocks depend on beside their bytes: MODE, and the limit of CS where code may reach it."""
    return S[MODE] if S[MODE] & MODE_64 else S[MODE] | S[SEGMENT_LIMITS + CS] << 16


def find_block(offset: int) -> int:
    """Return the first record of the block at an offset, translating it if need be; raises what fetching it raises.

    Returns:
        0 where the code is not in memory, or where there is no room; EXIT says which.
    """
    room = _PAGE
    linear = offset
    if S[MODE] & MODE_64:
        check_canonical(offset)
    else:
        if offset > S[SEGMENT_LIMITS + CS]:
            raise_fault(PROTECTION, 0)
        linear = S[SEGMENT_BASES + CS] + offset & 0xFFFFFFFF
        if S[SEGMENT_LIMITS + CS] - offset < _PAGE:
            room = S[SEGMENT_LIMITS + CS] - offset + 1
    physical = walk(linear, FETCH, rights_now())
    longest = S[SHORT] if S[SHORT] else _LONGEST
    key = code_key() ^ S[SHORT] << 48
    S[FOUND_CROSSING] = 1 if S[SHORT] else 0
    entry = block_entry(physical, offset, key)
    known = block_at(entry)
    if known:
        return known
    host = host_page(physical >> 12)
    if host == 0:
        S[EXIT] = FALLBACK
        return 0
    if S[ARENA_END] - S[ARENA_NEXT] < _ROOM or S[BLOCKS_USED] * 2 > S[BLOCKS_MASK]:
        S[EXIT] = FULL
        return 0
    marks = S[FOUND_MARKS]
    left = _PAGE - (physical & _INSIDE)
    code = host + (physical & _INSIDE)
    if left < 15 and room > left:
        scratch = S[STATE] + SCRATCH * 8
        if decode_record(code, code + left, scratch) == 0 and S[FOUND_SHORT]:
            return find_crossing(offset, physical, code, left, linear)
    return add_block(entry, offset, physical, key, code, left if room > left else room, marks, longest)


def find_crossing(offset: int, physical: int, code: int, left: int, linear: int) -> int:
    """Return the block of one instruction that goes on in the next page."""
    second = walk(beyond(linear + left), FETCH, rights_now())
    # What it is depends on both pages. Nothing but the table knows it, so it can be forgotten there alone.
    S[FOUND_CROSSING] = 1
    key = code_key() ^ (second >> 12) << 24 ^ _CROSSING
    entry = block_entry(physical, offset, key)
    known = block_at(entry)
    if known:
        return known
    host = host_page(second >> 12)
    if host == 0:
        S[EXIT] = FALLBACK
        return 0
    marks = S[FOUND_MARKS]
    bytes_ = S[STATE] + BYTES * 8
    index = 0
    while index < 15:
        byte = host_read(code + index, 1) if index < left else host_read(host + index - left, 1)
        host_write(bytes_ + index, 1, byte)
        index += 1
    # The second page has a node of its own, which leads to the same entry of the table.
    node = S[ARENA_NEXT]
    S[ARENA_NEXT] += HEADER_SIZE + RECORD_SIZE
    host_write(node + HEADER_ENTRY, 8, entry)
    watch(marks, second, 15 - left, node)
    host_page(physical >> 12)
    return add_block(entry, offset, physical, key, bytes_, 15, S[FOUND_MARKS], 1)


def add_block(entry: int, offset: int, physical: int, key: int, code: int, room: int, marks: int, longest: int) -> int:
    """Translate a block, and add it to the table and to its page."""
    first = translate_block(offset, code, room, longest)
    header = first - HEADER_SIZE
    if host_read(entry + 24, 8) == 0:
        S[BLOCKS_USED] += 1
    host_write(entry, 8, physical)
    host_write(entry + 8, 8, offset)
    host_write(entry + 16, 8, key)
    host_write(entry + 24, 8, first)
    host_write(header + HEADER_ENTRY, 8, entry)
    size = S[FOUND_BYTES]
    if size > _PAGE - (physical & _INSIDE):
        size = _PAGE - (physical & _INSIDE)
    if size == 0:
        size = 1
    watch(marks, physical, size, header)
    return first


def watch(marks: int, physical: int, size: int, header: int) -> None:
    """Forget a block when some bytes of a page are written; ``marks`` are those of the page, 0 for ROM."""
    host_write(header + HEADER_BYTES, 8, physical | size << BYTES_SHIFT)
    host_write(header + HEADER_NEXT, 8, 0)
    if marks:
        if host_read(marks + MARKS, 8) == 0:
            forget_writes()
        host_write(marks + MARKS, 8, host_read(marks + MARKS, 8) | granules(physical, size))
        host_write(header + HEADER_NEXT, 8, host_read(marks + MARKS_BLOCKS, 8))
        host_write(marks + MARKS_BLOCKS, 8, header)


def block_entry(physical: int, offset: int, key: int) -> int:
    """Return the entry of a block in the table, or the one it would get: that of one that is forgotten, if possible.

    Code that is written again and again would otherwise leave entries behind that each search has to pass.
    """
    free = 0
    place = (physical ^ physical >> 15 ^ offset >> 3 ^ key * 0x9E3779B1) & S[BLOCKS_MASK]
    while 1:
        entry = S[BLOCKS] + place * BLOCK_ENTRY
        if host_read(entry + 24, 8) == 0:
            return free if free else entry
        if free == 0 and host_read(entry, 8) == _GONE:
            free = entry
        if host_read(entry, 8) == physical and host_read(entry + 8, 8) == offset and host_read(entry + 16, 8) == key:
            return entry
        place = place + 1 & S[BLOCKS_MASK]
    return 0


def block_at(entry: int) -> int:
    """Return the first record of the block that an entry of the table is of; 0 if it is free."""
    if host_read(entry, 8) == _GONE:
        return 0
    return host_read(entry + 24, 8)


def forget_code(physical: int) -> None:
    """Forget the blocks of a physical page."""
    if host_page(physical >> 12) == 0 or S[FOUND_MARKS] == 0:
        return
    marks = S[FOUND_MARKS]
    header = host_read(marks + MARKS_BLOCKS, 8)
    while header:
        host_write(header + HEADER_SIZE + HANDLER, 8, handler_address(H_DEAD))
        host_write(host_read(header + HEADER_ENTRY, 8), 8, _GONE)
        header = host_read(header + HEADER_NEXT, 8)
    host_write(marks + MARKS, 8, 0)
    host_write(marks + MARKS_BLOCKS, 8, 0)
    host_write(marks + MARKS_PYTHON, 8, 0)


def jump_entry(offset: int) -> int:
    """Return the slot of an offset's entry in JUMPS."""
    return JUMPS + ((offset ^ offset >> 12) & (JUMP_ENTRIES - 1)) * 2


def jump_tag(offset: int) -> int:
    """Return what the entry holds if it is for this offset, as things are now."""
    return offset & _OFFSET_BITS | S[JUMP_KEY] << 48


def resolve(offset: int) -> int:
    """Return the first record of the block at an offset, as :func:`find_block` does, and remember it in JUMPS."""
    entry = jump_entry(offset)
    tag = jump_tag(offset)
    if S[entry] == tag and S[SHORT] == 0:
        return S[entry + 1]
    S[RIP] = offset
    record = find_block(offset)
    if record and S[FOUND_CROSSING] == 0:
        S[entry] = tag
        S[entry + 1] = record
    return record


def link(cell: int) -> int:
    """Return where a cell goes on, and go there directly from now on if it is in the same page."""
    record = (cell & ~(RECORD_SIZE - 1)) - RECORD_SIZE
    offset = host_read(cell + CELL_OFFSET, 8)
    S[FOUND_CROSSING] = 0
    target = resolve(offset)
    if target and S[FOUND_CROSSING] == 0:
        header = header_of(record)
        base = 0 if S[MODE] & MODE_64 else S[SEGMENT_BASES + CS]
        source = base + host_read(header + HEADER_OFFSET, 8) + host_read(record + AT, 1)
        if ((source ^ (base + offset)) >> 12) == 0:
            if cell == record + CELL_TAKEN:
                host_write(record + TAKEN, 8, target)
            else:
                host_write(record + OTHERWISE, 8, target)
    return target


def look_around() -> int:
    """Say whether something has to be done in Python before the next instruction; prepare for the way things are."""
    S[ATTENTION] = 0
    mend()
    if S[STALE]:
        forget_contexts()
    if S[HALT] or S[STOP] or S[MODE] & (MODE_TRAP | MODE_BREAK) or S[CR8] != S[TOLD_PRIORITY]:
        return 1
    if S[SHADOW]:
        if S[PENDING]:
            return 1
        S[SHADOW] = 0
    if S[PENDING] and (S[PENDING] > 1 or S[SYSTEM_FLAGS] & IF):
        return 1
    enter_context()
    return 0


def enter_context() -> None:
    """Choose translations and the key of JUMPS for the way the processor is in."""
    S[TLB_POINTER] = TLB + rights_now() * TLB_ENTRIES * 4
    place = CONTEXTS
    limit = S[SEGMENT_LIMITS + CS]
    base = S[SEGMENT_BASES + CS]
    while place < CONTEXTS + MOST_CONTEXTS * CONTEXT_SLOTS:
        if (
            S[place] == S[MODE]
            and S[place + 1] == S[CPL]
            and S[place + 2] == base
            and S[place + 3] == limit
            and S[place + 4]
        ):
            S[JUMP_KEY] = S[place + 4]
            return
        place += CONTEXT_SLOTS
    if S[KEYS_GIVEN] == 0xFFFF:
        forget_jumps()
        forget_contexts()
        S[KEYS_GIVEN] = 0
    S[KEYS_GIVEN] += 1
    place = CONTEXTS + S[CONTEXT_NEXT] * CONTEXT_SLOTS
    S[CONTEXT_NEXT] = (S[CONTEXT_NEXT] + 1) % MOST_CONTEXTS
    S[place] = S[MODE]
    S[place + 1] = S[CPL]
    S[place + 2] = base
    S[place + 3] = limit
    S[place + 4] = S[KEYS_GIVEN]
    S[JUMP_KEY] = S[KEYS_GIVEN]


def forget_contexts() -> None:
    """Give every way the processor can be in a new key: code may lie elsewhere."""
    place = CONTEXTS
    while place < CONTEXTS + MOST_CONTEXTS * CONTEXT_SLOTS:
        S[place + 4] = 0
        place += CONTEXT_SLOTS


def locate(record: int, left: int, limit: int) -> None:
    """Set RIP and EXECUTED to what they are at a record."""
    header = header_of(record)
    offset = host_read(header + HEADER_OFFSET, 8) + host_read(record + AT, 1)
    S[RIP] = offset if S[MODE] & MODE_64 else offset & 0xFFFFFFFF
    S[EXECUTED] = limit - left + host_read(record + NUMBER, 1)


def end_early(record: int) -> None:
    """Make the block end after a record, if it does not anyway."""
    if host_read(record + SIZE, 1) & ENDS or S[PATCHED]:
        return
    S[PATCHED] = record + RECORD_SIZE
    S[PATCHED_HANDLER] = host_read(record + RECORD_SIZE, 8)
    host_write(record + RECORD_SIZE, 8, handler_address(H_ATTENTION))


def mend() -> None:
    """Undo :func:`end_early`."""
    if S[PATCHED]:
        host_write(S[PATCHED], 8, S[PATCHED_HANDLER])
        S[PATCHED] = 0
