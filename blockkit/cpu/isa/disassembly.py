"""From bytes to text in Intel's syntax, as MASM writes it, for people to read.

The text is made from the decoder's lines, so it has what this processor would execute: a prefix that does nothing is
left out, and an instruction of a feature the processor lacks is what it is without it. Memory always has its size,
numbers from 10 on are hexadecimal, the targets of jumps are addresses. Bytes that are no instruction are ``db``, one by
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu.isa.decode import RIP, SEGMENTS, DecodeError, Instruction, decode
from blockkit.cpu.isa.forms import BASELINE
from blockkit.cpu.isa.operands import MEMORY_OR_REGISTER, Operand, Where

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS: Final = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_BYTES: Final = ("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil")
_OLD_BYTES: Final = (*_BYTES[:4], "ah", "ch", "dh", "bh")
_SIZES: Final = {
    1: "byte ptr ", 2: "word ptr ", 4: "dword ptr ", 6: "fword ptr ", 8: "qword ptr ", 10: "tbyte ptr ",
    16: "xmmword ptr ",
}  # fmt: skip
_SS, _DS, _FS = 2, 3, 4
_STRING: Final = frozenset((Where.SOURCE, Where.TARGET))
#: Those that use XMM0 besides.
_MASKED: Final = frozenset(("PBLENDVB", "BLENDVPS", "BLENDVPD"))


class Line(NamedTuple):
    """One instruction, or one byte that is none.

    Attributes:
        address: Where it is.
        data: Its bytes.
        text: What it says.
    """

    address: int
    data: bytes
    text: str


def disassemble(data: bytes, mode: int, address: int = 0, features: frozenset[str] = BASELINE) -> Line:
    """Return what is at the start of ``data``, which is not empty.

    Args:
        data: 15 bytes, or as many as there are.
        mode: 16, 32 or 64.
        address: The offset in the code segment of the first byte.
        features: The CPUID features the processor has beyond x86-64-v2.
    """
    try:
        found = decode(data, mode, features)
    except DecodeError:
        return Line(address, data[:1], f"db {data[0]:#x}")
    return Line(address, data[: found.length], instruction_text(found, address))


def listing(data: bytes, mode: int, address: int = 0, features: frozenset[str] = BASELINE) -> Iterator[Line]:
    """Yield what is in ``data``, one line after the other, to its last byte; see :func:`disassemble`."""
    mask = (1 << 64) - 1 if mode == 64 else 0xFFFFFFFF
    at = 0
    while at < len(data):
        line = disassemble(data[at : at + 15], mode, address + at & mask, features)
        yield line
        at += len(line.data)


def instruction_text(found: Instruction, address: int = 0) -> str:
    """Return the text of a decoded instruction.

    Args:
        found: The instruction.
        address: The offset in the code segment of its first byte.
    """
    words = ["lock"] if found.lock else []
    name, operands = found.name, found.form.operands
    texts: list[str] = []
    if any(operand.where in _STRING for operand in operands):
        words += [_REPEATS[name[:4] in ("CMPS", "SCAS")][found.repeat]] if found.repeat else []
        if not _is_usual(found):
            # The letter of the size goes where the size is told.
            name = name[:-1]
            operands = tuple(each for each in operands if each.where in _STRING or each.name == "DX")
        else:
            operands = ()
    elif name in _IMPLIED and not _is_usual(found):
        texts.append(_source(found, *_IMPLIED[name]))
        name = name.removesuffix("B")
    elif name in ("FCOM", "FCOMP"):
        operands = operands[-1:]
    words.append(name.lower() + _suffix(found))
    texts += [_operand(found, operand, address) for operand in operands]
    texts += ["xmm0"] if name in _MASKED else []
    return " ".join([*words, ", ".join(texts)] if texts else words)


#: The size of addresses without a prefix, by mode.
_DEFAULT_SIZE: Final = {16: 2, 32: 4, 64: 8}


#: What F2 and F3 are before a string instruction, by whether it compares.
_REPEATS: Final = {False: {0xF2: "repne", 0xF3: "rep"}, True: {0xF2: "repne", 0xF3: "repe"}}
#: Those whose memory is not among their operands: its size, the register it is at.
_IMPLIED: Final = {"XLATB": (1, 3), "MASKMOVQ": (8, 7), "MASKMOVDQU": (16, 7)}
#: Those that read 16 bits of a register whatever the operand size.
_WORD_ONLY: Final = frozenset(("LLDT", "LTR", "VERR", "VERW", "LMSW"))
_TABLES: Final = frozenset(("LGDT", "LIDT", "SGDT", "SIDT"))


def _is_usual(found: Instruction) -> bool:
    """Tell whether the memory an instruction implies is where it is without prefixes."""
    reads = found.name in _IMPLIED or any(operand.where is Where.SOURCE for operand in found.form.operands)
    overridden = reads and found.segment is not None and _segment(found, found.segment, _DS)
    return found.address_size == _DEFAULT_SIZE[found.mode] and not overridden


def _suffix(found: Instruction) -> str:
    """Return the letter that tells a size no operand tells, if it is not the usual one."""
    name, size = found.name, found.operand_size
    usual = _DEFAULT_SIZE[found.mode]
    if name.startswith("LOOP"):
        size = found.address_size
    elif name in ("RETF", "SYSRET", "SYSEXIT"):
        usual = min(usual, 4)
        if name != "RETF" and size != 8:
            return ""
    elif name in _TABLES:
        if found.mode == 64:
            return ""
    elif name in ("PUSH", "POP"):
        if found.form.operands[0].where not in (Where.FIXED, Where.IMMEDIATE):
            return ""
    elif name not in ("RET", "ENTER", "LEAVE"):
        return ""
    return "" if size == usual else {2: "w", 4: "d", 8: "q"}[size]


def _operand(found: Instruction, operand: Operand, address: int) -> str:
    long = found.mode == 64
    where, size = operand.where, operand.bytes(found.operand_size, long=long)
    if where is Where.MEMORY or (where in MEMORY_OR_REGISTER and found.mod != 3):
        wide = "oword ptr " if found.name == "CMPXCHG16B" else _SIZES.get(size, "")
        return wide + _memory(found, address)
    if where in (Where.RM, Where.RM_REGISTER, Where.OPCODE):
        size = 2 if found.name in _WORD_ONLY else size
        return _general(found.rm, size, rex=found.rex)
    if where is Where.REG:
        return _general(found.reg, size, rex=found.rex)
    if where in _NUMBERED:
        name, of_rm, mask = _NUMBERED[where]
        return f"{name}{(found.rm if of_rm else found.reg) & mask}"
    if where is Where.SEGMENT:
        return SEGMENTS[found.reg & 7].lower()
    if where is Where.IMMEDIATE:
        return _number(found.second if operand.size == "b2" else found.immediate)
    if where is Where.RELATIVE:
        bits = 64 if long else found.operand_size * 8
        return _number(address + found.length + found.immediate & (1 << bits) - 1)
    if where is Where.FAR:
        return f"{_number(found.second)}:{_number(found.immediate)}"
    if where is Where.OFFSET:
        segment = _DS if found.segment is None else found.segment
        return f"{_SIZES[size]}{_segment(found, segment, _DS)}[{_number(found.displacement)}]"
    if where is Where.SOURCE:
        return _source(found, size, 6)
    if where is Where.TARGET:
        return f"{_SIZES[size]}es:[{_general(7, found.address_size)}]"
    if operand.name in ("rAX", "eAX"):
        return _general(0, size)
    return {"ST": "st", "STi": f"st({found.rm & 7})"}.get(operand.name, operand.name.lower())


#: What stands in a field of ModRM: the name before the number, whether the field is ``rm``, the bits that count.
_NUMBERED: Final = {
    Where.CONTROL: ("cr", False, 15),
    Where.DEBUG: ("dr", False, 15),
    Where.XMM: ("xmm", False, 15),
    Where.XMM_RM: ("xmm", True, 15),
    Where.XMM_REGISTER: ("xmm", True, 15),
    Where.MMX: ("mm", False, 7),
    Where.MMX_RM: ("mm", True, 7),
    Where.MMX_REGISTER: ("mm", True, 7),
}


def _general(number: int, size: int, *, rex: int = 0) -> str:
    """Return the name of a general register."""
    if number >= 8:
        return f"r{number}{ {1: 'b', 2: 'w', 4: 'd', 8: ''}[size] }"
    if size == 1:
        return (_BYTES if rex else _OLD_BYTES)[number]
    return {2: "", 4: "e", 8: "r"}[size] + _WORDS[number]


def _source(found: Instruction, size: int, register: int) -> str:
    """Return memory of a segment that can be overridden, at a register the instruction implies."""
    segment = _DS if found.segment is None else found.segment
    return f"{_SIZES[size]}{_segment(found, segment, _DS)}[{_general(register, found.address_size)}]"


def _number(value: int) -> str:
    return str(value) if value < 10 else f"{value:#x}"


def _segment(found: Instruction, segment: int, default: int) -> str:
    """Return a segment and a colon where it is not what the instruction has without a prefix."""
    if segment == default or (found.mode == 64 and segment < _FS):
        return ""
    return f"{SEGMENTS[segment].lower()}:"


def _memory(found: Instruction, address: int) -> str:
    bits, displacement = found.address_size * 8, found.displacement
    stack = found.base in (4, 5) if found.address_size > 2 else found.base == 5
    parts = []
    if found.base == RIP:
        displacement += address + found.length
    elif found.base is not None:
        parts.append(_general(found.base, found.address_size))
    if found.index is not None:
        scale = f"*{1 << found.scale}" if found.scale or not parts else ""
        parts.append(_general(found.index, found.address_size) + scale)
    text = "+".join(parts)
    if not parts:
        text = _number(displacement & (1 << bits) - 1)
    elif displacement:
        text += ("-" if displacement < 0 else "+") + _number(abs(displacement))
    if found.name == "LEA":
        return f"[{text}]"
    return f"{_segment(found, found.effective_segment, _SS if stack else _DS)}[{text}]"
