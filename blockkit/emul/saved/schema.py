"""The layout of a saved machine, as declarations only. Integers are little-endian.

::

    +--------+  +------------------------+  +------------------------+       +------+
    | header |  | section header | zstd  |  | section header | zstd  |  ...  | END  |
    +--------+  +------------------------+  +------------------------+       +------+

In this order: one STATE, any number of RAM, DISK and ZERO, one FILES, one END, and nothing more. What no RAM section
covers is zero. STATE and FILES are JSON.
"""

from __future__ import annotations

import enum
from typing import Final

from blockkit.constructs import Bytes, Const, Int32ul, Int64ul
from blockkit.schema import Record, field
from blockkit.units import MiB

MAGIC: Final = b"BLKITPC\n"
VERSION: Final = 1
MAX_PIECE: Final = MiB  #: bytes of memory or disk in one section
MAX_JSON: Final = 64 * MiB
#: Bytes by which zstd makes longer what it cannot make shorter, at most, and more.
MAX_GROWTH: Final = 64 << 10


class Section(enum.Enum):
    """Kinds of sections."""

    STATE = b"STAT"  #: the processor, the devices, what the machine is made of
    RAM = b"RAM "  #: bytes of RAM from ``offset``
    DISK = b"DISK"  #: bytes of disk ``number`` from ``offset``: one whose changes are kept with the machine
    ZERO = b"ZERO"  #: ``plain`` bytes of it are zeros
    FILES = b"FILE"  #: what the files under the disks were like
    END = b"END "  #: all is there


class Header(Record):
    """The first bytes."""

    title = "saved machine: header"

    magic: bytes = field(Const(MAGIC), "what it is", default=MAGIC)
    version: int = field(Int32ul, "of this layout", default=VERSION)
    reserved: int = field(Int32ul, "zero", default=0)


class SectionHeader(Record):
    """What comes before each section's bytes."""

    title = "saved machine: section"

    kind: bytes = field(Bytes(4), "see Section")
    number: int = field(Int32ul, "of a disk, from 0; else zero", default=0)
    offset: int = field(Int64ul, "in RAM or on the disk, bytes", default=0)
    plain: int = field(Int64ul, "bytes, decompressed", default=0)
    stored: int = field(Int64ul, "bytes that follow here", default=0)
    checksum: int = field(Int32ul, "CRC-32 of the decompressed bytes", default=0)
    own: int = field(Int32ul, "CRC-32 of all before it in this header", default=0)


HEADER_SIZE: Final = Header.schema.sizeof()
SECTION_SIZE: Final = SectionHeader.schema.sizeof()
