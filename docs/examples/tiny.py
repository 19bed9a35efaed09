"""The image format ``tiny``: one cluster of numbers, then the disk's clusters in the order they were first written.

All numbers are 64-bit, little-endian: a magic number, the size of the disk in bytes, and then, for each cluster of the
disk, its offset in the file. Offset 0 means that a cluster is not stored and reads as zeros.
"""

import threading
from array import array
from dataclasses import dataclass

from blockkit.block.bases import FormatNode
from blockkit.block.driver import Opener
from blockkit.block.node import Extent, Kind, Node, Place
from blockkit.block.tables import decode_u64, encode_u64
from blockkit.errors import CorruptImageError, FormatError, OptionError
from blockkit.units import align_up

CLUSTER = 65536
MAGIC = int.from_bytes(b"TINYDISK", "little")
MAX_SIZE = (CLUSTER // 8 - 2) * CLUSTER


class TinyNode(FormatNode):
    """An open image, over the file that holds it."""

    driver = "tiny"
    size = 0

    def __init__(self, file: Node) -> None:
        super().__init__(file, read_only=file.read_only)
        self._lock = threading.Lock()
        self._saved = file.pull_bytes(0, CLUSTER)
        magic, self.size, *self._table = decode_u64(self._saved, "little")
        if magic != MAGIC or self.size > MAX_SIZE:
            raise FormatError(f"magic is {magic:#x} and size {self.size}, not a tiny image", where="tiny header")
        used = [cluster for cluster in self._table if cluster]
        if any(cluster % CLUSTER or cluster > file.size - CLUSTER for cluster in used) or len(set(used)) < len(used):
            raise CorruptImageError("an entry is no cluster of the file, or that of another", where="tiny table")

    def _map(self, offset: int, length: int) -> Extent:
        index, inside = divmod(offset, CLUSTER)
        length = min(length, CLUSTER - inside)
        if cluster := self._table[index]:
            return Extent(offset, length, Kind.DATA, self.file, cluster + inside)
        return Extent(offset, length, Kind.UNALLOCATED)

    def _allocate(self, offset: int, length: int) -> Place:
        index, inside = divmod(offset, CLUSTER)
        with self._lock:
            if not self._table[index]:
                cluster = align_up(self.file.size, CLUSTER)
                self.file.zero(cluster, CLUSTER)  # makes the file longer, or fails
                self._table[index] = cluster
        return Place(min(length, CLUSTER - inside), self.file, self._table[index] + inside)

    def _flush(self) -> None:
        with self._lock:
            self.file.flush()  # a table that is stored must not refer to clusters that are not
            numbers = encode_u64(array("Q", [MAGIC, self.size, *self._table]), "little")
            if numbers != self._saved:
                self.file.write(0, numbers, fua=True)
                self._saved = numbers

    def _close(self) -> None:
        if not self.read_only:
            self._flush()


@dataclass(frozen=True)
class TinyOptions:
    """There are none, neither for opening nor for creating."""


class TinyDriver:
    """The driver named ``tiny``."""

    name = "tiny"
    Options = CreateOptions = TinyOptions

    def probe(self, head: bytes) -> int:
        """Return 100 for what starts with the magic number."""
        return 100 if head.startswith(b"TINYDISK") else 0

    def open(self, file: Node, options: TinyOptions, opener: Opener) -> Node:
        """Open the image in ``file``."""
        return TinyNode(file)

    def create(self, file: Node, size: int, options: TinyOptions) -> None:
        """Write an image that stores nothing yet."""
        if size > MAX_SIZE:
            raise OptionError(f"tiny: size is {size}, not at most {MAX_SIZE}")
        file.write(0, encode_u64(array("Q", [MAGIC, size]), "little").ljust(CLUSTER, b"\0"))


DRIVER = TinyDriver()
