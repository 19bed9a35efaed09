"""x87 instructions on the processor of this machine, many states at a time."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST: Final = 4096
_RECORD: Final = 128
_OPERAND: Final = 112


class Stack(NamedTuple):
    """What an instruction of the x87 starts from or leaves.

    Attributes:
        control: The control word.
        status: The status word.
        empty: A bit for each register, by its own number, that is empty.
        registers: Words and mantissas of ST(0) to ST(7).
        operand: 16 bytes of memory.
        flags: RFLAGS.
    """

    control: int
    status: int
    empty: int
    registers: tuple[tuple[int, int], ...]
    operand: bytes = bytes(16)
    flags: int = 2

    def image(self) -> bytes:
        """Return it as FRSTOR takes it in 64-bit mode."""
        tags = sum(3 << 2 * n for n in range(8) if self.empty >> n & 1)
        words = self.control, self.status, tags, 0, 0, 0, 0
        data = b"".join(struct.pack("<QH", mantissa, word) for word, mantissa in self.registers)
        return struct.pack("<7I", *words) + data + struct.pack("<I", self.flags) + self.operand


class HostStack:
    """A page of code that runs one instruction from each of a list of states."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)(
            ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        )
        self._given, self._found = mmap.mmap(-1, _MOST * _RECORD), mmap.mmap(-1, _MOST * _RECORD)
        self._places = [ctypes.addressof(ctypes.c_char.from_buffer(each)) for each in (self._given, self._found)]

    def run(self, code: bytes, stacks: Sequence[Stack]) -> list[Stack]:
        """Return what each leaves; an operand in memory is at ``[RDI + 112]``."""
        body = bytes.fromhex("dd27 ff776c 9d".replace(" ", ""))  # FRSTOR [RDI]; PUSH [RDI + 108]; POPF
        body += code
        body += bytes.fromhex("9c58 dd36 89466c".replace(" ", ""))  # PUSHF; POP RAX; FNSAVE [RSI]; MOV [RSI + 108]
        body += bytes.fromhex("f30f6f4770 f30f7f4670".replace(" ", ""))  # MOVDQU from one to the other
        body += bytes.fromhex("4883ef80 4883ee80 48ffca".replace(" ", ""))
        body += b"\x0f\x85" + struct.pack("<i", -len(body) - 6)
        body += bytes.fromhex("dbe3fcc3")
        self._page[: len(body)] = body
        assert 0 < len(stacks) <= _MOST
        self._given[: len(stacks) * _RECORD] = b"".join(each.image() for each in stacks)
        self._call(*self._places, len(stacks))
        return [_parse(self._found[n * _RECORD : (n + 1) * _RECORD]) for n in range(len(stacks))]


def _parse(image: bytes) -> Stack:
    control, status, tags = (each & 0xFFFF for each in struct.unpack_from("<3I", image))
    pairs = tuple(struct.unpack_from("<QH", image, 28 + 10 * n)[::-1] for n in range(8))
    empty = sum(1 << n for n in range(8) if tags >> 2 * n & 3 == 3)
    return Stack(control, status, empty, pairs, image[_OPERAND:], struct.unpack_from("<I", image, 108)[0])
