"""Mending an image, in an order in which a power cut at any moment leaves it no worse than it was.

Counts are set right first, then what depends on them (COPIED flags), then the header's feature bits; a flush lies
between. A refcount structure that cannot be trusted is not touched: a new one is written behind the end of the file,
and one write to the header, in one sector, puts it in place.
"""

from __future__ import annotations

from array import array
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from blockkit.block.node import Cap
from blockkit.block.report import CheckReport, Repair
from blockkit.block.tables import decode_u64, encode_u64
from blockkit.errors import NoSpaceError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.census import Census
from blockkit.formats.qcow2.counts import decode_counts, encode_counts, typecode
from blockkit.formats.qcow2.schema import COMPRESSED, OFFSET_MASK, ZERO, Incompatible, SnapshotExtra, SnapshotHeader
from blockkit.formats.qcow2.snapshots import FIXED_SIZE, V3_EXTRA_SIZE
from blockkit.units import align_down, align_up

if TYPE_CHECKING:
    from blockkit.block.node import Node
    from blockkit.formats.qcow2.audit import Audit
    from blockkit.formats.qcow2.header import HeaderCluster

#: Where ``refcount_table_offset`` lies in the header; up to ``snapshots_offset`` it is one run of 24 bytes.
_TABLES_AT: Final = 48
_TABLES_SIZE: Final = 24

#: Where ``incompatible_features`` lies in the header.
_FEATURES_AT: Final = 72

_ALL_SUBCLUSTERS: Final = 0xFFFF_FFFF


def mend_counts(audit: Audit, repair: Repair) -> bool:
    """Set wrong reference counts right; with LEAKS those that are too high only. Tell whether anything was written."""
    changed = False
    if repair is Repair.ALL:
        for offset in sorted(audit.census.misplaced):
            changed |= _mend_table(audit, offset)
        if changed:
            audit.file.flush()
        if audit.census.rewrite_snapshots or audit.unsound or _lacks_block(audit):
            _rebuild(audit)
            return True
    freed: list[int] = []
    for number in audit.differing:
        changed |= _mend_block(audit, number, repair, freed)
    if changed:
        audit.file.flush()
        # What looks unused in a damaged image may be all that is left of something: it keeps its contents.
        if not (audit.report.corruptions or audit.report.check_errors) and Cap.DISCARD in audit.file.caps:
            _discard(audit, freed)
    return changed


def _lacks_block(audit: Audit) -> bool:
    """Tell whether clusters in use belong to a refcount block that does not exist."""
    clusters = dict(audit.blocks())
    return any(
        audit.stored(number) is None and any(audit.expected(number, clusters[number])) for number in audit.differing
    )


def _mend_block(audit: Audit, number: int, repair: Repair, freed: list[int]) -> bool:
    """Write what must change of one refcount block."""
    geometry, order = audit.geometry, audit.geometry.refcount_order
    base = number << geometry.refcount_block_bits
    clusters = min(geometry.refcount_block_entries, audit.census.limit() - base)
    stored = audit.stored(number)
    if stored is None:
        return False
    counts = decode_counts(stored, order)
    for index, want in enumerate(decode_counts(audit.expected(number, clusters), order)[:clusters]):
        have = counts[index]
        if have > want or (have < want and repair is Repair.ALL):
            counts[index] = want
            if not want:
                freed.append(base + index)
    data = encode_counts(counts, order)
    if data == stored:
        return False
    _write_changes(audit.file, audit.table[number], stored, data)
    return True


def _write_changes(file: Node, offset: int, old: bytes, new: bytes) -> None:
    """Write the sectors from the first difference to the last."""
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
    last = next(i for i in range(len(old) - 1, -1, -1) if old[i] != new[i])
    first, end = align_down(first, 512), min(align_up(last + 1, 512), len(new))
    file.push(offset + first, [memoryview(new)[first:end]])


def _discard(audit: Audit, freed: list[int]) -> None:
    """Give the space of freed clusters back."""
    size, end = audit.geometry.cluster_size, audit.file.size
    # Neighbours have the same distance between cluster and position.
    for _, run in groupby(enumerate(freed), lambda pair: pair[1] - pair[0]):
        clusters = [cluster for _, cluster in run]
        start, stop = clusters[0] * size, min((clusters[-1] + 1) * size, end)
        if start < stop:
            audit.file.discard(start, stop - start)


