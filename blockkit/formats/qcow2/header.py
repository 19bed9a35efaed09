"""Reading, judging and writing the header cluster: fixed fields, extensions, backing file name.

Everything here is bounded by one cluster, and every count is checked against its limit before it is used for anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blockkit.errors import CorruptImageError, FormatError, UnsupportedFeatureError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.geometry import Geometry
from blockkit.formats.qcow2.schema import Autoclear, Compatible, ExtensionType, Header, Incompatible
from blockkit.frozen import Frozen
from blockkit.units import align_up, format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Node

_WHERE = "qcow2 header"

#: Incompatible bits this version can open.
SUPPORTED = Incompatible.DIRTY | Incompatible.CORRUPT | Incompatible.COMPRESSION_TYPE


class Extension(Frozen):
    """One header extension as it lies in the image.

    Attributes:
        type: Its number.
        data: Its data, without padding.
        offset: Where its own header starts, bytes; 0 in one that was never written.
    """

    type: int
    data: bytes
    offset: int = 0


class HeaderCluster:
    """All that cluster 0 says. No dataclass: making one takes half a millisecond of the start of every command.

    Attributes:
        fixed: The fields every version has, and those of version 3.
        additional: What lies between byte 104 and ``header_length``, kept as it is.
        extensions: In order, the unknown ones too, without the end marker.
        backing_file: The name as stored; None without a backing file.
    """

    __slots__ = ("additional", "backing_file", "extensions", "fixed")

    def __init__(
        self,
        fixed: Header,
        additional: bytes = b"",
        extensions: list[Extension] | None = None,
        backing_file: bytes | None = None,
    ) -> None:
        self.fixed, self.additional, self.backing_file = fixed, additional, backing_file
        self.extensions = extensions if extensions is not None else []

    # -- derived ---------------------------------------------------------------------------------------

    @property
    def incompatible(self) -> Incompatible:
        """The incompatible feature bits; none in version 2."""
        return Incompatible(self.fixed.incompatible_features or 0)

    @property
    def compatible(self) -> Compatible:
        """The compatible feature bits; none in version 2."""
        return Compatible(self.fixed.compatible_features or 0)

    @property
    def autoclear(self) -> Autoclear:
        """The autoclear feature bits; none in version 2."""
        return Autoclear(self.fixed.autoclear_features or 0)

    @property
    def refcount_order(self) -> int:
        """Log2 of the bits of a reference count; 4 in version 2."""
        return 4 if self.fixed.refcount_order is None else self.fixed.refcount_order

    @property
    def header_length(self) -> int:
        """Bytes before the extensions."""
        return self.fixed.header_length or schema.HEADER_V2_LENGTH

    @property
    def compression_type(self) -> int:
        """A :class:`~blockkit.formats.qcow2.schema.CompressionType`; zlib unless the header says otherwise."""
        return self.additional[0] if self.additional else 0

    @property
    def geometry(self) -> Geometry:
        """The sizes that follow from this header."""
        return Geometry(
            self.fixed.cluster_bits, self.refcount_order, bool(self.incompatible & Incompatible.EXTENDED_L2)
        )

    def extension(self, kind: ExtensionType) -> Extension | None:
        """Return the first extension of a type."""
        return next((e for e in self.extensions if e.type == kind), None)

    @property
    def backing_format(self) -> str | None:
        """The format of the backing file as stored, or None."""
        found = self.extension(ExtensionType.BACKING_FORMAT)
        return found.data.decode("utf-8", "replace") if found else None

    @property
    def data_file(self) -> str | None:
        """The name of the external data file as stored, or None."""
        found = self.extension(ExtensionType.DATA_FILE_NAME)
        return found.data.decode("utf-8", "replace") if found else None

    # -- writing ---------------------------------------------------------------------------------------

    def build(self) -> bytes:
        """Return the bytes of the header, extensions and backing file name, unpadded.

        Raises:
            FormatError: they do not fit into one cluster.
        """
        body = bytearray(self.additional)
        for extension in self.extensions:
            body += schema.ExtensionHeader(type=extension.type, length=len(extension.data)).build()
            body += extension.data.ljust(align_up(len(extension.data), 8), b"\0")
        # The end marker is written even where the format lets it be left out.
        body += bytes(8)
        fixed = self.fixed
        length = schema.HEADER_V2_LENGTH if fixed.version == 2 else schema.HEADER_V3_LENGTH
        if self.backing_file is not None:
            fixed = replace(fixed, backing_file_offset=length + len(body), backing_file_size=len(self.backing_file))
            body += self.backing_file
        else:
            fixed = replace(fixed, backing_file_offset=0, backing_file_size=0)
        if length + len(body) > 1 << fixed.cluster_bits:
            raise FormatError(
                f"header, extensions and backing file name take {length + len(body)} bytes, "
                f"more than the cluster of {1 << fixed.cluster_bits} they must fit in",
                where=_WHERE,
            )
        self.fixed = fixed
        return fixed.build() + bytes(body)


def read_header(file: Node, *, accept: Incompatible = SUPPORTED) -> HeaderCluster:
    """Read and judge cluster 0 of ``file``.

    Args:
        file: What holds the image.
        accept: Incompatible bits the caller can deal with.

    Raises:
        FormatError: it is not a qcow2 image, or a field has a value no image may have.
        CorruptImageError: fields contradict each other.
        UnsupportedFeatureError: the image needs something that is not in ``accept``; the message names all of it.
    """
    header = _read_cluster(file)
    _check_features(header, accept)
    _check_values(header)
    return header


def read_any_header(file: Node) -> HeaderCluster:
    """Read cluster 0 of ``file``, whatever features the image needs: for who shows it and opens nothing.

    Raises:
        FormatError: it is not a qcow2 image, or a field has a value no image may have.
        CorruptImageError: fields contradict each other.
        UnsupportedFeatureError: the version is unknown, so that nobody knows what the fields are.
    """
    header = _read_cluster(file)
    _check_values(header)
    return header


def _read_cluster(file: Node) -> HeaderCluster:
    """Read cluster 0 of ``file`` as far as it takes to decode it."""
    magic = file.pull_bytes(0, 4)
    if magic != schema.MAGIC:
        raise FormatError(f"magic is {magic!r}, not {schema.MAGIC!r}: this is no qcow2 image", where=_WHERE, offset=0)
    fixed = Header.parse(file.pull_bytes(0, min(schema.HEADER_V3_LENGTH, max(file.size, 0))))
    if fixed.version not in (2, 3):
        raise UnsupportedFeatureError(f"version is {fixed.version}, not 2 or 3", where=_WHERE, offset=4)
    bits = fixed.cluster_bits
    if not schema.MIN_CLUSTER_BITS <= bits <= schema.MAX_CLUSTER_BITS:
        raise FormatError(
            f"cluster_bits is {bits}, not from {schema.MIN_CLUSTER_BITS} to {schema.MAX_CLUSTER_BITS}",
            where=_WHERE,
            offset=20,
        )
    cluster_size = 1 << bits
    length = fixed.header_length or schema.HEADER_V2_LENGTH
    if fixed.version >= 3 and not (schema.HEADER_V3_LENGTH <= length <= cluster_size and length % 8 == 0):
        raise FormatError(
            f"header_length is {length}, not a multiple of 8 from {schema.HEADER_V3_LENGTH} to {cluster_size}",
            where=_WHERE,
            offset=100,
        )
    cluster = file.pull_bytes(0, cluster_size)
    header = HeaderCluster(fixed, additional=cluster[schema.HEADER_V3_LENGTH : length] if fixed.version >= 3 else b"")
    end = _backing_name(header, cluster)
    header.extensions = _extensions(cluster, length, end)
    return header


def _backing_name(header: HeaderCluster, cluster: bytes) -> int:
    """Read the backing file name; return where the extensions must end."""
    fixed = header.fixed
    start, size = fixed.backing_file_offset, fixed.backing_file_size
    if not start:
        return len(cluster)
    if size > schema.MAX_BACKING_NAME_SIZE:
        raise FormatError(
            f"backing_file_size is {size}, not at most {schema.MAX_BACKING_NAME_SIZE}", where=_WHERE, offset=16
        )
    if start < header.header_length or start + size > len(cluster):
        raise FormatError(
            f"backing_file_offset is {start:#x} for {size} bytes, not inside the first cluster and behind the header",
            where=_WHERE,
            offset=8,
        )
    if size:
        header.backing_file = cluster[start : start + size]
    return start


def _extensions(cluster: bytes, start: int, end: int) -> list[Extension]:
    """Walk the header extensions from ``start``; they end at ``end`` or at an end marker."""
    found: list[Extension] = []
    while start + 8 <= end:
        head = schema.ExtensionHeader.parse(cluster[start : start + 8], offset=start)
        if head.type == ExtensionType.END:
            break
        data = start + 8
        if head.length > end - data:
            raise FormatError(
                f"length of extension {head.type:#010x} is {head.length}, but only {end - data} bytes are left",
                where="qcow2 header extension",
                offset=start + 4,
            )
        found.append(Extension(head.type, cluster[data : data + head.length], start))
        start = data + align_up(head.length, 8)
    return found


def feature_name(header: HeaderCluster, kind: int, bit: int) -> str:
    """Name a feature bit: as the image names it, else as we do, else by number."""
    table = header.extension(ExtensionType.FEATURE_NAMES)
    data = table.data if table else b""
    for at in range(0, len(data) - 47, 48):
        if data[at] == kind and data[at + 1] == bit:
            text = data[at + 2 : at + 48].rstrip(b"\0").decode("ascii", "replace")
            if text.isprintable() and text:
                return text
    return next((n.decode() for k, b, n in schema.FEATURE_NAMES if (k, b) == (kind, bit)), f"unknown bit {bit}")


def _check_features(header: HeaderCluster, accept: Incompatible) -> None:
    """Refuse what cannot be opened, by name."""
    fixed = header.fixed
    problems: list[tuple[str, int]] = []
    refused = int(header.incompatible) & ~int(accept)
    if refused:
        names = ", ".join(feature_name(header, 0, bit) for bit in range(64) if refused >> bit & 1)
        problems.append((f"incompatible features not supported: {names}", 72))
    if fixed.crypt_method:
        name = {1: "AES", 2: "LUKS"}.get(fixed.crypt_method, f"method {fixed.crypt_method}")
        problems.append((f"encryption not supported: {name}", 32))
    if header.compression_type not in (0, 1):
        problems.append((f"compression_type is {header.compression_type}, not 0 or 1", 104))
    if problems:
        raise UnsupportedFeatureError("; ".join(text for text, _ in problems), where=_WHERE, offset=problems[0][1])


def _check_values(header: HeaderCluster) -> None:
    """Refuse values that no image may have, whatever its features, and tables that are not where any may be."""
    fixed = header.fixed
    kind, declared = header.compression_type, bool(header.incompatible & Incompatible.COMPRESSION_TYPE)
    if bool(kind) != declared:
        raise FormatError(
            f"compression_type is {kind}, but the incompatible bit for it is {'set' if declared else 'clear'}",
            where=_WHERE,
            offset=104,
        )
    if header.refcount_order > schema.MAX_REFCOUNT_ORDER:
        raise FormatError(f"refcount_order is {header.refcount_order}, not at most 6", where=_WHERE, offset=96)
    if header.incompatible & Incompatible.EXTENDED_L2 and fixed.cluster_bits < schema.MIN_CLUSTER_BITS_EXTENDED_L2:
        raise FormatError(
            f"cluster_bits is {fixed.cluster_bits}, but extended L2 entries need at least 14", where=_WHERE, offset=20
        )
    _check_tables(header)


def _check_tables(header: HeaderCluster) -> None:
    """Check sizes and places of the tables the header points to, before anything is allocated for them."""
    fixed, geometry = header.fixed, header.geometry

    def at_most(name: str, offset: int, size: int, limit: int) -> None:
        if size > limit:
            raise FormatError(
                f"{name} takes {format_size(size)}, more than {format_size(limit)}", where=_WHERE, offset=offset
            )

    def aligned(name: str, offset: int, value: int, error: Callable[..., Exception] = FormatError) -> None:
        if value % geometry.cluster_size or value > schema.MAX_HOST_OFFSET:
            raise error(
                f"{name} is {value:#x}, not a multiple of the cluster size {geometry.cluster_size:#x} below 2**56",
                where=_WHERE,
                offset=offset,
            )

    if fixed.size > schema.MAX_VIRTUAL_SIZE:
        raise FormatError(f"size is {fixed.size}, more than 4 EiB", where=_WHERE, offset=24)
    at_most("the L1 table", 36, fixed.l1_size * 8, schema.MAX_L1_SIZE)
    aligned("l1_table_offset", 40, fixed.l1_table_offset)
    needed = geometry.l1_entries(fixed.size)
    if fixed.l1_size < needed:
        raise FormatError(
            f"l1_size is {fixed.l1_size}, but a disk of {fixed.size} bytes needs {needed} entries",
            where=_WHERE,
            offset=36,
        )
    if fixed.l1_size and not fixed.l1_table_offset:
        raise CorruptImageError("l1_table_offset is 0, where the header lies", where=_WHERE, offset=40)
    at_most(
        "the refcount table",
        56,
        fixed.refcount_table_clusters * geometry.cluster_size,
        schema.MAX_REFCOUNT_TABLE_SIZE,
    )
    aligned("refcount_table_offset", 48, fixed.refcount_table_offset)
    if not fixed.refcount_table_clusters or not fixed.refcount_table_offset:
        raise CorruptImageError("there is no refcount table", where=_WHERE, offset=48)
    if fixed.nb_snapshots > schema.MAX_SNAPSHOTS:
        raise FormatError(
            f"nb_snapshots is {fixed.nb_snapshots}, not at most {schema.MAX_SNAPSHOTS}", where=_WHERE, offset=60
        )
    if fixed.nb_snapshots:
        aligned("snapshots_offset", 64, fixed.snapshots_offset)
