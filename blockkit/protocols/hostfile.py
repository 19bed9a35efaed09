"""Regular files of the host."""

from __future__ import annotations

import errno
import os
import stat
import threading
from array import array
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from blockkit.block.bases import ProtocolNode
from blockkit.block.buffers import split_buffers, total_length
from blockkit.block.node import Cap, Extent, Kind, Limits, Preallocation
from blockkit.block.zeros import zeros
from blockkit.errors import (
    BlockkitError,
    ClosedError,
    NodeIOError,
    OptionError,
    OutOfRangeError,
    UnsupportedOperationError,
    UsageError,
    from_os_error,
)
from blockkit.protocols import locks
from blockkit.protocols.descriptor import CacheMode, cache_mode, file_name, open_descriptor
from blockkit.protocols.fallocate import UNSUPPORTED, Clearing
from blockkit.protocols.vectors import IOV_MAX, MAX_TRANSFER, read_fully, write_fully, write_in_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Self

    from blockkit.block.syscall import SystemCall
    from blockkit.protocols.direct import DirectIO
    from blockkit.protocols.growth import Growth

#: What ``discard`` may be, and whether it means that space is given back.
DISCARD: Final = {"unmap": True, "on": True, "ignore": False, "off": False}

#: Zeros are written in pieces of this many bytes when space is reserved the hard way.
_PIECE: Final = 1 << 20
#: Bytes of one aligned write through the page cache. Larger ones make it allocate larger folios, which a virtual
#: machine whose host takes back free memory has to fault in again: twice the time. Others get smaller folios anyway.
_WRITE: Final = 512 << 10
#: What offsets a file can have, bytes.
_MAX_SIZE: Final = (1 << 63) - 1


