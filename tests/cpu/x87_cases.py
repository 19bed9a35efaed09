"""States of the x87 to start from, and our processor as what runs from them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from tests.cpu.machine import LongBoard
from tests.cpu.stacks import Stack

if TYPE_CHECKING:
    import random

DATA: Final = 0x20000
#: Where the operand in memory is, from RDI.
OPERAND: Final = 0x70


def _number(chance: random.Random) -> tuple[int, int]:
    """Return the word and the mantissa of a number in which there is often something to see."""
    kind = chance.randrange(12)
    sign = chance.getrandbits(1) << 15
    mantissa = chance.getrandbits(64) | 1 << 63
    if chance.randrange(3) == 0:
        mantissa = mantissa & -1 << chance.randrange(64) | 1 << 63
    if chance.randrange(6) == 0:
        mantissa |= (1 << 64) - (1 << chance.randrange(1, 64))
    if kind == 0:
        special = (0, 1 << 63, 3 << 62, 1 << 62, 1, (1 << 63) - 1, (1 << 64) - 1, mantissa, mantissa >> 1)
        return sign | chance.choice((0, 0x7FFF)), chance.choice(special)
    if kind == 1:
        return sign | chance.randrange(0x8000), mantissa
    if kind == 2:
        return sign | chance.choice((1, 0x7FFE, 0x3FFF)), mantissa >> (chance.randrange(4) == 0)
    if kind == 3:
        return sign | chance.choice((0x2000, 0x1FFF, 0x6000, 0x3FBF, 0x403F)) + chance.randrange(-3, 4), mantissa
    if kind == 4:
        return sign | chance.choice((1, 2, 3, 40, 64, 65, 0x7FFD, 0x7FF0, 0x7FC0)), mantissa
    if kind == 5:
        return sign, mantissa >> chance.randrange(1, 64)
    if kind == 6:
        edges = (-127, -126, -149, -150, -1023, -1022, -1074, -1075, 127, 128, 1023, 1024, 15, 31, 63, 30, 62)
        return sign | 0x3FFF + chance.choice(edges), mantissa
    return sign | 0x3FFF + chance.randrange(-70, 70), mantissa


def an_operand(chance: random.Random) -> bytes:
    """Return an operand in memory: floats, integers, digits."""
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(16)
    if kind == 1:
        value = chance.choice((0, 1, 0x7F800000, 0x7F800001, 0x7FC00000, 0xFF923456, 0x800001, 0x7FFFFF, 0x80000000))
        return struct.pack("<QQ", value, chance.getrandbits(16))
    if kind == 2:
        value = chance.choice((0, 1, 0x7FF, 0x7FF << 52, (0x7FF << 52) + 1, 0x7FF8 << 48, (1 << 52) - 1, 1 << 63))
        return struct.pack("<QQ", value, chance.getrandbits(16))
    digits = "".join(chance.choice("0123456789") for _ in range(18))
    return bytes.fromhex(digits) + struct.pack("<Q", chance.choice((0, 128)))[:7]


def a_stack(chance: random.Random) -> Stack:
    masks = 0x3F if chance.randrange(3) else chance.getrandbits(6)
    control = chance.randrange(4) << 10 | chance.choice((0, 2, 3, 3)) << 8 | 0x40 | masks
    top = chance.randrange(8)
    free = 1 << (top + 7 & 7)
    empty = chance.choice((0, free, free, chance.getrandbits(8)))
    numbers = [_number(chance) for _ in range(8)]
    alike = chance.randrange(12)
    if alike < 3:
        word, mantissa = numbers[0]
        numbers[1] = ((word, mantissa), (word ^ 0x8000, mantissa), (word, mantissa ^ 1))[alike]
    status = top << 11 | chance.getrandbits(3) << 8 | chance.getrandbits(1) << 14
    flags = 2 | chance.getrandbits(12) & state.ARITHMETIC
    return Stack(control, status, empty, tuple(numbers), an_operand(chance), flags)


class Ours:
    """Our processor in 64-bit mode, before one instruction."""

    def __init__(self, code: str) -> None:
        self._code = bytes.fromhex(code)
        self._board = LongBoard(DATA)
        self.cpu = self._board.begin(bytes(4096), self._code, [0] * 7 + [DATA] + [0] * 8)
        self._place = self._board._DATA + OPERAND

    def run(self, given: Stack) -> Stack:
        slots, top = self.cpu.slots, given.status >> 11 & 7
        slots[state.FCW], slots[state.FSW] = given.control, given.status
        slots[state.FTW] = sum(3 << 2 * n for n in range(8) if given.empty >> n & 1)
        for index, (word, mantissa) in enumerate(given.registers):
            place = state.X87 + 2 * (top + index & 7)
            slots[place], slots[place + 1] = mantissa, word
        state.set_rflags(slots, given.flags)
        self._board.bus.ram[self._place : self._place + 16] = given.operand
        slots[state.RIP] = self._board.offset(self._code)
        self.cpu.run(1)
        assert self.cpu.fault is None
        assert slots[state.RIP] == self._board.offset(self._code) + len(self._code)
        top = slots[state.FSW] >> 11 & 7
        places = [state.X87 + 2 * (top + index & 7) for index in range(8)]
        return Stack(
            slots[state.FCW],
            slots[state.FSW],
            sum(1 << n for n in range(8) if slots[state.FTW] >> 2 * n & 3 == 3),
            tuple((slots[place + 1], slots[place]) for place in places),
            bytes(self._board.bus.ram[self._place : self._place + 16]),
            self.cpu.flags,
        )
