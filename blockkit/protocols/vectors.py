"""Positioned vectored I/O that is never short."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from blockkit.block.buffers import split_buffers, total_length
from blockkit.block.zeros import zero_fill

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Buffers one preadv or pwritev takes (IOV_MAX of Linux).
IOV_MAX: Final = 1024

#: Bytes one system call moves at most (MAX_RW_COUNT of Linux with 4 KiB pages).
MAX_TRANSFER: Final = 0x7FFFF000


def read_fully(fd: int, offset: int, buffers: Sequence[memoryview]) -> None:
    """Fill all ``buffers`` (not empty) from ``offset``; what lies past the end of the file reads as zeros."""
    while buffers:
        done = os.preadv(fd, buffers[:IOV_MAX], offset)
        if not done:
            for buf in buffers:
                zero_fill(buf)
            return
        offset += done
        buffers = split_buffers(buffers, done)[1]


def write_fully(fd: int, offset: int, buffers: Sequence[memoryview], flags: int = 0) -> None:
    """Store all ``buffers`` (not empty) at ``offset``; ``flags`` are those of pwritev2."""
    while buffers:
        if len(buffers) == 1 and not flags:
            done = os.pwrite(fd, buffers[0], offset)
        else:
            done = os.pwritev(fd, buffers[:IOV_MAX], offset, flags)
        if not done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(buffers) == 1 and done == len(buffers[0]):
            return
        offset += done
        buffers = split_buffers(buffers, done)[1]


def write_in_pieces(fd: int, offset: int, buffers: Sequence[memoryview], piece: int) -> None:
    """Store all ``buffers`` at ``offset`` with system calls that do not cross a multiple of ``piece`` bytes."""
    if len(buffers) == 1:
        data, at = buffers[0], 0
        while at < len(data):
            stop = at + piece - (offset + at) % piece
            write_fully(fd, offset + at, [data[at:stop]])
            at = stop
        return
    left = list(buffers)
    while left:
        now, left = split_buffers(left, piece - offset % piece)
        write_fully(fd, offset, now)
        offset += total_length(now)
