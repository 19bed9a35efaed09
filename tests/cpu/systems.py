"""Whole systems in each mode and level that a program can be in, and random states to run one instruction from."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu import state
from blockkit.cpu.isa.decode import RIP, Instruction, decode
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem.table import is_string
from tests.cpu.cases import CODE as CODE_OF_CASES
from tests.cpu.cases import DATA, Encoded, World, encode, number, place
from tests.cpu.descriptors import (
    CODE,
    CODE_16,
    CODE_32,
    CODE_64,
    CODES,
    DATA_32,
    DATAS,
    GDT,
    HANDLERS,
    IDT,
    LDT,
    LOCAL,
    LONG_0,
    LONG_3,
    OTHER_TASK,
    STACK,
    STACKS,
    TASK,
    TSS,
    descriptor,
    gate,
    tables,
)
from tests.cpu.machine import RAM, TABLES, long_mode, protected_mode, real_mode
from tests.cpu.x87_cases import a_stack, an_operand

if TYPE_CHECKING:
    import random

    from blockkit.cpu.isa.forms import Form

#: Two pages of operands.
_DATA: Final = 0x30000
#: Where there is paging, the next page cannot be written, and the one after that is not there.
READ_ONLY, _ABSENT = _DATA + DATA, _DATA + DATA + 0x1000
#: What a case restores: tables, code, stacks; operands and what is around them; page tables.
RESTORED: Final = ((0, 0xD000), (_DATA - 0x2000, _DATA + 0x6000), (TABLES, TABLES + 0x6000))
_BASES: Final = (0x1000, 0, 0x100, 0x2000, 0x1234, 0xFFFFF000)
_FLAT: Final = (0, 0, 0, 0, 0x1000, 0)
_EDGES: Final = (0, 1, 1 << 15, 1 << 31, 1 << 63, (1 << 64) - 1)
#: JMP to itself.
_FOREVER: Final = b"\xeb\xfe"
_FIRST_MSRS: Final = (0x10, 0x1B, 0x174, 0x175, 0x176, 0x1A0, 0x277, 0x2FF, 0x8B, 0xFE, 0x200)
_MSRS: Final = (*_FIRST_MSRS, *range(0xC0000080, 0xC0000085), *range(0xC0000100, 0xC0000104))


class System(NamedTuple):
    """A mode and a level.

    Attributes:
        name: For people.
        world: Its sizes and segments.
        level: The privilege level.
        slots: The state.
        memory: All of memory.
    """

    name: str
    world: World
    level: int
    slots: list[int]
    memory: bytes


class Case(NamedTuple):
    """What one instruction starts from.

    Attributes:
        found: The instruction.
        code: Its bytes.
        slots: The state.
        memory: What is in memory beside what the system has, by address.
    """

    found: Instruction
    code: bytes
    slots: list[int]
    memory: dict[int, bytes]


def _handlers(*, long: bool) -> bytes:
    """Return an IDT; INT3, INTO and INT 80h are for everybody."""
    selector = LONG_0 if long else CODES[0]
    vectors = ((0xEE if vector in (3, 4, 0x80) or vector % 8 == 5 else 0x8E, vector) for vector in range(256))
    return b"".join(gate(kind, selector, HANDLERS + 16 * vector, long=long) for kind, vector in vectors)


def _page_tables(*, long: bool) -> bytes:
    """Return tables that map memory to itself; a page is read-only, one absent, and one the kernel's."""
    size = 8 if long else 4
    entries = []
    for page in range(0, RAM, 0x1000):
        rights = {READ_ONLY: 5, _ABSENT: 4, TABLES: 3}.get(page, 7)
        entries.append(page | rights)
    leaves = struct.pack(f"<{len(entries)}{'Q' if long else 'I'}", *entries).ljust(0x1000, b"\0")
    above = [TABLES + 0x1000 * (level + 1) | 7 for level in range(3 if long else 1)]
    return b"".join(entry.to_bytes(size, "little").ljust(0x1000, b"\0") for entry in above) + leaves


