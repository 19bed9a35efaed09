"""Lines of ``map --output json``, in the dialect (:mod:`blockkit.native.dialect`): for very many of them."""

from __future__ import annotations

from typing import Final

from blockkit.native.dialect import host_read, host_write

START: Final = b'{ "start": '
LENGTH: Final = b', "length": '
NOTHING: Final = b', "depth": 0, "present": false, "zero": true, "data": false},\n'
DATA: Final = b', "depth": 0, "present": true, "zero": false, "data": true, "offset": '
END: Final = b"},\n"
#: Bytes that the lines of a run take at most, two of them: texts, and numbers of 20 digits.
LONGEST: Final = 2 * (len(START) + len(LENGTH) + 40) + len(NOTHING) + len(DATA) + 20 + len(END)

# The texts in pieces of 8 bytes; what is behind one is written over by what follows it.
_START, _LENGTH, _NOTHING, _DATA, _END = (
    tuple(int.from_bytes(text[at : at + 8], "little") for at in range(0, len(text), 8))
    for text in (START, LENGTH, NOTHING, DATA, END)
)
_START_SIZE, _LENGTH_SIZE, _NOTHING_SIZE, _DATA_SIZE, _END_SIZE = map(len, (START, LENGTH, NOTHING, DATA, END))
#: Numbers below 100 as two digits.
_PAIRS: Final = tuple(48 + number // 10 | 48 + number % 10 << 8 for number in range(100))


def map_lines(starts: int, lengths: int, places: int, count: int, told: int, out: int) -> int:
    """Write the lines of runs of data, and of the nothing before each; return the end of the text.

    Args:
        starts: Address of where the runs begin on the disk, 64-bit numbers.
        lengths: Likewise of how long they are.
        places: Likewise of where they lie.
        count: Runs.
        told: Where on the disk the first line begins.
        out: Address of room for ``count * LONGEST + 8`` bytes.
    """
    stop = starts + count * 8
    while starts < stop:
        start = host_read(starts, 8)
        if start > told:
            out = _put_range(out, told, start - told)
            index = 0
            while index < 8:
                host_write(out + index * 8, 8, _NOTHING[index])
                index += 1
            out += _NOTHING_SIZE
        length = host_read(lengths, 8)
        out = _put_range(out, start, length)
        index = 0
        while index < 9:
            host_write(out + index * 8, 8, _DATA[index])
            index += 1
        out = _put_number(out + _DATA_SIZE, host_read(places, 8))
        host_write(out, 8, _END[0])
        out += _END_SIZE
        told = start + length
        starts += 8
        lengths += 8
        places += 8
    return out


def _put_range(out: int, start: int, length: int) -> int:
    """Write where a line begins and how far it goes."""
    host_write(out, 8, _START[0])
    host_write(out + 8, 8, _START[1])
    out = _put_number(out + _START_SIZE, start)
    host_write(out, 8, _LENGTH[0])
    host_write(out + 8, 8, _LENGTH[1])
    return _put_number(out + _LENGTH_SIZE, length)


def _put_number(out: int, value: int) -> int:
    """Write a number in digits, and return where it ends."""
    digits = 1
    bound = 10
    while digits < 20 and value >= bound:
        bound *= 10
        digits += 1
    end = out + digits
    at = end
    while value >= 10:
        at -= 2
        host_write(at, 2, _PAIRS[value % 100])
        value = value // 100
    if at > out:
        host_write(out, 1, 48 + value)
    return end