class HostFile(ProtocolNode):
    """A regular file of the host; writes past its end make it longer.

    ``size`` is what this node knows: when another program changes the size meanwhile, bytes that vanished read as
    zeros and bytes that came are not seen.

    Args:
        fd: Open and locked; taken over.
        status: Of ``fd``.
        name: What to call it.
        read_only: Whether ``fd`` is.
        mode: How ``fd`` was opened.
        unmap: Discards and zeroing may give space back.

    Attributes:
        size: Bytes.
    """

    driver = "file"
    size: int = 0
    caps: Cap = Cap(0)
    limits: Limits = Limits()

    def __init__(
        self, fd: int, status: os.stat_result, name: str, *, read_only: bool, mode: CacheMode, unmap: bool
    ) -> None:
        self.filename = name
        self.read_only = read_only
        self._fd = fd
        self._mode = mode
        self._unmap = unmap
        self._lock = threading.Lock()
        self._dirty = False
        self._has_dsync = True
        self._has_holes = True
        self._clearing = Clearing()
        self._flush_error = 0
        self._direct: DirectIO | None = None
        self._growth: Growth | None = None
        self._alone = True
        self._cell = array("q", [fd])
        self._watchers: set[Callable[[SystemCall], None]] = set()
        self.size = self._measure(status)
        alignment = 1
        if mode.direct:
            from blockkit.protocols.direct import DirectIO

            alignment = self._probe_alignment()
            self._direct = DirectIO(fd, alignment)
        granularity = max(self._granularity(status), alignment)
        self.limits = Limits(
            request_alignment=alignment,
            memory_alignment=alignment,
            discard_granularity=granularity,
            max_transfer=MAX_TRANSFER,
        )
        if not read_only:
            self.caps = self._capabilities() | (Cap.DISCARD if unmap else Cap(0))

    @classmethod
    def open(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        read_only: bool = True,
        cache: str = "writeback",
        share: bool = False,
        lock: bool = True,
        create: bool = False,
        exclusive: bool = False,
        discard: str = "unmap",
    ) -> Self:
        """Open ``path``, which must be of the kind this class is for.

        Args:
            path: Any file name.
            read_only: Open for reading only, and let others read too; otherwise be alone.
            cache: ``writeback``, ``none``, ``directsync``, ``writethrough`` or ``unsafe``.
            share: Read although somebody else may be writing (qemu-img's -U).
            lock: Take QEMU's image locks.
            create: Make the file if it is missing; an existing one is not truncated.
            exclusive: With ``create``: fail if it exists.
            discard: ``unmap`` gives space back, ``ignore`` keeps it.

        Raises:
            LockedError: another program uses the image in a way that does not go with this one.
            NodeIOError: the operating system refuses, or ``path`` is of another kind.
            UsageError: the arguments contradict each other or name nothing.
        """
        name = file_name(path)
        mode = cache_mode(cache)
        if discard not in DISCARD:
            raise OptionError(f"discard: unknown value {discard!r}, expected one of {', '.join(DISCARD)}")
        if share and not read_only:
            raise UsageError(f"{name}: an image that others may use (-U) can only be opened for reading")
        fd, status = open_descriptor(name, read_only=read_only, mode=mode, create=create, exclusive=exclusive)
        try:
            if not cls._accepts(status):
                raise NodeIOError(f"{name}: is {cls._unlike}, which driver {cls.driver} does not take", errno.EINVAL)
            if lock:
                use = locks.WRITING if not read_only else locks.READING_SHARED if share else locks.READING
                if locks.acquire(fd, use, name):
                    # Whoever held it before may have made it longer.
                    status = os.fstat(fd)
            node = cls(fd, status, name, read_only=read_only, mode=mode, unmap=DISCARD[discard])
        except OSError as error:
            os.close(fd)
            raise from_os_error(error, name) from error
        except BaseException:
            os.close(fd)
            raise
        # Without locks, others may be writing too.
        node._alone = lock
        return node

    def fileno(self) -> int:
        """Return the descriptor, valid until :meth:`close`.

        Whoever uses it directly must keep to ``limits``: with cache modes ``none`` and ``directsync`` it takes aligned
        requests only.
        """
        if self._closed:
            raise ClosedError(f"{self}: closed")
        return self._fd

    def descriptor_cell(self) -> array[int] | None:
        """Return a cell that holds the descriptor while it may be read from; see LendsDescriptor."""
        return self._cell if self._direct is None else None

    def writing_cell(self) -> array[int] | None:
        """Return it if it may be written to; see TakesByDescriptor."""
        return None if self.read_only or self._mode.sync else self.descriptor_cell()

    def wrote(self, end: int) -> None:
        """Take note of what was written to the descriptor; likewise."""
        self._dirty = True
        if end > self.size:
            try:
                self._grew()
            except OSError as error:
                raise self._failed(error, "cannot tell its size") from error

    def _show_descriptor(self) -> None:
        self._cell[0] = -1 if self._watchers else self._fd

    @property
    def zero_when_made(self) -> bool:
        """A new file is all holes."""
        return True

    @property
    def allocated_size(self) -> int:
        """Bytes the file takes on its disk."""
        try:
            return os.fstat(self._fd).st_blocks * 512
        except OSError as error:
            raise self._failed(error, "stat") from error

    # -- what differs for devices ----------------------------------------------------------------------

    _unlike = "a block device"

    @classmethod
    def _accepts(cls, status: os.stat_result) -> bool:
        """Tell whether this class is for such a file."""
        return stat.S_ISREG(status.st_mode)

    def _measure(self, status: os.stat_result) -> int:
        return status.st_size

    def _probe_alignment(self) -> int:
        from blockkit.protocols.direct import probe_alignment

        return probe_alignment(self._fd)

    def _granularity(self, status: os.stat_result) -> int:
        """Return the smallest unit of space that can be given back, bytes."""
        return status.st_blksize or 1

    def _capabilities(self) -> Cap:
        return Cap.WRITE | Cap.ZERO | Cap.FAST_ZERO | Cap.FUA | Cap.RESIZE | Cap.GROW

    # -- reading ---------------------------------------------------------------------------------------

    def _read(self, offset: int, length: int) -> bytes:
        if self._direct is None:
            try:
                data = os.pread(self._fd, length, offset)
            except OSError as error:
                raise self._failed(error, f"cannot read {length} bytes at {offset:#x}") from error
            if len(data) == length:
                return data
        buf = bytearray(length)
        self._readv(offset, [memoryview(buf)])
        return bytes(buf)

    def pull_bytes(self, offset: int, length: int) -> bytes:
        # The system knows best where the file ends; only a short answer needs a closer look.
        if self._direct is None:
            try:
                data = os.pread(self._fd, length, offset)
            except OSError as error:
                raise self._failed(error, f"cannot read {length} bytes at {offset:#x}") from error
            if len(data) == length:
                return data
        return super().pull_bytes(offset, length)

    def pull(self, offset: int, buffers: list[memoryview]) -> None:
        # The way of one piece, as large copies read it; whatever comes out differently is seen to below.
        if len(buffers) == 1 and self._direct is None and offset + (length := len(buffers[0])) <= self.size:
            try:
                done = os.preadv(self._fd, buffers, offset)
            except OSError as error:
                raise self._failed(error, f"cannot read {length} bytes at {offset:#x}") from error
            if done == length:
                return
        super().pull(offset, buffers)

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        try:
            if self._direct is not None:
                self._direct.read(offset, buffers)
            elif len(buffers) > IOV_MAX:
                read_fully(self._fd, offset, buffers)
            else:
                done = os.preadv(self._fd, buffers, offset)
                if done < total_length(buffers):
                    read_fully(self._fd, offset + done, split_buffers(buffers, done)[1])
        except OSError as error:
            raise self._failed(error, f"cannot read {total_length(buffers)} bytes at {offset:#x}") from error

    # -- writing ---------------------------------------------------------------------------------------

    def _write(self, offset: int, data: bytes, length: int) -> None:
        if self._direct is None and offset + length <= self.size and not self._mode.sync:
            try:
                done = os.pwrite(self._fd, data, offset)
            except OSError as error:
                raise self._failed(error, f"cannot write {length} bytes at {offset:#x}") from error
            finally:
                self._dirty = True
            if done == length:
                return
        self._writev(offset, [memoryview(data)], False)

    def push(self, offset: int, buffers: list[memoryview], fua: bool = False) -> None:
        # Likewise.
        if (
            (len(buffers) == 1 and (length := len(data := buffers[0])) <= _WRITE and not fua)
            and not (self.read_only or self._mode.sync or self._direct is not None)
            and ((end := offset + length) <= self.size or (end <= _MAX_SIZE and Cap.GROW in self.caps))
        ):
            try:
                try:
                    done = os.pwrite(self._fd, data, offset)
                finally:
                    self._dirty = True
                    if end > self.size:
                        self._grew()
            except OSError as error:
                raise self._failed(error, f"cannot write {length} bytes at {offset:#x}") from error
            if done == length:
                return
            offset, buffers = offset + done, [data[done:]]
        super().push(offset, buffers, fua)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        end = offset + total_length(buffers)
        fua = fua and self._mode.flush and not self._mode.sync
        flags = os.RWF_DSYNC if fua and self._has_dsync else 0
        try:
            try:
                self._store(offset, end, buffers, flags)
            except OSError as error:
                if not flags or error.errno != errno.EOPNOTSUPP:
                    raise
                self._has_dsync, flags = False, 0
                self._store(offset, end, buffers, 0)
        except OSError as error:
            raise self._failed(error, f"cannot write {end - offset} bytes at {offset:#x}") from error
        except OverflowError as error:
            raise OutOfRangeError(f"{self}: {end - offset} bytes at {offset:#x} leave what a file can hold") from error
        finally:
            self._dirty = True
        if fua and not flags:
            self._flush()

    def _store(self, offset: int, end: int, buffers: list[memoryview], flags: int) -> None:
        if self._direct is not None:
            self._store_direct(self._direct, offset, end, buffers, flags)
            return
        try:
            if flags or self._mode.sync or end - offset <= _WRITE or offset % _WRITE:
                write_fully(self._fd, offset, buffers, flags)
            else:
                write_in_pieces(self._fd, offset, buffers, _WRITE)
        finally:
            if end > self.size:
                self._grew()

    def _grew(self) -> None:
        """Take note of a write past the end. The file is asked, as a resize may have come between."""
        with self._lock:
            self.size = self._measure(os.fstat(self._fd))
            if self._growth is not None:
                self._growth.follow(self.size)

    def expect_growth(self) -> None:
        """Reserve space ahead of the end from now on, as it will grow much; what is not used is given back at last."""
        with self._lock:
            if self._growth is None and self._alone and Cap.GROW in self.caps:
                from blockkit.protocols.growth import Growth

                self._growth = Growth(self._fd, self.size)

    def _store_direct(self, direct: DirectIO, offset: int, end: int, buffers: list[memoryview], flags: int) -> None:
        if direct.aligned(offset, buffers):
            with direct.sharing(offset, end):
                direct.write(offset, buffers, flags)
                with self._lock:
                    self.size = max(self.size, end)
            return
        block = direct.alignment
        if -(-end // block) * block <= self.size:
            with direct.owning(offset, end):
                # The file cannot have shrunk since: this takes its last blocks too.
                if -(-end // block) * block <= self.size:
                    direct.write(offset, buffers, flags)
                    return
        # The last block goes past the end of the file, which must be cut to its exact size afterwards.
        with direct.owning(offset):
            try:
                direct.write(offset, buffers, flags)
                with self._lock:
                    self.size = max(self.size, end)
            finally:
                # After a failure, bytes before this range may belong to a write that has not come back yet.
                exact = max(self.size, offset // block * block)
                if os.fstat(self._fd).st_size > exact:
                    os.ftruncate(self._fd, exact)

    def _sharing(self, start: int, end: int) -> AbstractContextManager[None]:
        """Keep direct writes from rewriting blocks of a range with what they held before."""
        return self._direct.sharing(start, end) if self._direct is not None else nullcontext()

    # -- zeroing and giving space back -------------------------------------------------------------------

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        inside = max(0, min(length, self.size - offset))
        unmap = unmap and self._unmap
        if inside:
            try:
                with self._sharing(offset, offset + inside):
                    done = self._clearing.zero(self._fd, offset, inside, unmap=unmap)
            except OSError as error:
                raise self._failed(error, f"cannot zero {inside} bytes at {offset:#x}") from error
            finally:
                self._dirty = True
            if not done and fast:
                raise UnsupportedOperationError(f"{self}: the file system cannot zero faster than by writing")
            if not done:
                super()._zero(offset, inside, unmap, fast)
        if inside < length:
            # One byte brings the rest with it as a hole. Setting the size instead could cut off what others write
            # beyond it at this moment.
            self._writev(offset + length - 1, [zeros(1)], False)
            if not unmap:
                self.preallocate(offset + inside, length - inside, Preallocation.FALLOC)
        self._settle()

    def _discard(self, offset: int, length: int) -> None:
        if not self._unmap:
            return
        try:
            with self._sharing(offset, offset + length):
                self._clearing.punch(self._fd, offset, length)
        except OSError as error:
            raise self._failed(error, f"cannot discard {length} bytes at {offset:#x}") from error
        self._dirty = True

    # -- making durable --------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self.read_only or not self._mode.flush:
            return
        if self._flush_error:
            # The kernel reports lost pages once and then forgets them; data stays lost all the same.
            raise NodeIOError(f"{self}: an earlier flush failed, data may be lost", self._flush_error)
        if self._fd < 0:
            raise ClosedError(f"{self}: closed")
        self._dirty = False
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._dirty = True
            self._flush_error = error.errno or errno.EIO
            raise self._failed(error, "cannot flush") from error

    def _settle(self) -> None:
        """Make a change that O_DSYNC does not cover durable, if every change must be."""
        if self._mode.sync:
            self._flush()

    # -- size and space --------------------------------------------------------------------------------

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        if preallocate is Preallocation.METADATA:
            raise UnsupportedOperationError(f"{self}: a plain file has no metadata to preallocate")
        try:
            with self._direct.owning(0) if self._direct is not None else nullcontext(), self._lock:
                before = os.fstat(self._fd).st_size
                os.ftruncate(self._fd, size)
                self.size = size
        except OSError as error:
            raise self._failed(error, f"cannot change the size to {size}") from error
        finally:
            self._dirty = True
        if size > before and preallocate is not Preallocation.OFF:
            try:
                self.preallocate(before, size - before, preallocate)
            except BlockkitError:
                self._resize(before, Preallocation.OFF)
                raise
        self._settle()

    def start_anew(self, size: int, preallocation: Preallocation = Preallocation.OFF) -> None:
        """Forget all contents and become ``size`` zero bytes."""
        self.resize(0)
        self.resize(size, preallocate=preallocation)

    def preallocate(self, offset: int, length: int, mode: Preallocation) -> None:
        """Reserve a range, which must read as zeros.

        Raises:
            NoSpaceError: there is not enough; part of it may be reserved.
        """
        if self.read_only:
            self._refuse_write()
        if offset < 0 or length < 0 or offset + length > self.size:
            self._out_of_range(offset, length)
        if not length or mode in (Preallocation.OFF, Preallocation.METADATA):
            return
        if mode is Preallocation.FALLOC:
            try:
                os.posix_fallocate(self._fd, offset, length)
            except OSError as error:
                # Where the C library does it by writing, a descriptor for direct I/O refuses.
                if not (self._direct is not None and error.errno in UNSUPPORTED | {errno.EINVAL}):
                    raise self._failed(error, f"cannot reserve {length} bytes at {offset:#x}") from error
            else:
                return
        while length:
            piece = zeros(min(length, _PIECE))
            self._writev(offset, [piece], False)
            offset += len(piece)
            length -= len(piece)

    # -- holes -----------------------------------------------------------------------------------------

    def _map(self, offset: int, length: int) -> Extent:
        return next(self._extents(offset, length))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            data, hole = self._next_data(offset, end)
            if offset < data:
                yield Extent(offset, data - offset, Kind.ZERO, self, offset)
            if data < hole:
                yield Extent(data, hole - data, Kind.DATA, self, data)
            offset = hole

    def _next_data(self, offset: int, end: int) -> tuple[int, int]:
        """Return the first run of data in ``[offset, end)``; ``(end, end)`` when all of it is a hole."""
        if self._has_holes:
            try:
                data = os.lseek(self._fd, offset, os.SEEK_DATA)
                if data >= end:
                    return end, end
                hole = os.lseek(self._fd, data, os.SEEK_HOLE)
                # The file may be changing under us; what is no data any more is no harm.
                return data, min(hole, end) if hole > data else end
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return end, end
                if error.errno not in UNSUPPORTED | {errno.EINVAL}:
                    raise self._failed(error, f"cannot look for holes at {offset:#x}") from error
                self._has_holes = False
        return offset, end

    # -- watching --------------------------------------------------------------------------------------

    def watch_calls(self, told: Callable[[SystemCall], None]) -> Callable[[], None]:
        from blockkit.protocols import calls

        def mine(call: SystemCall) -> None:
            if call.fd == self._fd:
                told(call)

        def leave() -> None:
            stop()
            with self._lock:
                self._watchers.discard(mine)
                self._show_descriptor()

        with self._lock:
            self._watchers.add(mine)
            self._show_descriptor()
        stop = calls.watch(mine)
        return leave

    # -- the end ---------------------------------------------------------------------------------------

    def _close(self) -> None:
        fd = self._fd
        self._cell[0] = -1
        try:
            try:
                if self._dirty:
                    self._flush()
            finally:
                if self._growth is not None:
                    self._growth.end()
        except OSError as error:
            raise self._failed(error, "cannot give back space") from error
        finally:
            # Nobody may use the number again: it may soon belong to another file.
            self._fd = self._cell[0] = -1
            locks.release(fd)
            try:
                os.close(fd)
            except OSError as error:
                raise from_os_error(error, f"{self}: cannot close") from error

    def _failed(self, error: OSError, doing: str) -> BlockkitError:
        if self._fd < 0:
            return ClosedError(f"{self}: closed")
        return from_os_error(error, f"{self}: {doing}")
