"""The one interface of the block graph.

Every layer (a format, a protocol, a filter) is a :class:`Node`: a byte-addressed disk of known size. Public methods
check their arguments once; drivers implement the underscore hooks, which may trust theirs. Drivers *map*: they say
where bytes lie and where new bytes may go. The loops that move guest data are here, written once.

Threads: every public method may be called from any number of threads at once, except ``close``, which must be the
last call. Requests that overlap in time and in range are each applied whole or in part, in no stated order; requests
that do not overlap in range never affect each other. ``flush`` covers every request that returned before it began.
After a request that something from outside ended anywhere, as Ctrl-C does in Python, a node can only be closed.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from blockkit.block.buffers import Buffer, as_views, split_buffers, total_length
from blockkit.block.zeros import zero_fill, zeros
from blockkit.errors import ClosedError, OutOfRangeError, ReadOnlyError, UnsupportedOperationError
from blockkit.frozen import Frozen
from blockkit.units import MAX_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

#: Zeros are written in pieces of this many bytes when a node has nothing faster.
_ZERO_PIECE = 1 << 20


class Kind(enum.Enum):
    """How the bytes of an extent are represented at one node."""

    DATA = "data"  #: bytes are at ``target`` of ``node``
    ZERO = "zero"  #: reads as zeros, decided here; ``node`` and ``target`` tell the place reserved for it, if any
    UNALLOCATED = "unallocated"  #: not stored here: the backing decides, and none means zeros
    ENCODED = "encoded"  #: compressed or encrypted: only this node can decode it


class Extent(NamedTuple):
    """A run of a node's address space that is stored in one way.

    Attributes:
        offset: First byte, in the address space of the node that was asked.
        length: Bytes; always positive.
        kind: How the run is represented.
        node: The child that holds the bytes (for a protocol, the node itself), or None.
        target: Where in ``node`` they start, bytes.

    Example:
        >>> Extent(0, 65536, Kind.ZERO)
        Extent(offset=0, length=65536, kind=<Kind.ZERO: 'zero'>, node=None, target=0)
    """

    offset: int
    length: int
    kind: Kind
    node: Node | None = None
    target: int = 0


class Cap(enum.IntFlag):
    """What a node can do; fixed while it is open."""

    WRITE = 1  #: accepts writes
    ZERO = 2  #: zeroes without being sent zeros
    FAST_ZERO = 4  #: ... and never slower than that
    DISCARD = 8  #: discard gives space back
    FUA = 16  #: a single write can be made durable without a whole flush
    RESIZE = 32  #: resize works
    GROW = 64  #: a write or zeroing past the end extends the node (host files)


class Preallocation(enum.Enum):
    """How much of a new or grown image is reserved at once."""

    OFF = "off"
    METADATA = "metadata"
    FALLOC = "falloc"
    FULL = "full"


class Limits(Frozen):
    """What requests suit a node. All in bytes; 1 means no constraint, 0 means no bound.

    Advice for whoever chooses the sizes of requests; nothing has to keep to it. Any request is answered: a driver that
    needs other sizes or alignments below splits and copies by itself.

    Attributes:
        request_alignment: Requests not aligned to this are possible but slower.
        memory_alignment: Buffers not aligned to this are copied.
        zero_granularity: Zeroing in these units needs no data written.
        discard_granularity: Discarding less than this does nothing.
        max_transfer: The most that goes to the storage at once; the driver splits what is larger.
        optimal_transfer: The size that works best (the cluster or block size of a format).
    """

    request_alignment: int = 1
    memory_alignment: int = 1
    zero_granularity: int = 1
    discard_granularity: int = 1
    max_transfer: int = 0
    optimal_transfer: int = 0


class Place:
    """Where the first ``length`` bytes of a write go; the second half of :meth:`Node._allocate`.

    The caller stores ``before``, the data and ``after`` contiguously, so that the data starts at ``target`` of
    ``node``, and then calls exactly one of :meth:`link` and :meth:`abandon`. Only ``link`` lets the metadata point at
    the new bytes: data before metadata is thus the shape of the code.
    """

    __slots__ = ("after", "before", "length", "node", "target")

    def __init__(self, length: int, node: Node, target: int, before: Buffer = b"", after: Buffer = b"") -> None:
        self.length, self.node, self.target = length, node, target
        self.before, self.after = before, after

    def link(self) -> None:
        """The bytes are stored: make the metadata refer to them."""

    def abandon(self) -> None:
        """Storing failed: leave the metadata as it was; at worst space leaks."""


#: What a closed node refuses, by name.
_REQUESTS = (
    *("map", "extents", "read", "read_into", "readv", "pull", "pull_bytes", "pin"),
    *("write", "writev", "push", "push_bytes", "zero", "discard", "flush", "resize"),
)


def _refuse_closed(name: str, *_args: object, **_options: object) -> NoReturn:
    """Stand in for any request to a closed node."""
    raise ClosedError(f"{name}: closed")


class Node(ABC):
    """A vertex of the block graph: a byte-addressed disk of known size.

    A driver that maps need not override ``_read``, ``_readv``, ``_write`` or ``_writev``: they follow ``_map`` and
    ``_allocate``. One that moves the bytes itself overrides ``_readv``, ``_writev`` and, as it follows ``_map`` too,
    ``_read`` (ProtocolNode and FilterNode have done that). ``_write`` calls ``_writev``; override it only to be faster.

    Attributes:
        driver: The name of its driver, such as ``"qcow2"``.
        filename: The name it was opened by; empty for a node without one.
        backing: Where UNALLOCATED runs are read from; None reads as zeros.
        read_only: Whether writes are refused.
    """

    driver: str = "node"
    filename: str = ""
    backing: Node | None = None
    read_only: bool = True

    #: Bumped whenever space that held guest data may be used for something else. A lock-free read that sees it
    #: change starts again, so it never returns another range's bytes.
    _generation: int = 0
    _closed: bool = False

    # -- what it is ------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def size(self) -> int:
        """Virtual size in bytes."""

    @property
    def limits(self) -> Limits:
        """What requests suit this node."""
        return Limits()

    @property
    def caps(self) -> Cap:
        """What this node can do."""
        return Cap(0) if self.read_only else Cap.WRITE

    @property
    def zero_when_made(self) -> bool:
        """Whether what nobody has written yet reads as zeros, if this was just made as a new image or a new file."""
        return False

    @property
    def children(self) -> Mapping[str, Node]:
        """The nodes this one stands on, by role: ``file``, ``backing``, ``data_file``."""
        return {}

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def describe(self) -> dict[str, object]:
        """Return facts of the driver's own for ``info``, as JSON-able values; may be empty."""
        return {}

    # -- where bytes lie -------------------------------------------------------------------------------

    def map(self, offset: int, length: int) -> Extent:
        """Describe how the bytes from ``offset`` on are stored, looking at this node only.

        Args:
            offset: Bytes; ``0 <= offset < size``.
            length: Bytes of interest, positive; the answer never exceeds it.

        Returns:
            One extent starting exactly at ``offset``; shorter than ``length`` where storage changes, and possibly
            shorter than that.

        Raises:
            OutOfRangeError: the range is empty or leaves the node.
            CorruptImageError: the metadata contradicts itself.
        """
        if length <= 0:
            raise OutOfRangeError(f"{self}: length {length} is not positive")
        if offset < 0 or offset + length > self.size:
            self._out_of_range(offset, length)
        return self._map(offset, length)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """Yield extents that tile a range in order, neighbours of one kind joined as far as a table reaches.

        Args:
            offset: Bytes.
            length: Bytes; None means up to the end. Zero yields nothing.

        Example:
            >>> import blockkit
            >>> blockkit.create_image("disk.qcow2", "qcow2", 1 << 20)
            >>> with blockkit.open_image("disk.qcow2", read_only=False) as disk:
            ...     disk.write(0x20000, b"hello")
            ...     [(hex(extent.offset), extent.kind.value) for extent in disk.extents()]
            [('0x0', 'unallocated'), ('0x20000', 'data'), ('0x30000', 'unallocated')]
        """
        if length is None:
            length = max(0, self.size - offset)
        if offset < 0 or length < 0 or offset + length > self.size:
            self._out_of_range(offset, length)
        return self._extents(offset, length)

    # -- reading ---------------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``."""
        if offset < 0 or length < 0 or offset + length > self.size:
            self._out_of_range(offset, length)
        return self._read(offset, length) if length else b""

    def read_into(self, offset: int, buf: bytearray | memoryview) -> None:
        """Fill ``buf`` (writable, C-contiguous, any length) from ``offset``; never short."""
        view = memoryview(buf).cast("B")
        length = len(view)
        if offset < 0 or offset + length > self.size:
            self._out_of_range(offset, length)
        if length:
            self._readv(offset, [view])

    def readv(self, offset: int, buffers: Sequence[bytearray | memoryview]) -> None:
        """Fill all ``buffers`` in order from ``offset``; never short.

        Raises:
            OutOfRangeError: the range leaves the node.
            NodeIOError: the storage below failed.
            CorruptImageError: the metadata on the way contradicts itself.
        """
        views = as_views(buffers)
        length = total_length(views) if views else 0
        if offset < 0 or offset + length > self.size:
            self._out_of_range(offset, length)
        if length:
            self._readv(offset, views)

    # -- writing ---------------------------------------------------------------------------------------

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> None:
        """Store all of ``data`` at ``offset``; see :meth:`writev`."""
        if fua or type(data) is not bytes:
            self.writev(offset, (data,), fua=fua)
            return
        # The way of small requests: no vector is built.
        if self.read_only:
            self._refuse_write()
        length = len(data)
        if offset < 0 or (offset + length > self.size and Cap.GROW not in self.caps):
            self._out_of_range(offset, length)
        if length:
            self._write(offset, data, length)

    def writev(self, offset: int, buffers: Sequence[Buffer], *, fua: bool = False) -> None:
        """Store all ``buffers`` in order at ``offset``.

        Args:
            offset: Bytes.
            buffers: C-contiguous, any lengths; not kept after the call returns.
            fua: Return only when the bytes are durable.

        Raises:
            ReadOnlyError: the node is read-only.
            OutOfRangeError: the range leaves the node; nothing was written.
            NoSpaceError: the storage below is full; any part may have been written.
            NodeIOError: the storage below failed; any part may have been written.
        """
        views = as_views(buffers)
        length = total_length(views) if views else 0
        if self.read_only:
            self._refuse_write()
        if offset < 0 or (offset + length > self.size and Cap.GROW not in self.caps):
            self._out_of_range(offset, length)
        if length:
            self._writev(offset, views, fua)

    def zero(self, offset: int, length: int, *, unmap: bool = True, fast: bool = False) -> None:
        """Make a range read as zeros; a backing does not show through.

        Args:
            offset: Bytes.
            length: Bytes.
            unmap: Space may be given back.
            fast: Fail rather than write zeros one by one.

        Raises:
            UnsupportedOperationError: ``fast`` was asked and is not possible; nothing was written.
        """
        if self.read_only:
            self._refuse_write()
        if offset < 0 or length < 0 or (offset + length > self.size and Cap.GROW not in self.caps):
            self._out_of_range(offset, length)
        if length:
            self._zero(offset, length, unmap, fast)

    def discard(self, offset: int, length: int) -> None:
        """Hint that a range is not needed. Its contents become undefined, but the backing must not reappear."""
        if self.read_only:
            self._refuse_write()
        if offset < 0 or length < 0 or offset + length > self.size:
            self._out_of_range(offset, length)
        if length:
            self._discard(offset, length)

    def flush(self) -> None:
        """Make everything completed before this call durable."""
        self._flush()

    def resize(self, size: int, *, preallocate: Preallocation = Preallocation.OFF) -> None:
        """Change the virtual size to ``size`` bytes; new bytes read as zeros.

        Raises:
            UnsupportedOperationError: this node, or the storage below, has a fixed size.
        """
        if self.read_only:
            self._refuse_write()
        if not 0 <= size <= MAX_OFFSET:
            raise OutOfRangeError(f"{self}: size {size} is not from 0 to {MAX_OFFSET}")
        self._resize(size, preallocate)

    def close(self) -> None:
        """Flush, and release this node and its children. Idempotent; must be the last call.

        Any request after it raises :class:`~blockkit.errors.ClosedError`.

        Raises:
            NodeIOError: what was written could not be made durable. The node is closed all the same.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._close()
        finally:
            try:
                for child in self.children.values():
                    child.close()
            finally:
                self._shut()

    def _shut(self) -> None:
        """Make every request fail from now on, at no cost to those that came before."""
        self.read_only = True
        refuse = partial(_refuse_closed, str(self))
        self.__dict__.update(dict.fromkeys(_REQUESTS, refuse))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return self.filename or self.driver

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.filename!r} {'ro' if self.read_only else 'rw'}>"

    def pin(self, offset: int, length: int) -> int:
        """Keep the space of a range from being used for anything else; see :func:`blockkit.block.resolve.resolved`.

        Returns:
            A token for :meth:`unpin`; 0 where nothing here can be freed.
        """
        return 0

    def unpin(self, token: int) -> None:
        """Let go what :meth:`pin` kept."""

    # -- for the node above ----------------------------------------------------------------------------

    def pull(self, offset: int, buffers: list[memoryview]) -> None:
        """Read as a parent does: like :meth:`readv` with non-empty byte views, but bytes past the end are zeros."""
        length = total_length(buffers)
        inside = self.size - offset
        if length <= inside:
            self._readv(offset, buffers)
            return
        if inside > 0:
            head, buffers = split_buffers(buffers, inside)
            self._readv(offset, head)
        for buf in buffers:
            zero_fill(buf)

    def pull_bytes(self, offset: int, length: int) -> bytes:
        """Like :meth:`pull`, returning new bytes."""
        inside = self.size - offset
        if length <= inside:
            return self._read(offset, length)
        return (self._read(offset, inside) if inside > 0 else b"").ljust(length, b"\0")

    def push(self, offset: int, buffers: list[memoryview], fua: bool = False) -> None:
        """Write as a parent does: like :meth:`writev` with non-empty byte views."""
        if self.read_only:
            self._refuse_write()
        if offset + total_length(buffers) > self.size and Cap.GROW not in self.caps:
            self._out_of_range(offset, total_length(buffers))
        self._writev(offset, buffers, fua)

    def push_bytes(self, offset: int, data: bytes, length: int) -> None:
        """Like :meth:`push`, for ``length`` bytes in one piece."""
        if self.read_only:
            self._refuse_write()
        if offset + length > self.size and Cap.GROW not in self.caps:
            self._out_of_range(offset, length)
        self._write(offset, data, length)

    # -- hooks: a driver implements some of these, and may trust the arguments ---------------------------

    @abstractmethod
    def _map(self, offset: int, length: int) -> Extent:
        """Answer :meth:`map`; called without locks, by many threads at once, for every request."""

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Answer :meth:`extents`; override to walk a whole table at array speed."""
        end = offset + length
        while offset < end:
            extent = self._map(offset, end - offset)
            yield extent
            offset += extent.length

    def _allocate(self, offset: int, length: int) -> Place:
        """Offer a place for a prefix of a write; at least one byte of it, at most all."""
        raise UnsupportedOperationError(f"{self}: {self.driver} cannot be written")

    def _read_encoded(self, extent: Extent, buffers: list[memoryview]) -> None:
        """Fill ``buffers`` from an ENCODED extent that :meth:`_map` gave."""
        raise NotImplementedError

    def _read(self, offset: int, length: int) -> bytes:
        generation = self._generation
        extent = self._map(offset, length)
        if extent.length == length and extent.kind is Kind.DATA and extent.node is not None:
            data = extent.node.pull_bytes(extent.target, length)
            if self._generation == generation:
                return data
        buf = bytearray(length)
        self._readv(offset, [memoryview(buf)])
        return bytes(buf)

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        length = total_length(buffers)
        while True:
            generation = self._generation
            extent = self._map(offset, length)
            if extent.length >= length:
                self._fill(extent, buffers)
                if self._generation == generation:
                    return
                continue
            head, rest = split_buffers(buffers, extent.length)
            self._fill(extent, head)
            if self._generation == generation:
                buffers = rest
                offset += extent.length
                length -= extent.length

    def _fill(self, extent: Extent, buffers: list[memoryview]) -> None:
        """Fill ``buffers``, which are as long as ``extent``, with what it holds."""
        kind = extent.kind
        if kind is Kind.DATA:
            assert extent.node is not None, "a DATA extent names the node that holds it"
            extent.node.pull(extent.target, buffers)
        elif kind is Kind.ENCODED:
            self._read_encoded(extent, buffers)
        elif kind is Kind.UNALLOCATED and self.backing is not None:
            self.backing.pull(extent.offset, buffers)
        else:
            for buf in buffers:
                zero_fill(buf)

    def _write(self, offset: int, data: bytes, length: int) -> None:
        """Store ``data``; override where that is faster than the general way, which this takes."""
        self._writev(offset, [memoryview(data)], False)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        length = total_length(buffers)
        while length:
            place = self._allocate(offset, length)
            take = place.length
            try:
                if take == length:
                    head, buffers = buffers, []
                else:
                    head, buffers = split_buffers(buffers, take)
                target = place.target
                if place.before:
                    head = [memoryview(place.before), *head]
                    target -= len(place.before)
                if place.after:
                    head = [*head, memoryview(place.after)]
                place.node.push(target, head)
            except BaseException:
                place.abandon()
                raise
            place.link()
            offset += take
            length -= take
        if fua:
            self._flush()

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        if fast:
            raise UnsupportedOperationError(f"{self}: {self.driver} cannot zero faster than by writing")
        while length:
            piece = zeros(min(length, _ZERO_PIECE))
            self._writev(offset, [piece], False)
            offset += len(piece)
            length -= len(piece)

    def _discard(self, offset: int, length: int) -> None:
        """Do nothing: a discard is a hint."""

    def _flush(self) -> None:
        """Do nothing: a node without storage of its own has nothing to flush."""

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        raise UnsupportedOperationError(f"{self}: {self.driver} cannot be resized")

    def _close(self) -> None:
        """Do nothing: children are closed by :meth:`close`."""

    # -- refusals, kept out of the fast paths ------------------------------------------------------------

    def _out_of_range(self, offset: int, length: int) -> None:
        raise OutOfRangeError(
            f"{self}: {length} bytes at {offset:#x} leave the {self.size:#x} bytes there are"
            if length >= 0
            else f"{self}: length {length} is negative"
        )

    def _refuse_write(self) -> None:
        if self._closed:
            _refuse_closed(str(self))
        raise ReadOnlyError(f"{self}: open read-only")
