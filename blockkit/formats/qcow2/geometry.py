"""The arithmetic of a qcow2 image: which bits of an offset select what."""

from __future__ import annotations

from blockkit.formats.qcow2.schema import COMPRESSED_SECTOR, OFFSET_MASK
from blockkit.frozen import Frozen
from blockkit.units import align_up


class Geometry(Frozen):
    """Sizes that follow from the header and never change while the image is open.

    Attributes:
        cluster_bits: A cluster is ``1 << cluster_bits`` bytes.
        refcount_order: A reference count has ``1 << refcount_order`` bits.
        extended_l2: L2 entries are two words: descriptor and subcluster bitmap.
    """

    cluster_bits: int
    refcount_order: int = 4
    extended_l2: bool = False

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits

    @property
    def l2_words(self) -> int:
        """64-bit words of one L2 entry."""
        return 2 if self.extended_l2 else 1

    @property
    def l2_bits(self) -> int:
        """An L2 table has ``1 << l2_bits`` entries."""
        return self.cluster_bits - (4 if self.extended_l2 else 3)

    @property
    def l2_entries(self) -> int:
        """Entries of an L2 table."""
        return 1 << self.l2_bits

    @property
    def l2_span_bits(self) -> int:
        """One L2 table maps ``1 << l2_span_bits`` bytes of the disk."""
        return self.cluster_bits + self.l2_bits

    @property
    def refcount_bits(self) -> int:
        """Bits of one reference count."""
        return 1 << self.refcount_order

    @property
    def refcount_max(self) -> int:
        """The largest reference count that can be stored."""
        return (1 << self.refcount_bits) - 1

    @property
    def refcount_block_bits(self) -> int:
        """A refcount block counts ``1 << refcount_block_bits`` clusters."""
        return self.cluster_bits + 3 - self.refcount_order

    @property
    def refcount_block_entries(self) -> int:
        """Clusters counted by one refcount block."""
        return 1 << self.refcount_block_bits

    def clusters(self, length: int) -> int:
        """Return how many clusters hold ``length`` bytes."""
        return (length + self.cluster_size - 1) >> self.cluster_bits

    def l1_entries(self, size: int) -> int:
        """Return how many L1 entries a disk of ``size`` bytes needs."""
        return (size + (1 << self.l2_span_bits) - 1) >> self.l2_span_bits

    def aligned(self, length: int) -> int:
        """Round ``length`` bytes up to whole clusters."""
        return align_up(length, self.cluster_size)

    def compressed_range(self, entry: int) -> tuple[int, int]:
        """Return ``(host offset, bytes available)`` of a compressed cluster [qcow2, "Compressed Clusters Descriptor"].

        The stored count is of *additional* 512-byte sectors; the first one may be entered in its middle.
        """
        shift = 62 - (self.cluster_bits - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = (entry >> shift) & ((1 << (62 - shift)) - 1)
        return offset, (sectors + 1) * COMPRESSED_SECTOR - (offset & (COMPRESSED_SECTOR - 1))

    def compressed_entry(self, offset: int, length: int) -> int:
        """Return the L2 entry (without the COMPRESSED bit) for ``length`` bytes stored at host ``offset``."""
        sectors = ((offset + length - 1) // COMPRESSED_SECTOR) - offset // COMPRESSED_SECTOR
        return sectors << (62 - (self.cluster_bits - 8)) | offset

    def compressed_clusters(self, entry: int) -> range:
        """Return the numbers of the host clusters that a compressed cluster's bytes touch."""
        offset, length = self.compressed_range(entry)
        # Whole sectors are claimed, so the last byte is the end of the last sector.
        return range(offset >> self.cluster_bits, ((offset + length - 1) >> self.cluster_bits) + 1)


def host_offset(entry: int) -> int:
    """Return the host offset of a standard L1 or L2 entry, bytes; 0 means none."""
    return entry & OFFSET_MASK
