"""INT 13h: sectors of disks by cylinder, head and sector, or by number.

IBM PS/2 and PC BIOS Interface Technical Reference; Enhanced Disk Drive Specification 3.0; and for AH=4Bh "El Torito"
Bootable CD-ROM Format Specification 1.0.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blockkit.emul.disk import Operation
from blockkit.emul.firmware import board as at
from blockkit.emul.firmware.board import linear
from blockkit.emul.memory import GuestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blockkit.emul.disk import Disk
    from blockkit.emul.firmware.board import Board
    from blockkit.emul.firmware.frame import Frame
    from blockkit.emul.ide.atapi import AtapiDrive

#: Numbers of the first disk and of the first CD-ROM.
FIRST_DISK, FIRST_CD = 0x80, 0xE0
#: What is answered in AH.
DONE, INVALID, PROTECTED, NOT_FOUND, NO_MEDIUM, BAD = 0x00, 0x01, 0x03, 0x04, 0x31, 0x20
_PENDING: Final = -1
_SECTOR, _CD_SECTOR = 512, 2048
_SECTORS, _MOST_CYLINDERS = 63, 1024
#: Heads by which disks of so many sectors have no more than 1024 cylinders; more have 255.
_HEADS: Final = (16, 32, 64, 128)
_SIGNATURE, _ANSWER, _VERSION, _FIXED_ACCESS = 0x55AA, 0xAA55, 0x21, 0x0001
_PACKET, _LONG_PACKET, _FLAT = 16, 24, 0xFFFFFFFF
_PARAMETERS, _LONG_PARAMETERS = 26, 30
_REMOVABLE: Final = 0x74
_FIXED_KIND: Final = 0x03


class Geometry(NamedTuple):
    """How sectors are counted.

    Attributes:
        cylinders: From 1 to 1024.
        heads: Of each cylinder.
        sectors: Of each track.
    """

    cylinders: int
    heads: int
    sectors: int


def geometry(sectors: int) -> Geometry:
    """Return what a disk of so many sectors of 512 bytes is said to have (EDD 3.0, LBA assist)."""
    heads = next((each for each in _HEADS if sectors <= _MOST_CYLINDERS * each * _SECTORS), 255)
    return Geometry(max(1, min(sectors // (heads * _SECTORS), _MOST_CYLINDERS)), heads, _SECTORS)


def _usable(shape: Geometry) -> int:
    """Return how many cylinders programs are told of: the last is kept for diagnostics."""
    return max(shape.cylinders - 1, 1)


class Emulation(NamedTuple):
    """What was started from a CD-ROM, as AH=4Bh tells it.

    Attributes:
        sector: Where its image is, in sectors of 2048 bytes.
        segment: Where it was loaded to.
        sectors: How much, of 512 bytes each.
    """

    sector: int = 0
    segment: int = 0
    sectors: int = 0


class Disks:
    """The service.

    Args:
        board: Memory, ports and time.
        disks: The first is drive 80h.
        cds: Drives with media, which may be taken out; the first is drive E0h.
    """

    def __init__(self, board: Board, disks: Sequence[Disk], cds: Sequence[AtapiDrive]) -> None:
        self._board = board
        self._disks, self._cds = dict(enumerate(disks, FIRST_DISK)), dict(enumerate(cds, FIRST_CD))
        self._generation = 0
        self.reset()

    def reset(self) -> None:
        """Forget what is under way."""
        self._generation += 1
        #: What the request ended with, while its caller asks again.
        self.result = DONE
        self.emulation = Emulation()

    def set_up(self) -> None:
        """Tell how many there are."""
        self._board.poke(at.DISK_COUNT, 1, len(self._disks))

    # -- requests ------------------------------------------------------------------------------------------

    def begin(self, operation: Operation, drive: int, sector: int, count: int, address: int) -> None:
        """Begin to read or write sectors of a drive; :attr:`result` is negative until it has ended."""
        disk, size = self._disk(drive), self._sector(drive)
        length = count * size
        if disk is None:
            self.result = NO_MEDIUM
            return
        if sector + count > self._sectors(drive):
            self.result = NOT_FOUND
            return
        if operation is Operation.WRITE and disk.read_only:
            self.result = PROTECTED
            return
        try:
            view = self._board.memory.view(address, length)
        except GuestError:
            self.result = INVALID
            return
        self.result = _PENDING
        generation = self._generation

        def done(well: bool) -> None:
            if operation is Operation.READ:
                self._board.memory.wrote(address, length)
            if generation == self._generation:
                self.result = DONE if well else BAD

        disk.submit(operation, sector * size, length, [view], done)

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return self.result == _PENDING

    def _disk(self, drive: int) -> Disk | None:
        """Return what is in a drive."""
        return self._cds[drive].disk if drive in self._cds else self._disks[drive]

    def _sectors(self, drive: int) -> int:
        """Return how many sectors of its own size a drive has, the last of which may not be full."""
        disk = self._disk(drive)
        return 0 if disk is None else -(-disk.node.size // self._sector(drive))

    def _sector(self, drive: int) -> int:
        return _CD_SECTOR if drive >= FIRST_CD else _SECTOR

    # -- services ------------------------------------------------------------------------------------------

    def call(self, frame: Frame) -> None:
        """Do a service."""
        if frame.again:
            self._go_on(frame)
            return
        function, drive = frame.ah, frame.dl
        if drive not in self._disks and drive not in self._cds:
            self._refuse_drive(frame)
        elif function in (0x42, 0x43, 0x44, 0x48) and self._disk(drive) is None:
            self._end(frame, NO_MEDIUM)
        elif function in (0x00, 0x09, 0x0C, 0x0D, 0x10, 0x11, 0x14, 0x47):
            self._end(frame, DONE)
        elif function == 0x01:
            status = self._board.peek(at.DISK_STATUS, 1)
            self._end(frame, status)
        elif function in (0x02, 0x03, 0x04) and drive < FIRST_CD:
            self._access(frame)
        elif function in (0x42, 0x43, 0x44):
            self._access_by_packet(frame)
        elif function == 0x08 and drive < FIRST_CD:
            self._tell_geometry(frame)
        elif function == 0x15:
            self._tell_kind(frame)
        elif function == 0x41 and frame.bx == _SIGNATURE:
            frame.bx, frame.cx = _ANSWER, _FIXED_ACCESS
            frame.succeed(_VERSION)
        elif function == 0x48:
            self._tell_parameters(frame)
        elif function == 0x4B and drive >= FIRST_CD:
            self._tell_emulation(frame)
        else:
            self._end(frame, INVALID)

    def _end(self, frame: Frame, code: int) -> None:
        self._board.poke(at.DISK_STATUS, 1, code)
        if code:
            frame.fail(code)
        else:
            frame.succeed(code)

    def _refuse_drive(self, frame: Frame) -> None:
        """Answer for a drive that is not there; there are no diskettes."""
        if frame.ah == 0x15:
            frame.succeed(0)
        elif frame.ah == 0x08 and frame.dl < FIRST_DISK:
            frame.bx = frame.cx = frame.dx = frame.es = frame.di = 0
            frame.succeed(0)
        else:
            self._end(frame, INVALID)

    def _go_on(self, frame: Frame) -> None:
        """Look whether the request has ended."""
        if self.is_busy:
            frame.ask_again(halted=False)
            return
        if self.result:
            if frame.ah in (0x02, 0x03, 0x04):
                frame.al = 0
            else:
                self._board.poke(linear(frame.ds, frame.si) + 2, 2, 0)
        self._end(frame, self.result)

    def _begin(self, frame: Frame, operation: Operation, sector: int, count: int, address: int) -> None:
        self.begin(operation, frame.dl, sector, count, address)
        frame.ask_again(halted=False)

    def _access(self, frame: Frame) -> None:
        """Read, write or verify AL sectors from cylinder, head and sector on, at ES:BX."""
        disk = self._disks[frame.dl]
        shape = geometry(disk.sectors)
        cylinder, head, number = (frame.cl & 0xC0) << 2 | frame.ch, frame.dh, frame.cl & 0x3F
        if not frame.al or not number or number > shape.sectors or head >= shape.heads:
            self._end(frame, INVALID)
            return
        sector = (cylinder * shape.heads + head) * shape.sectors + number - 1
        if frame.ah == 0x04:
            self._end(frame, DONE if sector + frame.al <= disk.sectors else NOT_FOUND)
            return
        operation = Operation.READ if frame.ah == 0x02 else Operation.WRITE
        self._begin(frame, operation, sector, frame.al, linear(frame.es, frame.bx))

    def _access_by_packet(self, frame: Frame) -> None:
        """Read, write or verify what the packet at DS:SI tells."""
        packet = self._board.fetch(linear(frame.ds, frame.si), _LONG_PACKET)
        size, _, count, offset, segment, sector, flat = struct.unpack("<BBHHHQQ", packet)
        if size < _PACKET:
            self._end(frame, INVALID)
            return
        address = linear(segment, offset)
        if size >= _LONG_PACKET and segment << 16 | offset == _FLAT:
            address = flat
        if frame.ah == 0x44 or not count:
            there = sector + count <= self._sectors(frame.dl)
            self._end(frame, DONE if there else NOT_FOUND)
            return
        operation = Operation.READ if frame.ah == 0x42 else Operation.WRITE
        self._begin(frame, operation, sector, count, address)

    def _tell_geometry(self, frame: Frame) -> None:
        shape = geometry(self._disks[frame.dl].sectors)
        last = _usable(shape) - 1
        frame.ch, frame.cl = last & 0xFF, last >> 2 & 0xC0 | shape.sectors
        frame.dh, frame.dl, frame.al = shape.heads - 1, len(self._disks), 0
        self._end(frame, DONE)

    def _tell_kind(self, frame: Frame) -> None:
        disk = self._disk(frame.dl)
        shape = geometry(0 if disk is None else disk.sectors)
        sectors = _usable(shape) * shape.heads * shape.sectors
        frame.cx, frame.dx = sectors >> 16, sectors & 0xFFFF
        frame.succeed(_FIXED_KIND)

    def _tell_parameters(self, frame: Frame) -> None:
        board, address = self._board, linear(frame.ds, frame.si)
        room = board.peek(address, 2)
        if room < _PARAMETERS:
            self._end(frame, INVALID)
            return
        sectors, size = self._sectors(frame.dl), self._sector(frame.dl)
        is_cd = frame.dl >= FIRST_CD
        numbers = (0xFFFFFFFF,) * 3 if is_cd else (min(sectors // (16 * _SECTORS), 16383), 16, _SECTORS)
        length = _LONG_PARAMETERS if room >= _LONG_PARAMETERS else _PARAMETERS
        data = struct.pack("<HHIIIQHI", length, _REMOVABLE if is_cd else 0x02, *numbers, sectors, size, _FLAT)
        board.store(address, data[:length])
        self._end(frame, DONE)

    def _tell_emulation(self, frame: Frame) -> None:
        """Tell what was started; there is no pretended disk to be ended."""
        entry = self.emulation
        fields = (19, 0, frame.dl, 0, entry.sector, 0, 0, entry.segment, entry.sectors, 0, 0, 0)
        self._board.store(linear(frame.ds, frame.si), struct.pack("<BBBBIHHHHBBB", *fields))
        self._end(frame, DONE)

    # -- saving --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return what is to be saved, while no request is under way."""
        return {"result": self.result, "emulation": list(self.emulation)}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self._generation += 1
        self.result = int(saved["result"]) & 0xFF
        sector, segment, count = (int(each) for each in saved["emulation"])
        self.emulation = Emulation(sector & 0xFFFFFFFF, segment & 0xFFFF, count & 0xFFFF)
