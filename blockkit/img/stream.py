"""Writing a disk as raw bytes, front to back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.block.chain import locate
from blockkit.block.node import Kind
from blockkit.block.zeros import zeros
from blockkit.units import MiB

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Buffer, Node

_PIECE = MiB


def write_raw(source: Node, write: Callable[[Buffer], None], advance: Callable[[int], None]) -> None:
    """Write every byte of ``source`` in order; what is not stored is not read.

    Args:
        source: The disk.
        write: Takes all bytes of a buffer.
        advance: Called with the bytes just written.
    """
    buffer = memoryview(bytearray(_PIECE))
    for found in locate(source):
        at, end = found.offset, found.offset + found.length
        stored = found.kind is Kind.DATA or found.kind is Kind.ENCODED
        while at < end:
            piece = min(_PIECE, end - at)
            if stored:
                source.read_into(at, buffer[:piece])
                write(buffer[:piece])
            else:
                write(zeros(piece))
            advance(piece)
            at += piece
