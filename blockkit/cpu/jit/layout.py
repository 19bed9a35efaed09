"""Where things lie: the slots that the native code keeps behind those of the state, and the fields of records.

A block is a header and one record of 32 bytes for each instruction. A record begins with the address of its handler,
which does what the instruction does and goes on with the record behind it. The last record of a block is followed by
two cells, one for each way to go on; the record's last two fields point to them until the targets are known, and to
the targets' first records from then on.
"""

from __future__ import annotations

from typing import Final

#: The first of them.
NATIVE: Final = 512

#: EXECUTED minus what is left of the budget, which is in a register: the sum of both is EXECUTED.
LIMIT: Final = NATIVE
#: What is left, where native code was left.
LEFT: Final = NATIVE + 1
#: The record at which it was left.
RECORD: Final = NATIVE + 2
#: Why it was left: see the constants below.
EXIT: Final = NATIVE + 3
#: Address of the translations in use: those of the supervisor or of a user.
TLB_POINTER: Final = NATIVE + 4
#: What tags of JUMPS hold in their upper 16 bits; changes whenever code may lie elsewhere.
JUMP_KEY: Final = NATIVE + 5
#: Where the next block goes, and the end of the room for blocks.
ARENA_NEXT, ARENA_END = NATIVE + 6, NATIVE + 7
#: Addresses of functions of Python: memory-mapped I/O, code that is written, or begins to be watched.
MMIO_READ, MMIO_WRITE, PORT_IN, PORT_OUT, CODE_WRITTEN = range(NATIVE + 8, NATIVE + 13)
#: Not zero: what Python remembers of translations is out of date.
STALE: Final = NATIVE + 13
#: Address of the table of handlers.
HANDLERS: Final = NATIVE + 14
#: The record whose handler was replaced to end a block early, and its handler; zero if none.
PATCHED, PATCHED_HANDLER = NATIVE + 15, NATIVE + 16
#: What :func:`host_page` found beside a page: where its code is marked (0 where nothing can be written).
FOUND_MARKS: Final = NATIVE + 17
#: Address and mask of the table of blocks; see :mod:`blockkit.cpu.jit.blocks`.
BLOCKS, BLOCKS_MASK, BLOCKS_USED = NATIVE + 18, NATIVE + 19, NATIVE + 20
#: What the decoder found beside the record, and the translator beside the block.
FOUND_FORM, FOUND_IMMEDIATE, FOUND_BYTES = NATIVE + 21, NATIVE + 22, NATIVE + 23
#: Not zero: the bytes ended inside an instruction; the block found goes on in another page.
FOUND_SHORT, FOUND_CROSSING = NATIVE + 27, NATIVE + 28
#: Not zero: blocks have so many instructions at most, and are not linked: the budget ends there.
SHORT: Final = NATIVE + 30
#: Not zero: native code is left as soon as an instruction ends its block.
STOP: Final = NATIVE + 298
#: Address of a byte for each port, not zero where it is known that nothing answers.
ABSENT_PORTS: Final = NATIVE + 299
#: What an access to a port takes beside its instruction, and what such accesses took since it was taken off the budget.
PORT_TIME, WAITED = NATIVE + 300, NATIVE + 301
#: The CR8 that Python knows.
TOLD_PRIORITY: Final = NATIVE + 302
#: Address of the state.
STATE: Final = NATIVE + 29
#: Room for the bytes of an instruction on two pages, and for a record that nobody runs.
BYTES, SCRATCH = NATIVE + 296, NATIVE + 304
#: Not zero: an interrupt waits that is taken as soon as it may be.
PENDING: Final = NATIVE + 24
#: The newest of the contexts, and how many keys were given.
CONTEXT_NEXT, KEYS_GIVEN = NATIVE + 25, NATIVE + 26

#: How many regions of memory there are; of each the first page, how many, the host's address of the first, and where
#: the code of the first is marked, 0 for ROM. For each page there are four fields of 8 bytes: a bit for each 64 bytes
#: that hold code; the address of its newest block; the bits of what Python watches; and nothing.
REGION_COUNT: Final = NATIVE + 31
REGIONS: Final = NATIVE + 32
MOST_REGIONS: Final = 48
MARKS, MARKS_BLOCKS, MARKS_PYTHON, MARKS_SIZE = 0, 8, 16, 32
#: Ways the processor was in lately, each with its key for JUMPS: MODE, CPL, base and limit of CS, key.
CONTEXTS: Final = NATIVE + 256
CONTEXT_SLOTS, MOST_CONTEXTS = 5, 8
#: An entry of the table of blocks: physical address (all ones for none any more), offset, key, first record (0: none).
BLOCK_ENTRY: Final = 32

#: Translations: for each kind of rights (see :mod:`blockkit.cpu.system.paging`) so many entries of four slots: the page
#: for which it is good to read, and to write, and what must be added to its addresses to get the host's.
TLB_ENTRIES: Final = 1024
_RIGHTS: Final = 4
TLB: Final = 1024
#: Tags that no address has.
NO_PAGE: Final = 1

#: Blocks by the offset they begin at: entries of a tag and the address of the first record.
JUMP_ENTRIES: Final = 4096
TLB_END: Final = TLB + _RIGHTS * TLB_ENTRIES * 4
JUMPS: Final = TLB_END

ALL_SLOTS: Final = JUMPS + JUMP_ENTRIES * 2

#: Fields of a record, by bytes. Registers are byte offsets into the state: AH is 1.
HANDLER, REG, RM, BASE, INDEX, SCALE, NUMBER, AT, SIZE = 0, 8, 9, 10, 11, 12, 13, 14, 15
DISPLACEMENT, IMMEDIATE = 16, 24
#: What the pointers to where it goes on are, in the last record of a block.
TAKEN, OTHERWISE = 16, 24
#: The cells behind it: the address of a handler, and the offset in the code segment.
CELL_TAKEN, CELL_OTHERWISE = 32, 48
CELL_HANDLER, CELL_OFFSET = 0, 8
RECORD_SIZE: Final = 32
#: In SIZE: the record ends its block.
ENDS: Final = 0x80
#: In SCALE: two bits of the factor, three of the segment register, two of the address size (0 for 2 bytes).
SEGMENT_SHIFT, ADDRESS_SHIFT = 2, 5

#: The header: the offset of the block in the code segment, the physical address of its bytes in this page and from bit
#: BYTES_SHIFT on how many they are, the next block of the same page (0 for none), and where the table of blocks has it.
HEADER_OFFSET, HEADER_BYTES, HEADER_NEXT, HEADER_ENTRY = 0, 8, 16, 24
HEADER_SIZE, BYTES_SHIFT = 32, 52

#: EXIT: the budget is used up, or there is something to look at; an instruction that only Python can do; no room.
LEFT_BLOCK, FALLBACK, FULL = range(3)

#: The handlers that every block may need, by their places in the table.
(H_LINK, H_GOTO, H_FALLBACK, H_ATTENTION, H_DEAD, FIRST_FORM) = range(6)
#: What stands for no handler.
NO_HANDLER: Final = 0xFFFF
#: A block's instructions and bytes at most.
LONGEST_BYTES: Final = 240
