"""Lending out where bytes lie on the host, for consumers that move them without a copy of ours.

A server that hands clusters to ``sendfile``, or a device that lets ``preadv`` fill guest memory, works with host
offsets after the request was mapped. While it does, nobody may free those clusters for something else: they are
*pinned*, in every writable layer they were mapped through.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from blockkit.block.chain import Walker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.chain import Located
    from blockkit.block.node import Node


@contextmanager
def resolved(node: Node, offset: int, length: int) -> Iterator[list[Located]]:
    """Lend out where ``[offset, offset + length)`` of ``node`` lies, until the block is left.

    Runs of DATA whose node is a :class:`~blockkit.block.facets.HasHostFile` can be read by descriptor at ``target``;
    of others, ask ``node`` itself. Do not write, zero or free anything of the same image from the same thread inside
    the block: whoever waits to have the range alone keeps such a request waiting behind it.

    Raises:
        OutOfRangeError: the range leaves the node.
    """
    pins: list[tuple[Node, int]] = []
    try:
        yield list(Walker(pins=pins).walk(node, offset, length))
    finally:
        for pinned, token in pins:
            pinned.unpin(token)
