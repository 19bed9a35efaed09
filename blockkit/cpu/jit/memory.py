"""Memory as native code sees it, in the dialect: what :mod:`blockkit.cpu.portable.memory` is for Python."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, callback, host_read, host_write, raise_fault
from blockkit.cpu.jit.layout import (
    ABSENT_PORTS,
    BYTES_SHIFT,
    CODE_WRITTEN,
    FOUND_MARKS,
    HEADER_BYTES,
    HEADER_NEXT,
    JUMP_ENTRIES,
    JUMPS,
    MARKS,
    MARKS_BLOCKS,
    MARKS_PYTHON,
    MARKS_SIZE,
    MMIO_READ,
    MMIO_WRITE,
    NO_PAGE,
    PORT_IN,
    PORT_OUT,
    PORT_TIME,
    REGION_COUNT,
    REGIONS,
    STALE,
    TLB,
    TLB_END,
    TLB_ENTRIES,
    WAITED,
)
from blockkit.cpu.state import ATTENTION, MODE, MODE_64, PROTECTION
from blockkit.cpu.system.paging import ALLOWED, IMPLICIT, READ, WRITE, rights_now, walk

_PAGE: Final = 4096
_INSIDE: Final = 4095


def load(address: int, size: int) -> int:
    """Read; see :mod:`blockkit.cpu.dialect`."""
    return load_as(address, size, rights_now())


def store(address: int, size: int, value: int) -> None:
    """Write."""
    store_as(address, size, value, rights_now())


def load_system(address: int, size: int) -> int:
    """Read for the processor itself."""
    return load_as(address, size, IMPLICIT)


def store_system(address: int, size: int, value: int) -> None:
    """Write for the processor itself."""
    store_as(address, size, value, IMPLICIT)


def probe_store(address: int, size: int) -> None:
    """Fault as a store would."""
    check_canonical(address)
    last = beyond(address + size - 1)
    walk(address, WRITE, rights_now())
    if (last ^ address) >> 12:
        check_canonical(last)
        walk(last, WRITE, rights_now())


def check_canonical(address: int) -> None:
    """Raise #GP(0) for an address that is not."""
    if address + 0x800000000000 >> 48 & 0xFFFF:
        raise_fault(PROTECTION, 0)


def beyond(address: int) -> int:
    """Return a linear address that may have wrapped round."""
    return address if S[MODE] & MODE_64 else address & 0xFFFFFFFF


def copy_elements(source: int, target: int, size: int, count: int) -> int:
    """Copy between two pages that are in use, no further than to what it has written itself."""
    rights = rights_now()
    from_entry = _entry(source, rights)
    to_entry = _entry(target, rights)
    if S[from_entry] != source & ~_INSIDE or S[to_entry + 1] != target & ~_INSIDE:
        return 0
    first = source + S[from_entry + 2]
    to = target + S[to_entry + 2]
    room = _PAGE - (source & _INSIDE)
    if _PAGE - (target & _INSIDE) < room:
        room = _PAGE - (target & _INSIDE)
    if to - first < room:
        room = to - first
    if room // size < count:
        count = room // size
    end = first + count * size
    while end - first >= 8:
        host_write(to, 8, host_read(first, 8))
        first += 8
        to += 8
    while first < end:
        host_write(to, 1, host_read(first, 1))
        first += 1
        to += 1
    return count


def fill_elements(target: int, size: int, count: int, value: int) -> int:
    """Store again and again in a page that is in use."""
    entry = _entry(target, rights_now())
    if S[entry + 1] != target & ~_INSIDE:
        return 0
    to = target + S[entry + 2]
    room = (_PAGE - (target & _INSIDE)) // size
    if room < count:
        count = room
    done = 0
    if size < 8:
        wide = value
        bits = size * 8
        while bits < 64:
            wide |= wide << bits
            bits *= 2
        while (count - done) * size >= 8:
            host_write(to, 8, wide)
            to += 8
            done += 8 // size
    while done < count:
        host_store(to, size, value)
        to += size
        done += 1
    return count


def _entry(address: int, rights: int) -> int:
    return TLB + ((address >> 12 & (TLB_ENTRIES - 1)) + rights * TLB_ENTRIES) * 4


def load_as(address: int, size: int, rights: int) -> int:
    """Read with somebody's rights."""
    entry = _entry(address, rights)
    if S[entry] == (address + size - 1) & ~_INSIDE:
        return host_load(address + S[entry + 2], size)
    check_canonical(address)
    if (address & _INSIDE) + size > _PAGE:
        check_canonical(address + size - 1)
        value = 0
        index = 0
        while index < size:
            value |= load_as(beyond(address + index), 1, rights) << index * 8
            index += 1
        return value
    physical = walk(address, READ, rights)
    host = host_page(physical >> 12)
    if host == 0:
        S[ATTENTION] = 1
        return callback(S[MMIO_READ], physical, size, 0)
    page = address & ~_INSIDE
    if S[entry + 2] != host - page or S[entry + 1] != page:
        S[entry + 1] = NO_PAGE
    S[entry] = page
    S[entry + 2] = host - page
    return host_load(host + (address & _INSIDE), size)


