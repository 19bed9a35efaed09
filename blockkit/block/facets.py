"""What some nodes can do beyond the common interface; test with ``isinstance``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator, Sequence

    from blockkit.block.buffers import Buffer
    from blockkit.block.facts import ImageFacts
    from blockkit.block.node import Node
    from blockkit.block.report import CheckReport, Repair
    from blockkit.block.sizes import BitmapFacts
    from blockkit.schema import Structure


@runtime_checkable
class HasHostFile(Protocol):
    """Its bytes are those of a host file descriptor, at the same offsets."""

    def fileno(self) -> int:
        """Return the descriptor; valid until the node is closed."""
        ...


@runtime_checkable
class LendsDescriptor(Protocol):
    """Native code may read its bytes from a host file descriptor, at the same offsets."""

    def descriptor_cell(self) -> array[int] | None:
        """Return a cell with the descriptor, type code "q", or None where reads must be aligned.

        It holds -1 as soon as nobody is to read there any more, and while somebody watches what is read.
        """
        ...


@runtime_checkable
class TakesByDescriptor(Protocol):
    """Native code may write its bytes to a host file descriptor, at the same offsets."""

    def writing_cell(self) -> array[int] | None:
        """Return a cell as LendsDescriptor does, or None where writes must be aligned, are refused, or are durable."""
        ...

    def wrote(self, end: int) -> None:
        """Take note that native code has written, or has tried to, up to ``end``; it may have become longer."""
        ...


@runtime_checkable
class Shifts(Protocol):
    """Its requests go on to another node as they are, moved by a constant."""

    def shifted_to(self) -> tuple[Node, int] | None:
        """Return that node, and what is added to offsets; None while some requests are looked at on the way."""
        ...


@runtime_checkable
class HasAllocatedSize(Protocol):
    """It knows what it takes where it is stored."""

    @property
    def allocated_size(self) -> int:
        """Bytes it takes on its disk, holes left out."""
        ...


@runtime_checkable
class GuardsHead(Protocol):
    """Its first bytes are the disk's, so that a guest could make it look like an image of another format."""

    def guard_head(self, recognise: Callable[[bytes], str | None]) -> None:
        """Refuse writes from now on after which ``recognise`` would name a format for the first 4096 bytes.

        The graph asks for that where the format was guessed.
        """
        ...


@runtime_checkable
class Checkable(Protocol):
    """Its metadata can be checked, and perhaps repaired."""

    def check(self, repair: Repair) -> CheckReport:
        """Compare all metadata with itself; with ``repair`` mend what can be mended without losing data."""
        ...


@runtime_checkable
class WritesCompressed(Protocol):
    """Whole clusters can be stored compressed."""

    @property
    def compressed_cluster_size(self) -> int:
        """Bytes of guest data one compressed cluster holds."""
        ...

    @property
    def compression_memory(self) -> int:
        """Bytes that one thread takes while it compresses, at most."""
        ...

    def compress(self, data: Buffer) -> bytes | None:
        """Encode one cluster; None when it does not get smaller. Thread-safe, and runs without a lock."""
        ...

    def write_compressed(self, offset: int, encoded: bytes) -> None:
        """Store what :meth:`compress` gave for the cluster at ``offset`` (cluster-aligned)."""
        ...


@runtime_checkable
class WritesPieces(Protocol):
    """Many scattered writes can be stored together, faster than one by one."""

    def write_pieces(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Store ``(offset, data)`` pieces, in ascending order and not overlapping; like as many writes."""
        ...


class Room(Protocol):
    """Room for a range of the disk that nothing is stored of yet; see :class:`GivesRoom`."""

    def put(self, offset: int, data: memoryview) -> None:
        """Store ``data``, whole clusters, at ``offset`` of the disk: in the range, behind what was put before."""
        ...

    def next(self) -> tuple[Node, int, int]:
        """Return the node that the next data is put into, where in it that goes, and how much goes there; bytes."""
        ...

    def took(self, offset: int, length: int) -> None:
        """Note that whole clusters of the disk were written to where they go next by other means."""
        ...

    def keep(self) -> None:
        """Make what was put part of the disk, and give back the rest; the last thing that is done with it."""
        ...

    def abandon(self) -> None:
        """Give all of it back; likewise."""
        ...


@runtime_checkable
class GivesRoom(Protocol):
    """A long stretch can be written in many pieces that are linked together at its end.

    Other requests for the range wait until then, those of the same thread for ever.
    """

    @property
    def room_reach(self) -> int:
        """Bytes; room lies between two multiples of this."""
        ...

    def room(self, offset: int, length: int) -> Room | None:
        """Take room for whole clusters; None where the range holds something, or it cannot be had now."""
        ...


@runtime_checkable
class ExpectsGrowth(Protocol):
    """What it is stored in grows while it is filled, and can be made ready for that."""

    def expect_growth(self) -> None:
        """Reserve space ahead of what is written from now on; what is not used is given back when it is closed."""
        ...


@runtime_checkable
class Inspectable(Protocol):
    """Its on-disk structures can be listed with every field."""

    def structures(self) -> Iterator[Structure]:
        """Yield every on-disk structure, in order of importance; tables may be long."""
        ...


@runtime_checkable
class HasFacts(Protocol):
    """Its metadata says more than a size."""

    def facts(self) -> ImageFacts:
        """Return what it says, read anew."""
        ...


@runtime_checkable
class HasBitmaps(Protocol):
    """It is an image of a format in which bitmaps of what was changed can be kept."""

    def bitmaps(self) -> Sequence[BitmapFacts] | None:
        """Return those there are, read anew; None if this image is of a kind that cannot have any."""
        ...


@runtime_checkable
class TracksAllocation(Protocol):
    """Its metadata tells what is stored, so that nobody needs to look for holes in its file.

    A raw image is none: there the holes are all there is to tell.
    """

    def mostly_holes(self) -> bool:
        """Tell whether much less of the file is allocated than the metadata refers to (preallocated metadata).

        Then looking for holes in the file finds zeros that the metadata does not tell.
        """
        ...


#: Up to where a walk has come, and the starts, lengths and targets of the runs on the way; all bytes, type code "Q".
Columns: TypeAlias = "tuple[int, array[int], array[int], array[int]]"


@runtime_checkable
class MapsInBulk(Protocol):
    """Its extents can be had as columns, a whole table at a time: for a walk over very many of them."""

    def data_columns(self, offset: int, end: int) -> Columns | None:
        """Return the runs of plain data from ``offset`` on: ``(stop, starts, lengths, targets)``.

        They lie in ``file``, at ``targets``; between them, and up to ``stop``, nothing is allocated and zeros are
        read. ``stop`` is greater than ``offset`` and at most ``end``. None where there is anything else, a backing file
        among it, for :meth:`Node.extents` to tell.
        """
        ...
