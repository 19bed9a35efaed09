"""Following extents through a stack of nodes, down to where the bytes lie."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.bases import FilterNode, ProtocolNode
from blockkit.block.facets import TracksAllocation
from blockkit.block.node import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Extent, Node


class Located(NamedTuple):
    """A run of a disk, followed through its whole stack.

    Attributes:
        offset: First byte, in the address space of the node that was asked.
        length: Bytes; always positive.
        kind: DATA, ZERO, ENCODED, or UNALLOCATED where nothing in the chain stores it (reads as zeros).
        depth: Which layer of the backing chain decided; 0 is the top.
        node: The node that holds it: for DATA the lowest one that was asked for, for ENCODED the one that decodes, for
            ZERO the one with a place reserved for it, if any.
        target: Where it lies in ``node``; for ENCODED in that node's own address space. Bytes.
        hole: It is ZERO only because of a hole in what holds it: a layer that tracks allocation says DATA.
    """

    offset: int
    length: int
    kind: Kind
    depth: int
    node: Node | None
    target: int
    hole: bool = False


class Ask(enum.Enum):
    """Which of the nodes that hold a layer's data are asked how they store it."""

    NONE = "none"  #: what the layer says is enough
    FORMATS = "formats"  #: all but protocols
    ALL = "all"  #: protocols too, which know the holes of a host file


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
        max_depth: Do not look into backing files deeper than this; what lies there is UNALLOCATED, and nothing else
            is.
    """
    return Walker(Ask.ALL if holes else Ask.FORMATS, max_depth=max_depth).walk(node, offset, length)


class Walker:
    """The one way through a stack; what is told of it, and what is asked, is up to whoever walks.

    Args:
        ask: Which nodes below a layer are asked; see :meth:`asks`.
        max_depth: Do not look into backing files deeper than this.
        pins: Every layer is pinned before it is asked, and the node and token appended here, for the caller to unpin.
    """

    def __init__(
        self, ask: Ask = Ask.FORMATS, *, max_depth: int | None = None, pins: list[tuple[Node, int]] | None = None
    ) -> None:
        self._ask, self._max_depth, self._pins = ask, max_depth, pins

    def asks(self, node: Node) -> Ask:
        """Tell which nodes that hold data of ``node`` are asked; called once for each range that has such data."""
        return self._ask

    def passes(self, node: FilterNode) -> bool:
        """Tell whether a filter that moves no offsets is looked through rather than asked."""
        return node.transparent

    def walk(self, node: Node, offset: int = 0, length: int | None = None) -> Iterator[Located]:
        """Yield how a range is stored; arguments as for :func:`locate`."""
        if length is None:
            length = max(0, node.size - offset)
        return self._walk(node, offset, length, 0, 0, False)

    def _walk(
        self, node: Node, offset: int, length: int, shift: int, depth: int, inside_layer: bool
    ) -> Iterator[Located]:
        """Walk a range of ``node``; ``shift`` is what to add to get the caller's offsets.

        With ``inside_layer`` it holds the data of a layer above, so that all its own chain is that layer.
        """
        while isinstance(node, FilterNode) and self.passes(node) and (below := node.unmoved) is not None:
            node = below
        inside = max(0, min(length, node.size - offset))
        if inside and self._pins is not None and (token := node.pin(offset, inside)):
            self._pins.append((node, token))
        backing, bound = node.backing, None if inside_layer else self._max_depth
        # Where depth is bounded UNALLOCATED means that the rest of the chain decides, and here there is no more of it.
        lacking = Kind.ZERO if self._max_depth is not None else Kind.UNALLOCATED
        ask: Ask | None = None
        tracks = False
        for extent in node.extents(offset, inside) if inside else ():
            start, size, kind, child, target = extent
            at = start + shift
            if kind is Kind.DATA and child is not None and child is not node:
                if ask is None:
                    ask = self.asks(node)
                    tracks = ask is Ask.ALL and isinstance(node, TracksAllocation)
                if ask is Ask.ALL or (ask is Ask.FORMATS and not isinstance(child, ProtocolNode)):
                    found = self._walk(child, target, size, at - target, depth, True)
                    yield from _with_holes(found, extent, shift) if tracks else found
                else:
                    yield Located(at, size, kind, depth, child, target)
            elif kind is Kind.UNALLOCATED:
                stored = max(0, min(size, backing.size - start)) if backing is not None else 0
                if backing is not None and stored:
                    if bound is None or depth < bound:
                        yield from self._walk(
                            backing, start, stored, shift, depth if inside_layer else depth + 1, inside_layer
                        )
                    else:
                        yield Located(at, stored, kind, depth, None, 0)
                if stored < size:
                    yield Located(at + stored, size - stored, lacking, depth, None, 0)
            elif kind is Kind.ENCODED:
                yield Located(at, size, kind, depth, node, start)
            else:
                yield Located(at, size, kind, depth, child, target)
        if inside < length:
            # A parent may reach past the end of its child, where bytes are zeros.
            yield Located(offset + inside + shift, length - inside, Kind.ZERO, depth, node, offset + inside)


def _with_holes(found: Iterator[Located], extent: Extent, shift: int) -> Iterator[Located]:
    """Mark as holes what is not stored of ``extent``, which is DATA to its layer and so has a place."""
    for run in found:
        if run.kind is Kind.DATA or run.kind is Kind.ENCODED:
            yield run
        elif run.node is not None:
            yield run._replace(kind=Kind.ZERO, hole=True)
        else:
            target = run.offset - shift - extent.offset + extent.target
            yield run._replace(kind=Kind.ZERO, node=extent.node, target=target, hole=True)
