"""How large an image will be, before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.node import Preallocation
from blockkit.block.sizes import ImageSize
from blockkit.errors import OptionError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.bitmaps import FIXED_SIZE, stored_size
from blockkit.formats.qcow2.create import judge
from blockkit.formats.qcow2.geometry import Geometry
from blockkit.units import align_up

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blockkit.block.facets import HasBitmaps
    from blockkit.block.sizes import BitmapFacts
    from blockkit.formats.qcow2.create import CreateOptions


class Measurement(NamedTuple):
    """Sizes of an image file, bytes.

    Attributes:
        required: When it holds the data there is now.
        fully_allocated: When every cluster of the disk has been written.
    """

    required: int
    fully_allocated: int


def measure_image(
    size: int, options: CreateOptions, data: Iterable[tuple[int, int]] | None, bitmaps: HasBitmaps | None
) -> ImageSize:
    """Tell how large an image made with ``options`` will be; see :class:`~blockkit.block.driver.Measures`."""
    geometry = judge(options, size)
    stored = 0
    if data is not None:
        # What a new image shares with its backing file is not known: assume nothing.
        stored = size if options.backing_file is not None else allocated(data, geometry.cluster_size)
    found = measure(
        size,
        cluster_size=geometry.cluster_size,
        refcount_bits=geometry.refcount_bits,
        preallocation=Preallocation(options.preallocation),
        allocated_bytes=stored,
    )
    kept = bitmaps.bitmaps() if bitmaps is not None and options.compat not in ("0.10", "v2") else None
    return ImageSize(*found, bitmaps_size(kept, size, geometry.cluster_size) if kept is not None else None)


def measure(
    size: int,
    *,
    cluster_size: int = 65536,
    refcount_bits: int = 16,
    extended_l2: bool = False,
    preallocation: Preallocation = Preallocation.OFF,
    allocated_bytes: int = 0,
) -> Measurement:
    """Tell how large an image of a disk will be; the numbers are those of ``qemu-img measure``.

    Args:
        size: Virtual size, bytes.
        cluster_size: Bytes; valid for a new image.
        refcount_bits: Valid for a new image.
        extended_l2: L2 entries are two words.
        preallocation: Space reserved at once.
        allocated_bytes: Data to be stored, counted in whole clusters (:func:`allocated`); as much as ``size`` for a
            source with a backing file, for nobody knows what it shares.

    Raises:
        OptionError: an L1 table for that size would be larger than any may be.
    """
    geometry = Geometry(cluster_size.bit_length() - 1, refcount_bits.bit_length() - 1, extended_l2)
    size = geometry.aligned(size)
    if geometry.l1_entries(size) * 8 > schema.MAX_L1_SIZE:
        raise OptionError(
            f"a disk of {size} bytes needs an L1 table of {geometry.l1_entries(size) * 8} bytes, "
            f"more than {schema.MAX_L1_SIZE}; larger clusters make it smaller"
        )
    fully_allocated = _fully_allocated(size, geometry)
    if preallocation in (Preallocation.FALLOC, Preallocation.FULL):
        allocated_bytes = size
    # The metadata of the full image is counted in both: a little too much for the first.
    return Measurement(fully_allocated - size + min(geometry.aligned(allocated_bytes), size), fully_allocated)


def allocated(extents: Iterable[tuple[int, int]], cluster_size: int) -> int:
    """Return the bytes of all clusters that data touches.

    Args:
        extents: ``(offset, length)`` of data, in order, not overlapping; bytes.
        cluster_size: Bytes.
    """
    total = end = 0
    for offset, length in extents:
        if length <= 0 or offset + length <= end:
            continue
        start = max(offset // cluster_size * cluster_size, end)
        end = align_up(offset + length, cluster_size)
        total += end - start
    return total


def bitmaps_size(bitmaps: Iterable[BitmapFacts], size: int, cluster_size: int) -> int:
    """Return the bytes that copies of ``bitmaps`` of a disk of ``size`` bytes take, directory and tables included."""
    total = directory = 0
    for bitmap in bitmaps:
        clusters = -(-stored_size(size, bitmap.granularity.bit_length() - 1) // cluster_size)
        total += clusters * cluster_size + align_up(clusters * 8, cluster_size)
        directory += align_up(FIXED_SIZE + len(bitmap.name.encode()), 8)
    return total + align_up(directory, cluster_size)


def _fully_allocated(size: int, geometry: Geometry) -> int:
    """Return the bytes of an image with every cluster of an aligned ``size`` allocated."""
    l2_tables = geometry.l1_entries(size)
    clusters = 1 + geometry.clusters(l2_tables * 8) + l2_tables + geometry.clusters(size)
    # Refcount blocks and the table are counted themselves: go on until nothing more is needed.
    blocks = table = 0
    while True:
        needed = -(-(clusters + blocks + table) // geometry.refcount_block_entries)
        table_needed = geometry.clusters(needed * 8)
        if (needed, table_needed) == (blocks, table):
            return (clusters + blocks + table) * geometry.cluster_size
        blocks, table = needed, table_needed
