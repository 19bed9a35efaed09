"""What the graph asks of a driver: the makers of formats, protocols and filters."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blockkit.block.buffers import Buffer
    from blockkit.block.facets import HasBitmaps
    from blockkit.block.node import Node
    from blockkit.block.sizes import ImageSize


class Concurrency(enum.Enum):
    """How many requests a driver's nodes take at once."""

    THREADS = "threads"  #: any number, as the node interface demands
    SERIAL = "serial"  #: one; the graph puts a lock in front


class Opener(Protocol):
    """What a format driver opens the files with that its image names."""

    def open_backing(self, name: str, format: str | None, *, beside: Node) -> Node | None:  # noqa: A002
        """Open the backing file that an image records, read-only.

        Args:
            name: As recorded.
            format: As recorded; None if the image does not say.
            beside: The image or the file it is in; a relative name is looked up in the directory of its file.

        Returns:
            The node to read unallocated ranges from, which the caller takes over; None where the caller of the graph
            wants no backing file opened.

        Raises:
            PolicyError: the policy does not let this file be opened.
        """
        ...

    def open_data_file(self, name: str, *, beside: Node) -> Node | None:
        """Open the file that holds an image's guest data, writable if ``beside`` is; else like :meth:`open_backing`."""
        ...


class FormatDriver(Protocol):
    """Opens and creates images of one format; what only some can do is in the protocols below."""

    @property
    def name(self) -> str:
        """The word for it in options, such as ``"qcow2"``."""
        ...

    @property
    def Options(self) -> type[Any]:  # noqa: N802
        """The frozen dataclass of its options; every field has a default."""
        ...

    @property
    def CreateOptions(self) -> type[Any]:  # noqa: N802
        """The frozen dataclass of its creation options; every field has a default."""
        ...

    def probe(self, head: bytes) -> int:
        """Say how likely an image starts with ``head`` (its first 4096 bytes, fewer if it is shorter).

        Returns:
            From 0 (impossible) to 100 (certain); raw answers 1.
        """
        ...

    def open(self, file: Node, options: Any, opener: Opener) -> Node:
        """Open the image in ``file``, writable if that is, and take ``file`` over.

        Files that the image names are opened by ``opener``. When this raises, the caller closes ``file`` and what
        ``opener`` opened.
        """
        ...

    def create(self, file: Node, size: int, options: Any) -> None:
        """Write a new image of ``size`` bytes into ``file``, which is empty and writable, and stays open."""
        ...


# -- what only some formats can do; a driver takes part by having the members, tested with isinstance ----


@runtime_checkable
class Judges(Protocol):
    """It has creation options that can contradict each other, or a size they do not go with."""

    def judge(self, size: int, options: Any) -> None:
        """Refuse what ``create`` could not make, before anything is overwritten.

        Raises:
            OptionError: the options contradict each other, or do not go with ``size``.
        """
        ...


@runtime_checkable
class LimitsConcurrency(Protocol):
    """It says how many requests its nodes take at once; without this, any number."""

    @property
    def concurrency(self) -> Concurrency:
        """The same for all of its nodes."""
        ...


@runtime_checkable
class Compresses(Protocol):
    """It says whether its nodes are :class:`~blockkit.block.facets.WritesCompressed`, before there are any."""

    @property
    def compresses(self) -> bool:
        """True if images of this format can store compressed data."""
        ...


@runtime_checkable
class Streams(Protocol):
    """A new image can be written front to back, in one pass, to what cannot seek."""

    def write_stream(
        self,
        source: Node,
        options: Any,
        write: Callable[[Buffer], None],
        *,
        over_backing: bool,
        advance: Callable[[int], None],
    ) -> None:
        """Write an image of ``source``.

        Args:
            source: The disk; it stays open.
            options: Creation options, as for :meth:`FormatDriver.create`.
            write: Takes all bytes of a buffer, in order.
            over_backing: Store only what the source's top layer does; the backing file named in ``options`` has the
                rest.
            advance: Called with the bytes of the disk just dealt with.

        Raises:
            OptionError: the options contradict each other, or do not go with the source; nothing was written.
        """
        ...


@runtime_checkable
class Measures(Protocol):
    """The size of a new image can be told before it is made."""

    def measure(
        self, size: int, options: Any, *, data: Iterable[tuple[int, int]] | None, bitmaps: HasBitmaps | None
    ) -> ImageSize:
        """Tell how large an image of a disk of ``size`` bytes will be.

        Args:
            size: Bytes; a whole number of sectors.
            options: Creation options, as for :meth:`FormatDriver.create`.
            data: ``(offset, length)`` of what will be copied that is not known to be zeros, in order, not
                overlapping, bytes; found as it is asked for. None for an empty disk.
            bitmaps: The source, if it is an image that may keep bitmaps.

        Raises:
            OptionError: the options contradict each other, or do not go with ``size``.
        """
        ...


class ProtocolDriver(Protocol):
    """Opens what lies outside the graph."""

    @property
    def name(self) -> str:
        """The word for it in options, such as ``"file"``."""
        ...

    @property
    def Options(self) -> type[Any]:  # noqa: N802
        """The frozen dataclass of its options; a field ``cache`` is set from what the caller of the graph asked."""
        ...

    def open(self, options: Any, *, read_only: bool, share: bool) -> Node:
        """Open it; ``share`` leaves out the locks that keep others away."""
        ...

    def create(self, options: Any) -> Node:
        """Make it new and empty, or empty it, and open it for writing."""
        ...


class FilterDriver(Protocol):
    """Puts something in the way of requests."""

    @property
    def name(self) -> str:
        """The word for it in options, such as ``"trace"``."""
        ...

    @property
    def Options(self) -> type[Any]:  # noqa: N802
        """The frozen dataclass of its options."""
        ...

    def open(self, file: Node, options: Any) -> Node:
        """Put the filter on top of ``file`` and take that over."""
        ...
