"""Which host clusters hold metadata, so that guest data is never written over it.

A hostile or damaged image may map a guest cluster onto its own header, L1 table or refcount blocks. The set is
sparse: metadata is about one cluster in eight thousand, and comes in small groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BITS = 12
_CHUNK = 1 << _CHUNK_BITS
_MASK = _CHUNK - 1


class MetadataMap:
    """A set of host cluster numbers, cheap to ask for a single cluster and for a run."""

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        #: One integer for each 4096 clusters that have any; bit n stands for the n-th of them.
        self._chunks: dict[int, int] = {}

    def add(self, first: int, count: int = 1) -> None:
        """Add ``count`` clusters from ``first``."""
        for chunk, start, length in _pieces(first, count):
            self._chunks[chunk] = self._chunks.get(chunk, 0) | ((1 << length) - 1) << start

    def remove(self, first: int, count: int = 1) -> None:
        """Remove ``count`` clusters from ``first``; absent ones are ignored."""
        for chunk, start, length in _pieces(first, count):
            left = self._chunks.get(chunk, 0) & ~(((1 << length) - 1) << start)
            if left:
                self._chunks[chunk] = left
            else:
                self._chunks.pop(chunk, None)

    def __contains__(self, cluster: int) -> bool:
        return bool(self._chunks.get(cluster >> _CHUNK_BITS, 0) >> (cluster & _MASK) & 1)

    def first_in(self, first: int, count: int) -> int | None:
        """Return the first metadata cluster of a run, or None."""
        for chunk, start, length in _pieces(first, count):
            found = self._chunks.get(chunk, 0) >> start & ((1 << length) - 1)
            if found:
                return (chunk << _CHUNK_BITS) + start + (found & -found).bit_length() - 1
        return None


def _pieces(first: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Cut a run at chunk boundaries: ``(chunk, start in it, length)``."""
    end = first + count
    while first < end:
        start = first & _MASK
        length = min(_CHUNK - start, end - first)
        yield first >> _CHUNK_BITS, start, length
        first += length
