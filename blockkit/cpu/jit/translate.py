"""From the bytes of a block to records, in the dialect; see :mod:`blockkit.cpu.isa.decode` for what is decoded."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, host_read, host_write, sign_extend
from blockkit.cpu.jit.layout import (
    ADDRESS_SHIFT,
    ARENA_NEXT,
    AT,
    BASE,
    CELL_HANDLER,
    CELL_OFFSET,
    CELL_OTHERWISE,
    CELL_TAKEN,
    DISPLACEMENT,
    ENDS,
    FOUND_BYTES,
    FOUND_FORM,
    FOUND_IMMEDIATE,
    FOUND_SHORT,
    H_FALLBACK,
    H_GOTO,
    H_LINK,
    HANDLER,
    HANDLERS,
    HEADER_OFFSET,
    HEADER_SIZE,
    IMMEDIATE,
    INDEX,
    LONGEST_BYTES,
    NO_HANDLER,
    NUMBER,
    OTHERWISE,
    RECORD_SIZE,
    REG,
    RM,
    SCALE,
    SEGMENT_SHIFT,
    SIZE,
    TAKEN,
)
from blockkit.cpu.jit.tables import (
    ALWAYS_64,
    BYTE_REG,
    BYTE_RM,
    COUNTS,
    DEFAULT_64,
    DIRECT,
    ENDS_BLOCK,
    FLOATING,
    FORM_HANDLERS,
    FORMS,
    HAS_MODRM,
    I_ADDRESS,
    I_BYTE,
    I_NARROW,
    I_OTHER,
    I_SIGNED,
    I_WORD,
    IMMEDIATE_FIELD,
    IMPLIED,
    K_ANY,
    K_BASE,
    K_INDEX,
    K_NARROW,
    K_NONE,
    KINDS,
    LOCKABLE,
    MEMORY_FIELD,
    NOT_64,
    NOT_EXCHANGE,
    ONLY_64,
    OPCODES,
    REG_FIELD,
    RELATIVE,
    RM_FIELD,
    SIZES,
    STRING,
    W_16,
    W_32,
    W_64,
    W_FLAT,
    WAYS,
)
from blockkit.cpu.state import (
    MODE,
    MODE_16,
    MODE_64,
    MODE_CODE,
    MODE_FLAT,
    MODE_NO_SSE,
    MODE_NO_X87,
    MODE_STACK_32,
    ZERO,
)

_ZERO: Final = ZERO * 8
_NO_SEGMENT: Final = 8
_CS, _SS, _DS, _FS = 1, 2, 3, 4

#: Base and index of 16-bit addresses; 16 for none.
_PAIR_BASE: Final = (3, 3, 5, 5, 6, 7, 5, 3)
_PAIR_INDEX: Final = (6, 7, 6, 7, 16, 16, 16, 16)


def handler_address(number: int) -> int:
    """Return the address of a handler."""
    return host_read(S[HANDLERS] + number * 8, 8)


def way_now() -> int:
    """Return which of the ways of :mod:`blockkit.cpu.jit.tables` the processor is in."""
    mode = S[MODE]
    if mode & MODE_64:
        return W_64
    if (mode & MODE_STACK_32) == 0:
        return W_16
    return W_FLAT if mode & MODE_FLAT else W_32


def read_code(at: int, size: int) -> int:
    """Read 1, 2, 4 or 8 bytes of code, extended by their sign."""
    if size == 1:
        return sign_extend(host_read(at, 1), 8)
    if size == 2:
        return sign_extend(host_read(at, 2), 16)
    if size == 4:
        return sign_extend(host_read(at, 4), 32)
    return host_read(at, 8)


def cut_short() -> int:
    """Say that the bytes end inside an instruction."""
    S[FOUND_SHORT] = 1
    return 0


def decode_record(start: int, end: int, record: int) -> int:
    """Decode one instruction and write its record, all but NUMBER and AT.

    Args:
        start: The host's address of its bytes.
        end: That of the end of what may be read.
        record: Where the record goes.

    Returns:
        Its length; 0 where Python has to do it, or to say why not: FOUND_SHORT tells whether the bytes end inside it.
        FOUND_FORM holds the word of its form, its operand size (bits 60 and 61) and whether its address is relative to
        its end (bit 63); FOUND_IMMEDIATE its immediate.
    """
    mode = S[MODE] & MODE_CODE
    S[FOUND_SHORT] = 0
    if end - start > 15:
        end = start + 15
    at = start
    operand_prefix = 0
    address_prefix = 0
    repeat = 0
    lock = 0
    segment = _NO_SEGMENT
    rex = 0
    byte = 0
    while 1:
        if at >= end:
            return cut_short()
        byte = host_read(at, 1)
        at += 1
        if byte == 0x66:
            operand_prefix = 1
        elif byte == 0x67:
            address_prefix = 1
        elif byte == 0xF2 or byte == 0xF3:
            repeat = byte
        elif byte == 0xF0:
            lock = 1
        elif byte == 0x26 or byte == 0x2E or byte == 0x36 or byte == 0x3E:
            if mode != MODE_64:
                segment = byte >> 3 & 3
        elif byte == 0x64 or byte == 0x65:
            segment = byte - 0x60
        elif mode == MODE_64 and (byte & 0xF0) == 0x40:
            rex = byte
            continue
        else:
            break
        rex = 0
    opcode = byte
    if byte == 0x0F:
        if at >= end:
            return cut_short()
        byte = host_read(at, 1)
        at += 1
        opcode = 0x100 | byte
        if byte == 0x38 or byte == 0x3A:
            if at >= end:
                return cut_short()
            opcode = (0x200 if byte == 0x38 else 0x300) | host_read(at, 1)
            at += 1
    entry = OPCODES[opcode]
    count = entry >> 16 & 0x7FFF
    if count == 0:
        return 0
    modrm = 0
    if entry & HAS_MODRM:
        if at >= end:
            return cut_short()
        modrm = host_read(at, 1)
        at += 1
    mod = modrm >> 6
    if opcode >= 0x120 and opcode <= 0x123:
        # MOV to and from control and debug registers: rm is a register whatever mod says.
        mod = 3
    reg = modrm >> 3 & 7
    rm = modrm & 7
    mandatory = 1
    if repeat:
        mandatory = 3 if repeat == 0xF2 else 4
    elif operand_prefix:
        mandatory = 2
    place = entry & 0xFFFF
    last = place + count
    form = 0
    while 1:
        if place == last:
            return 0
        form = FORMS[place]
        memory = form >> MEMORY_FIELD & 3
        if (
            ((form & 7) == 0 or (form & 7) == mandatory)
            and ((form >> REG_FIELD & 15) == 8 or (form >> REG_FIELD & 15) == reg)
            and ((form >> RM_FIELD & 15) == 8 or (form >> RM_FIELD & 15) == rm)
            and (memory == 0 or (memory == 1 and mod != 3) or (memory == 2 and mod == 3))
            and not (form & NOT_64 and mode == MODE_64)
            and not (form & ONLY_64 and mode != MODE_64)
            and not (form & NOT_EXCHANGE and rex & 1)
        ):
            break
        place += 1
    if form & FLOATING and S[MODE] & (MODE_NO_X87 | MODE_NO_SSE):
        return 0
    # The operand size, as a power of two: 1 for two bytes to 3 for eight.
    size = 2
    if mode == MODE_64:
        if rex & 8 or form & ALWAYS_64:
            size = 3
        elif operand_prefix:
            size = 1
        elif form & DEFAULT_64:
            size = 3
    elif operand_prefix == (mode != MODE_16):
        size = 1
    # Likewise that of addresses.
    width = 2
    if mode == MODE_64:
        width = 2 if address_prefix else 3
    elif address_prefix == (mode != MODE_16):
        width = 1
    kind = K_NONE
    base = 16
    index = 16
    scale = 0
    displacement = 0
    near = 0
    if entry & HAS_MODRM:
        reg |= rex << 1 & 8
        if mod == 3:
            rm |= rex << 3 & 8
        elif width == 1:
            kind = K_ANY
            base = _PAIR_BASE[rm]
            index = _PAIR_INDEX[rm]
            if mod == 0 and rm == 6:
                base = 16
                near = 2
            elif mod != 0:
                near = mod
        else:
            kind = K_BASE
            absolute = 0
            if rm == 4:
                if at >= end:
                    return cut_short()
                sib = host_read(at, 1)
                at += 1
                index = sib >> 3 & 7 | rex << 2 & 8
                if index == 4:
                    index = 16
                else:
                    kind = K_INDEX
                    scale = sib >> 6
                base = sib & 7 | rex << 3 & 8
                if (sib & 7) == 5:
                    absolute = 1
                    if mod == 0:
                        base = 16
            else:
                base = rm | rex << 3 & 8
                if rm == 5:
                    absolute = 1
                    if mod == 0:
                        base = 17 if mode == MODE_64 else 16
            if mod == 1:
                near = 1
            elif mod == 2 or (absolute and mod == 0):
                near = 4
        if near:
            if at + near > end:
                return cut_short()
            displacement = read_code(at, near)
            at += near
    else:
        rm = opcode & 7 | rex << 3 & 8
    immediate = 0
    length = 0
    what = form >> IMMEDIATE_FIELD & 7
    if what == I_OTHER:
        return 0
    if what:
        if what == I_BYTE or what == I_SIGNED:
            length = 1
        elif what == I_NARROW:
            length = 2 if size == 1 else 4
        elif what == I_WORD:
            length = 2
        elif what == I_ADDRESS:
            length = 1 << width
        else:
            length = 1 << size
        if at + length > end:
            return cut_short()
        immediate = read_code(at, length)
        at += length
        if what == I_ADDRESS:
            displacement = immediate if length == 8 else immediate & ((1 << length * 8) - 1)
            kind = K_BASE
        elif what == I_BYTE:
            immediate &= 0xFF
        elif what == I_WORD:
            immediate &= 0xFFFF
    if lock and not (form & LOCKABLE and kind != K_NONE):
        return 0
    if kind != K_NONE:
        if base == 17:
            # Relative to the end of the instruction; the caller adds where that is.
            base = 16
            relative = 1
        else:
            relative = 0
        if segment == _NO_SEGMENT:
            segment = _DS
            if base == 5 or (base == 4 and width != 1):
                segment = _SS
        if mode == MODE_64:
            if segment >= _FS or (width == 2 and relative):
                kind = K_ANY
            elif width == 2:
                kind = K_NARROW
            elif form & DIRECT:
                kind = K_BASE
        elif S[MODE] & MODE_FLAT and width == 2 and segment < _FS and segment != _CS:
            kind = K_NARROW
        else:
            kind = K_ANY
    else:
        relative = 0
        if (form & (STRING | IMPLIED)) == 0:
            segment = _DS
    if form & (COUNTS | STRING | IMPLIED):
        # Most of their handlers are those of the usual address size, and of DS.
        way = way_now()
        usual = 1 if width == (3 if way == W_64 else 1 if way == W_16 else 2) else 0
        if form & (STRING | IMPLIED) and segment != _NO_SEGMENT and segment != _DS:
            usual = 0
        if usual == 0 and ((form & STRING) == 0 or way == W_64 or repeat == 0xF2):
            return 0
        if form & STRING:
            if repeat:
                kind = K_INDEX if repeat == 0xF2 else K_BASE if usual else K_NARROW
                form |= ENDS_BLOCK
            elif usual == 0:
                kind = K_ANY
        if usual or segment == _NO_SEGMENT:
            segment = _DS
    handler = FORM_HANDLERS[((place * SIZES + size - 1) * KINDS + kind) * WAYS + way_now()]
    if handler == NO_HANDLER:
        return 0
    host_write(record + HANDLER, 8, handler_address(handler))
    host_write(record + REG, 1, byte_offset(reg, rex) if form & BYTE_REG else reg * 8)
    host_write(record + RM, 1, byte_offset(rm, rex) if form & BYTE_RM and kind == K_NONE else rm * 8)
    host_write(record + BASE, 1, _ZERO if base == 16 else base * 8)
    host_write(record + INDEX, 1, _ZERO if index == 16 else index * 8)
    host_write(record + SCALE, 1, scale | segment << SEGMENT_SHIFT | (width - 1) << ADDRESS_SHIFT)
    host_write(record + SIZE, 1, at - start)
    host_write(record + DISPLACEMENT, 8, displacement)
    host_write(record + IMMEDIATE, 8, immediate)
    S[FOUND_FORM] = form | relative << 63 | size << 60
    S[FOUND_IMMEDIATE] = immediate
    return at - start


def byte_offset(number: int, rex: int) -> int:
    """Return where a byte register lies in the state: AH to BH are the second bytes of the first four."""
    return number * 8 - 31 if rex == 0 and number >= 4 and number < 8 else number * 8


def translate_block(offset: int, host: int, room: int, longest: int) -> int:
    """Write the records of a block, and return where they begin.

    Args:
        offset: In the code segment.
        host: Where its first byte is.
        room: Bytes up to the end of its page.
        longest: Instructions at most.
    """
    header = S[ARENA_NEXT]
    host_write(header + HEADER_OFFSET, 8, offset)
    first = header + HEADER_SIZE
    record = first
    if room > LONGEST_BYTES:
        room = LONGEST_BYTES
    at = 0
    number = 0
    form = 0
    mask = ~0 if S[MODE] & MODE_64 else 0xFFFFFFFF
    while number < longest:
        length = decode_record(host + at, host + room, record) if at < room else 0
        host_write(record + NUMBER, 1, number)
        host_write(record + AT, 1, at)
        if length == 0:
            form = 0
            break
        form = S[FOUND_FORM]
        after = offset + at + length
        if form >> 63:
            host_write(record + DISPLACEMENT, 8, host_read(record + DISPLACEMENT, 8) + after)
        at += length
        number += 1
        if form & ENDS_BLOCK:
            break
        record += RECORD_SIZE
    after = offset + at & mask
    taken = after
    if form & ENDS_BLOCK:
        host_write(record + SIZE, 1, host_read(record + SIZE, 1) | ENDS)
        if form & RELATIVE:
            taken = after + S[FOUND_IMMEDIATE] & mask
            # Outside 64-bit mode the operand size cuts IP.
            if (S[MODE] & MODE_64) == 0 and (form >> 60 & 7) == 1:
                taken &= 0xFFFF
    else:
        # Python goes on here, or the next block.
        host_write(record + NUMBER, 1, number)
        host_write(record + AT, 1, at)
        host_write(record + SIZE, 1, ENDS)
        longer = 1 if number == longest or (number and (at >= room or S[FOUND_SHORT])) else 0
        host_write(record + HANDLER, 8, handler_address(H_GOTO if longer else H_FALLBACK))
    if (form & ENDS_BLOCK) == 0 or form & RELATIVE:
        host_write(record + TAKEN, 8, record + CELL_TAKEN)
        host_write(record + OTHERWISE, 8, record + CELL_OTHERWISE)
    host_write(record + CELL_TAKEN + CELL_HANDLER, 8, handler_address(H_LINK))
    host_write(record + CELL_TAKEN + CELL_OFFSET, 8, taken)
    host_write(record + CELL_OTHERWISE + CELL_HANDLER, 8, handler_address(H_LINK))
    host_write(record + CELL_OTHERWISE + CELL_OFFSET, 8, after)
    S[FOUND_BYTES] = at
    S[ARENA_NEXT] = record + RECORD_SIZE * 2
    return first