# -- entries of L2 tables ----------------------------------------------------------------------------------


def _is_ours(audit: Audit, offset: int) -> bool:
    """Tell whether the cluster at ``offset`` is an L2 table and nothing else, so that writing it is safe."""
    if offset & (audit.geometry.cluster_size - 1) or offset + audit.geometry.cluster_size > audit.census.end:
        return False
    return audit.census.count(offset >> audit.geometry.cluster_bits) == audit.census.l2_tables.get(offset)


def _mend_table(audit: Audit, offset: int) -> bool:
    """Turn entries that hold no data, but point nowhere sensible, into ones without a cluster."""
    geometry, words = audit.geometry, audit.geometry.l2_words
    if not _is_ours(audit, offset):
        return False
    old = audit.file.pull_bytes(offset, geometry.cluster_size)
    table = decode_u64(old, "big")
    unaligned = OFFSET_MASK & (geometry.cluster_size - 1)
    for at in range(0, len(table), words):
        entry = table[at]
        if entry & COMPRESSED or not entry & unaligned:
            continue
        if words == 1 and entry & ZERO:
            table[at] = ZERO
        elif words == 2 and not table[at + 1] & _ALL_SUBCLUSTERS:
            table[at] = 0
    new = encode_u64(table, "big")
    if new == old:
        return False
    _write_changes(audit.file, offset, old, new)
    return True


def mend_flags(audit: Audit) -> bool:
    """Set wrong COPIED flags right, where that is safe. Tell whether anything was written."""
    file, fixed, geometry, changed = audit.file, audit.header.fixed, audit.geometry, False
    first = fixed.l1_table_offset >> geometry.cluster_bits
    l1_is_ours = all(audit.census.count(first + i) == 1 for i in range(geometry.clusters(fixed.l1_size * 8)))
    for table, flags in groupby(audit.flags(), attrgetter("table")):
        if table is None:
            if not l1_is_ours:
                continue
            for flag in flags:
                file.push(flag.at, [memoryview(flag.mended.to_bytes(8, "big"))])
                changed = True
            continue
        if not _is_ours(audit, table):
            continue
        old = file.pull_bytes(table, geometry.cluster_size)
        new = bytearray(old)
        for flag in flags:
            new[flag.at - table : flag.at - table + 8] = flag.mended.to_bytes(8, "big")
        if new != old:
            _write_changes(file, table, old, bytes(new))
            changed = True
    if changed:
        file.flush()
    return changed


# -- the header --------------------------------------------------------------------------------------------


def mark_consistent(file: Node, header: HeaderCluster) -> None:
    """Clear the dirty and the corrupt bit, durably."""
    kept = int(header.incompatible) & ~int(Incompatible.DIRTY | Incompatible.CORRUPT)
    if kept != int(header.incompatible):
        file.flush()
        file.push(_FEATURES_AT, [memoryview(kept.to_bytes(8, "big"))])
        file.flush()
        header.fixed = replace(header.fixed, incompatible_features=kept)


# -- a new refcount structure -------------------------------------------------------------------------------


