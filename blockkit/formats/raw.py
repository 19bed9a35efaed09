"""Raw images: the bytes of the disk and nothing else."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from blockkit.block.bases import FormatNode
from blockkit.block.buffers import total_length
from blockkit.block.node import Cap, Kind, Limits, Preallocation
from blockkit.block.shifted import ShiftedNode
from blockkit.block.zeros import zeros
from blockkit.errors import NodeIOError, NoSpaceError
from blockkit.frozen import Frozen
from blockkit.units import MiB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blockkit.block.buffers import Buffer
    from blockkit.block.driver import Opener
    from blockkit.block.facets import HasBitmaps
    from blockkit.block.node import Node
    from blockkit.block.sizes import ImageSize

#: The bytes that decide what a probe finds.
_HEAD: Final = 4096
#: A stream is written in pieces of this many bytes.
_PIECE: Final = MiB


class RawOptions(Frozen):
    """What part of the file is the disk.

    Attributes:
        offset: Where it starts, bytes.
        size: Its bytes; None means up to the end of the file, and lets it be resized.
    """

    offset: int = 0
    size: int | None = None


class RawCreateOptions(Frozen):
    """How a raw image is made.

    Attributes:
        preallocation: Whether space is reserved at once, and whether zeros are written to it.
    """

    preallocation: Literal["off", "falloc", "full"] = "off"


class RawNode(ShiftedNode, FormatNode):
    """A file seen as a disk; every request goes straight to it.

    Args:
        file: What holds the disk.
        offset: Where in ``file`` the disk starts, bytes.
        size: Bytes of the disk; None means up to the end of ``file``.
    """

    driver = "raw"

    def __init__(self, file: Node, *, offset: int = 0, size: int | None = None) -> None:
        FormatNode.__init__(self, file, read_only=file.read_only)
        self._set_window(offset, size)
        self._recognise: Callable[[bytes], str | None] | None = None
        self._head_lock = threading.Lock()

    @property
    def limits(self) -> Limits:
        return self.file.limits

    def guard_head(self, recognise: Callable[[bytes], str | None]) -> None:
        """Refuse writes that would make this image look like one of another format.

        For images whose format was guessed: otherwise a guest could write the header of, say, a qcow2 image with a
        backing file of its choice, and be shown that file after the next guess.

        Args:
            recognise: Tells the format, other than raw, that an image starting with these bytes would be taken for.
        """
        self._recognise = recognise

    def shifted_to(self) -> tuple[Node, int] | None:
        """Return where requests go; see Shifts."""
        return super().shifted_to() if self._recognise is None else None

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        if self._recognise is None or offset >= _HEAD:
            self.file.push(offset + self.start, buffers, fua)
            return
        with self._head_lock:
            self._check_head(offset, buffers)
            self.file.push(offset + self.start, buffers, fua)

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        if self._recognise is None or offset >= _HEAD:
            super()._zero(offset, length, unmap, fast)
            return
        with self._head_lock:
            self._check_head(offset, [zeros(min(length, _HEAD))])
            super()._zero(offset, length, unmap, fast)

    def _check_head(self, offset: int, buffers: list[memoryview]) -> None:
        assert self._recognise is not None, "only called for guarded images"
        head = bytearray(self.file.pull_bytes(self.start, min(_HEAD, max(self.size, offset + total_length(buffers)))))
        for buf in buffers:
            head[offset : min(offset + len(buf), _HEAD)] = buf[: max(0, _HEAD - offset)]
            offset += len(buf)
        if found := self._recognise(bytes(head)):
            raise NodeIOError(
                f"{self}: the format was guessed to be raw, and this write would make it look like {found};"
                " open it with the format given (-f raw) to write there",
                errno.EPERM,
            )


class RawDriver:
    """The driver named ``raw``."""

    name: ClassVar[str] = "raw"
    Options: ClassVar[type[RawOptions]] = RawOptions
    CreateOptions: ClassVar[type[RawCreateOptions]] = RawCreateOptions

    def probe(self, head: bytes) -> int:
        """Return 1: any bytes can be a raw image, and any other format is likelier."""
        return 1

    def open(self, file: Node, options: RawOptions, opener: Opener) -> Node:
        """Show ``file``, or the part that the options tell, as a disk."""
        return RawNode(file, offset=options.offset, size=options.size)

    def create(self, file: Node, size: int, options: RawCreateOptions) -> None:
        """Make ``file`` ``size`` bytes long; a device only has to be large enough."""
        if Cap.RESIZE in file.caps:
            file.resize(size, preallocate=Preallocation(options.preallocation))
        elif file.size < size:
            raise NoSpaceError(f"{file}: has {file.size} bytes, but {size} are needed, and it cannot grow")

    def write_stream(
        self,
        source: Node,
        options: RawCreateOptions,
        write: Callable[[Buffer], None],
        *,
        over_backing: bool,
        advance: Callable[[int], None],
    ) -> None:
        """Write every byte of ``source`` in order; what is not stored is not read."""
        from blockkit.block.chain import locate

        buffer = memoryview(bytearray(_PIECE))
        for found in locate(source):
            at, end = found.offset, found.offset + found.length
            stored = found.kind is Kind.DATA or found.kind is Kind.ENCODED
            while at < end:
                piece = min(_PIECE, end - at)
                if stored:
                    source.read_into(at, buffer[:piece])
                    write(buffer[:piece])
                else:
                    write(zeros(piece))
                advance(piece)
                at += piece

    def measure(
        self,
        size: int,
        options: RawCreateOptions,
        *,
        data: Iterable[tuple[int, int]] | None,
        bitmaps: HasBitmaps | None,
    ) -> ImageSize:
        """Return the size of the disk, holes included."""
        from blockkit.block.sizes import ImageSize

        return ImageSize(size, size)


DRIVER = RawDriver()
