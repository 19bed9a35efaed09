"""Changing the size of a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.node import Preallocation
from blockkit.errors import OptionError, UsageError
from blockkit.units import parse_size

if TYPE_CHECKING:
    from blockkit.block.node import Node


class NewSize(NamedTuple):
    """A size as it is typed: absolute, or more or less than now.

    Attributes:
        sign: ``"+"``, ``"-"``, or empty for an absolute size.
        amount: Bytes.
    """

    sign: str
    amount: int

    @classmethod
    def parse(cls, text: str) -> NewSize:
        """Read ``10G``, ``+1G`` or ``-512M``.

        Raises:
            OptionError: it is not a size.
        """
        sign = text[:1] if text[:1] in ("+", "-") else ""
        return cls(sign, parse_size(text[len(sign) :]))

    def apply(self, size: int) -> int:
        """Return the new size of a disk that has ``size`` bytes.

        Raises:
            OptionError: nothing would be left.
        """
        new = {"": self.amount, "+": size + self.amount, "-": size - self.amount}[self.sign]
        if new <= 0:
            raise OptionError(f"the new size would be {new} bytes; something must be left of the {size} there are")
        return new


def resize(node: Node, wanted: NewSize, *, shrink: bool = False, preallocate: Preallocation = Preallocation.OFF) -> int:
    """Change the size of ``node`` and return the new one, bytes.

    Args:
        node: Open for writing.
        wanted: The size.
        shrink: Agree to lose what lies behind a smaller size.
        preallocate: How to reserve what is added.

    Raises:
        UsageError: the disk would lose data without ``shrink``, or there is nothing to preallocate.
        UnsupportedOperationError: it cannot be resized.
    """
    old = node.size
    new = wanted.apply(old)
    if new < old and not shrink:
        raise UsageError(
            f"{node}: {new} bytes are fewer than the {old} there are, and what lies behind would be lost; "
            "--shrink agrees to that"
        )
    if new <= old and preallocate is not Preallocation.OFF:
        raise UsageError(f"{node}: preallocation is for what is added, but {new} bytes are no more than {old}")
    node.resize(new, preallocate=preallocate)
    node.flush()
    return new
