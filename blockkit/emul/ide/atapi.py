"""A CD-ROM drive: packets with commands of SCSI (ATA/ATAPI-6, 9.8 to 9.10; SFF-8020i; MMC-3)."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blockkit.emul.disk import Operation
from blockkit.emul.ide import identify
from blockkit.emul.ide.drive import ABRT, BSY, COUNT, DRDY, DSC, FEATURES, HIGH, MIDDLE, Drive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.emul.disk import Disk

SECTOR: Final = 2048
_PACKET: Final = 12
#: Interrupt reason (COUNT): a command is wanted, and data go to the host.
_COMMAND, _TO_HOST = 1, 2
_DMA: Final = 1
#: Bytes of data of one command at most, and of a block that the processor reads.
_MOST, _MOST_BLOCK = 32 << 20, 0xFFFE
_LEAD_OUT: Final = 0xAA


class Sense(NamedTuple):
    """Why a command failed: sense key, additional sense code and its qualifier (MMC-3, annex F)."""

    key: int
    code: int
    qualifier: int = 0


NOTHING: Final = Sense(0, 0)
NO_MEDIUM: Final = Sense(2, 0x3A)
UNREADABLE: Final = Sense(3, 0x11)
INVALID_COMMAND: Final = Sense(5, 0x20)
OUT_OF_RANGE: Final = Sense(5, 0x21)
INVALID_FIELD: Final = Sense(5, 0x24)
CHANGED: Final = Sense(6, 0x28)


class AtapiDrive(Drive):
    """A CD-ROM drive.

    Args:
        disk: The medium; None for none.
        model: Its model number.
    """

    signature = (0x14, 0xEB)

    def __init__(self, disk: Disk | None, model: str = "BLOCKKIT CD-ROM") -> None:
        self.disk, self._model = disk, model
        self._sense = CHANGED if disk is not None else NO_MEDIUM
        self._locked = False
        self._mode = 0
        self._keeps_sense = False
        self._left = memoryview(b"")
        self._running: tuple[int, int] | None = None
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._left, self._running = memoryview(b""), None
        # A packet device is not ready for commands of disks (9.12).
        self.status = 0

    def change(self, disk: Disk | None) -> None:
        """Put in another medium, or none."""
        self.disk = disk
        self._sense = CHANGED if disk is not None else NO_MEDIUM

    @property
    def sectors(self) -> int:
        """Sectors of the medium, the last of which may not be full."""
        return 0 if self.disk is None else -(-self.disk.node.size // SECTOR)

    # -- commands of ATA -----------------------------------------------------------------------------------

    def execute(self, command: int) -> None:
        if command == 0xA0:
            self._want_packet()
        elif command == 0xA1:
            data = identify.packet(serial="BK00000002", model=self._model, firmware="1.0", mode=self._mode)
            self.offer(memoryview(bytearray(data)), self._end_quietly)
        elif command == 0x08:
            self.reset()
        elif command == 0xEF and self.pair[FEATURES][0] == 0x03:
            kind, number = self.pair[COUNT][0] >> 3, self.pair[COUNT][0] & 7
            self._mode = {4: 1 << number if number < 3 else 0, 8: 1 << number + 3 if number < 6 else 0}.get(kind, 0)
            self.finish()
        elif command in (0xE0, 0xE1, 0xE2, 0xE3, 0xE5, 0xE6, 0xEF):
            self.finish()
        else:
            # IDENTIFY DEVICE and READ SECTORS leave the signature, by which drivers know this drive (9.12).
            self._set_signature()
            self.finish(ABRT)

    def _end_quietly(self) -> None:
        self.status = DRDY | DSC

    def _want_packet(self) -> None:
        self.pair[COUNT][0] = _COMMAND
        packet = memoryview(bytearray(_PACKET))
        self.want(packet, partial(self._packet, packet), interrupt=False)

    # -- packets -------------------------------------------------------------------------------------------

    def _packet(self, packet: memoryview) -> None:
        command = packet[0]
        # INQUIRY and events leave what the next command has to be told (SPC-2, 5.6).
        self._keeps_sense = command in _KEEP_SENSE
        if self._sense == CHANGED and command not in (0x03, 0x12, 0x4A):
            self._fail(CHANGED)
            return
        if self.disk is None and command in _NEED_MEDIUM:
            self._fail(NO_MEDIUM)
            return
        method = _METHODS.get(command)
        if method is None:
            self._fail(INVALID_COMMAND)
        else:
            method(self, bytes(packet))

    def _fail(self, sense: Sense) -> None:
        self._sense = sense
        self._end(sense)

    def _done(self) -> None:
        if not self._keeps_sense:
            self._sense = NOTHING
        self._end(NOTHING)

    def _end(self, sense: Sense) -> None:
        self.pair[COUNT][0] = _COMMAND | _TO_HOST
        self.finish(sense.key << 4 | (ABRT if sense.key == INVALID_COMMAND.key else 0) if sense.key else 0)

    def _answer(self, data: bytes, room: int) -> None:
        """Send data, as much as the host has room for."""
        data = data[:room]
        if not data:
            self._done()
        elif self.pair[FEATURES][0] & _DMA:
            self._left = memoryview(data)
            self.pair[COUNT][0] = _TO_HOST
            self.await_dma(True, len(data))
        else:
            self._left = memoryview(data)
            self._offer_block()

    def _limit(self) -> int:
        """Return how many bytes the host takes at once."""
        limit = self.pair[HIGH][0] << 8 | self.pair[MIDDLE][0]
        return min(limit & ~1, _MOST_BLOCK) or _MOST_BLOCK

    def _offer_block(self) -> None:
        """Let the processor read the next block of what is left, or end the command."""
        if not self._left:
            self._done()
            return
        size = min(self._limit(), len(self._left))
        block, self._left = self._left[:size], self._left[size:]
        self.pair[COUNT][0] = _TO_HOST
        self.pair[MIDDLE][0], self.pair[HIGH][0] = size & 0xFF, size >> 8
        self.offer(block, self._offer_block)

    def dma_transfer(self, buffers: Sequence[memoryview], done: Callable[[bool], None]) -> None:
        self.status = DRDY | DSC | BSY
        if self._running is not None and self.disk is not None:
            first, count = self._running
            self._running = None
            generation = self.generation

            def ended(well: bool) -> None:
                if generation == self.generation:
                    done(well)
                    self._done() if well else self._fail(UNREADABLE)

            self.disk.submit(Operation.READ, first * SECTOR, count * SECTOR, buffers, ended)
            return
        left, self._left = self._left, memoryview(b"")
        for each in buffers:
            each[:] = left[: len(each)]
            left = left[len(each) :]
        done(True)
        self._done()

    # -- commands of SCSI ----------------------------------------------------------------------------------

    def _test_ready(self, packet: bytes) -> None:
        self._done()

    def _request_sense(self, packet: bytes) -> None:
        key, code, qualifier = self._sense
        data = struct.pack(">BBBIBIBB", 0x70, 0, key, 0, 10, 0, code, qualifier).ljust(18, b"\0")
        self._answer(data, packet[4])

    def _inquire(self, packet: bytes) -> None:
        head = struct.pack(">BBBBBBBB", 5, 0x80, 0, 0x21, 31, 0, 0, 0)
        text = b"BLOCKKIT".ljust(8) + b"CD-ROM".ljust(16) + b"1.0".ljust(4)
        self._answer(head + text, packet[4])

    def _read_capacity(self, packet: bytes) -> None:
        self._answer(struct.pack(">II", self.sectors - 1, SECTOR), 8)

    def _read(self, packet: bytes, *, wide: bool) -> None:
        (first,) = struct.unpack_from(">I", packet, 2)
        (count,) = struct.unpack_from(">I" if wide else ">H", packet, 6 if wide else 7)
        if first + count > self.sectors:
            self._fail(OUT_OF_RANGE)
        elif count * SECTOR > _MOST:
            self._fail(INVALID_FIELD)
        elif not count:
            self._done()
        elif self.pair[FEATURES][0] & _DMA:
            self._running = first, count
            self.pair[COUNT][0] = _TO_HOST
            self.await_dma(True, count * SECTOR)
        else:
            assert self.disk is not None, "there are no sectors without"
            data, generation = memoryview(bytearray(count * SECTOR)), self.generation
            self.status = DRDY | DSC | BSY

            def ended(well: bool) -> None:
                if generation == self.generation:
                    if well:
                        self._answer(bytes(data), len(data))
                    else:
                        self._fail(UNREADABLE)

            self.disk.submit(Operation.READ, first * SECTOR, count * SECTOR, [data], ended)

    def _read_contents(self, packet: bytes) -> None:
        """READ TOC: one track of data, and the lead-out."""
        minutes, kind = bool(packet[1] & 2), packet[2] & 15 or packet[9] >> 6
        (room,) = struct.unpack_from(">H", packet, 7)

        def place(sector: int) -> bytes:
            if not minutes:
                return struct.pack(">I", sector)
            frames = sector + 150
            return bytes([0, frames // (75 * 60) & 0xFF, frames // 75 % 60, frames % 75])

        track = bytes([0, 0x14, 1, 0]) + place(0)
        end = bytes([0, 0x14, _LEAD_OUT, 0]) + place(self.sectors)
        if kind == 0:
            if packet[6] > 1 and packet[6] != _LEAD_OUT:
                self._fail(INVALID_FIELD)
                return
            body = b"\x01\x01" + (track if packet[6] <= 1 else b"") + end
        elif kind == 1:
            body = b"\x01\x01" + track
        elif kind == 2:
            points = [(0xA0, b"\x01\0\0"), (0xA1, b"\x01\0\0"), (0xA2, place(self.sectors)[1:]), (1, place(0)[1:])]
            body = b"\x01\x01" + b"".join(bytes([1, 0x14, 0, point, 0, 0, 0, 0]) + where for point, where in points)
        else:
            self._fail(INVALID_FIELD)
            return
        self._answer(struct.pack(">H", len(body)) + body, room)

    def _mode_sense(self, packet: bytes) -> None:
        (room,) = struct.unpack_from(">H", packet, 7)
        pages = {
            0x01: bytes([0x01, 6, 0, 5, 0, 0, 0, 0]),
            # Reads CD-R; locks, ejects; a tray.
            0x2A: bytes([0x2A, 18, 0x03, 0, 0, 0, 0x29 | (2 if self._locked else 0), 0])
            + struct.pack(">HHH", 706, 0, 64).ljust(12, b"\0"),
        }
        wanted = packet[2] & 0x3F
        if packet[2] >> 6 == 3 or (wanted not in pages and wanted != 0x3F):
            self._fail(INVALID_FIELD)
            return
        body = b"".join(pages.values()) if wanted == 0x3F else pages[wanted]
        self._answer(struct.pack(">HB5x", len(body) + 6, 0x01 if self.disk else 0x70) + body, room)

    def _start_stop(self, packet: bytes) -> None:
        if packet[4] & 3 == 2:
            if self._locked:
                self._fail(Sense(5, 0x53, 2))
                return
            self.change(None)
        self._done()

    def _prevent(self, packet: bytes) -> None:
        self._locked = bool(packet[4] & 1)
        self._done()

    def _configuration(self, packet: bytes) -> None:
        (room,) = struct.unpack_from(">H", packet, 7)
        profile = 0x0008 if self.disk else 0
        features = struct.pack(">HBBHBB", 0, 3, 4, 0x0008, 1 if self.disk else 0, 0)
        features += struct.pack(">HBBI", 1, 3, 4, 2)
        self._answer(struct.pack(">IHH", len(features) + 4, 0, profile) + features, room)

    def _event(self, packet: bytes) -> None:
        (room,) = struct.unpack_from(">H", packet, 7)
        if not packet[1] & 1:
            self._fail(INVALID_FIELD)
            return
        self._answer(struct.pack(">HBBBBBB", 6, 4, 0x10, 0, 2 if self.disk else 0, 0, 0), room)

    def _disc(self, packet: bytes) -> None:
        (room,) = struct.unpack_from(">H", packet, 7)
        self._answer(bytes([0, 32, 0x0E, 1, 1, 1, 1, 0x20]).ljust(34, b"\0"), room)

    # -- saving --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        return super().save() | {"cdrom": [*self._sense, int(self._locked), self._mode, int(self.disk is not None)]}

    def load(self, saved: dict[str, Any]) -> None:
        super().load(saved)
        key, code, qualifier, locked, self._mode, medium = (int(each) for each in saved["cdrom"])
        self._sense, self._locked = Sense(key, code, qualifier), bool(locked)
        if not medium:
            self.disk = None


_KEEP_SENSE: Final = frozenset((0x12, 0x46, 0x4A))
_NEED_MEDIUM: Final = frozenset((0x00, 0x25, 0x28, 0xA8, 0x43, 0x51))
_METHODS: Final[dict[int, Callable[[AtapiDrive, bytes], None]]] = {
    0x00: AtapiDrive._test_ready,
    0x03: AtapiDrive._request_sense,
    0x12: AtapiDrive._inquire,
    0x1B: AtapiDrive._start_stop,
    0x1E: AtapiDrive._prevent,
    0x25: AtapiDrive._read_capacity,
    0x28: partial(AtapiDrive._read, wide=False),
    0x43: AtapiDrive._read_contents,
    0x46: AtapiDrive._configuration,
    0x4A: AtapiDrive._event,
    0x51: AtapiDrive._disc,
    0x5A: AtapiDrive._mode_sense,
    0xA8: partial(AtapiDrive._read, wide=True),
}
