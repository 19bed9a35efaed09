"""Where an instruction's operands are, and how wide: the codes of the opcode map.

A code is a letter that says where, then a size. The letters are the SDM's (volume 2, A.2.1), with ``R`` and ``U``,
``N`` for a ``rm`` that must be a register (general, XMM, MMX), and ``Z`` for the register in the opcode.
"""

from __future__ import annotations

import enum
from functools import cache
from typing import Final, NamedTuple


class Where(enum.Enum):
    """Where an operand is."""

    RM = "E"  #: ``rm``: a general register or memory
    REG = "G"  #: ``reg``: a general register
    MEMORY = "M"  #: ``rm``: memory, always
    RM_REGISTER = "R"  #: ``rm``: a general register, always
    OPCODE = "Z"  #: the low bits of the opcode: a general register
    SEGMENT = "S"  #: ``reg``: a segment register
    CONTROL = "C"  #: ``reg``: a control register
    DEBUG = "D"  #: ``reg``: a debug register
    XMM = "V"  #: ``reg``: an XMM register
    XMM_RM = "W"  #: ``rm``: an XMM register or memory
    XMM_REGISTER = "U"  #: ``rm``: an XMM register, always
    MMX = "P"  #: ``reg``: an MMX register
    MMX_RM = "Q"  #: ``rm``: an MMX register or memory
    MMX_REGISTER = "N"  #: ``rm``: an MMX register, always
    IMMEDIATE = "I"
    RELATIVE = "J"  #: a distance from the end of the instruction
    OFFSET = "O"  #: memory at an address in the instruction, without ModRM
    FAR = "A"  #: selector and offset in the instruction
    SOURCE = "X"  #: memory at DS:rSI; the segment can be overridden
    TARGET = "Y"  #: memory at ES:rDI
    FIXED = "="  #: a register, or the number 1, that the instruction implies


#: Operands that are memory unless ``mod`` is 3.
MEMORY_OR_REGISTER: Final = frozenset((Where.RM, Where.XMM_RM, Where.MMX_RM))
#: Operands that need ModRM.
NEED_MODRM: Final = MEMORY_OR_REGISTER | {
    *(Where.REG, Where.MEMORY, Where.RM_REGISTER, Where.SEGMENT, Where.CONTROL, Where.DEBUG, Where.XMM),
    *(Where.XMM_REGISTER, Where.MMX, Where.MMX_REGISTER),
}

#: Registers and numbers that stand for themselves, with the sizes they have.
FIXED: Final = {
    "AL": "b",
    "CL": "b",
    "AX": "w",
    "DX": "w",
    "rAX": "v",
    "eAX": "z",
    "1": "b",
    "ST": "t",
    "STi": "t",
    **dict.fromkeys(("ES", "CS", "SS", "DS", "FS", "GS"), "w"),
}

#: Sizes that never change, in bytes; 0 is a size that only the machine's state tells.
_FIXED_SIZES: Final = {"b": 1, "w": 2, "d": 4, "q": 8, "x": 16, "t": 10, "fx": 512, "xs": 0, "b2": 1, "": 0}


class Operand(NamedTuple):
    """One operand of one form.

    Attributes:
        where: Where it is.
        size: The size code: ``b`` 1 byte, ``w`` 2, ``d`` 4, ``q`` 8, ``x`` 16, ``t`` 10; ``v`` the operand size, ``z``
            that but 4 for 8, ``y`` 8 with REX.W and else 4, ``n`` 8 in 64-bit mode and else 4; ``p`` an offset of the
            operand size and a selector, ``s`` a limit and a base, ``a`` two of the operand size, ``qd`` two of
            ``y``; ``fe``, ``fs``, ``fx``, ``xs`` the areas of FNSTENV, FNSAVE, FXSAVE and XSAVE; ``bs`` a byte that is
            extended to the operand size, ``b2`` a second byte.
        name: Of a FIXED operand.
    """

    where: Where
    size: str
    name: str = ""

    def bytes(self, operand_size: int, *, long: bool) -> int:
        """Return its size in bytes.

        Args:
            operand_size: Of the instruction: 2, 4 or 8.
            long: The processor is in 64-bit mode.
        """
        size = self.size
        known = _FIXED_SIZES.get(size)
        if known is not None:
            return known
        if size in ("v", "bs"):
            return operand_size
        if size == "z":
            return min(operand_size, 4)
        if size == "y":
            return max(operand_size, 4)
        if size == "n":
            return 8 if long else 4
        if size == "p":
            return operand_size + 2
        if size == "s":
            return 10 if long else 6
        if size == "a":
            return operand_size * 2
        if size == "qd":
            return 16 if operand_size == 8 else 8
        if size == "fe":
            return 14 if operand_size == 2 else 28
        assert size == "fs", size
        return 94 if operand_size == 2 else 108


@cache
def parse_operand(code: str) -> Operand:
    """Read one operand of the map, such as ``Ev``."""
    if code in FIXED:
        return Operand(Where.FIXED, FIXED[code], code)
    return Operand(Where(code[0]), code[1:])