def _system(name: str) -> System:
    level = 3 if name.startswith(("user", "virtual", "compatible")) else 0
    kind = name.rsplit(maxsplit=1)[-1]
    long = name in ("long 64", "user 64", "compatible 32")
    memory = bytearray(RAM)
    memory[CODE - 0x800 : HANDLERS + 0x1000] = _FOREVER * 0x1400
    bases = _BASES if name == "system 32" else _FLAT
    if name == "system 16":
        bases = (_DATA - 0x1000, 0, 0x100, _DATA - 0x8000, _DATA, _DATA - 0xFFF0)
    elif name in ("real 16", "virtual 16"):
        bases = (_DATA - 0x1000, CODE - 0x800, STACK - 0x1000, _DATA - 0x8000, _DATA, _DATA - 0xFFF0)
    if name == "real 16":
        slots = real_mode([base >> 4 for base in bases])
        memory[: 4 * 256] = b"".join(struct.pack("<HH", HANDLERS + 16 * vector, 0) for vector in range(256))
        slots[state.IDT_LIMIT] = 0x3FF
    else:
        slots = long_mode(TABLES) if long else protected_mode()
        memory[GDT : GDT + len(tables())] = tables()
        memory[LDT : LDT + 24] = descriptor(0xC0F3) + descriptor(0xC0FB) + descriptor(0xC0F1)
        handlers = _handlers(long=long)
        memory[IDT : IDT + len(handlers)] = handlers
        for index, top in enumerate(STACKS):
            stack = struct.pack("<Q", top) if long else struct.pack("<II", top, DATAS[index])
            memory[TSS + 4 + 8 * index : TSS + 12 + 8 * index] = stack
        # The map of interrupts of virtual-8086 mode, which has ports 0 to 7FFh behind it; every third is forbidden.
        memory[TSS + 102 : TSS + 104] = struct.pack("<H", 136)
        memory[TSS + 136 : TSS + 393] = bytes(0x24 if at % 3 else 0xFF for at in range(256)) + b"\xff"
        slots[state.GDT_BASE], slots[state.GDT_LIMIT] = GDT, 0x1FF
        slots[state.IDT_BASE], slots[state.IDT_LIMIT] = IDT, len(handlers) - 1
        _set(slots, state.TR, TASK, 0x8B, TSS, 0x200)
        _set(slots, state.LDTR, LOCAL, 0x82, LDT, 0xFF)
        memory[GDT + TASK : GDT + TASK + 8] = descriptor(0x8B, TSS, 0x200)
        code = {"16": CODE_16 if level == 0 else 0xF3, "32": CODE_32, "64": CODE_64}[kind]
        for segment in range(6):
            attributes, limit = (code if segment == state.CS else DATA_32) | level << 5, 0xFFFFFFFF
            selector = (CODES if segment == state.CS else DATAS)[level]
            if kind == "64" and segment == state.CS:
                selector = LONG_3 if level else LONG_0
            if name == "virtual 16":
                attributes, selector, limit = 0xF3, bases[segment] >> 4, 0xFFFF
            _set(slots, segment, selector, attributes, bases[segment], limit)
        slots[state.CPL] = level
        if level or long:
            paging = _page_tables(long=long)
            memory[TABLES : TABLES + len(paging)] = paging
            slots[state.CR3] = TABLES
            slots[state.CR0] |= state.CR0_PG
    slots[state.SEGMENT_BASES : state.SEGMENT_BASES + 6] = bases
    stack = 64 if kind == "64" else 16 if name in ("real 16", "virtual 16") else 32
    assert len(memory) == RAM
    world = World(name, int(kind), stack, bases, _DATA)
    return System(name, world, level, slots, bytes(memory))


def _set(slots: list[int], segment: int, selector: int, attributes: int, base: int, limit: int) -> None:
    slots[state.SELECTORS + segment], slots[state.SEGMENT_ATTRIBUTES + segment] = selector, attributes
    slots[state.SEGMENT_BASES + segment], slots[state.SEGMENT_LIMITS + segment] = base, limit


NAMES: Final = (
    *("real 16", "virtual 16", "system 16", "system 32", "flat 32", "user 32", "compatible 32", "long 64", "user 64"),
)
SYSTEMS: Final = {name: _system(name) for name in NAMES}


