"""INT 11h, 12h and 15h: memory, A20, waiting, and what a machine is.

IBM PS/2 and PC BIOS Interface Technical Reference; ACPI 6.5, 15.1, for E820h.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.emul.firmware import board as at
from blockkit.emul.firmware.board import Board, linear
from blockkit.emul.firmware.rom import SEGMENT
from blockkit.emul.memory import GuestError

if TYPE_CHECKING:
    from blockkit.emul.firmware.frame import Frame
    from blockkit.emul.memory import GuestMemory

_ABSENT: Final = 0x86
_SMAP: Final = 0x534D4150
_PORT_92, _A20 = 0x92, 0x02
_CONVENTIONAL, _MEGABYTE, _SIXTEEN = 640 << 10, 1 << 20, 16 << 20
#: Types of E820h.
RAM, RESERVED = 1, 2
_ROM_BEGIN: Final = 0xE0000
#: Nanoseconds in which the timer surely interrupts once, if it may: port 21h has no 1 for it.
_TICK: Final = 55_000_000
_MASKS, _TIMER = 0x21, 0x01


class Range(NamedTuple):
    """A piece of the memory map.

    Attributes:
        address: Where it begins.
        length: Bytes.
        kind: RAM or RESERVED.
    """

    address: int
    length: int
    kind: int


def memory_map(memory: GuestMemory) -> list[Range]:
    """Return what an operating system may use, and what it may not, in order."""
    usable = [Range(address, length, RAM) for address, length in memory.usable()]
    end = usable[0].address + usable[0].length
    reserved = [Range(end, _CONVENTIONAL - end, RESERVED), Range(_ROM_BEGIN, _MEGABYTE - _ROM_BEGIN, RESERVED)]
    return sorted(usable + reserved)


class System:
    """The services.

    Args:
        board: Memory, ports and time.
        configuration: Where in ROM the table of the configuration is.
    """

    def __init__(self, board: Board, configuration: int) -> None:
        self._board, self._configuration = board, configuration
        self._map = memory_map(board.memory)
        self.reset()

    def reset(self) -> None:
        """Forget a wait."""
        #: When the wait that is going on ends.
        self.waits_until = 0

    def tell_equipment(self, frame: Frame) -> None:
        """INT 11h."""
        frame.ax = self._board.peek(at.EQUIPMENT, 2)

    def tell_size(self, frame: Frame) -> None:
        """INT 12h: KiB below the extended data area."""
        frame.ax = self._board.peek(at.MEMORY_SIZE, 2)

    def call(self, frame: Frame) -> None:
        """INT 15h."""
        service = {
            0x24: self._a20,
            0x4F: self._intercept,
            0x86: self._wait,
            0x87: self._copy,
            0x88: self._extended_size,
            0x90: self._nothing,
            0x91: self._nothing,
            0xC0: self._tell_configuration,
            0xC1: self._tell_ebda,
            0xE8: self._sizes,
        }.get(frame.ah)
        if service is None:
            frame.fail(_ABSENT)
        else:
            service(frame)

    def _nothing(self, frame: Frame) -> None:
        """A device is busy, or no longer: nothing else is to be done meanwhile."""
        frame.succeed(0)

    def _intercept(self, frame: Frame) -> None:
        """Let a key be what it is."""
        frame.fail()

    def _a20(self, frame: Frame) -> None:
        board, function = self._board, frame.al
        held = board.input(_PORT_92)
        if function in (0, 1):
            board.output(_PORT_92, held & ~(_A20 | 1) | (_A20 if function else 0))
        elif function == 2:
            frame.al = 1 if held & _A20 else 0
        elif function == 3:
            frame.bx = 0x0003  # by the keyboard controller, and by port 92h
        else:
            frame.fail(_ABSENT)
            return
        frame.succeed(0)

    # -- waiting -------------------------------------------------------------------------------------------

    def _wait(self, frame: Frame) -> None:
        """Wait for CX:DX microseconds: halted while the timer will interrupt in time."""
        board = self._board
        if not frame.again:
            self.waits_until = board.clock.now() + (frame.cx << 16 | frame.dx) * 1000
        left = self.waits_until - board.clock.now()
        if left > 0:
            frame.ask_again(halted=left > _TICK and not board.input(_MASKS) & _TIMER)
        else:
            frame.succeed(0)

    # -- memory --------------------------------------------------------------------------------------------

    def _copy(self, frame: Frame) -> None:
        """Copy CX words between addresses that descriptors tell, which real mode does not reach."""
        board, table, length = self._board, linear(frame.es, frame.si), 2 * frame.cx
        if length > 0x10000:
            frame.fail(0x02)
            return
        source, target = self._base(table + 0x10), self._base(table + 0x18)
        try:
            board.memory.write(target, board.memory.read(source, length))
        except GuestError:
            frame.fail(0x02)
            return
        frame.succeed(0)

    def _base(self, descriptor: int) -> int:
        """Return the base address in a descriptor of a segment."""
        low, high = self._board.peek(descriptor + 2, 4), self._board.peek(descriptor + 7, 1)
        return low & 0xFFFFFF | high << 24

    def _above(self, start: int) -> int:
        """Return how many bytes of RAM lie from ``start`` on in one piece."""
        for each in self._map:
            if each.kind == RAM and each.address <= start < each.address + each.length:
                return each.address + each.length - start
        return 0

    def _extended_size(self, frame: Frame) -> None:
        frame.ax = min(self._above(_MEGABYTE) >> 10, 0xFFFF)
        frame.succeed()

    def _sizes(self, frame: Frame) -> None:
        if frame.al == 0x01:
            frame.ax = frame.cx = min(self._above(_MEGABYTE), 15 << 20) >> 10
            frame.bx = frame.dx = min(self._above(_SIXTEEN) >> 16, 0xFFFF)
            frame.succeed()
        elif frame.al == 0x20 and frame.edx == _SMAP and frame.ecx >= 20:
            self._tell_range(frame)
        else:
            frame.fail(_ABSENT)

    def _tell_range(self, frame: Frame) -> None:
        ranges, index = self._map, frame.ebx
        if index >= len(ranges):
            frame.fail(_ABSENT)
            return
        if not self._board.store(linear(frame.es, frame.di), struct.pack("<QQI", *ranges[index])):
            frame.fail(_ABSENT)
            return
        frame.eax, frame.ecx = _SMAP, 20
        frame.ebx = index + 1 if index + 1 < len(ranges) else 0
        frame.succeed()

    # -- what it is ----------------------------------------------------------------------------------------

    def _tell_configuration(self, frame: Frame) -> None:
        frame.es, frame.bx = SEGMENT, self._configuration
        frame.succeed(0)

    def _tell_ebda(self, frame: Frame) -> None:
        frame.es = self._board.peek(at.EBDA, 2)
        frame.succeed()
