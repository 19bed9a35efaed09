"""Addresses as people write them: sums of numbers and registers, read as QEMU's monitor reads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Parentheses inside parentheses at most.
_DEEPEST: Final = 32
_MASK: Final = (1 << 64) - 1
_TOKEN: Final = re.compile(r"\s*(0[xX][0-9a-fA-F]+|[0-9]+|\$[a-z0-9_.]+|'.'|[-+*/%&|^~()])")
_SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")
#: Operators by how loosely they bind, the loosest first; QEMU lets those on bits bind more than sums.
_OPERATORS: Final = ("+-", "&|^", "*/%")
_ACTIONS: Final[dict[str, Callable[[int, int], int]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}


def _slots_by_name() -> dict[str, int]:
    found = {name: number for number, name in enumerate(state.REGISTERS)}
    found |= {f"e{name[1:]}": number for number, name in enumerate(state.REGISTERS[:8])}
    found |= {"rip": state.RIP, "eip": state.RIP, "cr0": state.CR0, "cr2": state.CR2, "cr3": state.CR3}
    found |= {"cr4": state.CR4}
    for number, name in enumerate(_SEGMENTS):
        found |= {name: state.SELECTORS + number, f"{name}.base": state.SEGMENT_BASES + number}
        found[f"{name}.limit"] = state.SEGMENT_LIMITS + number
    return found


_SLOTS: Final = _slots_by_name()


def _register(slots: Sequence[int], name: str) -> int:
    if name == "pc":
        # The linear address of the next instruction.
        if slots[state.MODE] & state.MODE_64:
            return slots[state.RIP]
        return slots[state.SEGMENT_BASES + state.CS] + slots[state.RIP] & 0xFFFFFFFF
    if name in ("eflags", "rflags"):
        return state.rflags(list(slots))
    if name not in _SLOTS:
        raise UsageError(f"there is no register ${name[:20]}")
    return slots[_SLOTS[name]]


class _Parser:
    """Takes the words of an expression one after the other."""

    def __init__(self, slots: Sequence[int], words: list[str]) -> None:
        self._slots, self._words, self._at, self._depth = slots, words, 0, 0

    def whole(self) -> int:
        value = self._binary(0)
        if self._at < len(self._words):
            raise UsageError(f"'{self._words[self._at]}' is too much in the expression")
        return value

    def _next(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _binary(self, level: int) -> int:
        if level == len(_OPERATORS):
            return self._unary()
        value = self._binary(level + 1)
        while (operator := self._next()) and operator in _OPERATORS[level]:
            self._at += 1
            other = self._binary(level + 1)
            if operator in "/%" and not other:
                raise UsageError("division by zero")
            value = _ACTIONS[operator](value, other) & _MASK
        return value

    def _unary(self) -> int:
        signs = []
        while self._next() in ("-", "+", "~"):
            signs.append(self._next())
            self._at += 1
        value = self._primary()
        for sign in reversed(signs):
            value = {"-": -value, "+": value, "~": ~value}[sign] & _MASK
        return value

    def _primary(self) -> int:
        word = self._next()
        self._at += 1
        if word == "(":
            self._depth += 1
            if self._depth > _DEEPEST:
                raise UsageError("too many parentheses")
            value = self._binary(0)
            if self._next() != ")":
                raise UsageError("')' is missing")
            self._at += 1
            self._depth -= 1
            return value
        if word.startswith("$"):
            return _register(self._slots, word[1:])
        if word.startswith("'"):
            return ord(word[1]) & _MASK
        if not word[:1].isdigit():
            raise UsageError(f"a number or a register is missing{f' before {word!r}' if word else ''}")
        # Zero in front is octal, as it is there.
        base = 16 if word[1:2] in ("x", "X") else 8 if word.startswith("0") else 10
        try:
            return int(word, base) & _MASK
        except ValueError:
            raise UsageError(f"'{word[:20]}' is no number") from None


def evaluate(slots: Sequence[int], text: str) -> int:
    """Return the value of an expression, 64 bits.

    Numbers are decimal, hexadecimal after ``0x``, octal after ``0``, or a character in quotes; ``$rax``, ``$cs``,
    ``$cs.base`` are registers, as wide as they are whatever the mode and whether they are written ``$rax`` or ``$eax``;
    ``$pc`` is the linear address of the next instruction. There are ``+ - & | ^ * / % ~`` and parentheses.

    Args:
        slots: The processor's state.
        text: The expression.

    Raises:
        UsageError: it means nothing.
    """
    words, at = [], 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise UsageError(f"'{text[at:].lstrip()[:20]}' is no expression")
        words.append(found[1])
        at = found.end()
    return _Parser(slots, words).whole()