def _selector(rng: random.Random, system: System, name: str = "") -> int:
    """Return a selector that may be of use to an instruction."""
    if name in ("LTR", "LLDT") and rng.random() < 0.5:
        return OTHER_TASK if name == "LTR" else LOCAL
    if system.name in ("real 16", "virtual 16"):
        return rng.choice((_DATA >> 4, CODE - 0x800 >> 4, rng.getrandbits(16)))
    data, code = DATAS[system.level], CODES[system.level]
    return rng.choice((data, code, data, code, LONG_3, LONG_0, LOCAL, OTHER_TASK, 4 | 3, 12 | 3, 0, rng.getrandbits(8)))


def case_of(rng: random.Random, form: Form, system: System) -> Case | None:
    """Return a case of ``form`` whose operands are mostly where they may be; None if none came up."""
    world, mode = system.world, system.world.mode
    prefixes = b"\x67" if rng.random() < 0.15 else b""
    prefixes += bytes([rng.choice((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65))]) if rng.random() < 0.2 else b""
    prefixes += b"\xf0" if rng.random() < (0.3 if "lock" in form.flags else 0.02) else b""
    if is_string(form) and rng.random() < 0.6:
        prefixes += bytes([rng.choice((0xF2, 0xF3))])
    made = encode(rng, form, mode, prefixes)
    if made is None or made.found.form is not form:
        return None
    found, width = made.found, 64 if mode == 64 else 32
    registers = [number(rng) & (1 << width) - 1 for _ in range(16 if mode == 64 else 8)]
    memory: dict[int, bytes] = {}
    _prepare(rng, found, system, registers)
    code = made.code
    if found.name == "ENTER":
        code = code[:-3] + struct.pack("<HB", rng.randrange(64), code[-1])
    if any(operand.where is Where.FAR for operand in form.operands):
        size = found.operand_size
        code = code[: -size - 2] + _far(rng, system, size)
    found = decode(code, mode)
    at = CODE + 16 + rng.choice((rng.randrange(64), rng.randrange(64), 0xFF0 - rng.randrange(20)))
    if (found.is_memory and found.name != "NOP") or any(operand.where is Where.OFFSET for operand in form.operands):
        code = _placed(rng, Encoded(found, code, made.place), system, registers, memory, at)
        found = decode(code, mode)
    slots = _state(rng, system, registers)
    slots[state.RIP] = at - world.bases[state.CS]
    if rng.random() < 0.8:
        memory |= _on_stack(rng, system, slots, found)
    tail = _FOREVER if rng.random() < 0.5 else b"\xeb" + (-len(code) - 2 & 0xFF).to_bytes(1, "little")
    return Case(found, code, slots, {**memory, at: code + tail})


def _far(rng: random.Random, system: System, size: int) -> bytes:
    """Return an offset and a selector."""
    base = system.world.bases[state.CS] if system.name in ("real 16", "virtual 16") else 0
    selector = CODE - 0x800 >> 4 if base else rng.choice((CODES[system.level], LONG_3, LONG_0))
    if rng.random() < 0.25:
        selector = _selector(rng, system)
    return (HANDLERS + 16 - base).to_bytes(size, "little") + struct.pack("<H", selector)


