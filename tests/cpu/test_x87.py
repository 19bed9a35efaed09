"""The x87 does what that of the processor of this machine does, masked or not.

What the manual leaves undefined is left out by UNDEFINED; so is C1 of FCOMI and FUCOMI, which the manual clears and
some processors do not.
"""

from __future__ import annotations

import random
import struct
from typing import Final

import pytest

from blockkit.cpu import state
from tests.cpu.host import available
from tests.cpu.machine import LongBoard
from tests.cpu.stacks import HostStack, Stack

pytestmark = pytest.mark.skipif(not available(), reason="the oracle is an x86-64 processor")

_C0, _C1, _C2, _C3 = 1 << 8, 1 << 9, 1 << 10, 1 << 14
_CONDITIONS: Final = _C0 | _C1 | _C2 | _C3
#: Bits of the status word, by mnemonic.
UNDEFINED: Final = {
    "FFREE": _CONDITIONS,
    "FFREEP": _CONDITIONS,
    **dict.fromkeys(("FCOMI", "FCOMIP", "FUCOMI", "FUCOMIP"), _C1),
}
_DATA: Final = 0x20000
#: Where the operand in memory is, from RDI.
_OPERAND: Final = 0x70

#: ``d8 c1`` has ST(1), ``d8 47 70`` an operand in memory.
_FLOATS: Final = ("ADD", "MUL", "COM", "COMP", "SUB", "SUBR", "DIV", "DIVR")
_REGISTERS: Final = {
    **{f"F{name} ST,STi": f"d8{0xC1 + 8 * n:02x}" for n, name in enumerate(_FLOATS)},
    **{f"F{name} STi,ST": f"dc{0xC2 + 8 * n:02x}" for n, name in enumerate(_FLOATS) if n not in (2, 3)},
    **{f"F{name}P": f"de{0xC1 + 8 * n:02x}" for n, name in enumerate(_FLOATS) if n not in (2, 3)},
    "FCOMPP": "ded9",
    "FUCOM": "dde1",
    "FUCOMP": "ddea",
    "FUCOMPP": "dae9",
    "FTST": "d9e4",
    "FXAM": "d9e5",
    "FCOMI": "dbf1",
    "FCOMIP": "dff1",
    "FUCOMI": "dbe9",
    "FUCOMIP": "dfea",
    "FCHS": "d9e0",
    "FABS": "d9e1",
    "FSQRT": "d9fa",
    "FRNDINT": "d9fc",
    "FSCALE": "d9fd",
    "FXTRACT": "d9f4",
    "FPREM": "d9f8",
    "FPREM1": "d9f5",
    "FXCH": "d9c9",
    "FFREE": "ddc3",
    "FFREEP": "dfc3",
    "FNOP": "d9d0",
    "FINCSTP": "d9f7",
    "FDECSTP": "d9f6",
    "FLD": "d9c2",
    "FST": "ddd2",
    "FSTP": "ddda",
    "FSTPNCE": "d9da",
    **{f"FCMOV{cc}": f"da{0xC1 + 8 * n:02x}" for n, cc in enumerate(("B", "E", "BE", "U"))},
    **{f"FCMOVN{cc}": f"db{0xC1 + 8 * n:02x}" for n, cc in enumerate(("B", "E", "BE", "U"))},
    **{f"FLD constant {n}": f"d9{0xE8 + n:02x}" for n in range(7)},
    "FNINIT": "dbe3",
    "FNCLEX": "dbe2",
    "FNENI": "dbe0",
    "FNDISI": "dbe1",
}
_MEMORY: Final = {
    **{f"F{name} Md": f"d8{0x47 + 8 * n:02x}" for n, name in enumerate(_FLOATS)},
    **{f"F{name} Mq": f"dc{0x47 + 8 * n:02x}" for n, name in enumerate(_FLOATS)},
    **{f"FI{name} Md": f"da{0x47 + 8 * n:02x}" for n, name in enumerate(_FLOATS)},
    **{f"FI{name} Mw": f"de{0x47 + 8 * n:02x}" for n, name in enumerate(_FLOATS)},
    "FLD Md": "d947",
    "FST Md": "d957",
    "FSTP Md": "d95f",
    "FLD Mq": "dd47",
    "FST Mq": "dd57",
    "FSTP Mq": "dd5f",
    "FILD Mw": "df47",
    "FILD Md": "db47",
    "FILD Mq": "df6f",
    "FIST Mw": "df57",
    "FIST Md": "db57",
    "FISTP Mw": "df5f",
    "FISTP Md": "db5f",
    "FISTP Mq": "df7f",
    "FISTTP Mw": "df4f",
    "FISTTP Md": "db4f",
    "FISTTP Mq": "dd4f",
    "FLD Mt": "db6f",
    "FSTP Mt": "db7f",
    "FBLD": "df67",
    "FBSTP": "df77",
    "FNSTCW": "d97f",
    "FNSTSW": "dd7f",
    "FLDCW": "d96f",
}
CASES: Final = {**_REGISTERS, **{name: f"{code}{_OPERAND:02x}" for name, code in _MEMORY.items()}}


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


def _operand(chance: random.Random) -> bytes:
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


def _stack(chance: random.Random) -> Stack:
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
    return Stack(control, status, empty, tuple(numbers), _operand(chance), flags)


class _Ours:
    """Our processor in 64-bit mode, before one instruction."""

    def __init__(self, code: str) -> None:
        self._code = bytes.fromhex(code)
        self._board = LongBoard(_DATA)
        self.cpu = self._board.begin(bytes(4096), self._code, [0] * 7 + [_DATA] + [0] * 8)
        self._place = self._board._DATA + _OPERAND

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


@pytest.fixture(scope="module")
def host() -> HostStack:
    return HostStack()


@pytest.mark.parametrize("name", CASES)
def test_results_and_exceptions_are_those_of_the_processor(host: HostStack, name: str) -> None:
    chance = random.Random(name)
    stacks = [_stack(chance) for _ in range(300)]
    ours = _Ours(CASES[name])
    ignored = UNDEFINED.get(name.split(maxsplit=1)[0], 0)
    for given, theirs in zip(stacks, host.run(bytes.fromhex(CASES[name]), stacks), strict=True):
        found = ours.run(given)
        for each, field in enumerate(Stack._fields):
            mine, wanted = found[each], theirs[each]
            if field == "status":
                mine, wanted = mine & ~ignored, wanted & ~ignored
            elif field == "flags":
                mine, wanted = mine & state.ARITHMETIC, wanted & state.ARITHMETIC
            assert mine == wanted, f"{field}: {mine} is not {wanted} after {given}"
