"""Making a new, empty qcow2 image."""

from __future__ import annotations

import os
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from blockkit.block.node import Preallocation
from blockkit.block.tables import encode_u64
from blockkit.errors import FormatError, OptionError, UnsupportedFeatureError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.counts import encode_counts, typecode
from blockkit.formats.qcow2.geometry import Geometry
from blockkit.formats.qcow2.header import Extension, HeaderCluster
from blockkit.formats.qcow2.schema import Compatible, CompressionType, ExtensionType, Header, Incompatible
from blockkit.frozen import Frozen
from blockkit.units import align_up, is_power_of_two

if TYPE_CHECKING:
    from blockkit.block.node import Node


class CreateOptions(Frozen):
    """What ``-o`` takes for qcow2; the names are qemu-img's.

    Attributes:
        cluster_size: Bytes; a power of two from 512 to 2 MiB.
        compat: ``1.1`` or ``v3`` for version 3, ``0.10`` or ``v2`` for version 2.
        refcount_bits: Width of a reference count: 1, 2, 4 ... 64; version 2 has 16 only.
        lazy_refcounts: Leave counts to the close or to a repair; version 3 only.
        preallocation: Space to reserve now.
        compression_type: How clusters are compressed when they are; zstd needs version 3.
        compression_level: For clusters written compressed while it is open; None is the fast default.
        backing_file: Name of the backing file, stored as it is.
        backing_fmt: Its format.
        extended_l2: Subclusters; refused until they are implemented.
        data_file: External data file; refused until it is implemented.
        encryption: Refused.
    """

    cluster_size: int = 65536
    compat: Literal["0.10", "1.1", "v2", "v3"] = "1.1"
    refcount_bits: int = 16
    lazy_refcounts: bool = False
    preallocation: Literal["off", "metadata", "falloc", "full"] = "off"
    compression_type: Literal["zlib", "zstd"] = "zlib"
    compression_level: int | None = None
    backing_file: str | None = None
    backing_fmt: str | None = None
    extended_l2: bool = False
    data_file: str | None = None
    encryption: bool = False


