"""Instructions as iced-x86 decodes them, in words that ours can be put in too."""

from __future__ import annotations

from typing import Any, Final

import iced_x86 as iced

from blockkit.cpu.isa.decode import RIP, SEGMENTS, Instruction
from blockkit.cpu.isa.operands import MEMORY_OR_REGISTER, Where


def _names(of: type[Any]) -> dict[int, str]:
    return {value: name for name, value in vars(of).items() if isinstance(value, int)}


KINDS: Final = _names(iced.OpKind)
REGISTERS: Final = _names(iced.Register)
MNEMONICS: Final = _names(iced.Mnemonic)
FEATURES: Final = _names(iced.CpuidFeature)

#: What x86-64-v2 has, and the features that the map has without a flag.
HAVE: Final = frozenset(
    "INTEL8086 INTEL8086_ONLY INTEL186 INTEL286 INTEL286_ONLY INTEL386 INTEL386_ONLY INTEL486 X64 CPUID MSR TSC CMOV "
    "FPU FPU287 FPU387 MMX SSE SSE2 SSE3 SSSE3 SSE4_1 SSE4_2 POPCNT CX8 CMPXCHG16B FXSR CLFSH MONITOR RDPMC "
    "RDTSCP SEP SYSCALL SMM PAUSE MULTIBYTENOP PREFETCHW FSGSBASE MOVBE RDRAND SMAP ADX AES LZCNT PCLMULQDQ RDSEED "
    "INTEL8087 "
    "FPU287XL_ONLY FPU287_ONLY UDBG".split()
)
#: Other names for what is the same to us, by theirs.
SAME: Final = {
    **dict.fromkeys(("RESERVEDNOP", "PREFETCHIT0", "PREFETCHIT1", "CLDEMOTE", "ENDBR32", "ENDBR64"), "NOP"),
    **dict.fromkeys(("RDSSPD", "RDSSPQ", "BNDMK", "BNDCL", "BNDCU", "BNDCN", "BNDMOV", "BNDLDX", "BNDSTX"), "NOP"),
    "PREFETCH": "PREFETCHW",
    "PREFETCHWT1": "PREFETCHW",
    "TZCNT": "BSF",
    "WBNOINVD": "WBINVD",
    "SYSEXITQ": "SYSEXIT",
    "SYSRETQ": "SYSRET",
}

_WORD = ("AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI")
_LOW = ("AL", "CL", "DL", "BL", "SPL", "BPL", "SIL", "DIL")


def general(number: int, size: int, *, rex: int = 1) -> str:
    """Return the name of a general register."""
    if size == 1:
        low = _LOW if rex else (*_LOW[:4], "AH", "CH", "DH", "BH")
        return [*low, *(f"R{n}L" for n in range(8, 16))][number]
    if number >= 8:
        return f"R{number}{ {2: 'W', 4: 'D', 8: ''}[size] }"
    return {2: "", 4: "E", 8: "R"}[size] + _WORD[number]


def operands_of(found: Instruction) -> list[object]:
    """Put our operands in common words."""
    return [_ours(found, index) for index in range(len(found.form.operands))]


