"""Columns of an L2 table, in the dialect (:mod:`blockkit.native.dialect`): ``table_columns`` for very many tables."""

from __future__ import annotations

from typing import Final

from blockkit.formats.qcow2.schema import OFFSET_MASK
from blockkit.native.dialect import host_read, host_write

_OFFSET: Final[int] = OFFSET_MASK
#: The answer where there is anything but data and nothing.
OTHERWISE: Final[int] = (1 << 64) - 1


def l2_columns(entries: int, count: int, begin: int, size: int, unusual: int, out: int) -> int:
    """Write the runs of data that a table maps, and return how many there are; OTHERWISE if it holds anything else.

    Args:
        entries: Address of the first entry to look at.
        count: Entries.
        begin: Offset on the disk of the first one.
        size: Bytes of a cluster.
        unusual: Bits that no entry for data has.
        out: Address of room for ``3 * count`` numbers: the starts of the runs, behind room for ``count`` their lengths,
            behind that where they lie.
    """
    runs = 0
    run_end = 0
    place_end = 0
    at = begin
    lengths = out + count * 8
    places = lengths + count * 8
    stop = entries + count * 8
    while entries < stop:
        entry = host_read(entries, 8)
        if entry:
            place = entry & _OFFSET
            if entry & unusual or place == 0:
                return OTHERWISE
            if runs and at == run_end and place == place_end:
                last = lengths + runs * 8 - 8
                host_write(last, 8, host_read(last, 8) + size)
            else:
                host_write(out + runs * 8, 8, at)
                host_write(lengths + runs * 8, 8, size)
                host_write(places + runs * 8, 8, place)
                runs += 1
            run_end = at + size
            place_end = place + size
        at += size
        entries += 8
    return runs
