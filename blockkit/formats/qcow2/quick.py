"""Small reads of a node that is read much, made native."""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING

from blockkit.block.facets import LendsDescriptor
from blockkit.formats.qcow2 import quick_read as layout
from blockkit.native.builtin import API_CELLS, api_cells, builtin, fits
from blockkit.native.kernels import symbol

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Node
    from blockkit.formats.qcow2.mapping import Directory


class QuickReads:
    """A native function that reads, and the cells it works with.

    Attributes:
        read: What stands for ``Node.read``.
    """

    def __init__(self, read: Callable[[int, int], bytes], cells: array[int]) -> None:
        self.read, self._cells = read, cells

    def stop(self) -> None:
        """Leave everything to the function in Python from now on, whoever still calls this one."""
        self._cells[layout.DIRECTORY_SIZE] = 0


def prepare(data: Node) -> bool | None:
    """Compile what is needed, which takes a while; tell whether it can be had, or None if it cannot be told yet.

    Args:
        data: What holds guest data.
    """
    cell = data.descriptor_cell() if isinstance(data, LendsDescriptor) else None
    if cell is None or not fits():
        return False
    if cell[0] < 0:
        return None  # somebody watches what is read
    return _answers_at_once(cell[0]) and _address() is not None


def _address() -> int | None:
    return symbol("blockkit.formats.qcow2.quick_read", "quick_read", compiled=True)


def quick_reads(
    data: Node,
    directory: Directory,
    slow: Callable[[int, int], bytes],
    *,
    table_bits: int,
    cluster_bits: int,
    unusual: int,
    size: int,
) -> QuickReads | None:
    """Make small reads native, if that is possible here and they have been prepared.

    Args:
        data: What holds guest data.
        directory: The tables, kept up to date until the reads are stopped.
        slow: Reads what is not simple.
        table_bits: Log2 of the bytes that a table maps.
        cluster_bits: Of those that a cluster has.
        unusual: Bits that no entry for plain data has.
        size: Bytes of the disk.
    """
    cell = data.descriptor_cell() if isinstance(data, LendsDescriptor) else None
    if cell is None:
        return None
    api, address = api_cells(), _address()
    if api is None or address is None:
        return None
    cells = array("Q", [*api, *[0] * (layout.CELLS - API_CELLS)])
    cells[layout.DIRECTORY] = directory.addresses.buffer_info()[0]
    cells[layout.DIRECTORY_SIZE] = len(directory.addresses)
    cells[layout.USED] = directory.used.buffer_info()[0]
    cells[layout.TABLE_BITS], cells[layout.CLUSTER_BITS] = table_bits, cluster_bits
    cells[layout.UNUSUAL], cells[layout.SIZE] = unusual, size
    cells[layout.DESCRIPTOR] = cell.buffer_info()[0]
    read = builtin(address, "read", cells, slow, directory.addresses, directory.used, cell)
    return None if read is None else QuickReads(read, cells)


def _answers_at_once(descriptor: int) -> bool:
    """Whether the file can be read without waiting, where nothing has to be waited for."""
    try:
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True
