"""A program that reads and writes ports and memory of devices as it is told, and tells what it has read.

The accesses are in the ROM, behind each other. For each one that reads, a line of eight digits is sent.
"""

from __future__ import annotations

import struct
from typing import Final

from tests.guests import modes
from tests.guests.drivers.driver import DIGITS, out

#: Where the accesses are in the ROM, which lies below 1 MiB: what it is, its size, the address, and the value.
_AT, _ROM = 0x4000, 0xF0000
_RECORD: Final = struct.Struct("<BBxxII")
_LEFT: Final = 0x600
#: Those that are told have odd numbers.
_PORT_WRITE, _PORT_READ, _WRITE, _READ, _WAIT = range(5)
_WAIT_FOR_WORD: Final = 6
_ALL: Final = 0xFFFFFFFF
_NAMES: Final = {1: ("al", "byte"), 2: ("ax", "word"), 4: ("eax", "dword")}


class Script:
    """Accesses, one after the other."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._count = 0
        #: What each of those is called that read, and which bits of it matter.
        self.reads: list[tuple[str, int]] = []

    def _add(self, kind: int, address: int, size: int, value: int = 0) -> None:
        self._records += _RECORD.pack(kind, size, address, value)
        self._count += 1

    def port_write(self, port: int, value: int, size: int = 1) -> None:
        self._add(_PORT_WRITE, port, size, value)

    def port_read(self, port: int, size: int = 1, mask: int = _ALL, name: str = "") -> None:
        self._add(_PORT_READ, port, size)
        self.reads.append((name or f"port {port:#x}", mask))

    def write(self, address: int, value: int, size: int = 4) -> None:
        self._add(_WRITE, address, size, value)

    def read(self, address: int, size: int = 4, mask: int = _ALL) -> None:
        self._add(_READ, address, size)
        self.reads.append((f"memory {address:#x}", mask))

    def wait(self, port: int, bits: int, value: int = 0) -> None:
        """Read a port until these bits of it have a value; if that is zero, four times for nothing before."""
        self._add(_WAIT, port, 1, bits | value << 8)

    def wait_for_word(self, address: int, value: int) -> None:
        """Read memory until its two bytes have a value."""
        self._add(_WAIT_FOR_WORD, address, 2, value)

    def config_write(self, function: int, register: int, value: int, size: int = 4) -> None:
        """Write a register of a PCI function, which is a slot and a number as in 1.3, so 0Bh."""
        self.port_write(0xCF8, 0x80000000 | function << 8 | register & 0xFC, 4)
        self.port_write(0xCFC + register % 4, value, size)

    def config_read(self, function: int, register: int, size: int = 4, mask: int = _ALL) -> None:
        """Read one."""
        self.port_write(0xCF8, 0x80000000 | function << 8 | register & 0xFC, 4)
        self.port_read(0xCFC + register % 4, size, mask, f"{function >> 3}.{function & 7} register {register:#x}")

    def found(self, said: str) -> list[tuple[str, int]]:
        """Return what the program told: what it read, and the bits of it that matter."""
        values = [int(line, 16) for line in said.splitlines()]
        return [(name, value & mask) for (name, mask), value in zip(self.reads, values, strict=True)]

    def rom(self) -> bytes:
        """Return a ROM that does all this, then leaves with 21h at port 501h."""
        image = bytearray(modes.build(_program(self._count), 32))
        assert len(self._records) <= 0xA000
        image[_AT : _AT + len(self._records)] = self._records
        return bytes(image)


def _by_size(lines: dict[int, str], number: int) -> str:
    """Return lines of which those for the size in the record are executed."""
    found = [
        f"mov bl, [esi + 1]\ncmp bl, {size}\njne other_{number}_{size}\n{text}\nother_{number}_{size}:\n"
        for size, text in lines.items()
    ]
    return "".join(found)


def _program(count: int) -> str:
    accesses = (
        {size: f"out dx, {register}" for size, (register, _) in _NAMES.items()},
        {size: f"in {register}, dx" for size, (register, _) in _NAMES.items()},
        {size: f"mov [edx], {register}" for size, (register, _) in _NAMES.items()},
        {size: f"mov {register}, [edx]" for size, (register, _) in _NAMES.items()},
    )
    kinds = "".join(
        f"""
        cmp cl, {kind}
        jne not_{kind}
        {_by_size(lines, kind)}
        not_{kind}:
        """
        for kind, lines in enumerate(accesses)
    )
    return f"""
        mov esi, {_ROM + _AT}
        mov dword [{_LEFT}], {count}
    access:
        mov cl, [esi]
        mov edx, [esi + 4]
        mov eax, [esi + 8]
        {kinds}
        cmp cl, {_WAIT_FOR_WORD}
        jne no_word
    word:
        mov bx, [edx]
        cmp bx, ax
        jne word
    no_word:
        cmp cl, {_WAIT}
        jne done
        mov ebx, eax
        cmp bh, 0
        jne wait
        in al, dx
        in al, dx
        in al, dx
        in al, dx
    wait:
        in al, dx
        and al, bl
        cmp al, bh
        jne wait
    done:
        test cl, 1
        je told
        mov ebx, eax
        mov ecx, 8
        call digits
        mov al, 10
        call send
    told:
        add esi, {_RECORD.size}
        dec dword [{_LEFT}]
        jne access
        {out(0x501, 0x21)}
        hlt

        {DIGITS}

    send:
        mov edx, 0x3f8
        out dx, al
        ret
    """
