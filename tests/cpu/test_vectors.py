"""MMX and SSE instructions do what the processor of this machine does."""

from __future__ import annotations

import random
import struct
from typing import Final

import pytest

from blockkit.cpu import state
from blockkit.cpu.isa.decode import DecodeError, Instruction, decode
from blockkit.cpu.isa.forms import BASELINE, Form, forms
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.vector_table import VECTOR
from tests.amount import TIMES
from tests.cpu.host import MEMORY, Host, available
from tests.cpu.machine import LongBoard

pytestmark = pytest.mark.skipif(not available(), reason="needs an x86-64 processor")

CASES: Final = 40 * TIMES
_UNALIGNED: Final = ("MOVUPS", "MOVUPD", "MOVDQU", "LDDQU")
#: Those the SDM only bounds the error of.
#: Sums of products, and the bits of their lanes.
_SUMS: Final = {"DPPS": 32, "DPPD": 64}
_APPROXIMATE: Final = frozenset(("RCPPS", "RCPSS", "RSQRTPS", "RSQRTSS"))
_FLOATS: Final = (
    *(0x00000000, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001, 0x00000001),
    *(0x00800000, 0x7F7FFFFF, 0x4F000000, 0xCF000000, 0x4EFFFFFF, 0x3F000000, 0x3FC00000, 0x40200000),
)
_DOUBLES: Final = (
    *(0, 1 << 63, 0x3FF0 << 48, 0xBFF0 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48 | 1, 0x7FF0 << 48 | 1, 1),
    *(1 << 52, (0x7FF0 << 48) - 1, 0x41E0 << 48, 0xC1E0 << 48, 0x41DFFFFFFFC00000, 0x43E0 << 48, 0x3FE0 << 48),
    *(0x4004 << 48, 0x47EFFFFFE0000000, 0x3810 << 48, 0x36A0 << 48),
)


