"""Random instructions of the opcode map that a program may execute, with registers that suit them."""

from __future__ import annotations

import random
import struct
from functools import cache
from typing import Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.isa.decode import RIP, DecodeError, Instruction, decode
from blockkit.cpu.isa.forms import BASELINE, Form, forms
from blockkit.cpu.isa.opcodes import CONDITIONS
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.table import ENDS, semantics

#: The offset of the page at whose end code is.
CODE: Final = 0x1000

_SHIFTS: Final = frozenset(("SHL", "SHR", "SAR", "SAL", "SHLD", "SHRD"))
_ROTATIONS: Final = frozenset(("ROL", "ROR", "RCL", "RCR"))
_TESTS: Final = frozenset(("BT", "BTS", "BTR", "BTC"))
_STACK: Final = frozenset("PUSH POP CALL RET LEAVE PUSHA PUSHAD POPA POPAD ENTER".split())
#: The instructions these cases are about, and where their operands may be.
INTEGER: Final = (
    _SHIFTS | _ROTATIONS | _TESTS | _STACK | {f"{name}{cc}" for name in ("J", "SET", "CMOV") for cc in CONDITIONS}
    | frozenset(
        "ADD ADC SUB SBB CMP XOR TEST NEG AND OR NOT INC DEC XADD CMPXCHG MUL IMUL DIV IDIV MOV MOVZX MOVSX MOVSXD LEA "
        "XCHG BSWAP MOVBE CBW CWDE CDQE CWD CDQ CQO NOP PAUSE LFENCE MFENCE SFENCE CLD STD CLC STC CMC BSF BSR POPCNT "
        "LZCNT ADCX ADOX JMP JCXZ JECXZ JRCXZ LOOP LOOPE LOOPNE".split()
    )
)  # fmt: skip
_GENERAL: Final = frozenset("EGMRZIJO=")
_SEGMENTS: Final = frozenset(("ES", "CS", "SS", "DS", "FS", "GS"))
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


@cache
def described(mode: int = 64) -> dict[str, list[Form]]:
    """Return the forms of the integer instructions, by mnemonic."""
    found: dict[str, list[Form]] = {}
    rng = random.Random(0)
    for form in forms():
        if (form.feature and form.feature not in BASELINE) or not INTEGER.intersection(form.names):
            continue
        for _ in range(40):
            made = _encode(rng, form, mode)
            if made is not None:
                several = found.setdefault(made.found.name, [])
                if form not in several:
                    several.append(form)
    return found


class Encoded(NamedTuple):
    """A decoded instruction, its bytes, and where among them its displacement is."""

    found: Instruction
    code: bytes
    place: int


