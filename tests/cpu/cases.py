"""Random instructions of the opcode map that a program may execute, with registers that suit them."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.isa.decode import RIP, DecodeError, Instruction, decode
from blockkit.cpu.isa.forms import BASELINE, Form, forms
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.table import ENDS, semantics

_SHIFTS: Final = frozenset(("SHL", "SHR", "SAR", "SAL", "SHLD", "SHRD"))
_ROTATIONS: Final = frozenset(("ROL", "ROR", "RCL", "RCR"))
_EDGES: Final = tuple(edge + step & (1 << 64) - 1 for bits in (3, 7, 8, 15, 16, 31, 32, 63, 64) for edge in (1 << bits,)
                      for step in (-1, 0, 1))  # fmt: skip


class Case(NamedTuple):
    """One instruction and what it starts with.

    Attributes:
        found: The instruction.
        code: Its bytes.
        registers: The sixteen general ones.
        flags: RFLAGS.
    """

    found: Instruction
    code: bytes
    registers: list[int]
    flags: int


def number(rng: random.Random) -> int:
    """Return a number that is at an edge more often than chance would have it."""
    return rng.choice(_EDGES) if rng.random() < 0.4 else rng.getrandbits(rng.choice((5, 8, 16, 32, 64)))


def described() -> dict[str, list[Form]]:
    """Return the forms whose semantics there are, by mnemonic."""
    found: dict[str, list[Form]] = {}
    rng = random.Random(0)
    for form in forms():
        if form.feature and form.feature not in BASELINE:
            continue
        for _ in range(60):
            made, _ = _encode(rng, form)
            if made is not None:
                several = found.setdefault(made.name, [])
                if form not in several:
                    several.append(form)
    return found


def _encode(rng: random.Random, form: Form) -> tuple[Instruction | None, bytes]:
    size = max(1, (form.opcode.bit_length() + 7) // 8)
    modrm = rng.choice((0xC0, 0xC0, 0x80, 0x40, 0)) | rng.getrandbits(6)
    if form.reg is not None:
        modrm = modrm & 0xC7 | form.reg << 3
    if form.rm is not None:
        modrm = 0xC0 | modrm & 0x38 | form.rm
    data = bytes([form.prefix]) if form.prefix else b""
    data += rng.choice((b"", b"", b"\x66"))
    data += bytes([0x40 | rng.randrange(16)]) if rng.random() < 0.6 else b""
    data += form.opcode.to_bytes(size, "big") + bytes([modrm]) + rng.randbytes(12)
    try:
        found = decode(data[:15], 64)
    except DecodeError:
        return None, b""
    if semantics(found) is None or (found.form is not form and found.form.opcode != form.opcode):
        return None, b""
    return found, data[: found.length]


def case(rng: random.Random, form: Form, data: int) -> Case | None:
    """Return a case of ``form`` that uses memory at ``data`` and 4095 bytes behind it; None if none came up.

    It neither uses RSP nor ends a block, and has no address without a base register.
    """
    found, code = _encode(rng, form)
    if found is None or found.name in ENDS or found.name in ("PUSH", "POP", "LEAVE", "STD", "NOP"):
        return None
    registers = [number(rng) for _ in range(16)]
    registers[state.RSP] = 0
    if _uses_stack_pointer(found) or any(operand.where is Where.OFFSET for operand in found.form.operands):
        return None
    if found.name in ("DIV", "IDIV") and rng.random() < 0.9:
        registers[state.RDX] = rng.choice((0, 0, (1 << 64) - 1, rng.getrandbits(16)))
    if found.is_memory and found.name != "LEA":
        if (
            found.base in (None, RIP)
            or found.index == found.base
            or found.address_size != 8
            or found.segment is not None
        ):
            return None
        if found.name in ("BT", "BTS", "BTR", "BTC") and found.form.operands[1].where is Where.REG:
            if found.reg in (found.base, found.index):
                return None
            registers[found.reg] = rng.randrange(-4000, 4000) & (1 << found.operand_size * 8) - 1
        scaled = registers[found.index] << found.scale if found.index is not None else 0
        target = data + 1024 + rng.randrange(1024)
        assert found.base is not None
        registers[found.base] = target - found.displacement - scaled & (1 << 64) - 1
    elif found.is_memory and found.base == RIP:
        return None
    return Case(found, code, registers, rng.getrandbits(12) & state.ARITHMETIC | state.ALWAYS)


def _uses_stack_pointer(found: Instruction) -> bool:
    used = {found.rm} if not found.form.modrm else {found.reg} | ({found.rm} if found.mod == 3 else set())
    return state.RSP in used | {found.base, found.index}


def undefined(case: Case) -> int:
    """Return the arithmetic flags that the SDM leaves undefined after ``case``."""
    found, name = case.found, case.found.name
    if name in ("AND", "OR", "XOR", "TEST"):
        return state.AF
    if name in ("MUL", "IMUL"):
        return state.SF | state.ZF | state.AF | state.PF
    if name in ("DIV", "IDIV"):
        return state.ARITHMETIC
    if name in ("BSF", "BSR"):
        return state.ARITHMETIC & ~state.ZF
    if name in ("BT", "BTS", "BTR", "BTC"):
        return state.OF | state.SF | state.AF | state.PF
    if name not in _SHIFTS | _ROTATIONS:
        return 0
    bits = 8 if found.form.operands[0].size == "b" else found.operand_size * 8
    by = found.form.operands[-1].name
    count = 1 if by == "1" else case.registers[state.RCX] if by == "CL" else found.immediate
    count &= 63 if bits == 64 else 31
    if count == 0:
        return 0
    if name in ("SHLD", "SHRD") and count > bits:
        return state.ARITHMETIC
    lost = state.OF if count != 1 else 0
    if name in _SHIFTS:
        lost |= state.AF
        if count >= bits and name != "SAR":
            lost |= state.CF
    return lost


def result_is_undefined(case: Case) -> bool:
    """Tell whether the SDM leaves the destination itself undefined, whatever memory holds."""
    found = case.found
    if found.name == "BSWAP":
        return found.operand_size == 2
    if found.name not in ("SHLD", "SHRD") or found.operand_size != 2:
        return False
    by = found.form.operands[-1].name
    return ((case.registers[state.RCX] if by == "CL" else found.immediate) & 31) > 16
