"""A hard disk: the commands that operating systems, loaders and firmware use (ATA8-ACS, chapter 7)."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blockkit.emul.disk import Operation
from blockkit.emul.ide import identify
from blockkit.emul.ide.drive import ABRT, BSY, COUNT, DRDY, DSC, FEATURES, HIGH, IDNF, LBA, LOW, MIDDLE, UNC, Drive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.emul.disk import Disk

SECTOR: Final = 512
_HEADS, _PER_TRACK = 16, 63
_FIRST_48, _FIRST_28 = 65536, 256
_LBA_28_END: Final = 1 << 28
#: Sectors of a transfer by the processor that the disk is asked for at once.
_SMART_MIDDLE, _SMART_HIGH = 0x4F, 0xC2
_TRIM: Final = 1
_RANGE: Final = struct.Struct("<Q")
_RANGE_COUNT_SHIFT: Final = 48


class _Transfer(NamedTuple):
    """A kind of command that transfers sectors.

    Attributes:
        extended: Addresses and counts are those of LBA48.
        writes: To the disk.
        dma: By the bus master.
        multiple: In blocks of several sectors.
    """

    extended: bool
    writes: bool
    dma: bool = False
    multiple: bool = False


_TRANSFERS: Final = {
    0x20: _Transfer(False, False),
    0x21: _Transfer(False, False),
    0x24: _Transfer(True, False),
    0x25: _Transfer(True, False, dma=True),
    0x29: _Transfer(True, False, multiple=True),
    0x30: _Transfer(False, True),
    0x31: _Transfer(False, True),
    0x34: _Transfer(True, True),
    0x35: _Transfer(True, True, dma=True),
    0x39: _Transfer(True, True, multiple=True),
    0xC4: _Transfer(False, False, multiple=True),
    0xC5: _Transfer(False, True, multiple=True),
    0xC8: _Transfer(False, False, dma=True),
    0xC9: _Transfer(False, False, dma=True),
    0xCA: _Transfer(False, True, dma=True),
    0xCB: _Transfer(False, True, dma=True),
}
#: Commands that do nothing here, and succeed: recalibrate and seek, idle and standby, and freezing what is not there.
_NOTHING: Final = frozenset(
    (*range(0x10, 0x20), *range(0x70, 0x80), 0x94, 0x95, 0x96, 0x97, 0x99, 0xE0, 0xE1, 0xE2, 0xE3, 0xE6, 0xF5)
)


class AtaDrive(Drive):
    """A hard disk.

    Args:
        disk: What it shows.
        model: Its model number.
    """

    def __init__(self, disk: Disk, model: str = "BLOCKKIT HARDDISK") -> None:
        self.disk, self._model = disk, model
        self._cached = not disk.write_through
        self._ahead = True
        self._mode = 0
        self._multiple = identify.MULTIPLE_MOST
        self._geometry = _HEADS, _PER_TRACK
        self._running: tuple[_Transfer, int, int] | None = None
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._running = None

    # -- commands ------------------------------------------------------------------------------------------

    def execute(self, command: int) -> None:
        transfer = _TRANSFERS.get(command)
        if transfer is not None:
            self._begin(transfer)
        elif command in _NOTHING:
            self.finish()
        else:
            method = _METHODS.get(command)
            if method is None:
                self.finish(ABRT)
            else:
                method(self)

    def _identify(self) -> None:
        data = identify.disk(
            self.disk.sectors,
            serial=self.disk.serial or "BK00000001",
            model=self._model,
            firmware="1.0",
            multiple=self._multiple,
            cached=self._cached,
            ahead=self._ahead,
            mode=self._mode,
            geometry=self._geometry,
        )
        self.offer(memoryview(bytearray(data)), self._end_quietly)

    def _end_quietly(self) -> None:
        """End a command whose last block was read: there is no interrupt."""
        self.status = DRDY | DSC

    def _set_features(self) -> None:
        what, value = self.pair[FEATURES][0], self.pair[COUNT][0]
        if what == 0x03:
            kind, number = value >> 3, value & 7
            self._mode = {4: 1 << number if number < 3 else 0, 8: 1 << number + 3 if number < 6 else 0}.get(kind, 0)
            if kind not in (0, 1, 4, 8) or (kind in (4, 8) and not self._mode):
                self.finish(ABRT)
                return
        elif what in (0x02, 0x82):
            self._cached = what == 0x02
            self.disk.write_through = not self._cached
            if not self._cached:
                # What was written before has to be durable, too.
                self._flush()
                return
        elif what in (0xAA, 0x55):
            self._ahead = what == 0xAA
        elif what not in (0x66, 0xCC, 0x05, 0x85):
            self.finish(ABRT)
            return
        self.finish()

    def _set_multiple(self) -> None:
        count = self.pair[COUNT][0]
        if count > identify.MULTIPLE_MOST or count & (count - 1):
            self.finish(ABRT)
            return
        self._multiple = count
        self.finish()

    def _set_geometry(self) -> None:
        per_track = self.pair[COUNT][0]
        if not per_track:
            self.finish(ABRT)
            return
        self._geometry = (self.device & 15) + 1, per_track
        self.finish()

    def _flush(self) -> None:
        self._busy()
        self.disk.submit(Operation.FLUSH, 0, 0, (), self._guarded(self._finished))

    def _finished(self, well: bool) -> None:
        self.finish(0 if well else ABRT)

    def _busy(self) -> None:
        self.status = DRDY | DSC | BSY

    def _guarded(self, then: Callable[[bool], None]) -> Callable[[bool], None]:
        """Return a function that does nothing if the drive was reset meanwhile."""
        generation = self.generation

        def call(well: bool) -> None:
            if generation == self.generation:
                then(well)

        return call

    def _native_max(self, *, extended: bool) -> None:
        last = self.disk.sectors - 1
        if not extended:
            last = min(last, _LBA_28_END - 1)
            self.device = self.device & 0xF0 | last >> 24 & 15
        for index, register in enumerate((LOW, MIDDLE, HIGH)):
            self.pair[register] = [last >> 8 * index & 0xFF, last >> 24 + 8 * index & 0xFF]
        self.finish()

    def _power_mode(self) -> None:
        self.pair[COUNT][0] = 0xFF
        self.finish()

    def _verify(self, *, extended: bool) -> None:
        self.finish(0 if self._place(extended) is not None else IDNF)

    def _smart(self) -> None:
        if (self.pair[MIDDLE][0], self.pair[HIGH][0]) != (_SMART_MIDDLE, _SMART_HIGH):
            self.finish(ABRT)
            return
        what = self.pair[FEATURES][0]
        if what in (0xD0, 0xD1):
            data = bytearray(SECTOR)
            data[0] = 1
            data[511] = -sum(data) & 0xFF
            self.offer(memoryview(data), self._end_quietly)
        elif what in (0xD2, 0xD8, 0xD9, 0xDA):
            # RETURN STATUS leaves the two registers alone: no threshold was passed.
            self.finish()
        else:
            self.finish(ABRT)

    def _trim(self) -> None:
        """DATA SET MANAGEMENT, whose ranges come by DMA."""
        if not self.pair[FEATURES][0] & _TRIM or self.disk.read_only:
            self.finish(ABRT)
            return
        blocks = self.pair[COUNT][1] << 8 | self.pair[COUNT][0]
        if not 0 < blocks <= 8:
            self.finish(ABRT)
            return
        self.await_dma(False, blocks * SECTOR)

    def _discard(self, data: bytes) -> None:
        """Discard all ranges; what lies outside the disk fails the command before any is touched."""
        ranges = [
            (word & (1 << _RANGE_COUNT_SHIFT) - 1, word >> _RANGE_COUNT_SHIFT) for (word,) in _RANGE.iter_unpack(data)
        ]
        ranges = [(first, count) for first, count in ranges if count]
        if any(first + count > self.disk.sectors for first, count in ranges):
            self.finish(IDNF)
            return
        left, well = len(ranges), True

        def one(ended: bool) -> None:
            nonlocal left, well
            left, well = left - 1, well and ended
            if not left:
                self.finish(0 if well else ABRT)

        self._busy()
        if not ranges:
            self.finish()
        for first, count in ranges:
            self.disk.submit(Operation.DISCARD, first * SECTOR, count * SECTOR, (), self._guarded(one))

    # -- transfers -----------------------------------------------------------------------------------------

    def _place(self, extended: bool) -> tuple[int, int] | None:
        """Return the first sector and how many; None where they are not on the disk."""
        count = self.pair[COUNT][0]
        count = self.pair[COUNT][1] << 8 | count or _FIRST_48 if extended else count or _FIRST_28
        if extended or self.device & LBA:
            first = self.lba(extended=extended)
        else:
            heads, per_track = self._geometry
            cylinder, sector = self.pair[HIGH][0] << 8 | self.pair[MIDDLE][0], self.pair[LOW][0]
            if not 0 < sector <= per_track or self.device & 15 >= heads:
                return None
            first = (cylinder * heads + (self.device & 15)) * per_track + sector - 1
        return (first, count) if first + count <= self.disk.sectors else None

    def _begin(self, transfer: _Transfer) -> None:
        place = self._place(transfer.extended)
        if transfer.multiple and not self._multiple:
            self.finish(ABRT)
        elif place is None:
            self.finish(IDNF)
        elif transfer.writes and self.disk.read_only:
            self.finish(ABRT)
        else:
            self._running = (transfer, *place)
            if transfer.dma:
                self.await_dma(not transfer.writes, place[1] * SECTOR)
            elif transfer.writes:
                self._want_block(interrupt=False)
            else:
                self._read_block()

    def _block(self) -> tuple[int, memoryview]:
        """Return where the next block of a transfer by the processor is, and room for it."""
        assert self._running is not None, "only while there is a transfer"
        transfer, first, count = self._running
        size = min(self._multiple if transfer.multiple else 1, count)
        self._running = transfer, first + size, count - size
        return first * SECTOR, memoryview(bytearray(size * SECTOR))

    def _has_more(self) -> bool:
        return self._running is not None and self._running[2] > 0

    def _read_block(self) -> None:
        if not self._has_more():
            self._end_quietly()
            return
        self._busy()
        offset, data = self._block()
        self.disk.submit(Operation.READ, offset, len(data), [data], self._guarded(partial(self._have_read, data)))

    def _have_read(self, data: memoryview, well: bool) -> None:
        if well:
            self.offer(data, self._read_block)
        else:
            self.finish(UNC)

    def _want_block(self, *, interrupt: bool) -> None:
        offset, data = self._block()
        self.want(data, partial(self._write_block, offset, data), interrupt=interrupt)

    def _write_block(self, offset: int, data: memoryview) -> None:
        self.disk.submit(Operation.WRITE, offset, len(data), [data], self._guarded(self._have_written))

    def _have_written(self, well: bool) -> None:
        if well and self._has_more():
            self._want_block(interrupt=True)
        else:
            self.finish(0 if well else ABRT)

    def dma_transfer(self, buffers: Sequence[memoryview], done: Callable[[bool], None]) -> None:
        self._busy()
        if self._running is None or not self._running[0].dma:
            data = b"".join(buffers)
            done(True)
            self._discard(data)
            return
        transfer, first, count = self._running
        self._running = None

        def ended(well: bool) -> None:
            done(well)
            self.finish(0 if well else ABRT if transfer.writes else UNC)

        operation = Operation.WRITE if transfer.writes else Operation.READ
        self.disk.submit(operation, first * SECTOR, count * SECTOR, buffers, self._guarded(ended))

    # -- saving --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        more = [int(self._cached), int(self._ahead), self._mode, self._multiple, *self._geometry]
        return super().save() | {"disk": more}

    def load(self, saved: dict[str, Any]) -> None:
        super().load(saved)
        cached, ahead, self._mode, self._multiple, heads, per_track = (int(each) for each in saved["disk"])
        self._cached, self._ahead, self._geometry = bool(cached), bool(ahead), (heads, per_track)
        self.disk.write_through = not self._cached


_METHODS: Final[dict[int, Callable[[AtaDrive], None]]] = {
    0x06: AtaDrive._trim,
    0x27: partial(AtaDrive._native_max, extended=True),
    0x40: partial(AtaDrive._verify, extended=False),
    0x41: partial(AtaDrive._verify, extended=False),
    0x42: partial(AtaDrive._verify, extended=True),
    0x91: AtaDrive._set_geometry,
    0x98: AtaDrive._power_mode,
    0xB0: AtaDrive._smart,
    0xC6: AtaDrive._set_multiple,
    0xE5: AtaDrive._power_mode,
    0xE7: AtaDrive._flush,
    0xEA: AtaDrive._flush,
    0xEC: AtaDrive._identify,
    0xEF: AtaDrive._set_features,
    0xF8: partial(AtaDrive._native_max, extended=False),
}
