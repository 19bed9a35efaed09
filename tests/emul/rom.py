"""Tiny guests: a ROM of 4 KiB whose code starts in real mode, assembled here from a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 4096
#: Where the ROM lies below 1 MiB, as a segment.
SEGMENT = 0xFF00
SERIAL, EXIT, RESET = 0x3F8, 0x501, 0xCF9


class Rom:
    """Code of 16 bits, one instruction after another; jumps go to labels."""

    def __init__(self) -> None:
        self.code = bytearray()
        self.labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def raw(self, text: str) -> Rom:
        """Add bytes as hexadecimal numbers."""
        self.code += bytes.fromhex(text)
        return self

    def label(self, name: str) -> Rom:
        self.labels[name] = len(self.code)
        return self

    def jump(self, opcode: str, name: str) -> Rom:
        """Add a short jump: ``eb`` always, ``74`` if zero, ``75`` if not, ``e2`` LOOP."""
        self.raw(opcode)
        self._jumps.append((len(self.code), name))
        return self.raw("00")

    def out(self, port: int, value: int) -> Rom:
        """MOV DX, port; MOV AL, value; OUT DX, AL."""
        return self.raw(f"ba{port.to_bytes(2, 'little').hex()}b0{value:02x}ee")

    def say(self, text: str) -> Rom:
        for byte in text.encode():
            self.out(SERIAL, byte)
        return self

    def exit(self, code: int) -> Rom:
        return self.out(EXIT, code).raw("f4")

    def build(self) -> bytes:
        code = bytearray(self.code)
        for at, name in self._jumps:
            distance = self.labels[name] - at - 1
            assert -128 <= distance < 128, name
            code[at] = distance & 0xFF
        assert len(code) <= SIZE - 16
        # JMP FF00:0000 at the reset vector.
        vector = bytes.fromhex(f"ea0000{SEGMENT.to_bytes(2, 'little').hex()}")
        return bytes(code).ljust(SIZE - 16, b"\xf4") + vector.ljust(16, b"\0")

    def write(self, path: Path) -> str:
        path.write_bytes(self.build())
        return str(path)


def echo() -> Rom:
    """Say ``hello``, then send back what comes in; ``q`` ends with code 5 (exit code 11)."""
    rom = Rom().say("hello\n").label("wait").raw("bafd03eca801").jump("74", "wait")
    rom.raw("baf803ecee3c71").jump("75", "wait")
    return rom.exit(5)


def sleeper() -> Rom:
    """Wait in HLT for bytes by interrupts, and send each back; ``q`` ends with code 1."""
    rom = Rom().raw("31c08ed88ed0bc007c")  # XOR AX, AX; MOV DS, AX; MOV SS, AX; MOV SP, 7C00h
    rom.raw("c7063000").raw("0000").raw(f"c7063200{SEGMENT.to_bytes(2, 'little').hex()}")  # vector 0Ch
    place = len(rom.code) - 8
    for port, value in (
        (0x20, 0x11),
        (0x21, 0x08),
        (0x21, 0x04),
        (0x21, 0x01),
        (0x21, 0xEF),
        (0x3FC, 0x08),
        (0x3F9, 1),
    ):
        rom.out(port, value)
    rom.say("ready\n").raw("fb").label("sleep").raw("f4").jump("eb", "sleep")
    rom.code[place : place + 2] = len(rom.code).to_bytes(2, "little")
    rom.label("more").raw("baf803ecee3c71").jump("74", "end").raw("bafd03eca801").jump("75", "more")
    return rom.out(0x20, 0x20).raw("cf").label("end").exit(1)
