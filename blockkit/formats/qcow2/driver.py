"""How the registry opens and creates qcow2 images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Final

from blockkit.errors import CorruptImageError, OptionError
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.formats.qcow2.schema import MAGIC, Incompatible
from blockkit.frozen import Frozen
from blockkit.units import MAX_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blockkit.block.buffers import Buffer
    from blockkit.block.driver import Opener
    from blockkit.block.facets import HasBitmaps
    from blockkit.block.node import Node
    from blockkit.block.sizes import ImageSize
    from blockkit.formats.qcow2.create import CreateOptions as NewImage


#: The highest level of any compression type; each has its own bounds, which the image decides on.
MAX_LEVEL: Final = 22


class Qcow2Options(Frozen):
    """What opening a qcow2 image takes.

    Attributes:
        cache_size: Bytes of L2 tables kept in memory.
        compression_level: For clusters written compressed; None is the fast default.
        repair_dirty: Rebuild the reference counts of an image that was not closed, when it is opened for writing.
        repairing: It is opened to be checked and repaired: nothing is mended before that, and an image marked corrupt
            is let in.
        inspecting: Only its structures are wanted: no feature keeps it from being opened, and no data is there.
    """

    cache_size: int = 32 << 20
    compression_level: int | None = None
    repair_dirty: bool = True
    repairing: bool = False
    inspecting: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.cache_size <= MAX_OFFSET:
            raise OptionError(f"qcow2: cache_size {self.cache_size} is not from 0 to {MAX_OFFSET}")
        if self.compression_level is not None and not 1 <= self.compression_level <= MAX_LEVEL:
            raise OptionError(f"qcow2: compression_level {self.compression_level} is not from 1 to {MAX_LEVEL}")


class Qcow2Driver:
    """The driver named ``qcow2``."""

    name: ClassVar[str] = "qcow2"
    compresses: ClassVar[bool] = True
    Options: ClassVar[type[Qcow2Options]] = Qcow2Options

    @property
    def CreateOptions(self) -> type[NewImage]:  # noqa: N802 - named as in the driver protocol
        """The options of a new image."""
        from blockkit.formats.qcow2.create import CreateOptions

        return CreateOptions

    def probe(self, head: bytes) -> int:
        """Return 100 for the magic number with a version we may know."""
        return 100 if head[:4] == MAGIC and int.from_bytes(head[4:8], "big") in (2, 3) else 0

    def open(self, file: Node, options: Qcow2Options, opener: Opener) -> Node:
        """Open the image in ``file``, and its backing file as ``opener`` allows."""
        if options.inspecting:
            from blockkit.formats.qcow2.inspect import Qcow2Structures

            return Qcow2Structures(file)
        header = read_header(file)
        read_only = file.read_only
        if not read_only and not options.repairing:
            if header.incompatible & Incompatible.CORRUPT:
                raise CorruptImageError(
                    "it is marked corrupt and cannot be opened for writing; repair it first",
                    where="qcow2 header",
                    offset=72,
                )
            if header.incompatible & Incompatible.DIRTY and options.repair_dirty:
                from blockkit.block.report import Repair
                from blockkit.formats.qcow2.check import check_image

                check_image(file, header, Repair.ALL)
                header = read_header(file)
        node = Qcow2Node(
            file,
            header,
            read_only=read_only,
            cache_size=options.cache_size,
            compression_level=options.compression_level,
            repairing=options.repairing,
        )
        if header.backing_file is not None:
            name = os.fsdecode(header.backing_file)
            node.backing = opener.open_backing(name, header.backing_format, beside=node)
        return node

    def judge(self, size: int, options: NewImage) -> None:
        """Refuse options that contradict each other, or that a disk of ``size`` bytes does not go with."""
        from blockkit.formats.qcow2.create import judge

        judge(options, size)

    def create(self, file: Node, size: int, options: NewImage) -> None:
        """Write an empty image to ``file``."""
        from blockkit.formats.qcow2.create import create

        create(file, size, options)

    def write_stream(
        self,
        source: Node,
        options: NewImage,
        write: Callable[[Buffer], None],
        *,
        over_backing: bool,
        advance: Callable[[int], None],
    ) -> None:
        """Write an image of ``source``, all metadata first."""
        from blockkit.formats.qcow2.stream import write_stream

        write_stream(source, options, write, over_backing=over_backing, advance=advance)

    def measure(
        self, size: int, options: NewImage, *, data: Iterable[tuple[int, int]] | None, bitmaps: HasBitmaps | None
    ) -> ImageSize:
        """Tell how large an image will be; the numbers are those of ``qemu-img measure``."""
        from blockkit.formats.qcow2.measure import measure_image

        return measure_image(size, options, data, bitmaps)


DRIVER = Qcow2Driver()
