"""Changing the virtual size, and reserving clusters before they are written."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from blockkit.block.node import Kind, Preallocation
from blockkit.block.tables import encode_u64
from blockkit.block.zeros import zeros
from blockkit.errors import BlockkitError, NoSpaceError, UnsupportedOperationError
from blockkit.formats.qcow2 import bitmap_tables, schema
from blockkit.formats.qcow2.schema import COPIED

if TYPE_CHECKING:
    from blockkit.block.node import Node
    from blockkit.formats.qcow2.node import Qcow2Node

_PIECE = 1 << 20


def resize(node: Qcow2Node, size: int, preallocate_as: Preallocation) -> None:
    """Make ``node`` a disk of ``size`` bytes; new bytes read as zeros, whatever the backing holds there.

    Raises:
        UnsupportedOperationError: the image has snapshots or stale bitmaps that it cannot be resized beside.
        NoSpaceError: the L1 table, or a bitmap, would exceed its limit.
    """
    fixed = node.header.fixed
    if size == node.size:
        return
    if fixed.nb_snapshots and (fixed.version < 3 or size < node.size):
        raise UnsupportedOperationError(
            f"{node}: cannot be {'shrunk' if size < node.size else 'resized'} while it has internal snapshots"
        )
    if size % 512:
        raise UnsupportedOperationError(f"{node}: size {size} is not a multiple of 512")
    if size > schema.MAX_VIRTUAL_SIZE:
        raise NoSpaceError(f"{node}: size {size} is more than {schema.MAX_VIRTUAL_SIZE}, the most qcow2 can hold")
    bitmap_tables.require_resizable(node, size)
    old = node.size
    if size < old:
        _shrink(node, size)
        return
    node.require_backing()
    _grow_l1(node, size)
    node.extend_reach(-(-size // node.cluster_size) * node.cluster_size)
    _hide_tail(node, old, size)
    start = -(-old // node.cluster_size) * node.cluster_size
    try:
        if start < size:
            # Before anybody may write there.
            preallocate(node, start, size - start, preallocate_as)
        tables = bitmap_tables.write_tables(node, size)
    except BaseException:
        _give_back(node, old, size)
        raise
    bitmap_tables.change_size(node, size, tables)


def _grow_l1(node: Qcow2Node, size: int) -> None:
    """Give the L1 table enough entries for ``size`` bytes, moving it if it must."""
    metadata, geometry = node.metadata, node.header.geometry
    needed = geometry.l1_entries(size)
    if needed * 8 > schema.MAX_L1_SIZE:
        raise NoSpaceError(
            f"{node}: a disk of {size} bytes needs an L1 table of {needed * 8} bytes, more than {schema.MAX_L1_SIZE}; "
            "use larger clusters"
        )
    with metadata.lock:
        metadata.arm()
        mapping, fixed = metadata.mapping, node.header.fixed
        if needed <= len(mapping.l1):
            return
        l1 = mapping.l1 + array("Q", bytes(8 * (needed - len(mapping.l1))))
        clusters = geometry.clusters(needed * 8)
        first = metadata.refcounts.allocate_contiguous(clusters)
        offset = first << geometry.cluster_bits
        metadata.overlap.add(first, clusters)
        # Counts, tables and data first; then the new table whole; then the header names it.
        metadata.commit()
        node.file.push(offset, [memoryview(encode_u64(l1, "big").ljust(clusters * geometry.cluster_size, b"\0"))])
        metadata.barrier()
        mapping.move_l1(l1, offset)
        old = fixed.l1_table_offset >> geometry.cluster_bits, geometry.clusters(fixed.l1_size * 8)
        node.header.fixed = replace(node.header.fixed, l1_table_offset=offset, l1_size=needed)
        metadata.write_header()
        metadata.barrier()
        if old[1]:
            metadata.refcounts.release(*old)
            metadata.overlap.remove(*old)


def _hide_tail(node: Qcow2Node, old: int, size: int) -> None:
    """Make what lies behind the old end read as zeros before it becomes visible."""
    cluster_size = node.cluster_size
    backing = node.backing.size if node.backing is not None else 0
    if old % cluster_size:
        end = min(-(-old // cluster_size) * cluster_size, size)
        start = old // cluster_size * cluster_size
        extent = node.map(start, old - start)
        stored = extent.kind in (Kind.DATA, Kind.ENCODED)
        if stored or backing > old:
            node.write_tail(old, zeros(end - old))
    first, last = -(-old // cluster_size), -(-min(size, backing) // cluster_size)
    if first < last:
        node.empty_clusters(first, last)


def _shrink(node: Qcow2Node, size: int) -> None:
    """Drop everything behind ``size``, then say so in the header."""
    geometry = node.header.geometry
    first, last = geometry.clusters(size), geometry.clusters(node.size)
    # These may find no room, so they come before what cannot be undone.
    tables = bitmap_tables.write_tables(node, size)
    try:
        with node.cutting(first, last, size):
            _drop(node, first, last, keep_tables=geometry.l1_entries(size))
    except BaseException:
        bitmap_tables.give_back(node, tables)
        raise
    bitmap_tables.change_size(node, size, tables)
    node.flush()


def _give_back(node: Qcow2Node, old: int, size: int) -> None:
    """Free what was reserved between ``old`` and ``size`` bytes, as far as that is possible after an error."""
    geometry = node.header.geometry
    try:
        _drop(node, geometry.clusters(old), geometry.clusters(size), keep_tables=geometry.l1_entries(old))
    except BlockkitError:
        pass  # the first error is what must be reported


def _drop(node: Qcow2Node, first: int, last: int, *, keep_tables: int) -> None:
    """Free clusters ``[first, last)``, which nobody uses, and L2 tables but the first ``keep_tables``."""
    geometry, metadata = node.header.geometry, node.metadata
    with metadata.lock:
        metadata.arm()
        while first < last:
            l1_index, index = divmod(first, geometry.l2_entries)
            stop = min(last, (l1_index + 1) * geometry.l2_entries)
            if metadata.mapping.l1[l1_index]:
                metadata.set_entries(l1_index, index, array("Q", bytes(8 * (stop - first))))
                if l1_index >= keep_tables:
                    metadata.mapping.drop(l1_index, metadata.refcounts, metadata.overlap)
                metadata.commit_if_large()
            first = stop
        metadata.commit()
        metadata.barrier()


def preallocate(node: Qcow2Node, offset: int, length: int, mode: Preallocation) -> None:
    """Allocate clusters for ``[offset, offset + length)``, cluster-aligned at its start and empty so far.

    METADATA only fills the tables; FALLOC also reserves the space; FULL writes zeros.
    """
    if mode is Preallocation.OFF or not length:
        return
    geometry, metadata = node.header.geometry, node.metadata
    first, last = offset // geometry.cluster_size, geometry.clusters(offset + length)
    step = geometry.cluster_size
    while first < last:
        l1_index, index = divmod(first, geometry.l2_entries)
        with metadata.lock:
            metadata.arm()
            metadata.writable_table(l1_index)
            taken, count = metadata.refcounts.allocate(min(last - first, geometry.l2_entries - index))
        host = taken << geometry.cluster_bits
        size = count << geometry.cluster_bits
        begin = host | COPIED
        try:
            _reserve(node.data, host, size, mode)
            with metadata.lock:
                metadata.set_entries(l1_index, index, array("Q", range(begin, begin + size, step)))
        except BaseException:
            with metadata.lock:
                metadata.refcounts.give_back(taken, count)
            raise
        with metadata.lock:
            metadata.commit_if_large()
        first += count


def _reserve(data: Node, host: int, size: int, mode: Preallocation) -> None:
    """Make ``[host, host + size)`` of ``data`` zeros, whatever was there before, reserved as ``mode`` says.

    Others write to ``data`` meanwhile, and further out: its size is never set, it only grows by what is written.
    """
    if mode is Preallocation.FULL:
        for at in range(host, host + size, _PIECE):
            data.push(at, [zeros(min(_PIECE, host + size - at))])
    elif mode is Preallocation.FALLOC:
        data.zero(host, size, unmap=False)
    else:
        if (reused := min(data.size, host + size) - host) > 0:
            data.zero(host, reused, unmap=True)
        if host + size > data.size:
            data.push(host + size - 1, [zeros(1)])