def _prepare(rng: random.Random, found: Instruction, system: System, registers: list[int]) -> None:
    """Set the registers that an instruction implies to what makes sense."""
    bases, name = system.world.bases, found.name
    mask = (1 << system.world.stack) - 1
    for register in (state.RSP, state.RBP):
        kept = registers[register] & ~mask if rng.random() < 0.5 else 0
        registers[register] = kept | STACK - rng.randrange(64) * 4 - bases[state.SS] & mask
    if is_string(found.form) or name in ("XLATB", "MASKMOVQ", "MASKMOVDQU"):
        for register, segment in ((state.RSI, state.DS), (state.RDI, state.ES), (state.RBX, state.DS)):
            used = found.segment if found.segment is not None and register != state.RDI else segment
            base = 0 if system.world.mode == 64 and used < state.FS else bases[used]
            at = _DATA + rng.choice((rng.randrange(0xF00), rng.randrange(0xF00), rng.randrange(0xF00, 0x2100)))
            registers[register] = at - base & (1 << found.address_size * 8) - 1
        registers[state.RCX] = rng.choice((0, 1, 2, 5, 17, 40, rng.randrange(1, 64), rng.randrange(600)))
    if name.startswith("LOOP") or name in ("JCXZ", "JECXZ", "JRCXZ"):
        registers[state.RCX] &= rng.choice((1, 3, 0x10000, 0xFFFFFFFF))
    if name in ("DIV", "IDIV") and rng.random() < 0.8:
        registers[state.RDX] = rng.choice((0, 0, registers[state.RDX] | 0xFFFFFFFF, rng.getrandbits(8)))
        registers[state.RAX] &= rng.choice((0xFF, 0xFFFF, (1 << 64) - 1))
    if name in ("RDMSR", "WRMSR"):
        registers[state.RCX] = rng.choice(_MSRS)
        registers[state.RAX], registers[state.RDX] = rng.choice(_EDGES) & 0xFFFFFFFF, rng.choice((0, 0, 1 << 31))
    if name in ("IN", "OUT") or name[:-1] in ("INS", "OUTS"):
        registers[state.RDX] = registers[state.RDX] & ~0xFFFF | rng.randrange(0x900)
    if name == "CPUID":
        registers[state.RAX] = rng.choice((*range(12), *range(0x80000000, 0x8000000A)))
    if name == "RDPMC":
        registers[state.RCX] = rng.randrange(5)
    if name == "CMPXCHG8B" and rng.random() < 0.5:
        registers[state.RAX] = registers[state.RDX] = 0
    wheres = {operand.where for operand in found.form.operands}
    if wheres & {Where.CONTROL, Where.DEBUG}:
        value = system.slots[{0: state.CR0, 2: state.CR2, 3: state.CR3, 4: state.CR4}.get(found.reg, state.CR8)]
        if Where.DEBUG in wheres:
            value = rng.choice((0, 0x400, registers[0], CODE + 16))
        registers[found.rm & 7] = value ^ rng.choice((0, 0, 1 << rng.randrange(22), 1 << rng.randrange(32)))
    elif Where.SEGMENT in wheres or name in ("LLDT", "LTR", "VERR", "VERW", "LAR", "LSL", "ARPL"):
        for register in {found.rm & 7, found.reg & 7} - ({state.RSP} if found.is_memory else set()):
            registers[register] = registers[register] & ~0xFFFF | _selector(rng, system, name)
    if name == "INVLPG" and rng.random() < 0.5:
        registers[found.rm & 7] = _DATA


def _placed(
    rng: random.Random, made: Encoded, system: System, registers: list[int], memory: dict[int, bytes], at: int
) -> bytes:
    """Put the operand where it may be, mostly, with something in it; return the code."""
    found, world = made.found, system.world
    size = max(operand.bytes(found.operand_size, long=world.mode == 64) for operand in found.form.operands)
    if rng.random() < 0.1:
        # The end of a page behind which things are different.
        world = world._replace(data=world.data + rng.choice((0x1000, 0x2000)))
    alignment = 16 if size >= 16 and rng.random() < 0.9 else 1
    code = place(rng, made, world, registers, alignment=alignment)
    if code is None:
        return made.code
    if found.base == RIP:
        # That was for an instruction somewhere else.
        distance = int.from_bytes(code[made.place : made.place + 4], "little", signed=True)
        distance += CODE_OF_CASES + 4096 - at - len(code)
        code = code[: made.place] + struct.pack("<i", distance) + code[made.place + 4 :]
    where = _linear(decode(code, world.mode), world, registers, at)
    if _DATA - 0x1000 <= where < _DATA + 0x3000 and rng.random() < 0.8:
        memory[where] = _operand(rng, found, system)
    return code


def _linear(found: Instruction, world: World, registers: list[int], at: int) -> int:
    """Return the linear address of the operand in memory."""
    segment = found.effective_segment if found.is_memory else found.segment if found.segment is not None else state.DS
    base = world.bases[segment] if world.mode != 64 or segment >= state.FS else 0
    where = found.displacement
    if found.base == RIP:
        where += at + found.length
    elif found.base is not None:
        where += registers[found.base]
    if found.index is not None:
        where += registers[found.index] << found.scale
    where = base + (where & (1 << found.address_size * 8) - 1)
    return where & ((1 << 64) - 1 if world.mode == 64 else 0xFFFFFFFF)


