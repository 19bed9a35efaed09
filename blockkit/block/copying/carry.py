"""Copying from one host file to another, in the dialect (:mod:`blockkit.native.dialect`): what is not zero is written.

It runs without the interpreter's lock, which the threads of a copy otherwise wait for between any two system calls.
Whatever does not go as it should ends it early, to be found again by those who read and write in Python.
"""

from __future__ import annotations

from typing import Final

from blockkit.native.dialect import host_call, host_read, host_write

#: What is called of the C library, whose offsets are of 64 bits on a machine of 64.
CALLS: Final = ("pread", "pwrite", "memcmp")

# The words of a job.
#: Addresses of these functions.
PREAD: Final[int] = 0
PWRITE: Final[int] = 1
MEMCMP: Final[int] = 2
#: Address of a cell with the descriptor to read from, and where in its file, bytes.
SOURCE: Final[int] = 3
SOURCE_AT: Final[int] = 4
#: Likewise to write to; where to write next, as far as that does not follow from what is read.
TARGET: Final[int] = 5
TARGET_AT: Final[int] = 6
#: Where what is copied begins on the disk that it is copied to: chunks and grains begin at multiples of theirs there.
OFFSET: Final[int] = 7
#: Bytes to copy.
LENGTH: Final[int] = 8
#: Address of a buffer, and its bytes: what is read at once.
BUFFER: Final[int] = 9
CHUNK: Final[int] = 10
#: Bytes of the pieces that are left out where they are zero; 0 leaves none out.
GRAIN: Final[int] = 11
#: Address of room for runs, two words each: where on the disk it begins, and its bytes. 0: what is written comes to lie
#: as far from TARGET_AT as it was read from SOURCE_AT. Otherwise one run behind the other is written, and noted there.
RUNS: Final[int] = 12
#: How many runs have been noted, and may be.
NOTED: Final[int] = 13
MOST: Final[int] = 14
JOB_WORDS: Final[int] = 15

# The words of a piece, one of many that lie anywhere.
PIECE_SOURCE: Final[int] = 0
PIECE_TARGET: Final[int] = 1
PIECE_OFFSET: Final[int] = 2
PIECE_LENGTH: Final[int] = 3
PIECE_WORDS: Final[int] = 4


def carry_pieces(job: int, pieces: int, count: int) -> int:
    """Copy pieces, each with these words of its own; return how many, from the first on, are dealt with whole."""
    number = 0
    while number < count:
        piece = pieces + number * PIECE_WORDS * 8
        host_write(job + SOURCE_AT * 8, 8, host_read(piece + PIECE_SOURCE * 8, 8))
        host_write(job + TARGET_AT * 8, 8, host_read(piece + PIECE_TARGET * 8, 8))
        host_write(job + OFFSET * 8, 8, host_read(piece + PIECE_OFFSET * 8, 8))
        length = host_read(piece + PIECE_LENGTH * 8, 8)
        host_write(job + LENGTH * 8, 8, length)
        if carry(job) != length:
            return number
        number += 1
    return count


def carry(job: int) -> int:
    """Copy; return how many bytes, from the first on, are dealt with."""
    length = host_read(job + LENGTH * 8, 8)
    buffer = host_read(job + BUFFER * 8, 8)
    done = 0
    while done < length:
        chunk = host_read(job + CHUNK * 8, 8)
        take = chunk - (host_read(job + OFFSET * 8, 8) + done) % chunk
        if take > length - done:
            take = length - done
        source = host_read(host_read(job + SOURCE * 8, 8), 8)
        at = host_read(job + SOURCE_AT * 8, 8) + done
        if host_call(host_read(job + PREAD * 8, 8), source, buffer, take, at, 0) != take:
            return done
        stored = _store(job, buffer, take, done)
        done += stored
        if stored != take:
            return done
    return done


def _store(job: int, buffer: int, length: int, done: int) -> int:
    """Write what has to be written of a chunk; return how many bytes of it, from the first on, are dealt with."""
    grain = host_read(job + GRAIN * 8, 8)
    offset = host_read(job + OFFSET * 8, 8) + done
    compare = host_read(job + MEMCMP * 8, 8)
    run = 0  # everything before it is dealt with
    at = 0 if grain else length
    while at < length:
        size = grain - (offset + at) % grain
        if size > length - at:
            size = length - at
        # All bytes are like the first, which is zero.
        if host_read(buffer + at, 1) == 0 and (
            host_call(compare, buffer + at, buffer + at + 1, size - 1, 0, 0) & 0xFFFFFFFF == 0
        ):
            if run < at and _write(job, buffer + run, at - run, done + run) == 0:
                return run
            run = at + size
        at += size
    if run < length and _write(job, buffer + run, length - run, done + run) == 0:
        return run
    return length


def _write(job: int, data: int, length: int, done: int) -> int:
    """Write one run, which begins ``done`` bytes behind what is copied first; 0 if that fails."""
    target = host_read(host_read(job + TARGET * 8, 8), 8)
    write = host_read(job + PWRITE * 8, 8)
    place = host_read(job + TARGET_AT * 8, 8)
    runs = host_read(job + RUNS * 8, 8)
    if runs == 0:
        return host_call(write, target, data, length, place + done, 0) == length
    count = host_read(job + NOTED * 8, 8)
    start = host_read(job + OFFSET * 8, 8) + done
    last = runs + count * 16 - 16
    joins = 0
    if count != 0 and host_read(last, 8) + host_read(last + 8, 8) == start:
        joins = 1
    elif count == host_read(job + MOST * 8, 8):
        return 0
    if host_call(write, target, data, length, place, 0) != length:
        return 0
    host_write(job + TARGET_AT * 8, 8, place + length)
    if joins:
        host_write(last + 8, 8, host_read(last + 8, 8) + length)
    else:
        host_write(last + 16, 8, start)
        host_write(last + 24, 8, length)
        host_write(job + NOTED * 8, 8, count + 1)
    return 1
