"""The registers of whoever called a service, as the ROM's stub has put them on the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from blockkit.emul.memory import GuestMemory

#: Bytes that the stub and the interrupt push.
SIZE: Final = 44
_CARRY, _ZERO = 0x0001, 0x0040


class _Register:
    """A register, or a part of one, at an offset of the frame."""

    def __init__(self, offset: int, size: int) -> None:
        self._offset, self._size = offset, size

    def __get__(self, frame: Frame | None, owner: type[Frame]) -> int:
        assert frame is not None
        return int.from_bytes(frame.bytes[self._offset : self._offset + self._size], "little")

    def __set__(self, frame: Frame, value: int) -> None:
        mask = (1 << 8 * self._size) - 1
        frame.bytes[self._offset : self._offset + self._size] = (value & mask).to_bytes(self._size, "little")


class Frame:
    """What a service is asked, and what it answers: it writes registers, which the stub then takes back.

    Args:
        memory: RAM.
        segment: Of the stack.
        pointer: Where on the stack the frame begins.

    Raises:
        GuestError: the stack is not in RAM.
    """

    es, ds = _Register(0, 2), _Register(2, 2)
    edi, esi, ebp = _Register(4, 4), _Register(8, 4), _Register(12, 4)
    ebx, edx, ecx, eax = _Register(20, 4), _Register(24, 4), _Register(28, 4), _Register(32, 4)
    di, si, bp = _Register(4, 2), _Register(8, 2), _Register(12, 2)
    bx, dx, cx, ax = _Register(20, 2), _Register(24, 2), _Register(28, 2), _Register(32, 2)
    bl, bh, dl, dh = _Register(20, 1), _Register(21, 1), _Register(24, 1), _Register(25, 1)
    cl, ch, al, ah = _Register(28, 1), _Register(29, 1), _Register(32, 1), _Register(33, 1)
    vector, _again = _Register(36, 1), _Register(37, 1)
    ip, cs, flags = _Register(38, 2), _Register(40, 2), _Register(42, 2)

    def __init__(self, memory: GuestMemory, segment: int, pointer: int) -> None:
        self.bytes = memory.view((segment << 4) + pointer, SIZE)
        #: Whether the stub has called before, and was told to call again.
        self.again = self._again == 1
        #: What the stub does next: return (0), halt and call again (1), or call again at once (2).
        self.next = 0

    def succeed(self, code: int | None = None) -> None:
        """Answer that all went well, by the carry flag, and in AH if there is a code."""
        self.flags &= ~_CARRY
        if code is not None:
            self.ah = code

    def fail(self, code: int | None = None) -> None:
        """Answer that it did not."""
        self.flags |= _CARRY
        if code is not None:
            self.ah = code

    def set_zero(self, value: bool) -> None:
        """Answer by the zero flag."""
        self.flags = self.flags | _ZERO if value else self.flags & ~_ZERO

    def ask_again(self, *, halted: bool = True) -> None:
        """Have the service called again: after the next interrupt, or as soon as may be."""
        self.next = 1 if halted else 2
        self._again = 1
