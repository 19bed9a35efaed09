"""The image format ``boxed``: 4096 bytes of header, then the disk. The header is ``BOXED`` and the size of the disk."""

import struct
from dataclasses import dataclass

from blockkit.block.bases import FormatNode
from blockkit.block.driver import Opener
from blockkit.block.node import Extent, Kind, Node, Place
from blockkit.errors import FormatError

HEADER = struct.Struct("<8sQ")
START = 4096


class BoxedNode(FormatNode):
    """An open image, over the file that holds it."""

    driver = "boxed"
    size = 0

    def __init__(self, file: Node) -> None:
        super().__init__(file, read_only=file.read_only)
        magic, self.size = HEADER.unpack(file.pull_bytes(0, HEADER.size))
        if magic != b"BOXED\0\0\0" or self.size > max(0, file.size - START):
            raise FormatError(f"magic is {magic!r} and size {self.size}, not a boxed image", where="boxed header")

    def _map(self, offset: int, length: int) -> Extent:
        return Extent(offset, length, Kind.DATA, self.file, offset + START)

    def _allocate(self, offset: int, length: int) -> Place:
        return Place(length, self.file, offset + START)


@dataclass(frozen=True)
class BoxedOptions:
    """There are none, neither for opening nor for creating."""


class BoxedDriver:
    """The driver named ``boxed``."""

    name = "boxed"
    Options = CreateOptions = BoxedOptions

    def probe(self, head: bytes) -> int:
        """Return 100 for what starts with the magic number."""
        return 100 if head.startswith(b"BOXED\0\0\0") else 0

    def open(self, file: Node, options: BoxedOptions, opener: Opener) -> Node:
        """Open the image in ``file``."""
        return BoxedNode(file)

    def create(self, file: Node, size: int, options: BoxedOptions) -> None:
        """Write the header, and make ``file`` long enough."""
        file.resize(START + size)
        file.write(0, HEADER.pack(b"BOXED", size))


DRIVER = BoxedDriver()