def store_as(address: int, size: int, value: int, rights: int) -> None:
    """Write with somebody's rights."""
    entry = _entry(address, rights)
    if S[entry + 1] == (address + size - 1) & ~_INSIDE:
        host_store(address + S[entry + 2], size, value)
        return
    check_canonical(address)
    if (address & _INSIDE) + size > _PAGE:
        last = beyond(address + size - 1)
        check_canonical(last)
        # Both pages first, so that of a fault nothing is written.
        walk(address, WRITE, rights)
        walk(last, WRITE, rights)
        index = 0
        while index < size:
            store_as(beyond(address + index), 1, value >> index * 8 & 0xFF, rights)
            index += 1
        return
    physical = walk(address, WRITE, rights)
    host = host_page(physical >> 12)
    if host == 0:
        S[ATTENTION] = 1
        callback(S[MMIO_WRITE], physical, size, value)
        return
    marks = S[FOUND_MARKS]
    if marks == 0:
        S[ATTENTION] = 1
        callback(S[MMIO_WRITE], physical, size, value)
        return
    if host_read(marks + MARKS, 8):
        if is_code(marks, physical, size):
            S[ATTENTION] = 1
            callback(S[CODE_WRITTEN], physical, size, 0)
    else:
        page = address & ~_INSIDE
        if S[entry + 2] != host - page or S[entry] != page:
            S[entry] = NO_PAGE
        S[entry + 1] = page
        S[entry + 2] = host - page
    host_store(host + (address & _INSIDE), size, value)


def granules(address: int, size: int) -> int:
    """Return the pieces of 64 bytes of a page that some bytes touch, a bit each."""
    first = (address & _INSIDE) >> 6
    last = ((address & _INSIDE) + size - 1) >> 6
    return (((1 << last) - 1) | (1 << last)) & ~((1 << first) - 1)


def is_code(marks: int, physical: int, size: int) -> int:
    """Tell whether some bytes of a page are code: variables often lie right beside it, and are written often."""
    if host_read(marks + MARKS, 8) & granules(physical, size) == 0:
        return 0
    if host_read(marks + MARKS_PYTHON, 8) & granules(physical, size):
        return 1
    header = host_read(marks + MARKS_BLOCKS, 8)
    while header:
        start = host_read(header + HEADER_BYTES, 8) & (1 << BYTES_SHIFT) - 1
        if physical < start + (host_read(header + HEADER_BYTES, 8) >> BYTES_SHIFT) and start < physical + size:
            return 1
        header = host_read(header + HEADER_NEXT, 8)
    return 0


def host_page(number: int) -> int:
    """Return the host's address of a physical page, 0 where no memory is; FOUND_MARKS says where its code is marked."""
    index = 0
    while index < S[REGION_COUNT]:
        first = S[REGIONS + index * 4]
        if number - first < S[REGIONS + index * 4 + 1]:
            marks = S[REGIONS + index * 4 + 3]
            S[FOUND_MARKS] = marks + (number - first) * MARKS_SIZE if marks else 0
            return S[REGIONS + index * 4 + 2] + (number - first) * _PAGE
        index += 1
    return 0


def host_load(address: int, size: int) -> int:
    """Read 1, 2, 4 or 8 bytes of the host's memory."""
    if size == 8:
        return host_read(address, 8)
    if size == 4:
        return host_read(address, 4)
    if size == 2:
        return host_read(address, 2)
    return host_read(address, 1)


def host_store(address: int, size: int, value: int) -> None:
    """Write them."""
    if size == 8:
        host_write(address, 8, value)
    elif size == 4:
        host_write(address, 4, value)
    elif size == 2:
        host_write(address, 2, value)
    else:
        host_write(address, 1, value)


def read_physical(address: int, size: int) -> int:
    """Read inside a page; all ones where no memory is."""
    host = host_page(address >> 12)
    if host == 0:
        return ~0 if size == 8 else (1 << size * 8) - 1
    return host_load(host + (address & _INSIDE), size)


def write_physical(address: int, size: int, value: int) -> None:
    """Write inside a page."""
    host = host_page(address >> 12)
    if host == 0 or S[FOUND_MARKS] == 0:
        return
    host_store(host + (address & _INSIDE), size, value)
    if is_code(S[FOUND_MARKS], address, size):
        S[ATTENTION] = 1
        callback(S[CODE_WRITTEN], address, size, 0)


def port_in(port: int, size: int) -> int:
    """Read an I/O port."""
    S[ATTENTION] = 1
    S[WAITED] += S[PORT_TIME]
    if host_read(S[ABSENT_PORTS] + port, 1):
        return (1 << size * 8) - 1
    return callback(S[PORT_IN], port, size, 0)


def port_out(port: int, size: int, value: int) -> None:
    """Write one."""
    S[ATTENTION] = 1
    S[WAITED] += S[PORT_TIME]
    if host_read(S[ABSENT_PORTS] + port, 1):
        return
    callback(S[PORT_OUT], port, size, value)


def forget_translations() -> None:
    """Empty the TLB."""
    entry = TLB
    while entry < TLB_END:
        S[entry] = NO_PAGE
        S[entry + 1] = NO_PAGE
        entry += 4


def forget_jumps() -> None:
    """Empty the table of jumps."""
    entry = JUMPS
    while entry < JUMPS + JUMP_ENTRIES * 2:
        S[entry] = NO_PAGE
        entry += 2


def forget_writes() -> None:
    """Make every store look first whether there is code."""
    entry = TLB
    while entry < TLB_END:
        S[entry + 1] = NO_PAGE
        entry += 4


def flush_tlb(everything: int) -> None:
    """Forget all translations."""
    forget_translations()
    S[STALE] = 1 | everything
    S[ATTENTION] = 1


def flush_page(address: int) -> None:
    """Forget those of a page."""
    rights = 0
    while rights <= ALLOWED:
        entry = _entry(address, rights)
        S[entry] = NO_PAGE
        S[entry + 1] = NO_PAGE
        rights += 1
    S[STALE] = 1
    S[ATTENTION] = 1
