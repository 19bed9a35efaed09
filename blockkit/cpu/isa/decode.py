"""From bytes to an instruction: prefixes, opcode, ModRM, SIB, displacement, immediates (SDM volume 2, chapter 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu.isa.forms import BASELINE, by_opcode
from blockkit.cpu.isa.operands import MEMORY_OR_REGISTER, Where

if TYPE_CHECKING:
    from blockkit.cpu.isa.forms import Form

#: No instruction is longer; one that would be raises #GP.
MAX_LENGTH: Final = 15

#: Segment registers in the order of their numbers.
SEGMENTS: Final = ("ES", "CS", "SS", "DS", "FS", "GS")
_SEGMENT_PREFIXES: Final = {0x26: 0, 0x2E: 1, 0x36: 2, 0x3E: 3, 0x64: 4, 0x65: 5}
_SS, _DS, _FS = 2, 3, 4

#: ``base`` of an operand relative to the end of the instruction.
RIP: Final = 16

#: The registers of each ``rm`` with 16-bit addresses: base, index.
_PAIRS: Final = ((3, 6), (3, 7), (5, 6), (5, 7), (6, None), (7, None), (5, None), (3, None))

_VALID_CONTROL: Final = frozenset((0, 2, 3, 4, 8))


class DecodeError(Exception):
    """The bytes are no instruction; the processor raises an exception instead of executing them."""


class UndefinedError(DecodeError):
    """#UD: no form of any instruction fits, or a LOCK stands where it may not."""


class TooLongError(DecodeError):
    """#GP: the instruction would have more than 15 bytes."""


class TruncatedError(DecodeError):
    """The bytes end inside the instruction; the processor fetches the rest, or faults doing it."""


class Instruction:
    """One decoded instruction.

    Attributes:
        form: The line of the map that it is.
        mode: 16, 32 or 64: the default size of the code.
        length: Bytes.
        operand_size: 2, 4 or 8 bytes.
        address_size: Likewise.
        lock: It has a LOCK prefix.
        repeat: The last of the F2 and F3 prefixes; 0 without one, and where it is part of the opcode.
        segment: The segment register that overrides the default one; None if none does.
        rex: Its REX prefix; 0 without one. With any, byte registers 4 to 7 are SPL to DIL.
        mod: The fields of ModRM, ``reg`` and ``rm`` with the bits of REX; 0 without ModRM.
        reg: See ``mod``.
        rm: See ``mod``; of an instruction with a register in its opcode, that register.
        base: The base register of a memory operand, RIP, or None.
        index: The index register, or None.
        scale: What it is multiplied with is ``1 << scale``.
        displacement: Bytes, signed; the address itself of an OFFSET operand.
        immediate: Unsigned, as wide as its operand; the distance, signed, of a RELATIVE one, the offset of a FAR one.
        second: The second immediate of ENTER, the selector of a FAR operand.
    """

    __slots__ = (
        *("form", "mode", "length", "operand_size", "address_size", "lock", "repeat", "segment", "rex", "mod", "reg"),
        *("rm", "base", "index", "scale", "displacement", "immediate", "second"),
    )

    def __init__(self, form: Form, mode: int) -> None:
        self.form, self.mode = form, mode
        self.length = self.operand_size = self.address_size = 0
        self.lock, self.repeat = False, 0
        self.segment: int | None = None
        self.rex = self.mod = self.reg = self.rm = 0
        self.base: int | None = None
        self.index: int | None = None
        self.scale = self.displacement = self.immediate = self.second = 0

    @property
    def name(self) -> str:
        """The mnemonic."""
        # JCXZ goes by the size of the counter, which is that of addresses.
        return self.form.name(self.address_size if self.form.opcode == 0xE3 else self.operand_size)

    @property
    def is_memory(self) -> bool:
        """Whether its ``rm`` operand is memory."""
        return self.form.modrm and self.mod != 3

    @property
    def effective_segment(self) -> int:
        """The number of the segment register of its ``rm`` operand in memory."""
        if self.segment is not None:
            return self.segment
        stack = self.base in (4, 5) if self.address_size > 2 else self.base == 5
        return _SS if stack else _DS


