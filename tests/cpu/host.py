"""Executing one instruction on the processor of this machine, as the oracle of those a program may use."""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct

#: Bytes of memory the instruction may use, at an address of the host's choice.
MEMORY = 4096

_SLOT = 15


def available() -> bool:
    """Whether this machine executes x86-64 code."""
    return platform.machine() == "x86_64"


def _move(opcode: int, register: int, offset: int) -> bytes:
    """Encode ``MOV [RDI + offset], register`` (89) or the reverse (8B)."""
    return bytes([0x48 | (register >> 3) << 2, opcode, 0x87 | (register & 7) << 3]) + struct.pack("<i", offset)


class Host:
    """A page of code that loads all registers, executes one instruction, and stores them all.

    RSP is the one of the caller: an instruction must neither use nor change it.

    Attributes:
        area: What FXRSTOR loads before and FXSAVE stores after the instruction, if that is wanted.
    """

    def __init__(self, *, vectors: bool = False) -> None:
        self.area = mmap.mmap(-1, 4096)
        area = struct.pack("<Q", ctypes.addressof(ctypes.c_char.from_buffer(self.area)))
        self._page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._context = (ctypes.c_uint64 * 17)()
        self._memory = mmap.mmap(-1, MEMORY)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        code = bytearray()
        code += bytes.fromhex("5355 4154 4155 4156 4157")  # PUSH RBX, RBP, R12 to R15
        if vectors:
            code += bytes.fromhex("48bf") + area + bytes.fromhex("0fae0f")  # MOV RDI, area; FXRSTOR [RDI]
        code += bytes.fromhex("48bf") + struct.pack("<Q", ctypes.addressof(self._context))  # MOV RDI, context
        code += bytes.fromhex("ffb7") + struct.pack("<i", 128) + b"\x9d"  # PUSH [RDI + 128]; POPF
        for register in range(16):
            if register not in (4, 7):
                code += _move(0x8B, register, register * 8)
        code += _move(0x8B, 7, 56)
        self._slot = len(code)
        code += b"\x90" * _SLOT
        # Moves touch no flag: RAX to the context, the context's address to RAX, all other registers there.
        code += bytes.fromhex("48a3") + struct.pack("<Q", ctypes.addressof(self._context))
        code += bytes.fromhex("48b8") + struct.pack("<Q", ctypes.addressof(self._context))
        for register in range(1, 16):
            if register != 4:
                code += bytes([0x48 | (register >> 3) << 2, 0x89, 0x80 | (register & 7) << 3])
                code += struct.pack("<i", register * 8)
        code += b"\x9c" + bytes.fromhex("8f80") + struct.pack("<i", 128)  # PUSHF; POP [RAX + 128]
        if vectors:
            # MOV RDI, area; FXSAVE [RDI]; FNINIT; LDMXCSR [RDI + 512]
            code += bytes.fromhex("48bf") + area + bytes.fromhex("0fae07 dbe3 0fae9700020000")
            struct.pack_into("<I", self.area, 512, 0x1F80)
        code += b"\xfc" + bytes.fromhex("415f 415e 415d 415c 5d5b c3")
        self._page[: len(code)] = bytes(code)
        self._call = ctypes.CFUNCTYPE(None)(self._base)

    def run(self, code: bytes, registers: list[int], flags: int, memory: bytes) -> tuple[list[int], int, bytes]:
        """Execute ``code``, which must not fault, and return all registers, RFLAGS and the memory afterwards."""
        assert len(code) <= _SLOT
        self._page[self._slot : self._slot + _SLOT] = code + b"\x90" * (_SLOT - len(code))
        self._context[:16] = registers
        self._context[16] = flags
        self._memory[:] = memory
        self._call()
        return list(self._context[:16]), self._context[16], self._memory[:]
