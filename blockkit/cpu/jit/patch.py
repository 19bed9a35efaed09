"""Stencils as bytes with holes, read from their object file, and how the holes are filled in."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.cpu.jit.stencils import CONTINUE
from blockkit.native.elf import read_functions

if TYPE_CHECKING:
    from collections.abc import Mapping

_JUMP: Final = 0xE9
_JUMP_SIZE: Final = 5
(_WIDE, _RELATIVE, _NARROW) = range(3)
#: What relocations of the psABI are here (table 4.9).
_KINDS: Final = {1: _WIDE, 2: _RELATIVE, 4: _RELATIVE, 10: _NARROW, 11: _NARROW}
_NARROW_LIMIT: Final = 1 << 31


class HoleError(Exception):
    """A number does not fit into its hole: this instruction stays with its handler."""


class Hole(NamedTuple):
    """A place that is filled in.

    Attributes:
        offset: In the code.
        kind: 64 bits; 32 bits relative to the place; 32 bits with a sign.
        name: What with.
        addend: What is added.
    """

    offset: int
    kind: int
    name: str
    addend: int


class Code(NamedTuple):
    """A stencil.

    Attributes:
        data: Its bytes; the jump to the next one at its end is cut off.
        holes: All of them.
        traits: See :func:`blockkit.cpu.jit.stencils.traits`.
    """

    data: bytes
    holes: tuple[Hole, ...]
    traits: str

    def put(self, memory: memoryview, at: int, address: int, values: Mapping[str, int]) -> int:
        """Copy it to ``at`` in memory that begins at ``address``; return where it ends. Raises HoleError."""
        end = at + len(self.data)
        memory[at:end] = self.data
        for offset, kind, name, addend in self.holes:
            value = (end + address if name == CONTINUE else values[name]) + addend
            place = at + offset
            if kind == _WIDE:
                struct.pack_into("<Q", memory, place, value & (1 << 64) - 1)
                continue
            if kind == _RELATIVE:
                value -= address + place
            if not -_NARROW_LIMIT <= value < _NARROW_LIMIT:
                raise HoleError
            struct.pack_into("<i", memory, place, value)
        return end


def read_stencils(data: bytes) -> dict[str, Code]:
    """Return the stencils of an object file by name; raises ObjectError."""
    found = {}
    for full, code, relocations in read_functions(data):
        holes = [Hole(offset, _KINDS[kind], symbol, addend) for offset, kind, symbol, addend in relocations]
        last = len(code) - _JUMP_SIZE
        if holes and holes[-1][0] == last + 1 and holes[-1].name == CONTINUE and code[last] == _JUMP:
            code = code[:last]
            holes.pop()
        name, _, letters = full.partition(".")
        found[name] = Code(code, tuple(holes), letters)
    return found
