"""Floating-point instructions on the processor of this machine, many operands at a time."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 1 << 14


class HostFloats:
    """A page of code that applies one instruction to each pair of a list."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        words = ctypes.POINTER(ctypes.c_uint64)
        self._call = ctypes.CFUNCTYPE(None, words, words, words, ctypes.c_uint64, words)(base)
        self._first, self._second = (ctypes.c_uint64 * _MOST)(), (ctypes.c_uint64 * _MOST)()
        self._results = (ctypes.c_uint64 * (2 * _MOST))()
        self._controls = (ctypes.c_uint64 * 2)()

    def run(
        self, code: bytes, pairs: Sequence[tuple[int, int]], control: int, result: str = "xmm"
    ) -> list[tuple[int, int]]:
        """Return the result and MXCSR of each.

        Args:
            code: The instruction: XMM0 is its first operand, XMM1 its second; RAX the first too.
            pairs: The operands.
            control: MXCSR before each; all exceptions must be masked.
            result: Where the result is: ``xmm`` (XMM0), ``rax`` or ``flags``.
        """
        assert control & 0x1F80 == 0x1F80
        body = bytes.fromhex("410fae10")  # LDMXCSR [R8]
        body += bytes.fromhex(
            "f30f7e07 f30f7e0e 488b07".replace(" ", "")
        )  # MOVQ XMM0, [RDI]; MOVQ XMM1, [RSI]; MOV RAX
        body += code
        if result == "flags":
            body += bytes.fromhex("9c58")  # PUSHF; POP RAX
        body += bytes.fromhex("660fd602" if result == "xmm" else "488902")  # MOVQ [RDX], XMM0; MOV [RDX], RAX
        body += bytes.fromhex("0fae5a08")  # STMXCSR [RDX + 8]
        body += bytes.fromhex("4883c708 4883c608 4883c210 48ffc9".replace(" ", ""))
        body += b"\x0f\x85" + struct.pack("<i", -len(body) - 6)
        body += bytes.fromhex("410fae5008c3")  # LDMXCSR [R8 + 8]; RET
        self._page[: len(body)] = body
        assert len(pairs) <= _MOST
        self._controls[:] = (control, 0x1F80)
        self._first[: len(pairs)] = [pair[0] for pair in pairs]
        self._second[: len(pairs)] = [pair[1] for pair in pairs]
        self._call(self._first, self._second, self._results, len(pairs), self._controls)
        found = self._results[: 2 * len(pairs)]
        return [(value, flags & 0xFFFFFFFF) for value, flags in zip(found[::2], found[1::2], strict=True)]