def _number(rng: random.Random) -> int:
    """Return 128 bits that may be integers or floats."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.getrandbits(128)
    if kind == 1:
        return int.from_bytes(bytes(rng.choice((0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x41)) for _ in range(16)), "little")
    if kind == 2:
        return sum(rng.choice(_FLOATS) << 32 * at for at in range(4))
    if kind == 3:
        return sum(rng.choice(_DOUBLES) << 64 * at for at in range(2))
    if rng.random() < 0.5:
        data = struct.pack("<4f", *(rng.uniform(-9, 9) * 10.0 ** rng.randrange(-12, 12) for _ in range(4)))
    else:
        data = struct.pack("<2d", *(rng.uniform(-9, 9) * 10.0 ** rng.randrange(-30, 30) for _ in range(2)))
    return int.from_bytes(data, "little")


def _forms() -> dict[str, list[Form]]:
    found: dict[str, list[Form]] = {}
    for form in forms():
        if form.feature and form.feature not in BASELINE:
            continue
        if any(operand.where in VECTOR for operand in form.operands) or form.names[0] in ("EMMS", "MOVNTI"):
            found.setdefault(form.names[0], []).append(form)
    return found


FORMS: Final = _forms()


def _encode(rng: random.Random, form: Form) -> tuple[Instruction, bytes] | None:
    memory = form.memory if form.memory is not None else rng.random() < 0.5
    modrm = (0x03 if memory else 0xC0 | rng.getrandbits(3)) | rng.getrandbits(3) << 3
    if form.reg is not None:
        modrm = modrm & 0xC7 | form.reg << 3
    data = bytes([form.prefix]) if form.prefix else b""
    # REX.B would make another base of RBX.
    rex = 0x40 | rng.randrange(16) & (0xE if memory else 0xF)
    data += bytes([rex]) if rng.random() < 0.5 else b""
    data += form.opcode.to_bytes(max(2, (form.opcode.bit_length() + 7) // 8), "big")
    data += (bytes([modrm]) if form.modrm else b"") + rng.randbytes(2)
    try:
        found = decode(data, 64)
    except DecodeError:
        return None
    if found.form is not form and found.form.opcode != form.opcode:
        return None
    general = [
        operand.where for operand in found.form.operands if operand.where in (Where.RM, Where.REG, Where.RM_REGISTER)
    ]
    used = {found.reg if where is Where.REG else found.rm for where in general if where is Where.REG or not memory}
    return None if used & {state.RSP, state.RDI, state.RBX} else (found, data[: found.length])


def _without_payloads(value: int, bits: int) -> int:
    """Return a vector whose NaNs are all the same."""
    lanes = [value >> at & (1 << bits) - 1 for at in range(0, 128, bits)]
    infinity = 0x7F800000 if bits == 32 else 0x7FF0 << 48
    lanes = [infinity + 1 if lane & (1 << bits - 1) - 1 > infinity else lane for lane in lanes]
    return sum(lane << bits * number for number, lane in enumerate(lanes))


class Bench:
    """Both processors."""

    def __init__(self) -> None:
        self.host = Host(vectors=True)
        self.board = LongBoard(self.host.address)

    def compare(self, rng: random.Random, found: Instruction, code: bytes) -> None:
        board, host = self.board, self.host
        data = b"".join(_number(rng).to_bytes(16, "little") for _ in range(MEMORY // 16))
        registers = [rng.getrandbits(64) if rng.random() < 0.5 else rng.getrandbits(5) for _ in range(16)]
        # MASKMOVDQU stores at RDI, which the harness loads last.
        size = max((operand.bytes(found.operand_size, long=True) for operand in found.form.operands), default=16)
        unaligned = (
            size < 16 or found.name in _UNALIGNED or (found.name.startswith(("PCMPI", "PCMPE")) and "STR" in found.name)
        )
        at = rng.randrange(MEMORY - 64) & (~0 if unaligned else ~15)
        registers[state.RBX] = registers[state.RDI] = host.address + at
        vectors = [_number(rng) for _ in range(16)]
        mmx = [rng.choice((_number(rng), rng.getrandbits(128))) & (1 << 64) - 1 for _ in range(8)]
        mxcsr = 0x1F80 | rng.getrandbits(2) << 13 | rng.getrandbits(6)
        mxcsr |= rng.choice((0, 0, 0x40, 0x8000, 0x8040))
        top = rng.randrange(8)
        flags = rng.getrandbits(12) & state.ARITHMETIC | state.ALWAYS

        host.area[:512] = _area(vectors, mmx, mxcsr, top)
        expected = host.run(code, registers, flags, data)

        slots = board._slots
        slots[state.XMM : state.XMM + 32] = [part for each in vectors for part in (each & (1 << 64) - 1, each >> 64)]
        for number, each in enumerate(mmx):
            slots[state.X87 + 2 * number : state.X87 + 2 * number + 2] = [each, 0x3FFF]
        slots[state.FCW], slots[state.FSW], slots[state.FTW] = 0x37F, top << 11, 0
        slots[state.MXCSR] = mxcsr
        cpu = board.begin(data, code, registers, flags)
        cpu.run(1)
        what = (found.name, code.hex(), hex(mxcsr), [hex(each) for each in vectors], data[at : at + 16].hex())
        assert cpu.fault is None, what
        assert [hex(each) for each in cpu.registers[:4] + cpu.registers[5:]] == [
            hex(each) for each in expected[0][:4] + expected[0][5:]
        ], what
        assert board.data == expected[2], what
        if found.name.startswith(("PTEST", "COMI", "UCOMI", "PCMPES", "PCMPIS")):
            assert (cpu.flags ^ expected[1]) & state.ARITHMETIC == 0, (what, hex(cpu.flags), hex(expected[1]))
        area = host.area
        theirs = [int.from_bytes(area[160 + 16 * n : 176 + 16 * n], "little") for n in range(16)]
        ours = [cpu.slots[state.XMM + 2 * n] | cpu.slots[state.XMM + 2 * n + 1] << 64 for n in range(16)]
        if found.name in _SUMS:
            # Which of several NaNs comes out differs from lane to lane on some processors.
            ours, theirs = (
                [_without_payloads(each, _SUMS[found.name]) for each in several] for several in (ours, theirs)
            )
        if found.name in _APPROXIMATE:
            for a, b in zip(ours, theirs, strict=True):
                _near(a, b, what)
        else:
            assert [hex(each) for each in ours] == [hex(each) for each in theirs], what
        assert hex(cpu.slots[state.MXCSR]) == hex(struct.unpack_from("<I", area, 24)[0]), what
        if found.name == "CVTPI2PS" and found.is_memory:
            # The SDM lets it become an MMX instruction with any operand, others only with a register.
            return
        status, tags = struct.unpack_from("<HB", area, 2)
        after = status >> 11 & 7
        assert cpu.slots[state.FSW] >> 11 & 7 == after, what
        assert [cpu.slots[state.FTW] >> 2 * n & 3 == 3 for n in range(8)] == [not tags >> n & 1 for n in range(8)], what
        stack = [struct.unpack_from("<Q", area, 32 + 16 * (n - after & 7))[0] for n in range(8)]
        assert [cpu.slots[state.X87 + 2 * n] for n in range(8)] == stack, what


def _area(vectors: list[int], mmx: list[int], mxcsr: int, top: int) -> bytes:
    """Return the area that FXRSTOR takes."""
    area = struct.pack("<HHBxHQQII", 0x37F, top << 11, 0xFF, 0, 0, 0, mxcsr, 0xFFFF)
    area += b"".join(struct.pack("<QHHI", mmx[top + n & 7], 0x3FFF, 0, 0) for n in range(8))
    area += b"".join(each.to_bytes(16, "little") for each in vectors)
    return area.ljust(512, b"\0")


def _near(ours: int, theirs: int, what: object) -> None:
    """See that all four floats are within the error that the SDM allows."""
    for at in range(4):
        raw = [value >> 32 * at & 0xFFFFFFFF for value in (ours, theirs)]
        a, b = (struct.unpack("<f", struct.pack("<I", each))[0] for each in raw)
        if a != a or b != b or abs(b) in (0.0, float("inf")):
            assert raw[0] == raw[1] or abs(a) <= 2.4e-38, (what, [hex(each) for each in raw])
        else:
            assert abs(a - b) <= abs(b) * 2 * 1.5 * 2**-12 + 1.2e-38, (what, a, b)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("name", sorted(FORMS))
def test_it_does_what_the_host_does(bench: Bench, name: str) -> None:
    rng = random.Random(name)
    done = 0
    for _ in range(CASES * 4):
        made = _encode(rng, rng.choice(FORMS[name]))
        if made is not None:
            bench.compare(rng, *made)
            done += 1
        if done == CASES:
            break
    assert done >= CASES // 2