def _operand(rng: random.Random, found: Instruction, system: System) -> bytes:
    """Return bytes that mean something to an instruction."""
    name, size, kinds = found.name, found.operand_size, {operand.size for operand in found.form.operands}
    if "p" in kinds:
        if name in ("CALL", "JMP"):
            return _far(rng, system, size)
        return number(rng).to_bytes(8, "little")[: min(size, 4)] + struct.pack("<H", _selector(rng, system))
    if kinds & {"fe", "fs"}:
        wide = size != 2
        stack = a_stack(rng)
        words = (stack.control, stack.status, rng.getrandbits(16), *(rng.getrandbits(16) for _ in range(4)))
        data = struct.pack("<7I" if wide else "<7H", *words)
        return data + b"".join(struct.pack("<QH", mantissa, word) for word, mantissa in stack.registers)
    if "fx" in kinds:
        return _saved(rng)
    if name in ("LGDT", "LIDT"):
        base, limit = (GDT, 0x1FF) if name == "LGDT" else (IDT, 0xFFF)
        return struct.pack("<HQ", limit, base | rng.choice((0, 0, 1 << 63, rng.getrandbits(64))))
    if name == "BOUND":
        form = {2: "<hh", 4: "<ii"}[size]
        top = 1 << 8 * size - 1
        return struct.pack(form, rng.choice((-top, 0, -5)), rng.choice((top - 1, 100, -1)))
    if name in ("LLDT", "LTR", "VERR", "VERW", "LAR", "LSL", "ARPL") or name == "MOV":
        return struct.pack("<HQ", _selector(rng, system, name), number(rng))
    if name == "LDMXCSR":
        return struct.pack("<I", rng.choice((0x1F80, rng.getrandbits(16), rng.getrandbits(32))))
    if name == "FLDCW":
        return struct.pack("<H", a_stack(rng).control)
    if 0xD8 <= found.form.opcode <= 0xDF:
        return an_operand(rng)
    if "q" in kinds or "x" in kinds or "d" in kinds:
        return floats(rng)
    return number(rng).to_bytes(8, "little") * 2


def _saved(rng: random.Random) -> bytes:
    """Return what FXRSTOR takes."""
    stack = a_stack(rng)
    mask = 0xFFFF if rng.random() < 0.9 else 0xFFFFFFFF
    words = stack.control, stack.status, rng.getrandbits(8), rng.getrandbits(11), *(rng.getrandbits(64),) * 2
    data = struct.pack("<HHHHQQII", *words, rng.getrandbits(32) & mask, 0)
    data += b"".join(struct.pack("<QHHI", mantissa, word, 0, 0) for word, mantissa in stack.registers)
    return data + b"".join(floats(rng) for _ in range(16)) + bytes(96)


