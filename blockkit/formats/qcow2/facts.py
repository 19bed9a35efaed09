"""What a qcow2 image says about itself, for ``info``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from blockkit.block.facets import HasAllocatedSize
from blockkit.block.facts import ImageFacts, SnapshotFacts
from blockkit.block.node import Kind
from blockkit.block.tables import read_u64_table
from blockkit.formats.qcow2.counts import decode_counts
from blockkit.formats.qcow2.schema import OFFSET_MASK, Autoclear, BitmapFlag, Compatible, Incompatible

if TYPE_CHECKING:
    from blockkit.block.node import Node
    from blockkit.block.sizes import BitmapFacts
    from blockkit.formats.qcow2.header import HeaderCluster
    from blockkit.formats.qcow2.snapshots import Snapshot

#: Extra data of a snapshot up to and with the instruction count, bytes; the count is the last eight.
_ICOUNT_END: Final = 24
_NO_ICOUNT: Final = (1 << 64) - 1
#: Where extra data starts in a snapshot table entry, bytes.
_EXTRA_AT: Final = 40


def facts(file: Node, header: HeaderCluster) -> ImageFacts:
    """Return what every format can tell."""
    snapshots: tuple[SnapshotFacts, ...] = ()
    if header.fixed.nb_snapshots:
        from blockkit.formats.qcow2.snapshots import read_snapshots

        snapshots = tuple(_snapshot(file, one) for one in read_snapshots(file, header))
    return ImageFacts(
        cluster_size=header.geometry.cluster_size,
        dirty=bool(header.incompatible & Incompatible.DIRTY),
        encrypted=bool(header.fixed.crypt_method),
        backing_file=os.fsdecode(header.backing_file) if header.backing_file is not None else None,
        backing_format=header.backing_format,
        snapshots=snapshots,
    )


def _snapshot(file: Node, snapshot: Snapshot) -> SnapshotFacts:
    icount = None
    if snapshot.extra_data_size >= _ICOUNT_END:
        stored = file.pull_bytes(snapshot.entry_offset + _EXTRA_AT + _ICOUNT_END - 8, 8)
        icount = int.from_bytes(stored, "big")
    return SnapshotFacts(
        id=snapshot.id,
        name=snapshot.name,
        vm_state_size=snapshot.vm_state_size,
        date_sec=snapshot.date_sec,
        date_nsec=snapshot.date_nsec,
        vm_clock_nsec=snapshot.vm_clock_nsec,
        icount=None if icount == _NO_ICOUNT else icount,
    )


def describe(file: Node, header: HeaderCluster) -> dict[str, object]:
    """Return what only qcow2 has, by qemu-img's names and in its order."""
    version3 = header.fixed.version >= 3
    told: dict[str, object] = {
        "compat": "1.1" if version3 else "0.10",
        "compression-type": "zstd" if header.compression_type else "zlib",
    }
    if version3:
        told["lazy-refcounts"] = bool(header.compatible & Compatible.LAZY_REFCOUNTS)
        if header.autoclear & Autoclear.BITMAPS and (bitmaps := _bitmaps(file, header)):
            told["bitmaps"] = bitmaps
    told["refcount-bits"] = header.geometry.refcount_bits
    if version3:
        if header.data_file is not None:
            told["data-file"] = header.data_file
            told["data-file-raw"] = bool(header.autoclear & Autoclear.RAW_EXTERNAL_DATA)
        told["corrupt"] = bool(header.incompatible & Incompatible.CORRUPT)
        told["extended-l2"] = header.geometry.extended_l2
    return told


def _bitmaps(file: Node, header: HeaderCluster) -> list[dict[str, object]]:
    from blockkit.formats.qcow2.bitmaps import read_bitmaps

    names = ((BitmapFlag.IN_USE, "in-use"), (BitmapFlag.AUTO, "auto"))
    return [
        {
            "flags": [name for flag, name in names if bitmap.flags & flag],
            "name": bitmap.name,
            "granularity": bitmap.granularity,
        }
        for bitmap in read_bitmaps(file, header)
    ]


def bitmaps(file: Node, header: HeaderCluster) -> list[BitmapFacts] | None:
    """Return what every format can tell of its bitmaps; None where the version has none."""
    if header.fixed.version < 3:
        return None
    from blockkit.block.sizes import BitmapFacts
    from blockkit.formats.qcow2.bitmaps import read_bitmaps

    return [BitmapFacts(bitmap.name, bitmap.granularity) for bitmap in read_bitmaps(file, header)]


def mostly_holes(file: Node, header: HeaderCluster) -> bool:
    """Tell whether clusters in use outnumber by far those the file takes on its disk.

    That is so after ``preallocation=metadata``. The bound is QEMU's: a ninth more, and at least two clusters.
    """
    if not isinstance(file, HasAllocatedSize):
        return False
    geometry = header.geometry
    stored = file.allocated_size >> geometry.cluster_bits
    threshold = max(stored * 10 // 9, stored + 2)
    clusters = geometry.clusters(file.size)
    if clusters < threshold:
        return False
    entries = min(
        header.fixed.refcount_table_clusters << geometry.cluster_bits - 3,
        -(-clusters // geometry.refcount_block_entries),
    )
    used = 0
    seen: set[int] = set()
    for index, entry in enumerate(read_u64_table(file, header.fixed.refcount_table_offset, entries, "big")):
        offset = entry & OFFSET_MASK
        # Blocks that are holes, or used twice, are no counts: an image of a stranger must not keep us busy.
        if not offset or offset in seen or offset >= file.size or file.map(offset, 1).kind is Kind.ZERO:
            continue
        seen.add(offset)
        counts = decode_counts(file.pull_bytes(offset, geometry.cluster_size), geometry.refcount_order)
        counts = counts[: clusters - (index << geometry.refcount_block_bits)]
        used += len(counts) - counts.count(0)
        if used >= threshold:
            return True
    return False
