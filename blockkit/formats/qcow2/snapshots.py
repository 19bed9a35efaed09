"""Reading the snapshot table [qcow2, "Snapshots"].

::

    snapshots_offset
    +--------+------------+----+------+---------+--------+------------+----+------+
    | fixed  | extra data | id | name | padding | fixed  | extra data | id | name |  ...
    +--------+------------+----+------+---------+--------+------------+----+------+
    entry, starts at a multiple of 8            entry
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blockkit.errors import CorruptImageError, FormatError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.schema import SnapshotExtra, SnapshotHeader
from blockkit.units import align_up

if TYPE_CHECKING:
    from blockkit.block.node import Node
    from blockkit.formats.qcow2.header import HeaderCluster

_WHERE: Final = "qcow2 snapshot table"

#: Bytes of the fixed part of an entry.
FIXED_SIZE: Final = 40

#: Extra data that every entry of a version 3 image must have, bytes.
V3_EXTRA_SIZE: Final = 16


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One internal snapshot.

    Attributes:
        l1_table_offset: Of its L1 table, bytes; not checked.
        l1_size: Entries of its L1 table; not checked.
        id: Unique in the image.
        name: What people call it.
        date_sec: When it was taken, seconds since 1970.
        date_nsec: Nanoseconds of that second.
        vm_clock_nsec: How long the guest had run, nanoseconds.
        vm_state_size: Bytes of VM state; 0 means none.
        disk_size: Virtual size when it was taken, bytes; None where that is not stored.
        extra_data_size: Bytes of extra data.
        entry_offset: Where its table entry starts, bytes.
        entry_size: Bytes of the table entry, without padding.
    """

    l1_table_offset: int
    l1_size: int
    id: str
    name: str
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    vm_state_size: int
    disk_size: int | None
    extra_data_size: int
    entry_offset: int
    entry_size: int

    def __str__(self) -> str:
        return f"{self.id} ({self.name})"


def read_snapshots(file: Node, header: HeaderCluster, *, any_extra: bool = False) -> list[Snapshot]:
    """Read the snapshot table; memory and time are bounded by its limits and by the file.

    Args:
        file: What holds the image.
        header: Of the image.
        any_extra: Take entries with more extra data than the format allows, for a repair that drops it.

    Raises:
        CorruptImageError: an entry reaches past the end of the file.
        FormatError: the table, or an entry, is larger than any may be.
    """
    count = header.fixed.nb_snapshots
    if not count:
        return []
    start = offset = header.fixed.snapshots_offset
    if start % header.geometry.cluster_size:
        raise FormatError(
            f"snapshots_offset is {start:#x}, not a multiple of the cluster size {header.geometry.cluster_size:#x}",
            where="qcow2 header",
            offset=64,
        )
    end = min(file.size, start + schema.MAX_SNAPSHOT_TABLE_SIZE)
    found: list[Snapshot] = []
    for index in range(count):
        offset = align_up(offset, 8)
        snapshot = _read_entry(file, index, offset, end, any_extra)
        found.append(snapshot)
        offset += snapshot.entry_size
    return found


def _read_entry(file: Node, index: int, offset: int, end: int, any_extra: bool) -> Snapshot:
    """Read entry ``index`` at ``offset``; it must be over at ``end``."""

    def inside(size: int) -> None:
        if offset + size > end:
            raise CorruptImageError(
                f"entry {index} takes {size} bytes, but the file or the largest table possible ends at {end:#x}",
                where=_WHERE,
                offset=offset,
            )

    inside(FIXED_SIZE)
    # Most entries are short: one read gets the whole of it.
    data = file.pull_bytes(offset, min(256, end - offset))
    fixed = SnapshotHeader.parse(data[:FIXED_SIZE], offset=offset)
    extra_size = fixed.extra_data_size
    if extra_size > schema.MAX_SNAPSHOT_EXTRA_SIZE and not any_extra:
        raise FormatError(
            f"extra_data_size of entry {index} is {extra_size}, not at most {schema.MAX_SNAPSHOT_EXTRA_SIZE}",
            where=_WHERE,
            offset=offset + 36,
        )
    size = FIXED_SIZE + extra_size + fixed.id_str_size + fixed.name_size
    inside(size)
    vm_state_size, disk_size = fixed.vm_state_size, None
    if extra_size >= 8:
        known = data[FIXED_SIZE : FIXED_SIZE + V3_EXTRA_SIZE].ljust(V3_EXTRA_SIZE, b"\0")
        extra = SnapshotExtra.parse(known, offset=offset + FIXED_SIZE)
        vm_state_size = extra.vm_state_size_large
        if extra_size >= V3_EXTRA_SIZE:
            disk_size = extra.disk_size
    names = file.pull_bytes(offset + FIXED_SIZE + extra_size, fixed.id_str_size + fixed.name_size)
    return Snapshot(
        l1_table_offset=fixed.l1_table_offset,
        l1_size=fixed.l1_size,
        id=names[: fixed.id_str_size].decode("utf-8", "replace"),
        name=names[fixed.id_str_size :].decode("utf-8", "replace"),
        date_sec=fixed.date_sec,
        date_nsec=fixed.date_nsec,
        vm_clock_nsec=fixed.vm_clock_nsec,
        vm_state_size=vm_state_size,
        disk_size=disk_size,
        extra_data_size=extra_size,
        entry_offset=offset,
        entry_size=size,
    )


def table_size(snapshots: list[Snapshot]) -> int:
    """Return the bytes from the start of the table to the end of its last entry."""
    return snapshots[-1].entry_offset + snapshots[-1].entry_size - snapshots[0].entry_offset if snapshots else 0
