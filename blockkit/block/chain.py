"""Following extents through a stack of nodes, down to where the bytes lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.bases import ProtocolNode
from blockkit.block.node import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Node


class Located(NamedTuple):
    """A run of a disk, followed through its whole stack.

    Attributes:
        offset: First byte, in the address space of the node that was asked.
        length: Bytes; always positive.
        kind: DATA, ZERO, ENCODED, or UNALLOCATED where nothing in the chain stores it (reads as zeros).
        depth: Which layer of the backing chain decided; 0 is the top.
        node: The node that holds it: for DATA the lowest one, for ENCODED the one that decodes.
        target: Where it lies in ``node``; for ENCODED in that node's own address space. Bytes.
    """

    offset: int
    length: int
    kind: Kind
    depth: int
    node: Node | None
    target: int


def locate(
    node: Node,
    offset: int = 0,
    length: int | None = None,
    *,
    holes: bool = False,
    max_depth: int | None = None,
) -> Iterator[Located]:
    """Yield how a range is stored, looking through formats, filters and backing files.

    Args:
        node: The top of the stack.
        offset: Bytes.
        length: Bytes; None means up to the end.
        holes: Ask protocols too, so that holes of a host file inside allocated clusters show as ZERO. Costs two
            system calls for each extent.
        max_depth: Do not look into backing files deeper than this; what lies there is UNALLOCATED.
    """
    if length is None:
        length = max(0, node.size - offset)
    return _locate(node, offset, length, 0, 0, holes, max_depth)


def _locate(
    node: Node, offset: int, length: int, shift: int, depth: int, holes: bool, max_depth: int | None
) -> Iterator[Located]:
    """Locate ``[offset, offset + length)`` of ``node``; ``shift`` is what to add to get the caller's offsets."""
    inside = max(0, min(length, node.size - offset))
    for extent in node.extents(offset, inside) if inside else ():
        kind, child = extent.kind, extent.node
        at = extent.offset + shift
        if kind is Kind.DATA and child is not None and child is not node:
            if holes or not isinstance(child, ProtocolNode):
                below = _locate(child, extent.target, extent.length, at - extent.target, depth, holes, max_depth)
                if isinstance(child, ProtocolNode):
                    yield from below
                else:
                    yield from _deeper(below, depth)
            else:
                yield Located(at, extent.length, Kind.DATA, depth, child, extent.target)
        elif kind is Kind.UNALLOCATED and node.backing is not None:
            if max_depth is not None and depth >= max_depth:
                yield Located(at, extent.length, Kind.UNALLOCATED, depth, None, 0)
                continue
            backing = node.backing
            stored = max(0, min(extent.length, backing.size - extent.offset))
            if stored:
                yield from _locate(backing, extent.offset, stored, shift, depth + 1, holes, max_depth)
            if stored < extent.length:
                yield Located(at + stored, extent.length - stored, Kind.UNALLOCATED, depth, None, 0)
        elif kind is Kind.ENCODED:
            yield Located(at, extent.length, kind, depth, node, extent.offset)
        else:
            yield Located(at, extent.length, kind, depth, child, extent.target)
    if inside < length:
        # A parent may reach past the end of its child, where bytes are zeros.
        at = offset + inside + shift
        yield Located(at, length - inside, Kind.ZERO, depth, None, 0)


def _deeper(below: Iterator[Located], depth: int) -> Iterator[Located]:
    """Count a format inside a format as one layer, as its backing chain is not the outer one's."""
    for found in below:
        yield found._replace(depth=depth) if found.depth != depth else found
