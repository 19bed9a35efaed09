"""Where the bytes of a disk are stored, as ``qemu-img map`` tells it."""

from __future__ import annotations

from array import array
from itertools import islice
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple

from blockkit.block.chain import Ask, Walker
from blockkit.block.facets import MapsInBulk, TracksAllocation
from blockkit.block.node import Kind
from blockkit.native.kernels import kernel
from blockkit.units import SECTOR, align_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.bases import FilterNode
    from blockkit.block.node import Node


#: Runs put into one piece of text.
_BATCH: Final = 1024
_NOTHING: Final = '"depth": 0, "present": false, "zero": true, "data": false'
_DATA: Final = '"depth": 0, "present": true, "zero": false, "data": true'
_JSON: Final = {False: "false", True: "true"}


class Mapped(NamedTuple):
    """A run of a disk that is stored in one way.

    Attributes:
        start: First byte of the disk.
        length: Bytes.
        depth: Which image of the backing chain decides; 0 is the top.
        present: Some image stores it, be it as zeros.
        zero: It reads as zeros.
        data: It is stored as data (with ``zero``: data that lies in a hole of the file).
        offset: Where it lies in ``filename``, bytes; None where it has no place of its own.
        filename: The file that holds it; empty without a place.
    """

    start: int
    length: int
    depth: int
    present: bool
    zero: bool
    data: bool
    offset: int | None
    filename: str


def map_image(node: Node, offset: int = 0, length: int | None = None) -> Iterator[Mapped]:
    """Yield how a range of a disk is stored; runs that could be one are one, and there is at least one.

    Args:
        node: The top of the stack.
        offset: Bytes.
        length: Bytes; None means up to the end. The last run of a disk reaches to the end of its last sector.
    """
    end = align_up(node.size, SECTOR)
    end = end if length is None else min(end, offset + length)
    runs = _runs(node, offset, max(0, min(end, node.size) - offset))
    held = next(runs, None)
    if held is None:
        yield Mapped(offset, 0, 0, False, False, False, None, "")
        return
    start, size, depth, present, zero, data, place, filename = held
    for run in runs:
        if (
            run[2:6] == (depth, present, zero, data)
            and run[7] == filename
            and (run[6] == place + size if place is not None else run[6] is None)
        ):
            size += run[1]
            continue
        yield Mapped(start, size, depth, present, zero, data, place, filename)
        start, size, depth, present, zero, data, place, filename = run
    if end > node.size and place is not None and not zero:
        # The file ends within its last sector, and what is missing reads as zeros.
        yield Mapped(start, size, depth, present, zero, data, place, filename)
        start, place, zero, data = start + size, place + size, True, False
    yield Mapped(start, end - start, depth, present, zero, data, place, filename)


#: A run before it is joined with others: the fields of Mapped.
_Run = tuple[int, int, int, bool, bool, bool, "int | None", str]


class _MapWalker(Walker):
    """Looks through filters, and for holes only where nothing else tells what is allocated."""

    def __init__(self) -> None:
        super().__init__()
        self._asks: dict[int, Ask] = {}

    def asks(self, node: Node) -> Ask:
        ask = self._asks.get(id(node))
        if ask is None:
            knows = isinstance(node, TracksAllocation) and not node.mostly_holes()
            ask = self._asks[id(node)] = Ask.NONE if knows else Ask.ALL
        return ask

    def passes(self, node: FilterNode) -> bool:
        return True


def _runs(node: Node, offset: int, length: int) -> Iterator[_Run]:
    """Yield the runs of a disk as they are found."""
    for start, size, kind, depth, holder, place, hole in _MapWalker().walk(node, offset, length):
        if kind is Kind.DATA and holder is not None:
            yield start, size, depth, True, False, True, place, holder.filename
        elif kind is Kind.UNALLOCATED:
            yield start, size, depth, False, True, False, None, ""
        elif kind is Kind.ZERO:
            told = (place, holder.filename) if holder is not None else (None, "")
            yield start, size, depth, True, True, hole, *told
        else:
            yield start, size, depth, True, False, True, None, ""


