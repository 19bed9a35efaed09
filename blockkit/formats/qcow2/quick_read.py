"""Small reads of plain clusters, in the dialect (:mod:`blockkit.native.dialect`): ``Qcow2Reader.read`` once it is hot.

Whatever is not simple goes to the function in Python that this one stands for, with the same arguments. Simple is what
the page cache holds: it is read with the interpreter's lock held, so that nothing changes between the look at the table
and the read, and what would take longer is left to those who give the lock up meanwhile.
"""

from __future__ import annotations

from typing import Final

from blockkit.formats.qcow2.schema import OFFSET_MASK
from blockkit.native.builtin import (
    API_CELLS,
    BYTES_FROM_SIZE,
    BYTES_HEAD,
    DEC_REF,
    ERR_CLEAR,
    FIRST_ITEM,
    LONG_AS_LONG_LONG,
    LONG_TYPE,
    PREADV2,
    TYPE_AT,
    VECTORCALL,
)
from blockkit.native.dialect import S, host_call, host_read, host_write

# Cells after those of the interpreter.
#: Address of the addresses of the entries of L2 tables, by L1 index; 0 for a table that is not in memory.
DIRECTORY: Final[int] = API_CELLS
#: How many there are; 0 while nothing is to be read here.
DIRECTORY_SIZE: Final[int] = API_CELLS + 1
#: Address of a byte for each, which is set when the table is used.
USED: Final[int] = API_CELLS + 2
#: Log2 of the bytes that a table maps, and that a cluster has.
TABLE_BITS: Final[int] = API_CELLS + 3
CLUSTER_BITS: Final[int] = API_CELLS + 4
#: Bits that no entry for plain data has.
UNUSUAL: Final[int] = API_CELLS + 5
#: Bytes of the disk.
SIZE: Final[int] = API_CELLS + 6
#: Address of a cell with the descriptor; -1 in it while nobody is to read there.
DESCRIPTOR: Final[int] = API_CELLS + 7
#: A struct iovec.
PIECE: Final[int] = API_CELLS + 8
CELLS: Final[int] = API_CELLS + 10
#: Bytes of the longest read that everybody else may be kept waiting for.
LONGEST: Final[int] = 1 << 16
#: Answer only with what need not be waited for (RWF_NOWAIT).
NO_WAIT: Final[int] = 8

_FAILED: Final[int] = (1 << 64) - 1
_OFFSET: Final[int] = OFFSET_MASK


def quick_read(arguments: int, count: int, names: int) -> int:
    """Return the address of a new bytes object, or 0 with an exception set: ``read(offset, length)``.

    The owner's items are a bytes object with the address of the cells, and the function in Python.
    """
    cells = host_read(S[FIRST_ITEM] + BYTES_HEAD, 8)
    if count == 2 and names == 0:
        found = _try(cells, host_read(arguments, 8), host_read(arguments + 8, 8))
        if found:
            return found
    return host_call(host_read(cells + VECTORCALL * 8, 8), S[FIRST_ITEM + 1], arguments, count, names, 0)


def _try(cells: int, first: int, second: int) -> int:
    """Read if that is simple; 0 if not, without an exception."""
    kind = host_read(cells + LONG_TYPE * 8, 8)
    if host_read(first + TYPE_AT, 8) != kind or host_read(second + TYPE_AT, 8) != kind:
        return 0
    convert = host_read(cells + LONG_AS_LONG_LONG * 8, 8)
    offset = host_call(convert, first, 0, 0, 0, 0)
    length = host_call(convert, second, 0, 0, 0, 0)
    if offset == _FAILED or length == _FAILED:
        # It may be -1, or larger than fits, which left an exception.
        host_call(host_read(cells + ERR_CLEAR * 8, 8), 0, 0, 0, 0, 0)
        return 0
    bits = host_read(cells + CLUSTER_BITS * 8, 8)
    cluster = 1 << bits
    within = offset & cluster - 1
    size = host_read(cells + SIZE * 8, 8)
    # No sum wraps round: the first two bound the numbers, which are huge if they are negative.
    if offset >= size or length > LONGEST or length == 0 or within + length > cluster or offset + length > size:
        return 0
    table_bits = host_read(cells + TABLE_BITS * 8, 8)
    l1_index = offset >> table_bits
    if l1_index >= host_read(cells + DIRECTORY_SIZE * 8, 8):
        return 0
    entries = host_read(host_read(cells + DIRECTORY * 8, 8) + l1_index * 8, 8)
    if entries == 0:
        return 0
    index = (offset & (1 << table_bits) - 1) >> bits
    entry = host_read(entries + index * 8, 8)
    host = entry & _OFFSET
    if entry & host_read(cells + UNUSUAL * 8, 8) or host == 0:
        return 0
    host_write(host_read(cells + USED * 8, 8) + l1_index, 1, 1)
    found = host_call(host_read(cells + BYTES_FROM_SIZE * 8, 8), 0, length, 0, 0, 0)
    if found == 0:
        host_call(host_read(cells + ERR_CLEAR * 8, 8), 0, 0, 0, 0, 0)
        return 0
    host_write(cells + PIECE * 8, 8, found + BYTES_HEAD)
    host_write(cells + PIECE * 8 + 8, 8, length)
    descriptor = host_read(host_read(cells + DESCRIPTOR * 8, 8), 8)
    read = host_read(cells + PREADV2 * 8, 8)
    if host_call(read, descriptor, cells + PIECE * 8, 1, host + within, NO_WAIT) == length:
        return found
    host_call(host_read(cells + DEC_REF * 8, 8), found, 0, 0, 0, 0)
    return 0
