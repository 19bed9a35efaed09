"""A small assembler: lines in Intel's syntax, whose instructions iced-x86 encodes.

A line is ``label:``, or an instruction with registers, numbers, ``[register + number]`` with a size in front where no
register tells it, and labels to jump to; ``;`` begins a comment. There is no data: programs get numbers from whoever
writes their lines. Addresses have 32 bits in all modes, so that the same lines are assembled for each of them.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import iced_x86 as iced

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIZES: Final = {"byte": 8, "word": 16, "dword": 32}
_REGISTERS: Final = {
    name.lower(): getattr(iced.Register, name)
    for name in dir(iced.Register)
    if re.fullmatch(r"[A-D][LH]|E?([A-D]X|[SD]I|[SB]P)|[C-GS]S|ES|CR[0348]|R[A-D]X", name)
}
_MEMORY: Final = re.compile(r"(?:(byte|word|dword) *)?\[ *(?:(e[a-ds][xip]|ebp) *)?(?:(?:\+ *)?(\w+) *)?\]")
#: Instructions whose names depend on the mode: of 16, 32 and 64 bits.
_BY_MODE: Final = {
    "call": ("CALL_REL16", "CALL_REL32_32", "CALL_REL32_64"),
    "ret": ("RETNW", "RETND", "RETNQ"),
}
_MODES: Final = (16, 32, 64)
_STRING: Final = re.compile(r"(rep )?(ins|outs|movs|stos|lods)[bwd]")


class _Operand(NamedTuple):
    """What is passed to iced-x86, how its functions call that, and how its codes may."""

    kind: str
    value: Any
    forms: tuple[str, ...]


def assemble(lines: str, bits: int, origin: int) -> bytes:
    """Return the code of ``lines``, which lies at ``origin``, for a mode of 16, 32 or 64 bits."""
    labels: dict[str, int] = {}
    parsed: list[str] = []
    for line in lines.splitlines():
        text = line.partition(";")[0].strip()
        if text.endswith(":"):
            assert text[:-1] not in labels, text
            # Branches go to numbers of instructions, which iced-x86 turns into their addresses.
            labels[text[:-1]] = len(parsed) + 1
        elif text:
            parsed.append(text)
    encoder = iced.BlockEncoder(bits)
    for number, text in enumerate(parsed, 1):
        instruction = _instruction(text, bits, labels)
        instruction.ip = number
        encoder.add(instruction)
    return encoder.encode(origin)


def _instruction(text: str, bits: int, labels: dict[str, int]) -> iced.Instruction:
    if _STRING.fullmatch(text):
        made: iced.Instruction = getattr(iced.Instruction, "create_" + text.replace(" ", "_"))(32)
        return made
    name, _, rest = text.partition(" ")
    far = re.fullmatch(r"(\w+):(\w+)", rest)
    if far:
        return iced.Instruction.create_far_branch(iced.Code.JMP_PTR1616, int(far[1], 0), int(far[2], 0))
    if name in _BY_MODE:
        code = getattr(iced.Code, _BY_MODE[name][_MODES.index(bits)])
        return iced.Instruction.create_branch(code, labels[rest]) if rest else iced.Instruction.create(code)
    if name.startswith("j"):
        return iced.Instruction.create_branch(getattr(iced.Code, f"{name.upper()}_REL8_{bits}"), labels[rest])
    operands = [_operand(each.strip()) for each in rest.split(",")] if rest else []
    maker = getattr(iced.Instruction, "_".join(["create", *(each.kind for each in operands)]))
    for code in _codes(name, operands):
        try:
            found: iced.Instruction = maker(code, *(each.value for each in operands))
            iced.Encoder(bits).encode(found, 0)
        except ValueError:
            continue
        return found
    raise AssertionError(f"{text}: there is no such instruction of {bits} bits")


def _codes(name: str, operands: list[_Operand]) -> Iterator[int]:
    """Yield what may be meant, the shorter first."""
    for forms in itertools.product(*(each.forms for each in operands)):
        code = getattr(iced.Code, "_".join([name.upper(), *forms]), None)
        if code is not None:
            yield code


def _operand(text: str) -> _Operand:
    if text in _REGISTERS:
        register = _REGISTERS[text]
        if re.fullmatch("[c-gs]s|es", text):
            return _Operand("reg", register, ("SREG",))
        if text.startswith("cr"):
            return _Operand("reg", register, ("CR",))
        size = 8 * iced.RegisterExt.size(register)
        return _Operand("reg", register, (text.upper(), f"R{size}", f"RM{size}"))
    memory = _MEMORY.fullmatch(text)
    if memory:
        base = _REGISTERS[memory[2]] if memory[2] else iced.Register.NONE
        place = int(memory[3], 0) if memory[3] else 0
        sizes = [_SIZES[memory[1]]] if memory[1] else list(_SIZES.values())
        operand = iced.MemoryOperand(base, displ=place, displ_size=1 if base else 4)
        return _Operand("mem", operand, (*(f"RM{size}" for size in sizes), "M1632_16"))
    number = int(text, 0)
    return _Operand("u32" if number >= 1 << 31 else "i32", number, ("IMM8", "IMM16", "IMM32"))
