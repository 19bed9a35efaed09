"""The block device (virtio 1.2, 5.2)."""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

from blockkit.emul.disk import Operation
from blockkit.emul.memory import GuestError
from blockkit.emul.virtio.device import VirtioDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.disk import Disk
    from blockkit.emul.memory import GuestMemory
    from blockkit.emul.virtio.queue import Chain

SECTOR: Final = 512
_HEADER: Final = struct.Struct("<IIQ")
_SEGMENT: Final = struct.Struct("<QII")
_ID_SIZE: Final = 20
_UNMAP: Final = 1
#: Sectors of a discard or of zeros at most, and how many ranges of one request.
_MOST_SECTORS, _MOST_SEGMENTS = 1 << 22, 16
#: Alignment that a discard should have, in sectors.
_DISCARD_ALIGNMENT: Final = 8


class Feature(enum.IntEnum):
    """Feature bits (5.2.3)."""

    SIZE_MAX = 1
    SEG_MAX = 2
    GEOMETRY = 4
    RO = 5
    BLK_SIZE = 6
    FLUSH = 9
    TOPOLOGY = 10
    CONFIG_WCE = 11
    MQ = 12
    DISCARD = 13
    WRITE_ZEROES = 14


class Type(enum.IntEnum):
    """What a request asks for (5.2.6)."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    DISCARD = 11
    WRITE_ZEROES = 13


class Status(enum.IntEnum):
    """What became of it."""

    OK = 0
    IOERR = 1
    UNSUPP = 2


#: Configuration (5.2.4): offset and size of the field that can be written.
_WRITEBACK: Final = 0x20
_CONFIG: Final = struct.Struct("<QIIHBBIBBHIBBHIIIIIBxxx")


class _Request:
    """A chain taken apart: the header, the data and the status byte, wherever its descriptors cut it (2.6.4.1)."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        readable = list(chain.readable)
        header = b""
        while len(header) < _HEADER.size:
            if not readable:
                raise GuestError(f"a request of {len(header)} bytes, expected {_HEADER.size} at least")
            part = readable[0][: _HEADER.size - len(header)]
            header += part
            readable[0] = readable[0][len(part) :]
            if not len(readable[0]):
                del readable[0]
        self.kind, _, self.sector = _HEADER.unpack(header)
        self.sent = readable
        writable = [(address, view) for address, view in chain.writable if len(view)]
        if not writable:
            raise GuestError("a request without room for its status")
        address, last = writable.pop()
        self._status = last[-1:]
        if len(last) > 1:
            writable.append((address, last[:-1]))
        self.received = writable

    def finish(self, status: Status) -> None:
        """Write the status byte."""
        self._status[0] = status


