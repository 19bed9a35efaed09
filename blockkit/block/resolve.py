"""Lending out where bytes lie on the host, for consumers that move them without a copy of ours.

A server that hands clusters to ``sendfile``, or a device that lets ``preadv`` fill guest memory, works with host
offsets after the request was mapped. While it does, nobody may free those clusters for something else: they are
*pinned*, in every writable layer they were mapped through.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from blockkit.block.bases import ProtocolNode
from blockkit.block.chain import Located
from blockkit.block.node import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Node


@contextmanager
def resolved(node: Node, offset: int, length: int) -> Iterator[list[Located]]:
    """Lend out where ``[offset, offset + length)`` of ``node`` lies, until the block is left.

    Runs of DATA whose node is a :class:`~blockkit.block.facets.HasHostFile` can be read by descriptor at ``target``;
    of others, ask ``node`` itself. Do not free or zero the same range from the same thread inside the block.

    Raises:
        OutOfRangeError: the range leaves the node.
    """
    pins: list[tuple[Node, int]] = []
    try:
        runs: list[Located] = []
        if length:
            _resolve(node, offset, length, 0, 0, runs, pins)
        yield runs
    finally:
        for pinned, token in pins:
            pinned.unpin(token)


def _resolve(
    node: Node, offset: int, length: int, shift: int, depth: int, runs: list[Located], pins: list[tuple[Node, int]]
) -> None:
    """Append the runs of a range of ``node``; ``shift`` is what to add to get the caller's offsets."""
    inside = max(0, min(length, node.size - offset))
    token = node.pin(offset, inside) if inside else 0
    if token:
        pins.append((node, token))
    for extent in node.extents(offset, inside) if inside else ():
        at, child = extent.offset + shift, extent.node
        if extent.kind is Kind.DATA and child is not None and child is not node and not isinstance(child, ProtocolNode):
            _resolve(child, extent.target, extent.length, at - extent.target, depth, runs, pins)
        elif extent.kind is Kind.UNALLOCATED and node.backing is not None:
            _resolve(node.backing, extent.offset, extent.length, shift, depth + 1, runs, pins)
        elif extent.kind is Kind.ENCODED:
            runs.append(Located(at, extent.length, extent.kind, depth, node, extent.offset))
        else:
            runs.append(Located(at, extent.length, extent.kind, depth, child, extent.target))
    if inside < length:
        runs.append(Located(offset + inside + shift, length - inside, Kind.ZERO, depth, None, 0))
