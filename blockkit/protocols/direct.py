"""O_DIRECT: any bytes, from any memory, over descriptors that take only whole blocks from aligned memory."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from blockkit.block.buffers import split_buffers
from blockkit.block.ranges import RangeLock
from blockkit.block.zeros import zero_fill
from blockkit.protocols.vectors import IOV_MAX
from blockkit.units import MAX_OFFSET, align_down, align_up, is_power_of_two

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Aligned for every disk there is; used where the kernel does not say.
SAFE_ALIGNMENT: Final = 4096

#: Bytes of one bounce buffer, a multiple of every alignment in use.
_BOUNCE: Final = 1 << 20

#: Bounce buffers kept for reuse.
_KEPT: Final = 4


class DirectIO:
    """Unaligned access to an O_DIRECT descriptor.

    A write that does not fill its blocks reads them first. While it does, nobody else may change these blocks, not
    even bytes of them that nobody asked it to touch; hence the ranges. Reads need none: bytes that a concurrent
    write does not concern are the same before and after it.

    Args:
        fd: Opened with O_DIRECT; not owned.
        alignment: Bytes; a power of two. What offsets, lengths and memory must be aligned to.
    """

    def __init__(self, fd: int, alignment: int) -> None:
        self.alignment = alignment
        self._fd = fd
        self._ranges = RangeLock(threading.Lock())
        self._kept: list[mmap.mmap] = []

    # -- who may change which blocks -------------------------------------------------------------------

    @contextmanager
    def sharing(self, start: int, end: int) -> Iterator[None]:
        """Change whole blocks, or bytes by means other than rewriting their block, in ``[start, end)``."""
        ranges = self._ranges
        start, end = align_down(start, self.alignment), align_up(end, self.alignment)
        with ranges.lock:
            while not (token := ranges.try_shared(start, end)):
                ranges.wait()
        try:
            yield
        finally:
            with ranges.lock:
                ranges.release(token)

    @contextmanager
    def owning(self, start: int, end: int = MAX_OFFSET) -> Iterator[None]:
        """Be alone with all blocks of ``[start, end)``; without ``end``, with the size of the file too."""
        ranges = self._ranges
        start, end = align_down(start, self.alignment), align_up(end, self.alignment)
        with ranges.lock:
            token = ranges.exclusive(start, end)
        try:
            yield
        finally:
            with ranges.lock:
                ranges.release(token)

    def aligned(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        """Tell whether ``buffers`` at ``offset`` consist of whole blocks, each in one piece of memory."""
        mask = self.alignment - 1
        return not offset & mask and not any(len(buf) & mask for buf in buffers)

    # -- moving bytes ----------------------------------------------------------------------------------

    def read(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill all ``buffers`` (not empty) from ``offset``; what lies past the end of the file reads as zeros."""
        while buffers and self.aligned(offset, buffers):
            done = self._try(os.preadv, buffers, offset)
            if not done:
                break
            offset += done
            buffers = split_buffers(buffers, done)[1]
        if buffers:
            with self._bounce() as bounce:
                self._read_bounced(offset, buffers, bounce)

    def _read_bounced(self, offset: int, buffers: Sequence[memoryview], bounce: memoryview) -> None:
        end = offset + sum(map(len, buffers))
        while offset < end:
            start = align_down(offset, self.alignment)
            want = min(align_up(end, self.alignment) - start, _BOUNCE)
            done = os.preadv(self._fd, [bounce[:want]], start)
            part = bounce[offset - start : min(done, end - start)]
            if not part:  # the end of the file
                for buf in buffers:
                    zero_fill(buf)
                return
            head, buffers = split_buffers(buffers, len(part))
            at = 0
            for buf in head:
                buf[:] = part[at : at + len(buf)]
                at += len(buf)
            offset += at

    def write(self, offset: int, buffers: Sequence[memoryview], flags: int = 0) -> None:
        """Store all ``buffers`` (not empty) at ``offset``; may leave the file up to one block too long.

        The caller holds the range: :meth:`sharing` if it is :meth:`aligned`, :meth:`owning` otherwise.
        """
        while buffers and self.aligned(offset, buffers):
            done = self._try(os.pwritev, buffers, offset, flags)
            if not done:
                break
            offset += done
            buffers = split_buffers(buffers, done)[1]
        if buffers:
            with self._bounce() as bounce:
                self._write_bounced(offset, buffers, bounce, flags)

    def _write_bounced(self, offset: int, buffers: Sequence[memoryview], bounce: memoryview, flags: int) -> None:
        block = self.alignment
        end = offset + sum(map(len, buffers))
        while offset < end:
            start = align_down(offset, block)
            stop = min(align_up(end, block), start + _BOUNCE)
            window = bounce[: stop - start]
            upto = min(end, stop)
            if start < offset:
                self._read_block(start, window[:block])
            if upto < stop and (stop - block > start or start == offset):
                self._read_block(stop - block, window[-block:])
            head, buffers = split_buffers(buffers, upto - offset)
            at = offset - start
            for buf in head:
                window[at : at + len(buf)] = buf
                at += len(buf)
            while window:
                done = os.pwritev(self._fd, [window], start, flags)
                if done % block or not done:
                    raise OSError(errno.EIO if done else errno.ENOSPC, "incomplete direct write")
                start += done
                window = window[done:]
            offset = upto

    def _read_block(self, start: int, block: memoryview) -> None:
        done = os.preadv(self._fd, [block], start)
        zero_fill(block[done:])

    def _try(self, call: object, buffers: Sequence[memoryview], offset: int, *flags: int) -> int:
        """Move bytes without copying; 0 when the memory is not aligned, or at the end of the file."""
        assert callable(call)
        try:
            return int(call(self._fd, buffers[:IOV_MAX], offset, *flags))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return 0

    @contextmanager
    def _bounce(self) -> Iterator[memoryview]:
        try:
            buffer = self._kept.pop()
        except IndexError:
            # Shared memory: a fork while the disk writes to it cannot take the pages away.
            buffer = mmap.mmap(-1, _BOUNCE)
        with memoryview(buffer) as view:
            yield view
        if len(self._kept) < _KEPT:
            self._kept.append(buffer)


def probe_alignment(fd: int) -> int:
    """Return what direct requests to the regular file ``fd`` must be aligned to, bytes.

    Trying is no way to find out: an empty file takes requests of every length.
    """
    import ctypes
    import struct

    found = (0, 0)
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    if statx is not None:
        answer = ctypes.create_string_buffer(256)
        empty_path, dioalign = 0x1000, 0x2000
        if statx(fd, b"", empty_path, dioalign, answer) == 0:
            (mask,) = struct.unpack_from("=I", answer, 0)
            if mask & dioalign:
                found = struct.unpack_from("=II", answer, 152)
    alignment = max(found)
    return max(alignment, 512) if is_power_of_two(alignment) and alignment <= _BOUNCE // 4 else SAFE_ALIGNMENT
