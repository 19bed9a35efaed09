"""The opcode map as forms, found by what the decoder has read so far."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu.isa.opcodes import lines
from blockkit.cpu.isa.operands import MEMORY_OR_REGISTER, NEED_MODRM, Operand, Where, parse_operand

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the processor has beyond x86-64-v2, always or if CPUID says so; all else is left out unless it is asked for.
BASELINE: Final = frozenset(("adx", "aes", "fsgsbase", "lzcnt", "movbe", "pclmulqdq", "rdrand", "rdseed", "smap"))

_PREFIXES: Final = {"NP": 0, "66": 0x66, "F2": 0xF2, "F3": 0xF3}
_FLAGS: Final = frozenset(("i64", "o64", "d64", "f64", "lock"))


class Form(NamedTuple):
    """One line of the map.

    Attributes:
        opcode: The opcode bytes as one number, such as 0x0F38F0.
        names: The mnemonic with 16-, 32- and 64-bit operands; one if it is always the same.
        operands: In the SDM's order, the destination first.
        flags: As in the map.
        feature: The CPUID feature it needs; empty if none.
        prefix: The mandatory prefix, 0 for none of 66, F2 and F3; None if any may stand there.
        reg: What ``reg`` of ModRM must be; None for any.
        rm: What ``rm`` must be, with ``mod`` 3; None for any.
        memory: Whether ``rm`` must be memory; None for either.
        modrm: Whether there is a ModRM byte.
    """

    opcode: int
    names: tuple[str, ...]
    operands: tuple[Operand, ...]
    flags: frozenset[str]
    feature: str = ""
    prefix: int | None = None
    reg: int | None = None
    rm: int | None = None
    memory: bool | None = None
    modrm: bool = False

    def name(self, operand_size: int) -> str:
        """Return the mnemonic with operands of so many bytes."""
        names = self.names
        return names[0] if len(names) == 1 else names[min({2: 0, 4: 1, 8: 2}[operand_size], len(names) - 1)]


def _parse(line: str) -> Iterator[Form]:
    """Read one line; one with a register in the opcode gives eight forms."""
    words = line.split()
    prefix = _PREFIXES[words.pop(0)] if words[0] in _PREFIXES and _is_opcode(words[1]) else None
    opcode, suffix = 0, ""
    while words and not suffix and _is_opcode(words[0]):
        digits, mark, suffix = _partition(words.pop(0))
        opcode, suffix = opcode << 8 | int(digits, 16), mark + suffix
        if opcode not in (0x0F, 0x0F38, 0x0F3A):
            break
    names = tuple(words.pop(0).split("|"))
    features = [word[1:] for word in words if word.startswith("@")]
    flags = frozenset(word for word in words if word in _FLAGS)
    codes = [word for word in words if word not in _FLAGS and not word.startswith("@")]
    operands = tuple(parse_operand(code) for code in codes[0].split(",")) if codes else ()
    reg, rm, memory = _parse_suffix(suffix)
    wheres = {operand.where for operand in operands}
    if Where.MEMORY in wheres and memory is None:
        memory = True
    if wheres & {Where.RM_REGISTER, Where.XMM_REGISTER, Where.MMX_REGISTER} and memory is None:
        # MOV to and from control and debug registers ignores mod; see the decoder.
        memory = None if wheres & {Where.CONTROL, Where.DEBUG} else False
    modrm = bool(suffix.startswith("/") or wheres & NEED_MODRM or 0xD8 <= opcode <= 0xDF)
    assert not (memory is None and wheres & MEMORY_OR_REGISTER and not modrm), line
    for low in range(8 if suffix == "+r" else 1):
        yield Form(
            opcode + low,
            names,
            operands,
            flags,
            features[0] if features else "",
            prefix,
            reg,
            rm,
            memory,
            modrm,
        )


def _is_opcode(word: str) -> bool:
    digits = _partition(word)[0]
    return len(digits) == 2 and all(digit in "0123456789ABCDEF" for digit in digits)


def _partition(word: str) -> tuple[str, str, str]:
    for mark in "/+":
        if mark in word:
            return word.partition(mark)
    return word, "", ""


def _parse_suffix(suffix: str) -> tuple[int | None, int | None, bool | None]:
    """Read ``/reg``, ``/reg.rm``, ``/m``, ``/r``, ``/4m``, ``/4r``: ``(reg, rm, memory)``."""
    if not suffix.startswith("/"):
        return None, None, None
    text = suffix[1:]
    memory = {"m": True, "r": False}.get(text[-1])
    reg, _, rm = text.rstrip("mr").partition(".")
    return int(reg) if reg else None, int(rm) if rm else None, False if rm else memory


@cache
def forms() -> tuple[Form, ...]:
    """Return every form of the map, those of every feature."""
    return tuple(form for line in lines() for form in _parse(line))


@cache
def by_opcode(features: frozenset[str] = BASELINE) -> dict[int, tuple[Form, ...]]:
    """Return the forms of each opcode, the more particular ones first.

    Args:
        features: The CPUID features the processor has beyond x86-64-v2, by their names in the map.
    """
    found: dict[int, list[Form]] = {}
    for form in forms():
        if not form.feature or form.feature in features:
            found.setdefault(form.opcode, []).append(form)
    return {
        opcode: tuple(sorted(several, key=lambda form: (form.prefix is None, form.reg is None, form.rm is None)))
        for opcode, several in found.items()
    }