def encode(rng: random.Random, form: Form, mode: int = 64, prefixes: bytes = b"") -> Encoded | None:
    """Return an instruction of ``form`` with random operands, if one came up."""
    size = max(1, (form.opcode.bit_length() + 7) // 8)
    modrm = rng.choice((0xC0, 0xC0, 0x80, 0x40, 0)) | rng.getrandbits(6)
    if form.reg is not None:
        modrm = modrm & 0xC7 | form.reg << 3
    if form.rm is not None:
        modrm = 0xC0 | modrm & 0x38 | form.rm
    data = prefixes + (bytes([form.prefix]) if form.prefix else b"")
    data += rng.choice((b"", b"", b"\x66"))
    data += bytes([0x40 | rng.randrange(16)]) if mode == 64 and rng.random() < 0.6 else b""
    data += form.opcode.to_bytes(size, "big")
    place = len(data)
    if form.modrm:
        data += bytes([modrm])
        place += 1
    data += rng.randbytes(12)
    try:
        found = decode(data[:15], mode)
    except DecodeError:
        return None
    if found.form is not form and found.form.opcode != form.opcode:
        return None
    if found.is_memory and found.address_size != 2 and found.rm == 4:
        place += 1
    return Encoded(found, data[: found.length], place)


def _encode(rng: random.Random, form: Form, mode: int = 64, prefixes: bytes = b"") -> Encoded | None:
    """Return one that these cases are about."""
    made = encode(rng, form, mode, prefixes)
    if made is None:
        return None
    operands = made.found.form.operands
    if (
        made.found.name not in INTEGER
        or any(each.where.value not in _GENERAL or each.name in _SEGMENTS or each.size == "p" for each in operands)
        or semantics(made.found) is None
    ):
        return None
    return made


def case(rng: random.Random, form: Form, data: int) -> Case | None:
    """Return a case of ``form`` that uses memory at ``data`` and 4095 bytes behind it; None if none came up.

    It neither uses RSP nor ends a block, and has no address without a base register.
    """
    made = _encode(rng, form)
    if made is None:
        return None
    found, code, _ = made
    if found.name in ENDS or found.name in ("PUSH", "POP", "LEAVE", "ENTER", "STD", "NOP"):
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
        if found.name in _TESTS and found.form.operands[1].where is Where.REG:
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


class World(NamedTuple):
    """What a case runs in.

    Attributes:
        name: For people.
        mode: The default size of code: 16, 32 or 64.
        stack: The bits of the stack pointer.
        bases: Where ES, CS, SS, DS, FS and GS begin.
        data: The linear address of DATA bytes.
    """

    name: str
    mode: int
    stack: int
    bases: tuple[int, ...]
    data: int


#: Bytes of data in a world: two pages.
DATA: Final = 8192
_OVERRIDES: Final = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
_ES, _CS, _SS, _DS, _FS, _GS = range(6)


def case_in(rng: random.Random, form: Form, world: World) -> Case | None:
    """Return a case of ``form`` with any kind of address, prefix and stack, whose memory is the world's data."""
    prefixes = b"\x67" if rng.random() < 0.25 else b""
    prefixes += bytes([rng.choice(_OVERRIDES)]) if rng.random() < 0.3 else b""
    prefixes += b"\xf0" if "lock" in form.flags and rng.random() < 0.3 else b""
    made = _encode(rng, form, world.mode, prefixes)
    if made is None:
        return None
    found = made.found
    width = 64 if world.mode == 64 else 32
    registers = [number(rng) & (1 << width) - 1 for _ in range(16 if width == 64 else 8)]
    if found.name in ("DIV", "IDIV") and rng.random() < 0.9:
        registers[state.RDX] = rng.choice((0, 0, (1 << width) - 1, rng.getrandbits(16)))
        if rng.random() < 0.5:
            registers[state.RAX] = rng.getrandbits(12)
    if found.name.startswith(("LOOP", "J")):
        registers[state.RCX] = rng.choice((0, 1, 2, 1 << 16, 1 << 32, (1 << 32) + 1)) & (1 << width) - 1
    if found.name in _STACK:
        for register in (state.RSP, state.RBP):
            below = world.data + DATA // 2 + rng.randrange(-80, 80) - world.bases[_SS]
            kept = registers[register] & (1 << width) - (1 << world.stack)
            registers[register] = kept | below & (1 << world.stack) - 1
    code = made.code
    if found.name == "ENTER":
        # Little room: Unicorn does not look whether it is there.
        code = code[:-3] + struct.pack("<HB", rng.randrange(64), code[-1])
    memory = found.is_memory and found.name not in ("LEA", "NOP")
    if memory or any(operand.where is Where.OFFSET for operand in found.form.operands):
        placed = place(rng, made, world, registers)
        if placed is None:
            return None
        code = placed
    after = decode(code, world.mode)
    return Case(after, code, registers, rng.getrandbits(12) & state.ARITHMETIC | state.ALWAYS)


def place(rng: random.Random, made: Encoded, world: World, registers: list[int], *, alignment: int = 1) -> bytes | None:
    """Make a register or the displacement such that the operand is in the data.

    Args:
        rng: Where it is.
        made: The instruction.
        world: The world; the next instruction begins at CODE + 4096 there.
        registers: The general registers, which are changed.
        alignment: What its address is divided by.

    Returns:
        The code; None if it cannot be done.
    """
    found, bits = made.found, made.found.address_size * 8
    mask = (1 << bits) - 1
    segment = found.effective_segment if found.is_memory else _DS if found.segment is None else found.segment
    base = world.bases[segment] if world.mode != 64 or segment >= _FS else 0
    # At the middle is the end of a page.
    distance = rng.randrange(-3000, 3000) if rng.random() < 0.7 else rng.randrange(-16, 2)
    where = (world.data + DATA // 2 + distance & -alignment) - base
    if world.mode != 64:
        where &= 0xFFFFFFFF
    if where & mask != where & (1 << 64) - 1 or (bits == 16 and where > 0xFFE0):
        return None
    if found.name in _TESTS and found.form.operands[1].where is Where.REG:
        if found.reg in (found.base, found.index):
            return None
        index = rng.randrange(-4000, 4000) & (1 << found.operand_size * 8) - 1
        registers[found.reg] = registers[found.reg] & ~((1 << found.operand_size * 8) - 1) | index
    scaled = registers[found.index] << found.scale if found.index is not None else 0
    fixed = found.base is not None and found.base != RIP and (
        found.base == found.index or (found.name in _STACK and found.base == state.RSP)
        or (found.name in ("DIV", "IDIV") and found.base in (state.RAX, state.RDX))
    )  # fmt: skip
    if found.base is not None and found.base != RIP and not fixed:
        wanted = where - found.displacement - scaled & mask
        registers[found.base] = registers[found.base] & ~mask | wanted
        return made.code
    here = 0
    if found.base == RIP:
        # The code ends where its page does.
        here = CODE + 4096
    elif found.base is not None:
        here = registers[found.base]
    length = found.address_size if not found.is_memory else min(found.address_size, 4)
    if found.is_memory and (found.mod == 1 or (found.mod == 0 and fixed)):
        return None
    wanted = where - here - scaled & mask
    signed = (wanted ^ 1 << bits - 1) - (1 << bits - 1)
    if bits == 64 and length == 4 and not -1 << 31 <= signed < 1 << 31:
        return None
    patch = (wanted & (1 << length * 8) - 1).to_bytes(length, "little")
    return made.code[: made.place] + patch + made.code[made.place + length :]


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
    if name == "LZCNT":
        return state.OF | state.SF | state.AF | state.PF
    if name in _TESTS:
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
    if found.name == "XCHG" and found.form.opcode == 0x90:
        # Between XCHG R8 and PAUSE processors of different makers choose differently.
        return 0xF3 in case.code[:-1]
    if found.name not in ("SHLD", "SHRD") or found.operand_size != 2:
        return False
    by = found.form.operands[-1].name
    return ((case.registers[state.RCX] if by == "CL" else found.immediate) & 31) > 16
