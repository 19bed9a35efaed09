"""The on-disk layout of qcow2, versions 2 and 3, as declarations only. Integers are big-endian.

References:
    [qcow2] QEMU, docs/interop/qcow2.rst, "QCOW2 image format".

::

    cluster 0          anywhere after it, cluster-aligned, in any order
    +-----------------+  +----------+  +----------+  +----------+  +----------------+  +-----------------+
    | header          |  | L1 table |->| L2 table |->| data     |  | refcount table |->| refcount block  |
    | header extens.  |  +----------+  +----------+  | cluster  |  +----------------+  | one count for   |
    | backing name    |       one entry each          +----------+   one entry each      | every cluster   |
    +-----------------+                                                                  +-----------------+

A guest offset splits into L1 index, L2 index and offset in the cluster. Every host cluster has a reference count.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Final

from blockkit.constructs import Bytes, Const, GreedyBytes, If, Int8ub, Int16ub, Int32ub, Int64ub, this
from blockkit.schema import Record, field
from blockkit.units import KiB, MiB

MAGIC: Final = b"QFI\xfb"
HEADER_V2_LENGTH: Final = 72
HEADER_V3_LENGTH: Final = 104

# Limits QEMU sets, copied so that what we accept and write, it accepts too.
MIN_CLUSTER_BITS: Final = 9
MAX_CLUSTER_BITS: Final = 21
MIN_CLUSTER_BITS_EXTENDED_L2: Final = 14
MAX_L1_SIZE: Final = 32 * MiB  #: bytes of an L1 table
MAX_REFCOUNT_TABLE_SIZE: Final = 8 * MiB  #: bytes
MAX_REFCOUNT_ORDER: Final = 6
MAX_SNAPSHOTS: Final = 65536
MAX_SNAPSHOT_TABLE_SIZE: Final = 64 * MiB
MAX_SNAPSHOT_EXTRA_SIZE: Final = KiB
MAX_BITMAPS: Final = 65535
MAX_BITMAP_DIRECTORY_SIZE: Final = 64 * MiB
MAX_BITMAP_TABLE_ENTRIES: Final = 1 << 27
MAX_BITMAP_NAME_SIZE: Final = 1023
BITMAP_GRANULARITY_BITS: Final = range(9, 32)
MAX_BACKING_NAME_SIZE: Final = 1023
MAX_HOST_OFFSET: Final = (1 << 56) - 1
MAX_VIRTUAL_SIZE: Final = 1 << 62

# L1 and L2 table entries [qcow2, "Cluster mapping"].
COPIED: Final = 1 << 63  #: the refcount is exactly one: may be written in place
COMPRESSED: Final = 1 << 62
ZERO: Final = 1  #: version 3: the cluster reads as zeros
OFFSET_MASK: Final = 0x00FF_FFFF_FFFF_FE00  #: bits 9 to 55
L1_RESERVED_MASK: Final = 0x7F00_0000_0000_01FF
L2_RESERVED_MASK: Final = 0x3F00_0000_0000_01FE
REFCOUNT_TABLE_RESERVED_MASK: Final = 0x1FF
COMPRESSED_SECTOR: Final = 512


class Incompatible(enum.IntFlag, boundary=enum.KEEP):
    """Bits a reader must know to open the image at all."""

    DIRTY = 1 << 0  # reference counts may be wrong
    CORRUPT = 1 << 1  # metadata is wrong: read-only
    DATA_FILE = 1 << 2  # guest data lies in another file
    COMPRESSION_TYPE = 1 << 3  # header field compression_type is not deflate
    EXTENDED_L2 = 1 << 4  # 16-byte L2 entries with subclusters


class Compatible(enum.IntFlag, boundary=enum.KEEP):
    """Bits a reader may ignore."""

    LAZY_REFCOUNTS = 1 << 0


class Autoclear(enum.IntFlag, boundary=enum.KEEP):
    """Bits a writer that does not know them clears before its first change."""

    BITMAPS = 1 << 0  # the bitmaps extension is consistent
    RAW_EXTERNAL_DATA = 1 << 1  # the external data file reads as a raw image of the disk


class CompressionType(enum.IntEnum):
    """How compressed clusters are encoded."""

    ZLIB = 0  # raw deflate, window of 4 KiB
    ZSTD = 1


class CryptMethod(enum.IntEnum):
    """How guest data is encrypted."""

    NONE = 0
    AES = 1
    LUKS = 2


class ExtensionType(enum.IntEnum):
    """Header extensions with a known meaning."""

    END = 0x0000_0000
    BACKING_FORMAT = 0xE279_2ACA
    FEATURE_NAMES = 0x6803_F857
    BITMAPS = 0x2385_2875
    CRYPTO_HEADER = 0x0537_BE77
    DATA_FILE_NAME = 0x4441_5441


class Header(Record):
    """The fixed part of the header, at offset 0 [qcow2, "Header"]. From byte 72 on for version 3 only."""

    title: ClassVar[str] = "qcow2 header"

    magic: bytes = field(Const(MAGIC), "QFI and 0xfb", default=MAGIC)
    version: int = field(Int32ub, "2 or 3")
    backing_file_offset: int = field(Int64ub, "bytes; 0 means no backing file", default=0)
    backing_file_size: int = field(Int32ub, "bytes, at most 1023; the name has no NUL", default=0)
    cluster_bits: int = field(Int32ub, "a cluster is 1 << cluster_bits bytes; 9 to 21")
    size: int = field(Int64ub, "virtual size, bytes")
    crypt_method: int = field(Int32ub, "of guest data", names=CryptMethod, default=0)
    l1_size: int = field(Int32ub, "entries of the active L1 table")
    l1_table_offset: int = field(Int64ub, "bytes, cluster-aligned")
    refcount_table_offset: int = field(Int64ub, "bytes, cluster-aligned")
    refcount_table_clusters: int = field(Int32ub, "clusters")
    nb_snapshots: int = field(Int32ub, "internal snapshots", default=0)
    snapshots_offset: int = field(Int64ub, "bytes, cluster-aligned", default=0)
    incompatible_features: int | None = field(
        If(this.version >= 3, Int64ub), "must be understood", names=Incompatible, default=None
    )
    compatible_features: int | None = field(
        If(this.version >= 3, Int64ub), "may be ignored", names=Compatible, default=None
    )
    autoclear_features: int | None = field(
        If(this.version >= 3, Int64ub), "cleared by writers that do not know them", names=Autoclear, default=None
    )
    refcount_order: int | None = field(
        If(this.version >= 3, Int32ub), "a reference count has 1 << refcount_order bits; 0 to 6", default=None
    )
    header_length: int | None = field(
        If(this.version >= 3, Int32ub), "bytes, 104 or more, a multiple of 8", default=None
    )


class AdditionalFields(Record):
    """What follows byte 104 when ``header_length`` says so [qcow2, "Additional fields"]."""

    title: ClassVar[str] = "qcow2 additional fields"

    compression_type: int = field(Int8ub, "of compressed clusters", names=CompressionType, default=0)
    padding: bytes = field(Bytes(7), "zeros", default=bytes(7))


class ExtensionHeader(Record):
    """Starts each header extension; the data follows, padded to 8 bytes [qcow2, "Header extensions"]."""

    title: ClassVar[str] = "qcow2 header extension"

    type: int = field(Int32ub, "what the data is", names=ExtensionType)
    length: int = field(Int32ub, "bytes of data, without padding")


class FeatureName(Record):
    """One entry of the feature name table extension [qcow2, "Feature name table"]."""

    title: ClassVar[str] = "qcow2 feature name"

    type: int = field(Int8ub, "0 incompatible, 1 compatible, 2 autoclear")
    bit: int = field(Int8ub, "number of the bit in its field")
    name: bytes = field(Bytes(46), "padded with NULs")


class TextExtension(Record):
    """The data of the backing format and data file name extensions."""

    title: ClassVar[str] = "qcow2 name extension"

    text: bytes = field(GreedyBytes, "no NUL")


class BitmapsExtension(Record):
    """Where the bitmap directory lies [qcow2, "Bitmaps extension"]."""

    title: ClassVar[str] = "qcow2 bitmaps extension"

    nb_bitmaps: int = field(Int32ub, "bitmaps, at least 1")
    reserved: int = field(Int32ub, "zero", default=0)
    bitmap_directory_size: int = field(Int64ub, "bytes")
    bitmap_directory_offset: int = field(Int64ub, "bytes, cluster-aligned")


class CryptoHeaderExtension(Record):
    """Where the LUKS header lies [qcow2, "Full disk encryption header pointer"]."""

    title: ClassVar[str] = "qcow2 crypto header extension"

    offset: int = field(Int64ub, "bytes, cluster-aligned")
    length: int = field(Int64ub, "bytes")


class SnapshotHeader(Record):
    """The fixed part of a snapshot table entry [qcow2, "Snapshots"]; extra data, id and name follow."""

    title: ClassVar[str] = "qcow2 snapshot"

    l1_table_offset: int = field(Int64ub, "bytes, cluster-aligned")
    l1_size: int = field(Int32ub, "entries")
    id_str_size: int = field(Int16ub, "bytes of the id")
    name_size: int = field(Int16ub, "bytes of the name")
    date_sec: int = field(Int32ub, "seconds since 1970 when it was taken")
    date_nsec: int = field(Int32ub, "nanoseconds of that second")
    vm_clock_nsec: int = field(Int64ub, "nanoseconds the guest had run")
    vm_state_size: int = field(Int32ub, "bytes of VM state; 0 means none")
    extra_data_size: int = field(Int32ub, "bytes of extra data; at least 16 in version 3")


class SnapshotExtra(Record):
    """The known extra data of a snapshot; each field is there only if the size reaches it."""

    title: ClassVar[str] = "qcow2 snapshot extra data"

    vm_state_size_large: int = field(Int64ub, "bytes of VM state, overrides vm_state_size")
    disk_size: int = field(Int64ub, "virtual size when it was taken, bytes")


class BitmapHeader(Record):
    """The fixed part of a bitmap directory entry [qcow2, "Bitmap directory"]; extra data and name follow."""

    title: ClassVar[str] = "qcow2 bitmap"

    bitmap_table_offset: int = field(Int64ub, "bytes, cluster-aligned")
    bitmap_table_size: int = field(Int32ub, "entries")
    flags: int = field(Int32ub, "state")
    type: int = field(Int8ub, "1: dirty tracking bitmap")
    granularity_bits: int = field(Int8ub, "one bit stands for 1 << granularity_bits bytes")
    name_size: int = field(Int16ub, "bytes of the name, unique in the image")
    extra_data_size: int = field(Int32ub, "bytes")


class BitmapFlag(enum.IntFlag, boundary=enum.KEEP):
    """Flags of a bitmap directory entry."""

    IN_USE = 1 << 0  # not saved; its contents may be stale
    AUTO = 1 << 1  # every change of the disk is recorded
    EXTRA_DATA_COMPATIBLE = 1 << 2  # unknown extra data may be ignored


#: The feature name table written into new images: (type, bit, name).
FEATURE_NAMES: Final = (
    (0, 0, b"dirty bit"),
    (0, 1, b"corrupt bit"),
    (0, 2, b"external data file"),
    (0, 3, b"compression type"),
    (0, 4, b"extended L2 entries"),
    (1, 0, b"lazy refcounts"),
    (2, 0, b"bitmaps"),
    (2, 1, b"raw external data"),
)
