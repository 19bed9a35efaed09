"""Several disks, one behind the other, as one."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from blockkit.block.node import Extent, Kind, Node
from blockkit.units import SECTOR, align_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ConcatNode(Node):
    """Reads as its parts joined in order; read-only.

    Args:
        parts: At least one; closed with this node.
    """

    driver = "concat"

    def __init__(self, parts: Sequence[Node]) -> None:
        self._parts = list(parts)
        self._starts = list(accumulate((align_up(part.size, SECTOR) for part in parts), initial=0))
        self.filename = ", ".join(part.filename for part in parts)

    @property
    def size(self) -> int:
        return self._starts[-1]

    @property
    def children(self) -> Mapping[str, Node]:
        return {f"part{number}": part for number, part in enumerate(self._parts)}

    def _map(self, offset: int, length: int) -> Extent:
        # The last part that starts here: empty ones before it hold nothing.
        number = bisect_right(self._starts, offset) - 1
        start = self._starts[number]
        part, inside = self._parts[number], offset - start
        if inside >= part.size:
            return Extent(offset, min(length, self._starts[number + 1] - offset), Kind.ZERO)
        return Extent(offset, min(length, part.size - inside), Kind.DATA, part, inside)
