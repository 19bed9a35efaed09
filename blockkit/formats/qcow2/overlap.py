"""Which host clusters hold metadata, so that guest data is never written over it.

A hostile or damaged image may map a guest cluster onto its own header, L1 table or refcount blocks. The set is
sparse: metadata is about one cluster in eight thousand, and comes in small groups.
"""

from __future__ import annotations

_CHUNK_BITS = 12
_CHUNK = 1 << _CHUNK_BITS
_MASK = _CHUNK - 1


class MetadataMap:
    """A set of host cluster numbers, cheap to ask for a single cluster and for a run."""

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, first: int, count: int = 1) -> None:
        """Add ``count`` clusters from ``first``."""
        for cluster in range(first, first + count):
            chunk = self._chunks.get(cluster >> _CHUNK_BITS)
            if chunk is None:
                chunk = self._chunks[cluster >> _CHUNK_BITS] = bytearray(_CHUNK >> 3)
            chunk[(cluster & _MASK) >> 3] |= 1 << (cluster & 7)

    def remove(self, first: int, count: int = 1) -> None:
        """Remove ``count`` clusters from ``first``; absent ones are ignored."""
        for cluster in range(first, first + count):
            chunk = self._chunks.get(cluster >> _CHUNK_BITS)
            if chunk is not None:
                chunk[(cluster & _MASK) >> 3] &= ~(1 << (cluster & 7)) & 0xFF

    def __contains__(self, cluster: int) -> bool:
        chunk = self._chunks.get(cluster >> _CHUNK_BITS)
        return chunk is not None and bool(chunk[(cluster & _MASK) >> 3] >> (cluster & 7) & 1)

    def first_in(self, first: int, count: int) -> int | None:
        """Return the first metadata cluster of a run, or None."""
        for cluster in range(first, first + count):
            chunk = self._chunks.get(cluster >> _CHUNK_BITS)
            if chunk is not None and chunk[(cluster & _MASK) >> 3] >> (cluster & 7) & 1:
                return cluster
        return None
