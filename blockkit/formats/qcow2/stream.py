"""Writing a qcow2 image front to back, in one pass, to something that cannot seek.

What is allocated is known from the source's extents before the first byte is read, so all metadata can go first::

    header | refcount table | refcount blocks | L1 table | L2 tables | data clusters in guest order

Zeros inside allocated extents are written as data: looking for them would take a second pass.
"""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from blockkit.block.chain import locate
from blockkit.block.node import Kind
from blockkit.block.tables import encode_u64
from blockkit.block.zeros import zeros
from blockkit.formats.qcow2.counts import encode_counts, typecode
from blockkit.formats.qcow2.create import CreateOptions, judge, new_header
from blockkit.formats.qcow2.schema import COPIED, ZERO
from blockkit.units import MiB, align_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.buffers import Buffer
    from blockkit.block.node import Node
    from blockkit.formats.qcow2.geometry import Geometry

_PIECE = MiB


def write_stream(
    source: Node,
    options: CreateOptions,
    write: Callable[[Buffer], None],
    *,
    over_backing: bool,
    advance: Callable[[int], None],
) -> None:
    """Write an image of ``source`` to a stream.

    Args:
        source: Read twice by its extents and once by its data.
        options: As for a new image; ``preallocation`` other than ``off`` allocates every cluster.
        write: Takes all bytes of a buffer, in order.
        over_backing: Store only what the source's top layer does; the backing file named in ``options`` has the rest.
        advance: Called with the bytes of the disk just dealt with.
    """
    size = align_up(source.size, 512)
    options = replace(options, lazy_refcounts=False)
    geometry = judge(options, size)
    everything = options.preallocation != "off"
    data, zero = _runs(source, geometry, over_backing=over_backing, everything=everything, size=size)
    l2_bits, bits = geometry.l2_bits, geometry.cluster_bits
    tables = sorted(
        {
            index
            for runs in (data, zero)
            for first, end in runs
            for index in range(first >> l2_bits, (end - 1 >> l2_bits) + 1)
        }
    )
    l1_size = geometry.l1_entries(size)
    l1_clusters = geometry.clusters(l1_size * 8)
    rest = 1 + l1_clusters + len(tables) + sum(end - first for first, end in data)
    table_clusters, blocks = _counts_for(geometry, rest)
    l1_at = 1 + table_clusters + blocks
    l2_at = l1_at + l1_clusters
    data_at = l2_at + len(tables)

    header = new_header(options, size, geometry, l1_size, l1_at << bits, table_clusters)
    write(header.build().ljust(geometry.cluster_size, b"\0"))
    first_block = 1 + table_clusters
    block_offsets = array("Q", range(first_block << bits, (first_block + blocks) << bits, 1 << bits))
    write(encode_u64(block_offsets, "big").ljust(table_clusters << bits, b"\0"))
    _write_counts(geometry, rest + table_clusters + blocks, blocks, write)
    l1 = array("Q", bytes(l1_size * 8))
    for position, index in enumerate(tables):
        l1[index] = (l2_at + position) << bits | COPIED
    write(encode_u64(l1, "big").ljust(l1_clusters << bits, b"\0"))
    _write_tables(geometry, tables, data, zero, data_at, write)
    _write_data(source, geometry, data, size, write, advance)