def _rebuild(audit: Audit) -> None:
    """Write a new refcount table and blocks, and if need be a new snapshot table, then switch to them.

    Raises:
        NoSpaceError: there is no room in a file that cannot grow; or the table would be larger than any may be.
    """
    file, header, geometry = audit.file, audit.header, audit.geometry
    bits, block_bits = geometry.cluster_bits, geometry.refcount_block_bits
    anew = audit.census.rewrite_snapshots
    census = Census(file, header, CheckReport(), mending=True)
    census.run(refcounts=False, snapshot_table=not anew)
    snapshots = _snapshot_table(audit) if anew else b""
    used = set(_by_block(census))
    for number in range(-(-census.clusters >> block_bits)):
        part = census.refs[number << block_bits : number + 1 << block_bits]
        if part.count(0) != len(part):
            used.add(number)
    # The snapshot table, the blocks, the refcount table; they count themselves, so their number feeds back on itself.
    first_block, room = geometry.clusters(len(snapshots)), 0
    while True:
        start = _find_room(audit, census, room)
        numbers = used.union(range(start >> block_bits, (start + room >> block_bits) + 1))
        table = geometry.clusters((max(numbers) + 1) * 8)
        needed = first_block + len(numbers) + table
        if needed <= room:
            break
        room = needed
    if table << bits > schema.MAX_REFCOUNT_TABLE_SIZE:
        raise NoSpaceError(f"{file}: a new refcount table takes {table << bits} bytes, more than any may")
    for cluster in range(start, start + needed):
        census.spill[cluster] = census.spill.get(cluster, 0) + 1
    exceptions = _by_block(census)
    entries = array("Q", bytes(table << bits))
    for position, number in enumerate(sorted(numbers)):
        entries[number] = start + first_block + position << bits
        file.push(entries[number], [memoryview(_block(census, number, exceptions.get(number, [])))])
    table_offset = start + needed - table << bits
    file.push(table_offset, [memoryview(encode_u64(entries, "big"))])
    fixed = replace(header.fixed, refcount_table_offset=table_offset, refcount_table_clusters=table)
    if anew:
        file.push(start << bits, [memoryview(snapshots.ljust(first_block << bits, b"\0"))])
        fixed = replace(fixed, snapshots_offset=start << bits)
    file.flush()
    file.push(_TABLES_AT, [memoryview(fixed.build())[_TABLES_AT : _TABLES_AT + _TABLES_SIZE]])
    file.flush()
    header.fixed = fixed


def _find_room(audit: Audit, census: Census, clusters: int) -> int:
    """Return the first of ``clusters`` clusters on end that nothing uses, the structure to be replaced included."""
    if Cap.GROW in audit.file.caps:
        return census.limit()
    bits, fixed = audit.geometry.cluster_bits, audit.header.fixed
    taken = census.refs[: audit.file.size >> bits]
    old = [entry >> bits for entry in audit.table if entry]
    old += range(
        fixed.refcount_table_offset >> bits,
        (fixed.refcount_table_offset >> bits) + fixed.refcount_table_clusters,
    )
    old += [snapshot.entry_offset >> bits for snapshot in audit.census.snapshots]
    for cluster in old:
        if cluster < len(taken):
            taken[cluster] = 1
    start = taken.find(bytes(max(1, clusters)))
    if start < 0:
        raise NoSpaceError(
            f"{audit.file}: a new refcount structure takes {clusters} clusters on end; they are not free"
        )
    return start


def _by_block(census: Census) -> dict[int, list[int]]:
    """Return number of a refcount block -> its clusters whose references are not all in a byte."""
    found: dict[int, list[int]] = {}
    for cluster in census.spill:
        found.setdefault(cluster >> census.geometry.refcount_block_bits, []).append(cluster)
    return found


def _block(census: Census, number: int, exceptions: list[int]) -> bytes:
    """Return refcount block ``number``; the counts of ``exceptions`` are more than a byte can hold."""
    geometry, entries = census.geometry, census.geometry.refcount_block_entries
    order, highest = geometry.refcount_order, geometry.refcount_max
    first = number * entries
    low = census.refs[first : first + entries].ljust(entries, b"\0")
    counts = array(typecode(order), list(low.translate(bytes(min(value, highest) for value in range(256)))))
    for cluster in exceptions:
        counts[cluster - first] = min(census.count(cluster), highest)
    return encode_counts(counts, order)


def _snapshot_table(audit: Audit) -> bytes:
    """Return the snapshot table with extra data of a size that the format allows."""
    table = bytearray()
    low = V3_EXTRA_SIZE if audit.header.fixed.version >= 3 else 0
    for snapshot in audit.census.snapshots:
        data = audit.file.pull_bytes(snapshot.entry_offset, snapshot.entry_size)
        extra = data[FIXED_SIZE : FIXED_SIZE + min(snapshot.extra_data_size, schema.MAX_SNAPSHOT_EXTRA_SIZE)]
        if len(extra) < low:
            size = audit.header.fixed.size if snapshot.disk_size is None else snapshot.disk_size
            extra = SnapshotExtra(vm_state_size_large=snapshot.vm_state_size, disk_size=size).build()
        fixed = replace(SnapshotHeader.parse(data), extra_data_size=len(extra))
        table += bytes(-len(table) % 8)
        table += fixed.build() + extra + data[FIXED_SIZE + snapshot.extra_data_size :]
    return bytes(table)
