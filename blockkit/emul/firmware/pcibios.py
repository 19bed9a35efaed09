"""INT 1Ah AH=B1h: configuration space of PCI functions (PCI BIOS Specification 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.emul.firmware.board import Board
    from blockkit.emul.firmware.frame import Frame

_ADDRESS, _DATA = 0xCF8, 0xCFC
_DONE, _ABSENT, _BAD_VENDOR, _NOT_FOUND, _BAD_REGISTER = 0x00, 0x81, 0x83, 0x86, 0x87
_SIGNATURE: Final = int.from_bytes(b"PCI ", "little")
_VERSION: Final = 0x0210


class PciBios:
    """The service, of bus 0.

    Args:
        board: Memory, ports and time.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def call(self, frame: Frame) -> None:
        """Do a service."""
        function = frame.al
        if self._read(0, 0, 4) == 0xFFFFFFFF:
            frame.fail(_ABSENT)
        elif function == 0x01:
            frame.edx, frame.al, frame.bx, frame.cl = _SIGNATURE, 1, _VERSION, 0
            frame.succeed(_DONE)
        elif function == 0x02 and frame.dx == 0xFFFF:
            frame.fail(_BAD_VENDOR)
        elif function == 0x02:
            self._find(frame, 0, 0xFFFFFFFF, frame.cx << 16 | frame.dx)
        elif function == 0x03:
            self._find(frame, 8, 0xFFFFFF00, frame.ecx << 8 & 0xFFFFFFFF)
        elif 0x08 <= function <= 0x0D:
            self._access(frame, 1 << (function - 8) % 3, function >= 0x0B)
        else:
            frame.fail(_ABSENT)

    def _select(self, devfn: int, register: int) -> int:
        self._board.output(_ADDRESS, 1 << 31 | devfn << 8 | register & 0xFC, 4)
        return _DATA + (register & 3)

    def _read(self, devfn: int, register: int, size: int) -> int:
        return self._board.input(self._select(devfn, register), size)

    def _functions(self) -> Iterator[int]:
        for slot in range(0, 256, 8):
            if self._read(slot, 0, 2) != 0xFFFF:
                yield from range(slot, slot + (8 if self._read(slot, 0x0E, 1) & 0x80 else 1))

    def _find(self, frame: Frame, register: int, mask: int, wanted: int) -> None:
        """Find the function number SI among those that are alike."""
        found = [devfn for devfn in self._functions() if self._read(devfn, register, 4) & mask == wanted]
        if frame.si < len(found):
            frame.bh, frame.bl = 0, found[frame.si]
            frame.succeed(_DONE)
        else:
            frame.fail(_NOT_FOUND)

    def _access(self, frame: Frame, size: int, writes: bool) -> None:
        register = frame.di
        if register > 0xFF or register % size:
            frame.fail(_BAD_REGISTER)
            return
        absent = frame.bh != 0
        if writes and not absent:
            self._board.output(self._select(frame.bl, register), frame.ecx & (1 << 8 * size) - 1, size)
        elif not writes:
            value = (1 << 8 * size) - 1 if absent else self._read(frame.bl, register, size)
            kept = frame.ecx & ~((1 << 8 * size) - 1)
            frame.ecx = kept | value
        frame.succeed(_DONE)
