"""A channel: a cable with up to two drives, its registers, and the half of the bus master that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.ide.drive import BSY, COMMAND, DATA, DEV, DEVICE, DIAGNOSTIC, NIEN, SRST, Drive
from blockkit.emul.memory import GuestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.emul.lines import Line
    from blockkit.emul.memory import GuestMemory

#: Bus master (Bus Master IDE 1.0, 2.0): start, and to memory; active, error, interrupt, and what drives can do, which
#: is kept for drivers, and says yes at first, as firmware has it.
_START, _TO_MEMORY = 0x01, 0x08
_ACTIVE, _ERROR, _INTERRUPT, _CAPABLE = 0x01, 0x02, 0x04, 0x60
_LAST: Final = 1 << 31
_ENTRY: Final = 8
_LARGEST: Final = 0x10000
#: Entries of a table that are read at most: a table is in 64 KiB.
_MOST_ENTRIES: Final = 8192


class Channel:
    """A channel.

    Args:
        memory: Where the bus master works.
        line: Its interrupt.
        drives: The master and the slave; None where there is none.
        may_master: Whether the function may access memory.
    """

    def __init__(
        self, memory: GuestMemory, line: Line, drives: Sequence[Drive | None], may_master: Callable[[], bool]
    ) -> None:
        self._memory, self._line, self._may_master = memory, line, may_master
        self.drives = list(drives)
        self._second = False
        self._control = 0
        self._master_command, self._master_status, self._table = 0, _CAPABLE, 0
        self._was_high = False
        for drive in self.drives:
            if drive is not None:
                drive.line, drive.needs_dma = self._update, self._try_dma

    def reset(self) -> None:
        """Become as after RST#."""
        self._second = False
        self._control = 0
        self._master_command, self._master_status, self._table = 0, _CAPABLE, 0
        for drive in self.drives:
            if drive is not None:
                drive.reset()
        self._update()

    @property
    def _selected(self) -> Drive | None:
        return self.drives[1 if self._second else 0]

    def _update(self) -> None:
        """Drive the interrupt, which the bus master's status remembers."""
        drive = self._selected
        high = drive is not None and drive.interrupt and not self._control & NIEN
        if high and not self._was_high:
            self._master_status |= _INTERRUPT
        self._was_high = high
        self._line.set(high)

    # -- the command block ---------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Read the command block; a cable without drives floats, and a slave that is not there is not ready."""
        drive = self._selected
        if drive is None:
            return 0 if any(self.drives) else (1 << 8 * size) - 1 & ~0x80
        if offset == DATA:
            return drive.read_data(size)
        return drive.read(offset)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write it: all but data and commands go to both drives."""
        drive = self._selected
        if offset == DATA:
            if drive is not None:
                drive.write_data(size, value)
            return
        value &= 0xFF
        if offset == COMMAND:
            self._command(value)
            return
        if offset == DEVICE:
            self._second = bool(value & DEV)
        for each in self.drives:
            if each is not None:
                each.write(offset, value)
        if offset == DEVICE:
            self._update()

    def _command(self, command: int) -> None:
        if command == DIAGNOSTIC:
            for each in self.drives:
                if each is not None:
                    each.diagnose()
            self._second = False
            first = self.drives[0]
            if first is not None:
                first.device = 0
                first.set_interrupt(True)
        elif self._selected is not None:
            self._selected.start(command)

    # -- the control block ---------------------------------------------------------------------------------

    def read_control(self, offset: int, size: int) -> int:
        """Read the alternate status, which leaves the interrupt alone."""
        drive = self._selected
        if drive is None:
            return 0 if any(self.drives) else 0x7F
        return BSY if self._control & SRST else drive.status

    def write_control(self, offset: int, size: int, value: int) -> None:
        """Write the device control register."""
        before, self._control = self._control, value & 0xFF
        for drive in self.drives:
            if drive is not None:
                if self._control & SRST and not before & SRST:
                    drive.reset()
                drive.control = self._control
        if self._control & SRST:
            self._second = False
        self._update()

    # -- the bus master ------------------------------------------------------------------------------------

    def read_master(self, offset: int, size: int) -> int:
        """Read the channel's eight ports of the bus master."""
        data = bytes([self._master_command, 0, self._master_status, 0]) + self._table.to_bytes(4, "little")
        return int.from_bytes(data[offset : offset + size].ljust(size, b"\0"), "little")

    def write_master(self, offset: int, size: int, value: int) -> None:
        """Write them."""
        for at, byte in enumerate(value.to_bytes(size, "little"), offset):
            if at == 0:
                self._start_master(byte)
            elif at == 2:
                kept = self._master_status & ~(byte & (_ERROR | _INTERRUPT)) & ~_CAPABLE
                self._master_status = kept | byte & _CAPABLE
            elif 4 <= at < 8:
                shift = 8 * (at - 4)
                self._table = (self._table & ~(0xFF << shift) | byte << shift) & ~3

    def _start_master(self, value: int) -> None:
        before, self._master_command = self._master_command, value & (_START | _TO_MEMORY)
        if value & _START and not before & _START:
            self._master_status |= _ACTIVE
            self._try_dma()
        elif not value & _START:
            self._master_status &= ~_ACTIVE

    def _try_dma(self) -> None:
        """Transfer, if both the drive and the bus master are ready."""
        drive = self._selected
        if drive is None or drive.dma is None or not self._master_command & _START:
            return
        if not self._master_status & _ACTIVE or not self._may_master():
            return
        to_memory, length = drive.dma
        try:
            areas, behind = self._areas(length)
            if to_memory is not bool(self._master_command & _TO_MEMORY):
                raise GuestError("the bus master goes the other way than the command")
        except GuestError:
            self._master_status = self._master_status & ~_ACTIVE | _ERROR
            drive.dma = None
            drive.finish(0x04)
            return
        if behind < 0:
            # A table that is shorter than the transfer ends the bus master without an error, and the drive waits (3.1).
            self._master_status &= ~_ACTIVE
            return
        drive.dma = None

        def done(well: bool) -> None:
            if to_memory:
                for address, view in areas:
                    self._memory.wrote(address, len(view))
            # A table that is longer than the transfer leaves the bus master active (3.1).
            self._master_status &= ~_ACTIVE if not behind else ~0
            self._master_status |= 0 if well else _ERROR

        drive.dma_transfer([view for _, view in areas], done)
        if to_memory:
            # What is read is there at once, and stays there if the drive is reset before it says so.
            for address, view in areas:
                self._memory.wrote(address, len(view))

    def _areas(self, length: int) -> tuple[list[tuple[int, memoryview]], int]:
        """Return the areas of memory that the table describes, cut to a length.

        Returns:
            The areas, and whether the table ends with them: 0, or 1 if it goes on, or -1 if it is too short.

        Raises:
            GuestError: not all of it is RAM.
        """
        found: list[tuple[int, memoryview]] = []
        at = self._table
        for _ in range(_MOST_ENTRIES):
            entry = self._memory.view(at, _ENTRY)
            address = int.from_bytes(entry[:4], "little") & ~1
            words = int.from_bytes(entry[4:], "little")
            size = words & 0xFFFE or _LARGEST
            last = bool(words & _LAST)
            part = min(size, length)
            found.append((address, self._memory.view(address, part)))
            length -= part
            if not length:
                return found, 0 if last and part == size else 1
            if last:
                break
            at += _ENTRY
        return found, -1

    # -- saving --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return the state, with that of the drives."""
        master = [self._master_command, self._master_status, self._table]
        drives = [None if drive is None else drive.save() for drive in self.drives]
        return {"second": self._second, "control": self._control, "master": master, "drives": drives}

    def load(self, saved: dict[str, Any]) -> None:
        """Take it back."""
        self._second, self._control = bool(saved["second"]), int(saved["control"]) & 0xFF
        for drive, state in zip(self.drives, saved["drives"], strict=True):
            if drive is not None:
                drive.load(state)
        self._was_high = True
        self._master_command, self._master_status, self._table = (int(each) & 0xFFFFFFFF for each in saved["master"])
        self._update()
