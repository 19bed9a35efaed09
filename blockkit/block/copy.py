"""Copying a disk from node to node: only what is stored is read, only what is not zero is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.block.facets import WritesPieces
from blockkit.frozen import Frozen
from blockkit.units import KiB

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.copying.copier import Copier
    from blockkit.block.node import Node
    from blockkit.errors import BlockkitError


def _ignore(*_told: object) -> None:
    """Nobody wants to know."""


class CopyPlan(Frozen):
    """How to copy; see :func:`copy`.

    Attributes:
        sparse_size: Runs of zeros at least this long, bytes, are not written; 0 writes them all.
        target_is_zero: The target reads as zeros where nothing was written to it.
        over_backing: Copy only what the source's top layer stores; the target's backing supplies the rest.
        compressed: Store compressed clusters.
        workers: Threads.
        copy_range: Ask the file system to copy, where both sides are host files.
        steady: Go in small steps, so that whoever is told of them can hold the copy up.
        salvage: Where the source, or the tables that map it, cannot be read, write zeros and go on.
        advance: Called with the bytes of the disk just dealt with; by any worker.
        failed: Called with the offset, length and error of each range that salvage could not read.
    """

    sparse_size: int = 4 * KiB
    target_is_zero: bool = False
    over_backing: bool = False
    compressed: bool = False
    workers: int = 2
    copy_range: bool = False
    steady: bool = False
    salvage: bool = False
    advance: Callable[[int], None] = _ignore
    failed: Callable[[int, int, BlockkitError], None] = _ignore


def copy(source: Node, target: Node, plan: CopyPlan, *, source_offset: int = 0, length: int | None = None,
         target_offset: int = 0) -> None:  # fmt: skip
    """Copy ``length`` bytes of ``source`` to ``target``; the target is not flushed.

    Args:
        source: Read by many threads.
        target: Large enough; written by many threads.
        plan: How.
        source_offset: Bytes.
        length: Bytes; None means up to the end of the source.
        target_offset: Bytes.

    Raises:
        BlockkitError: the first error of any worker; the target is incomplete.
    """
    if length is None:
        length = source.size - source_offset
    if length > 0:
        _copier_for(target, plan)(source, target, plan, source_offset, length, target_offset - source_offset).run()


def _copier_for(target: Node, plan: CopyPlan) -> type[Copier]:
    """Return what copies to such a target; each is loaded when there is work for it."""
    if plan.compressed:
        from blockkit.block.copying.compressed import CompressedCopier

        return CompressedCopier
    if isinstance(target, WritesPieces) and not plan.copy_range:
        from blockkit.block.copying.pieces import PiecesCopier

        return PiecesCopier
    from blockkit.block.copying.plain import PlainCopier

    return PlainCopier