class _Bytes:
    """Takes bytes one after the other."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def byte(self) -> int:
        position = self.position
        if position >= MAX_LENGTH:
            raise TooLongError
        if position >= len(self.data):
            raise TruncatedError
        self.position = position + 1
        return self.data[position]

    def number(self, size: int, *, signed: bool = False) -> int:
        end = self.position + size
        if end > MAX_LENGTH:
            raise TooLongError
        if end > len(self.data):
            raise TruncatedError
        value = int.from_bytes(self.data[self.position : end], "little", signed=signed)
        self.position = end
        return value


def decode(data: bytes, mode: int, features: frozenset[str] = BASELINE) -> Instruction:
    """Decode the instruction at the start of ``data``.

    Args:
        data: 15 bytes, or as many as there are.
        mode: 16, 32 or 64.
        features: The CPUID features the processor has beyond x86-64-v2.

    Raises:
        UndefinedError: it raises #UD.
        TooLongError: it raises #GP.
        TruncatedError: ``data`` ends inside it.
    """
    source = _Bytes(data)
    lock = operand_prefix = address_prefix = False
    repeat = rex = 0
    segment: int | None = None
    while True:
        byte = source.byte()
        if byte == 0x66:
            operand_prefix = True
        elif byte == 0x67:
            address_prefix = True
        elif byte in (0xF2, 0xF3):
            repeat = byte
        elif byte == 0xF0:
            lock = True
        elif byte in _SEGMENT_PREFIXES:
            number = _SEGMENT_PREFIXES[byte]
            if mode != 64 or number >= _FS:
                segment = number
        elif mode == 64 and byte & 0xF0 == 0x40:
            rex = byte
            continue
        else:
            break
        rex = 0  # it counts only right before the opcode
    opcode = byte
    while opcode in (0x0F, 0x0F38, 0x0F3A):
        opcode = opcode << 8 | source.byte()
    several = by_opcode(features).get(opcode)
    if several is None:
        raise UndefinedError
    modrm = 0
    if several[0].modrm:
        modrm = source.byte()
    mandatory = repeat or (0x66 if operand_prefix else 0)
    form = _choose(several, mandatory, modrm, mode, rex)
    found = Instruction(form, mode)
    found.lock, found.segment, found.rex = lock, segment, rex
    found.repeat = 0 if form.prefix in (0xF2, 0xF3) else repeat
    found.operand_size = _operand_size(form, mode, operand_prefix, rex)
    found.address_size = (4 if address_prefix else 8) if mode == 64 else 2 if (mode == 16) != address_prefix else 4
    if form.modrm:
        found.mod, found.reg, found.rm = modrm >> 6, modrm >> 3 & 7 | rex << 1 & 8, modrm & 7
        if found.mod == 3 or _ignores_mod(form):
            found.mod = 3
            found.rm |= rex << 3 & 8
        elif found.address_size == 2:
            _address_16(found, source)
        else:
            _address(found, source)
    else:
        found.rm = opcode & 7 | rex << 3 & 8
    _immediates(found, source)
    found.length = source.position
    _judge(found)
    return found


def _choose(several: tuple[Form, ...], mandatory: int, modrm: int, mode: int, rex: int) -> Form:
    """Return the form that fits."""
    memory, reg, rm = modrm < 0xC0, modrm >> 3 & 7, modrm & 7
    for form in several:
        if (
            form.prefix in (None, mandatory)
            and form.reg in (None, reg)
            and form.rm in (None, rm)
            and (form.memory is None or form.memory == memory)
            and not ("i64" in form.flags and mode == 64)
            and not ("o64" in form.flags and mode != 64)
            # XCHG of R8 with RAX is no NOP.
            and not (form.opcode == 0x90 and not form.operands and rex & 1)
        ):
            return form
    raise UndefinedError


def _operand_size(form: Form, mode: int, prefix: bool, rex: int) -> int:
    if mode == 64:
        if rex & 8 or "f64" in form.flags:
            return 8
        if prefix:
            return 2
        return 8 if "d64" in form.flags else 4
    return 2 if (mode == 16) != prefix else 4


def _ignores_mod(form: Form) -> bool:
    """Whether ``rm`` is a register whatever ``mod`` says: MOV to and from control and debug registers."""
    return 0x0F20 <= form.opcode <= 0x0F23


def _address_16(found: Instruction, source: _Bytes) -> None:
    found.base, found.index = _PAIRS[found.rm]
    if found.mod == 0 and found.rm == 6:
        found.base = None
        found.displacement = source.number(2, signed=True)
    elif found.mod:
        found.displacement = source.number(found.mod, signed=True)


def _address(found: Instruction, source: _Bytes) -> None:
    rex = found.rex
    if found.rm == 4:
        sib = source.byte()
        found.scale = sib >> 6
        index = sib >> 3 & 7 | rex << 2 & 8
        found.index = index if index != 4 else None
        found.base = sib & 7 | rex << 3 & 8
        absolute = sib & 7 == 5
        if absolute and found.mod == 0:
            found.base = None
    else:
        absolute = found.rm == 5
        found.base = found.rm | rex << 3 & 8
        if absolute and found.mod == 0:
            found.base = RIP if found.mode == 64 else None
    if found.mod == 1:
        found.displacement = source.number(1, signed=True)
    elif found.mod == 2 or (absolute and found.mod == 0):
        found.displacement = source.number(4, signed=True)


def _immediates(found: Instruction, source: _Bytes) -> None:
    size = found.operand_size
    for operand in found.form.operands:
        where, code = operand.where, operand.size
        if where is Where.IMMEDIATE:
            if code == "bs":
                found.immediate = source.number(1, signed=True) & (1 << size * 8) - 1
            elif code == "b2":
                found.second = source.number(1)
            elif code == "z":
                found.immediate = source.number(min(size, 4), signed=True) & (1 << size * 8) - 1
            else:
                found.immediate = source.number(operand.bytes(size, long=found.mode == 64))
        elif where is Where.RELATIVE:
            found.immediate = source.number(1 if code == "b" else min(size, 4), signed=True)
        elif where is Where.OFFSET:
            found.displacement = source.number(found.address_size)
        elif where is Where.FAR:
            found.immediate = source.number(size)
            found.second = source.number(2)


def _judge(found: Instruction) -> None:
    """Refuse what fits a form and is undefined all the same."""
    form = found.form
    if found.lock and not ("lock" in form.flags and found.mod != 3 and form.operands[0].where in _LOCKABLE):
        raise UndefinedError
    for index, operand in enumerate(form.operands):
        where = operand.where
        if (
            (where is Where.SEGMENT and (found.reg & 7 > 5 or (found.reg & 7 == 1 and index == 0)))
            or (where is Where.CONTROL and found.reg not in _VALID_CONTROL)
            or (where is Where.DEBUG and found.reg > 7)
        ):
            raise UndefinedError


_LOCKABLE: Final = MEMORY_OR_REGISTER | {Where.MEMORY}