def judge(options: CreateOptions, size: int) -> Geometry:
    """Check that ``options`` make an image of ``size`` bytes.

    Raises:
        OptionError: a value or a combination is not possible.
        UnsupportedFeatureError: it is, but not here.
    """
    bits = options.cluster_size.bit_length() - 1
    if not is_power_of_two(options.cluster_size) or not schema.MIN_CLUSTER_BITS <= bits <= schema.MAX_CLUSTER_BITS:
        raise OptionError(f"cluster_size is {options.cluster_size}, not a power of two from 512 to 2M")
    if not is_power_of_two(options.refcount_bits) or options.refcount_bits > 64:
        raise OptionError(f"refcount_bits is {options.refcount_bits}, not a power of two from 1 to 64")
    for asked, name in (
        (options.extended_l2, "extended_l2"),
        (options.data_file, "data_file"),
        (options.encryption, "encryption"),
    ):
        if asked:
            raise UnsupportedFeatureError(f"{name} is not supported yet", where="qcow2 creation options")
    if _version(options) == 2:
        for wrong, name in (
            (options.refcount_bits != 16, "refcount_bits other than 16"),
            (options.lazy_refcounts, "lazy_refcounts"),
            (options.compression_type != "zlib", "compression_type other than zlib"),
        ):
            if wrong:
                raise OptionError(f"{name} needs compat=1.1, not {options.compat}")
    geometry = Geometry(bits, options.refcount_bits.bit_length() - 1)
    if size > schema.MAX_VIRTUAL_SIZE or geometry.l1_entries(size) * 8 > schema.MAX_L1_SIZE:
        limit = min((schema.MAX_L1_SIZE // 8) << geometry.l2_span_bits, schema.MAX_VIRTUAL_SIZE)
        raise OptionError(
            f"qcow2: size {size} is more than {limit}, the most there can be with clusters of {1 << bits}"
        )
    if options.backing_file is not None:
        length = len(os.fsencode(options.backing_file))
        if not 0 < length <= schema.MAX_BACKING_NAME_SIZE:
            raise OptionError(f"backing_file has {length} bytes, not from 1 to {schema.MAX_BACKING_NAME_SIZE}")
        if options.preallocation != "off":
            raise OptionError("preallocation and a backing file exclude each other")
    elif options.backing_fmt is not None:
        raise OptionError("backing_fmt needs a backing_file")
    return geometry


def _version(options: CreateOptions) -> int:
    return 2 if options.compat in ("0.10", "v2") else 3


def create(file: Node, size: int, options: CreateOptions) -> None:
    """Write an empty image of ``size`` bytes, rounded up to whole sectors, to ``file``, which is empty and can grow.

    Layout: header, refcount table, refcount block, L1 table; then nothing. The header is written last, so that an
    interrupted creation leaves a file that is no image.
    """
    # Readers that think in sectors would cut the last bytes off.
    size = align_up(size, 512)
    geometry = judge(options, size)
    cluster_size, bits = geometry.cluster_size, geometry.cluster_bits
    l1_size = geometry.l1_entries(size)
    l1_clusters = geometry.clusters(l1_size * 8)
    table_clusters, blocks = _count_structures(geometry, l1_clusters)
    table_at, block_at = 1, 1 + table_clusters
    l1_at = block_at + blocks
    used = l1_at + l1_clusters
    header = new_header(options, size, geometry, l1_size, l1_at << bits, table_clusters)
    image = header.build()

    table = array("Q", range(block_at << bits, (block_at + blocks) << bits, cluster_size))
    counts = array(typecode(geometry.refcount_order), [1]) * used
    counts.extend(array(counts.typecode, [0]) * (blocks * geometry.refcount_block_entries - used))
    file.push(table_at << bits, [memoryview(encode_u64(table, "big").ljust(table_clusters * cluster_size, b"\0"))])
    file.push(block_at << bits, [memoryview(encode_counts(counts, geometry.refcount_order))])
    if l1_clusters:
        file.push(l1_at << bits, [memoryview(bytes(l1_clusters * cluster_size))])
    file.flush()
    file.push(0, [memoryview(image.ljust(cluster_size, b"\0"))])

    mode = Preallocation(options.preallocation)
    if mode is not Preallocation.OFF and size:
        from blockkit.formats.qcow2.node import Qcow2Node

        node = Qcow2Node(file, read_only=False)
        node.preallocate(0, size, mode)
        with node.metadata.lock:
            node.metadata.close()


def _count_structures(geometry: Geometry, l1_clusters: int) -> tuple[int, int]:
    """Return how many clusters of refcount table and of refcount blocks an empty image needs."""
    table_clusters = blocks = 1
    while True:
        used = 1 + table_clusters + blocks + l1_clusters
        need_blocks = (used + geometry.refcount_block_entries - 1) >> geometry.refcount_block_bits
        need_table = geometry.clusters(need_blocks * 8)
        if need_blocks == blocks and need_table == table_clusters:
            return table_clusters, blocks
        blocks, table_clusters = need_blocks, need_table


def new_header(
    options: CreateOptions, size: int, geometry: Geometry, l1_size: int, l1_offset: int, table_clusters: int
) -> HeaderCluster:
    """Return the header cluster of the new image."""
    version = _version(options)
    zstd = options.compression_type == "zstd"
    kind = CompressionType.ZSTD if zstd else CompressionType.ZLIB
    fixed = Header(
        version=version,
        cluster_bits=geometry.cluster_bits,
        size=size,
        l1_size=l1_size,
        # An empty disk has no L1 table; QEMU wants a place for one all the same.
        l1_table_offset=l1_offset,
        refcount_table_offset=geometry.cluster_size,
        refcount_table_clusters=table_clusters,
    )
    additional = b""
    if version == 3:
        additional = schema.AdditionalFields(compression_type=int(kind)).build()
        fixed = replace(
            fixed,
            incompatible_features=int(Incompatible.COMPRESSION_TYPE) if zstd else 0,
            compatible_features=int(Compatible.LAZY_REFCOUNTS) if options.lazy_refcounts else 0,
            autoclear_features=0,
            refcount_order=geometry.refcount_order,
            header_length=schema.HEADER_V3_LENGTH + len(additional),
        )
    extensions = []
    if options.backing_file is not None and options.backing_fmt is not None:
        extensions.append(Extension(ExtensionType.BACKING_FORMAT, options.backing_fmt.encode()))
    if version == 3:
        names = b"".join(
            schema.FeatureName(type=kind, bit=bit, name=name.ljust(46, b"\0")).build()
            for kind, bit, name in schema.FEATURE_NAMES
        )
        extensions.append(Extension(ExtensionType.FEATURE_NAMES, names))
    backing = os.fsencode(options.backing_file) if options.backing_file is not None else None
    header = HeaderCluster(fixed, additional, extensions, backing)
    try:
        header.build()
    except FormatError:
        # With 512-byte clusters there is no room for the names of features, which nobody needs to open it.
        header.extensions = [e for e in extensions if e.type != ExtensionType.FEATURE_NAMES]
    return header
