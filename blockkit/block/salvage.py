"""Following the extents of a damaged image: what its tables do not tell is passed over, not the end of the walk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.block.chain import Located, locate
from blockkit.block.node import Kind
from blockkit.errors import BlockkitError
from blockkit.units import KiB, align_down, align_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.node import Node

#: The piece that is given up where no layer has clusters, and the smallest one at all, bytes.
_PIECE = 64 * KiB
_SMALLEST = 512


def locate_readable(
    node: Node,
    start: int,
    end: int,
    failed: Callable[[int, int, BlockkitError], None],
    *,
    max_depth: int | None = None,
) -> Iterator[Located]:
    """Yield how ``[start, end)`` is stored, as ``locate`` does; what cannot be known is told and taken for zeros.

    One bad entry fails the walk of its whole table, so less and less is asked for until a single cluster is to blame,
    and then more again. A good entry is never given up for a bad neighbour.

    Args:
        node: The top of the stack.
        start: Bytes.
        end: Bytes.
        failed: Called with the offset, length and error of each piece that is given up.
        max_depth: As for ``locate``.
    """
    unit = _smallest_cluster(node)
    at, reach = start, end  # asked for next
    while at < end:
        begin = at
        try:
            for found in locate(node, at, reach - at, max_depth=max_depth):
                yield found
                at = found.offset + found.length
        except BlockkitError as error:
            first = align_down(at, unit) + unit
            if reach > first:
                reach = max(first, align_down(at + (reach - at) // 2, unit))
                continue
            failed(at, reach - at, error)
            yield Located(at, reach - at, Kind.ZERO, 0, None, 0)
            at, reach = reach, min(end, reach + unit)
        else:
            at, reach = reach, min(end, align_up(reach + 2 * (reach - begin), unit))


def _smallest_cluster(node: Node) -> int:
    """Return the size of the smallest cluster of all layers, bytes."""
    sizes = []
    left = [node]
    while left:
        one = left.pop()
        left += one.children.values()
        if one.limits.optimal_transfer:
            sizes.append(one.limits.optimal_transfer)
    return max(_SMALLEST, min(sizes, default=_PIECE))