def map_json(node: Node, offset: int = 0, length: int | None = None) -> Iterator[str]:
    """Yield the text of ``qemu-img map --output json`` in pieces; arguments as for :func:`map_image`."""
    end = align_up(node.size, SECTOR)
    end = end if length is None else min(end, offset + length)
    separator = "["
    for told, text in _bulk_json(node, offset, min(end, node.size)):
        yield separator + text
        offset, separator = told, ",\n"
    runs = map_image(node, offset, max(0, end - offset))
    while batch := list(islice(runs, _BATCH)):
        yield separator + ",\n".join(map(_json, batch))
        separator = ",\n"
    yield "]\n"


def _json(run: Mapped) -> str:
    place = "" if run.offset is None else f', "offset": {run.offset}'
    present, zero, data = _JSON[run.present], _JSON[run.zero], _JSON[run.data]
    return (
        f'{{ "start": {run.start}, "length": {run.length}, "depth": {run.depth}, "present": {present}, '
        f'"zero": {zero}, "data": {data}{place}}}'
    )


def _bulk_json(node: Node, offset: int, end: int) -> Iterator[tuple[int, str]]:
    """Yield ``(up to where it tells, text)`` of as much as columns can tell; the rest is up to the general way.

    The last run is held back, as it may go on. Ten times as fast as run by run.
    """
    if not isinstance(node, MapsInBulk) or (isinstance(node, TracksAllocation) and node.mostly_holes()):
        return
    told = at = offset
    starts, lengths, places = array("Q"), array("Q"), array("Q")
    lines = _Lines()
    while at < end and (columns := node.data_columns(at, end)) is not None:
        at, *more = columns
        if starts and more[0] and (starts[-1] + lengths[-1], places[-1] + lengths[-1]) == (more[0][0], more[2][0]):
            lengths[-1] += more[1][0]
            more = [column[1:] for column in more]
        starts += more[0]
        lengths += more[1]
        places += more[2]
        if len(starts) > _BATCH:
            text = lines.of(told, starts[:-1], lengths[:-1], places[:-1])
            told = starts[-2] + lengths[-2]
            del starts[:-1], lengths[:-1], places[:-1]
            yield told, text
    if len(starts) > 1:
        yield starts[-2] + lengths[-2], lines.of(told, starts[:-1], lengths[:-1], places[:-1])


class _Lines:
    """Makes lines of columns, natively where there are many and it can be had."""

    def __init__(self) -> None:
        self._native: Callable[..., int] | None = None
        self._asked = False
        self._room = array("B")

    def of(self, told: int, starts: array[int], lengths: array[int], places: array[int]) -> str:
        """Return the lines of runs of data, and of the nothing between them, from ``told`` on."""
        if len(starts) >= _BATCH and not self._asked:
            self._native = kernel("blockkit.img.map_lines", "map_lines", 6, compiled=True)
            self._asked = True
        if self._native is None:
            return _plain_lines(told, starts, lengths, places)
        from blockkit.img.map_lines import LONGEST

        count = len(starts)
        if len(self._room) < count * LONGEST + 8:
            self._room = array("B", bytes(count * LONGEST + 8))
        out = self._room.buffer_info()[0]
        end = self._native(*(column.buffer_info()[0] for column in (starts, lengths, places)), count, told, out)
        return str(memoryview(self._room)[: end - out - len(",\n")], "ascii")


def _plain_lines(told: int, starts: array[int], lengths: array[int], places: array[int]) -> str:
    ends = [told, *map(add, starts, lengths)]
    return ",\n".join(
        [
            f'{{ "start": {before}, "length": {start - before}, {_NOTHING}}},\n'
            f'{{ "start": {start}, "length": {size}, {_DATA}, "offset": {target}}}'
            if start > before
            else f'{{ "start": {start}, "length": {size}, {_DATA}, "offset": {target}}}'
            for before, start, size, target in zip(ends, starts, lengths, places, strict=False)
        ]
    )