class VirtioBlk(VirtioDevice):
    """A disk.

    Args:
        memory: Where queues and buffers lie.
        disk: What it shows.
        queues: How many queues.
        queue_size: Entries of each.
        packed: Offer packed rings.
    """

    device_id = 2

    def __init__(
        self, memory: GuestMemory, disk: Disk, *, queues: int = 1, queue_size: int = 256, packed: bool = True
    ) -> None:
        wanted = [Feature.SEG_MAX, Feature.GEOMETRY, Feature.BLK_SIZE, Feature.FLUSH, Feature.TOPOLOGY]
        wanted += [Feature.CONFIG_WCE]
        wanted += [Feature.RO] if disk.read_only else [Feature.DISCARD, Feature.WRITE_ZEROES]
        wanted += [Feature.MQ] if queues > 1 else []
        features = sum(1 << each for each in wanted)
        super().__init__(memory, features=features, queues=queues, queue_size=queue_size, packed=packed)
        self.disk = disk
        self._cached = True
        self._is_cached = not disk.write_through
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._cached = self._is_cached
        self._set_cache()

    def choose(self, features: int) -> bool:
        if not super().choose(features):
            return False
        self._set_cache()
        return True

    def _set_cache(self) -> None:
        """Without FLUSH the driver takes every write for durable, and so it has to be (5.2.6.2)."""
        self.disk.write_through = not (self._cached and self.has(Feature.FLUSH))

    # -- configuration -------------------------------------------------------------------------------------

    def _config(self) -> bytes:
        sectors = self.disk.sectors
        heads, per_track = 16, 63
        cylinders = min(sectors // (heads * per_track), 65535)
        limit = 0 if self.disk.read_only else _MOST_SECTORS
        segments = 0 if self.disk.read_only else _MOST_SEGMENTS
        return _CONFIG.pack(
            *(sectors, 0, self.queue_size - 2, cylinders, heads, per_track, SECTOR),
            # Topology: physical blocks of 4 KiB, aligned, and the same to be written at least and at best.
            *(3, 0, 8, 8),
            *(int(self._cached), 0, self.queue_count),
            *(limit, segments, _DISCARD_ALIGNMENT, limit, segments, 1),
        )

    def read_config(self, offset: int, size: int) -> int:
        return int.from_bytes(self._config()[offset : offset + size].ljust(size, b"\0"), "little")

    def write_config(self, offset: int, size: int, value: int) -> None:
        if offset == _WRITEBACK and size == 1 and self.has(Feature.CONFIG_WCE):
            self._cached = bool(value & 1)
            self._set_cache()

    # -- requests ------------------------------------------------------------------------------------------

    def serve(self, number: int, chain: Chain) -> None:
        request = _Request(chain)
        status: Status | None = Status.UNSUPP
        if request.kind in (Type.IN, Type.OUT):
            status = self._transfer(number, request)
        elif request.kind == Type.FLUSH:
            self.disk.submit(Operation.FLUSH, 0, 0, (), self._ending(number, request, 0))
            status = None
        elif request.kind == Type.GET_ID:
            status = self._identify(request)
        elif request.kind in (Type.DISCARD, Type.WRITE_ZEROES) and not self.disk.read_only:
            status = self._ranges(number, request)
        if status is not None:
            written = _ID_SIZE if request.kind == Type.GET_ID and status is Status.OK else 0
            self._end(number, request, status, written)

    def _ending(self, number: int, request: _Request, written: int) -> Callable[[bool], None]:
        """Return what is to be called when the disk has done its part."""
        generation = self.generation

        def done(well: bool) -> None:
            if generation == self.generation:
                self._end(number, request, Status.OK if well else Status.IOERR, written if well else 0)

        return done

    def _end(self, number: int, request: _Request, status: Status, written: int) -> None:
        request.finish(status)
        for address, view in request.chain.writable:
            self.memory.wrote(address, len(view))
        self.give_back(number, request.chain, written + 1)

    def _transfer(self, number: int, request: _Request) -> Status | None:
        writes = request.kind == Type.OUT
        buffers = request.sent if writes else [view for _, view in request.received]
        length = sum(map(len, buffers))
        if length % SECTOR or request.sector + length // SECTOR > self.disk.sectors:
            return Status.IOERR
        if writes and self.disk.read_only:
            return Status.IOERR
        operation = Operation.WRITE if writes else Operation.READ
        done = self._ending(number, request, 0 if writes else length)
        self.disk.submit(operation, request.sector * SECTOR, length, buffers, done)
        # What is read is there at once, and stays there if the device is reset before it says so.
        for address, view in request.received:
            self.memory.wrote(address, len(view))
        return None

    def _identify(self, request: _Request) -> Status:
        room = sum(len(view) for _, view in request.received)
        if room < _ID_SIZE:
            return Status.IOERR
        serial = self.disk.serial.encode("ascii", "replace")[:_ID_SIZE].ljust(_ID_SIZE, b"\0")
        for _, view in request.received:
            part, serial = serial[: len(view)], serial[len(view) :]
            view[: len(part)] = part
        return Status.OK

    def _ranges(self, number: int, request: _Request) -> Status | None:
        """DISCARD and WRITE_ZEROES (5.2.6.2): all ranges are looked at before the first one is touched."""
        data = b"".join(request.sent)
        if not data or len(data) % _SEGMENT.size or len(data) > _MOST_SEGMENTS * _SEGMENT.size:
            return Status.IOERR
        zeroes = request.kind == Type.WRITE_ZEROES
        ranges = list(_SEGMENT.iter_unpack(data))
        for sector, count, flags in ranges:
            if flags & ~_UNMAP or (flags and not zeroes):
                return Status.UNSUPP
            if count > _MOST_SECTORS or sector + count > self.disk.sectors:
                return Status.IOERR
        left, well = len(ranges), True
        done = self._ending(number, request, 0)

        def one(ended: bool) -> None:
            nonlocal left, well
            left -= 1
            well = well and ended
            if not left:
                done(well)

        operation = Operation.ZERO if zeroes else Operation.DISCARD
        for sector, count, flags in ranges:
            self.disk.submit(operation, sector * SECTOR, count * SECTOR, (), one, unmap=bool(flags & _UNMAP))
        return None