def _ours(found: Instruction, index: int) -> object:
    operand, long = found.form.operands[index], found.mode == 64
    where, size, address = operand.where, operand.bytes(found.operand_size, long=long), found.address_size
    segment = SEGMENTS[3 if found.segment is None else found.segment]
    if where is Where.MEMORY or (where in MEMORY_OR_REGISTER and found.mod != 3):
        base = "NONE" if found.base is None else general(found.base, address) if found.base != RIP else "RIP"
        scaled = ("NONE", 0) if found.index is None else (general(found.index, address), found.scale)
        place = found.displacement % (1 << 8 * address)
        return "memory", base, scaled, place, _flat(SEGMENTS[found.effective_segment], long), size
    by_number = {
        Where.RM: lambda: general(found.rm, size, rex=found.rex),
        Where.RM_REGISTER: lambda: general(found.rm, size, rex=found.rex),
        Where.OPCODE: lambda: general(found.rm, size, rex=found.rex),
        Where.REG: lambda: general(found.reg, size, rex=found.rex),
        Where.SEGMENT: lambda: SEGMENTS[found.reg & 7],
        Where.CONTROL: lambda: f"CR{found.reg}",
        Where.DEBUG: lambda: f"DR{found.reg}",
        Where.XMM: lambda: f"XMM{found.reg}",
        Where.XMM_RM: lambda: f"XMM{found.rm}",
        Where.XMM_REGISTER: lambda: f"XMM{found.rm}",
        Where.MMX: lambda: f"MM{found.reg & 7}",
        Where.MMX_RM: lambda: f"MM{found.rm & 7}",
        Where.MMX_REGISTER: lambda: f"MM{found.rm & 7}",
    }
    if where in by_number:
        return by_number[where]()
    if where is Where.IMMEDIATE:
        return "immediate", (found.second if operand.size == "b2" else found.immediate) % (1 << 8 * size)
    if where is Where.RELATIVE:
        width = 64 if long else found.operand_size * 8
        return "to", (found.length + found.immediate) % (1 << width)
    if where is Where.FAR:
        return "far", found.second, found.immediate
    if where is Where.OFFSET:
        return "memory", "NONE", ("NONE", 0), found.displacement, _flat(segment, long), size
    if where is Where.SOURCE:
        return "string", _flat(segment, long), size, address
    if where is Where.TARGET:
        return "string", _flat("ES", long), size, address
    fixed = {"ST": "ST0", "STi": f"ST{found.rm & 7}", "1": ("immediate", 1)}
    return general(0, size) if operand.name in ("rAX", "eAX") else fixed.get(operand.name, operand.name)


def _flat(segment: str, long: bool) -> str:
    """In 64-bit mode only FS and GS have a base."""
    return segment if not long or segment in ("FS", "GS") else "flat"


def operands_like(found: Instruction, theirs: iced.Instruction) -> list[object]:
    """Put their operands in common words; ours tell how wide immediates are."""
    return [_theirs(found, theirs, index) for index in range(theirs.op_count)]


def _theirs(found: Instruction, theirs: iced.Instruction, index: int) -> object:
    kind, long = KINDS[theirs.op_kind(index)], found.mode == 64
    size = iced.MemorySizeExt.size(theirs.memory_size)
    if kind == "REGISTER":
        return REGISTERS[theirs.op_register(index)]
    if kind == "MEMORY":
        base, other = REGISTERS[theirs.memory_base], REGISTERS[theirs.memory_index]
        place = theirs.memory_displacement - (theirs.len if base in ("RIP", "EIP") else 0)
        scaled = (other, theirs.memory_index_scale.bit_length() - 1 if other != "NONE" else 0)
        segment = _flat(REGISTERS[theirs.memory_segment], long)
        return "memory", base.replace("EIP", "RIP"), scaled, place % (1 << 8 * found.address_size), segment, size
    if kind.startswith("NEAR"):
        return "to", theirs.near_branch_target
    if kind.startswith("FAR"):
        far = theirs.far_branch32 if kind == "FAR_BRANCH32" else theirs.far_branch16
        return "far", theirs.far_branch_selector, far
    if kind.startswith("IMMEDIATE"):
        ours = [each for each in found.form.operands if each.where is Where.IMMEDIATE or each.name == "1"]
        before = sum(KINDS[theirs.op_kind(each)].startswith("IMMEDIATE") for each in range(index))
        return "immediate", theirs.immediate(index) % (1 << 8 * ours[before].bytes(found.operand_size, long=long))
    segment = "ES" if kind.startswith("MEMORY_ES") else REGISTERS[theirs.memory_segment]
    register = kind.removeprefix("MEMORY_ES").removeprefix("MEMORY_SEG_")
    return "string", _flat(segment, long), size, {"R": 8, "E": 4}.get(register[0], 2)
