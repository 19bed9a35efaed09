"""Block devices of the host."""

from __future__ import annotations

import fcntl
import stat
import struct
from typing import TYPE_CHECKING, Final

from blockkit.block.bases import ProtocolNode
from blockkit.block.node import Cap, Node, Preallocation
from blockkit.errors import NoSpaceError, ReadOnlyError, UnsupportedOperationError
from blockkit.protocols.fallocate import UNSUPPORTED
from blockkit.protocols.hostfile import HostFile
from blockkit.units import align_down, align_up

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from blockkit.block.node import Extent

# Requests of linux/fs.h.
_BLKROGET: Final = 0x125E  # int: whether the device is read-only
_BLKSSZGET: Final = 0x1268  # int: logical sector size, bytes
BLKDISCARD: Final = 0x1277  # u64[2]: offset, length
_BLKGETSIZE64: Final = 0x80081272 if struct.calcsize("P") == 8 else 0x80041272  # u64: size, bytes

#: Bytes zeroed at the start of a device that becomes a new image; formats are recognised by less.
_HEAD: Final = 64 * 1024


class HostDevice(HostFile):
    """A block device of the host: like a file, but of fixed size, without holes, and cut into sectors."""

    driver = "host_device"
    _unlike = "a regular file"

    @classmethod
    def _accepts(cls, status: os.stat_result) -> bool:
        return stat.S_ISBLK(status.st_mode)

    def _measure(self, status: os.stat_result) -> int:
        if not self.read_only and struct.unpack("i", self._ask(_BLKROGET, 4))[0]:
            raise ReadOnlyError(f"{self}: the device is read-only, it cannot be opened for writing")
        self._sector: int = struct.unpack("i", self._ask(_BLKSSZGET, 4))[0]
        size: int = struct.unpack("Q", self._ask(_BLKGETSIZE64, 8))[0]
        return size

    def _ask(self, request: int, length: int) -> bytes:
        answer = bytearray(length)
        fcntl.ioctl(self._fd, request, answer)
        return bytes(answer)

    def _probe_alignment(self) -> int:
        return self._sector

    def _granularity(self, status: os.stat_result) -> int:
        return self._sector

    def _capabilities(self) -> Cap:
        return Cap.WRITE | Cap.ZERO | Cap.FUA

    @property
    def zero_when_made(self) -> bool:
        """A device keeps what was on it, but for its first bytes."""
        return False

    def _map(self, offset: int, length: int) -> Extent:
        return ProtocolNode._map(self, offset, length)

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        return Node._extents(self, offset, length)

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        # The kernel zeroes whole sectors only; the edges are written.
        start, stop = align_up(offset, self._sector), align_down(offset + length, self._sector)
        if start >= stop:
            if fast:
                raise UnsupportedOperationError(f"{self}: {length} bytes are less than a sector, which must be written")
            Node._zero(self, offset, length, unmap, fast)
            return
        super()._zero(start, stop - start, unmap, fast)
        if offset < start:
            Node._zero(self, offset, start - offset, unmap, False)
        if stop < offset + length:
            Node._zero(self, stop, offset + length - stop, unmap, False)

    def _discard(self, offset: int, length: int) -> None:
        start, stop = align_up(offset, self._sector), align_down(offset + length, self._sector)
        if not self._unmap or start >= stop:
            return
        try:
            with self._sharing(start, stop):
                fcntl.ioctl(self._fd, BLKDISCARD, struct.pack("QQ", start, stop - start))
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise self._failed(error, f"cannot discard {stop - start} bytes at {start:#x}") from error

    def _grew(self) -> None:
        """Do nothing: a device has the size it has."""

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        raise UnsupportedOperationError(f"{self}: a block device has a fixed size, {self.size} bytes")

    def start_anew(self, size: int, preallocation: Preallocation = Preallocation.OFF) -> None:
        if size > self.size:
            raise NoSpaceError(f"{self}: the device has {self.size} bytes, {size} are needed")
        self.zero(0, min(_HEAD, self.size))
        if preallocation is Preallocation.FULL:
            self.preallocate(0, size, preallocation)

    def preallocate(self, offset: int, length: int, mode: Preallocation) -> None:
        if mode is Preallocation.FULL:
            super().preallocate(offset, length, mode)