def floats(rng: random.Random) -> bytes:
    """Return 16 bytes that are floats or integers."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(16)
    if kind == 1:
        return bytes(rng.choice((0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x41)) for _ in range(16))
    if kind == 2:
        special = (0, 1 << 31, 0x3F800000, 0xFF800000, 0x7F800000, 0x7FC00001, 0x7F800001, 1, 0x7F7FFFFF, 0x4F000000)
        words = (rng.choice(special) if rng.random() < 0.5 else rng.getrandbits(32) for _ in range(4))
        return struct.pack("<4I", *words)
    if rng.random() < 0.5:
        return struct.pack("<4f", *(rng.uniform(-9, 9) * 10.0 ** rng.randrange(-12, 12) for _ in range(4)))
    special = (0, 1 << 63, 0x3FF << 52, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, (0x7FF << 52) + 1, 1, 0x41E << 52)
    return struct.pack("<2Q", *(rng.choice(special) for _ in range(2)))


def _state(rng: random.Random, system: System, registers: list[int]) -> list[int]:
    """Return a state in which everything may be something."""
    slots = list(system.slots)
    slots[: len(registers)] = registers
    flags = rng.getrandbits(12) & (state.ARITHMETIC | state.DF) | rng.choice((0, state.IF))
    flags |= rng.choice((0, 0, 3)) << 12 | (rng.random() < 0.05) * state.NT | (rng.random() < 0.03) * state.TF
    flags |= (rng.random() < 0.05) * state.AC | (rng.random() < 0.05) * state.RF | (rng.random() < 0.1) * state.ID
    if system.name == "virtual 16":
        flags |= state.VM | rng.choice((0, 0, state.VIF, state.VIP))
    state.set_rflags(slots, flags)
    slots[state.CR0] |= state.CR0_NE | rng.choice((0, state.CR0_WP)) | rng.choice((0, state.CR0_AM))
    slots[state.CR0] |= rng.choice((0, 0, 0, state.CR0_MP)) | (rng.random() < 0.05) * state.CR0_TS
    slots[state.CR0] |= (rng.random() < 0.02) * state.CR0_EM
    wanted = state.CR4_OSFXSR | state.CR4_OSXMMEXCPT | state.CR4_FSGSBASE
    wanted |= rng.choice((0, state.CR4_VME | state.CR4_PVI, state.CR4_TSD, state.CR4_DE, state.CR4_UMIP))
    slots[state.CR4] |= wanted & ~(rng.choice((0,) * 9 + (state.CR4_OSFXSR, state.CR4_OSXMMEXCPT, state.CR4_FSGSBASE)))
    slots[state.EFER] |= rng.choice((0, state.EFER_SCE))
    slots[state.STAR] = LONG_0 - 16 << 48 | LONG_0 << 32 | HANDLERS
    slots[state.LSTAR] = slots[state.CSTAR] = HANDLERS + 32
    slots[state.SFMASK] = rng.getrandbits(16)
    slots[state.KERNEL_GS_BASE], slots[state.PAT] = number(rng) & (1 << 47) - 1, 0x0007040600070406
    slots[state.SYSENTER_CS], slots[state.SYSENTER_ESP], slots[state.SYSENTER_EIP] = CODES[0], STACKS[0], HANDLERS + 48
    slots[state.DEBUG + 6], slots[state.DEBUG + 7], slots[state.XCR0] = 0xFFFF0FF0, 0x400, 1
    stack = a_stack(rng)
    top = stack.status >> 11 & 7
    slots[state.FCW], slots[state.FSW] = stack.control, stack.status
    slots[state.FTW] = sum(3 << 2 * index for index in range(8) if stack.empty >> index & 1)
    for index, (word, mantissa) in enumerate(stack.registers):
        at = state.X87 + 2 * (top + index & 7)
        slots[at], slots[at + 1] = mantissa, word
    slots[state.FOP], slots[state.FIP], slots[state.FDP] = rng.getrandbits(11), rng.getrandbits(32), rng.getrandbits(32)
    vectors = b"".join(floats(rng) for _ in range(16))
    slots[state.XMM : state.XMM + 32] = struct.unpack("<32Q", vectors)
    masks = 0x1F80 if rng.random() < 0.8 else rng.getrandbits(6) << 7
    slots[state.MXCSR] = masks | rng.getrandbits(2) << 13 | rng.getrandbits(6) | rng.choice((0, 0, 0x40, 0x8000))
    return slots


def _on_stack(rng: random.Random, system: System, slots: list[int], found: Instruction) -> dict[int, bytes]:
    """Return a frame that IRET, RETF and the like can use, at the top of the stack."""
    top = slots[state.RSP] & (1 << system.world.stack) - 1
    where = system.world.bases[state.SS] + top
    base = system.world.bases[state.CS] if system.name in ("real 16", "virtual 16") else 0
    level = rng.choice((system.level, 3))
    code = rng.choice(((LONG_3 if level else LONG_0), CODES[level])) if "64" in system.name else CODES[level]
    if system.name in ("real 16", "virtual 16"):
        code, level = CODE - 0x800 >> 4, system.level
    words = [HANDLERS + 16 * rng.randrange(16) - base, code, rng.getrandbits(22) & ~state.VM]
    words += [STACK - 64, DATAS[level], *(_selector(rng, system) for _ in range(6))]
    if found.name.startswith("POP") and found.form.operands and found.form.operands[0].name:
        words[0] = _selector(rng, system)
    if rng.random() < 0.05:
        words[2] |= state.VM
    size = found.operand_size
    data = b"".join((word & (1 << 8 * size) - 1).to_bytes(size, "little") for word in words)
    return {where: data} if STACK - 0x200 <= where <= STACK else {}