def _runs(
    source: Node, geometry: Geometry, *, over_backing: bool, everything: bool, size: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the runs ``(first, end)`` of guest clusters that hold data, and of those that must be zero."""
    if everything:
        return [(0, geometry.clusters(size))] if size else [], []
    data: list[tuple[int, int]] = []
    zero: list[tuple[int, int]] = []
    cluster_size = geometry.cluster_size
    for found in locate(source, max_depth=0 if over_backing else None):
        start, end = found.offset, found.offset + found.length
        if found.kind is Kind.DATA or found.kind is Kind.ENCODED:
            _add(data, start // cluster_size, -(-end // cluster_size))
        elif over_backing and found.kind is Kind.ZERO:
            # A cluster that is zero only in part is data.
            first, last = -(-start // cluster_size), end // cluster_size
            if last < first:
                _add(data, start // cluster_size, -(-end // cluster_size))
                continue
            if start % cluster_size:
                _add(data, first - 1, first)
            if first < last:
                _add(zero, first, last)
            if end % cluster_size and end < source.size:
                _add(data, last, last + 1)
            elif end % cluster_size:
                _add(zero, last, last + 1)
    return data, zero


def _add(runs: list[tuple[int, int]], first: int, end: int) -> None:
    """Append ``[first, end)``, which starts no earlier than the last run does, joining it where they touch."""
    if runs and first <= runs[-1][1]:
        runs[-1] = runs[-1][0], max(end, runs[-1][1])
    else:
        runs.append((first, end))


def _counts_for(geometry: Geometry, rest: int) -> tuple[int, int]:
    """Return the clusters of refcount table and of blocks that count ``rest`` clusters and themselves."""
    table_clusters = blocks = 1
    while True:
        need_blocks = -(-(rest + table_clusters + blocks) // geometry.refcount_block_entries)
        need_table = geometry.clusters(need_blocks * 8)
        if (need_table, need_blocks) == (table_clusters, blocks):
            return table_clusters, blocks
        table_clusters, blocks = max(need_table, table_clusters), max(need_blocks, blocks)


def _write_counts(geometry: Geometry, used: int, blocks: int, write: Callable[[Buffer], None]) -> None:
    """Write refcount blocks in which the first ``used`` clusters have one reference each."""
    entries, code = geometry.refcount_block_entries, typecode(geometry.refcount_order)
    full = encode_counts(array(code, [1]) * entries, geometry.refcount_order)
    for block in range(blocks):
        left = min(entries, used - block * entries)
        if left >= entries:
            write(full)
        else:
            counts = array(code, [1]) * max(0, left) + array(code, [0]) * (entries - max(0, left))
            write(encode_counts(counts, geometry.refcount_order))


def _write_tables(
    geometry: Geometry,
    tables: list[int],
    data: list[tuple[int, int]],
    zero: list[tuple[int, int]],
    data_at: int,
    write: Callable[[Buffer], None],
) -> None:
    """Write the L2 tables; data clusters follow each other from host cluster ``data_at`` on."""
    entries, step = geometry.l2_entries, geometry.cluster_size
    host = data_at << geometry.cluster_bits
    data_pieces, zero_pieces = _pieces(data, entries), _pieces(zero, entries)
    next_data, next_zero = next(data_pieces, None), next(zero_pieces, None)
    for index in tables:
        table = array("Q", bytes(entries * 8))
        while next_zero is not None and next_zero[0] // entries == index:
            first, end = next_zero
            at = first - index * entries
            table[at : at + end - first] = array("Q", [ZERO]) * (end - first)
            next_zero = next(zero_pieces, None)
        while next_data is not None and next_data[0] // entries == index:
            first, end = next_data
            at, begin = first - index * entries, host | COPIED
            table[at : at + end - first] = array("Q", range(begin, begin + (end - first) * step, step))
            host += (end - first) * step
            next_data = next(data_pieces, None)
        write(encode_u64(table, "big"))


def _pieces(runs: list[tuple[int, int]], entries: int) -> Iterator[tuple[int, int]]:
    """Cut runs where one L2 table ends and the next begins."""
    for first, end in runs:
        while first < end:
            stop = min(end, (first // entries + 1) * entries)
            yield first, stop
            first = stop


def _write_data(
    source: Node,
    geometry: Geometry,
    data: list[tuple[int, int]],
    size: int,
    write: Callable[[Buffer], None],
    advance: Callable[[int], None],
) -> None:
    """Write the data clusters in order; the last may reach behind the end of the source, with zeros."""
    buffer = memoryview(bytearray(_PIECE))
    done = 0
    for first, end in data:
        at, stop = first << geometry.cluster_bits, end << geometry.cluster_bits
        advance(max(0, min(at, size) - done))
        while at < stop:
            piece = min(_PIECE, stop - at)
            inside = max(0, min(piece, source.size - at))
            if inside:
                source.read_into(at, buffer[:inside])
                write(buffer[:inside])
            if inside < piece:
                write(zeros(piece - inside))
            advance(max(0, min(at + piece, size) - at))
            at += piece
        done = min(stop, size)
    advance(size - done)
