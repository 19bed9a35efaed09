"""Images that mean harm: refused, or read as far as they make sense, in little time and memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockkit.block.node import Extent, Kind
from blockkit.errors import BlockkitError, CorruptImageError, FormatError, NoSpaceError, UnsupportedFeatureError
from blockkit.formats.qcow2.create import CreateOptions, create
from blockkit.formats.qcow2.header import HeaderCluster, read_header
from blockkit.formats.qcow2.inspect import Qcow2Structures
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.formats.qcow2.schema import COMPRESSED, COPIED, Incompatible
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLUSTER = 512


def base(size: int = 64 * CLUSTER, **options: object) -> bytearray:
    """Return an image with some data, a zero cluster and a compressed one."""
    file = MemoryNode(grows=True)
    create(file, size, CreateOptions(**{"cluster_size": CLUSTER, **options}))  # type: ignore[arg-type]
    with Qcow2Node(file, read_only=False) as node:
        node.write(0, b"\x5a" * CLUSTER * 5)
        node.zero(CLUSTER * 8, CLUSTER * 2)
        encoded = node.compress(b"ab" * (node.cluster_size // 2))
        assert encoded is not None
        node.write_compressed(CLUSTER * 16 // node.cluster_size * node.cluster_size, encoded)
    return file.data


def u64(data: bytearray, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "big")


def put(data: bytearray, offset: int, value: int, size: int = 8) -> None:
    data[offset : offset + size] = value.to_bytes(size, "big")


def l2_of(data: bytearray) -> int:
    return u64(data, u64(data, 40)) & 0x00FF_FFFF_FFFF_FE00


def exercise(data: bytes | bytearray) -> None:
    """Do everything to an image; only errors of ours may come out."""
    for read_only in (True, False):
        try:
            node = Qcow2Node(Bounded(data, read_only=read_only, grows=not read_only), read_only=read_only)
        except BlockkitError:
            continue
        for request in requests(node):
            try:
                request()
            except BlockkitError as error:
                assert "\n" not in str(error)  # noqa: PT017 -- any of them may come


def requests(node: Qcow2Node) -> Iterator[Callable[[], object]]:
    size = min(node.size, 1 << 16)
    yield lambda: node.read(0, size)
    yield lambda: [None for _ in zip(range(200), node.extents(), strict=False)]
    yield lambda: node.read(max(0, node.size - 1000), min(node.size, 1000))
    yield node.facts
    if not node.read_only:
        yield lambda: node.write(0, b"w" * min(size, 3000))
        yield lambda: node.zero(min(1000, size), min(size, 9000) - min(1000, size))
        yield lambda: node.write_compressed(0, b"rubbish") if size else None
        yield lambda: node.discard(0, size)
        yield lambda: node.write(size // 2, b"v" * (size - size // 2))
        yield node.flush
        yield lambda: node.resize((node.size // 512 + 9) * 512)
        yield node.flush
    yield node.close


HEADER = [
    # offset, size, value
    *[(20, 4, bits) for bits in (0, 8, 22, 63, 2**32 - 1)],
    *[(100, 4, length) for length in (0, 72, 103, 105, 4096, 2**32 - 1)],
    *[(96, 4, order) for order in (7, 64, 2**32 - 1)],
    *[(4, 4, version) for version in (0, 1, 4, 2**32 - 1)],
    *[(24, 8, size) for size in (2**62 + 1, 2**63 - 1, 2**63, 2**64 - 1, 1 << 40)],
    *[(36, 4, entries) for entries in (0, 2**22 + 1, 2**32 - 1)],
    *[(40, 8, offset) for offset in (0, 1, 513, 1 << 56, 2**64 - 512, 1 << 40)],
    *[(48, 8, offset) for offset in (0, 1, 513, 1 << 56, 2**64 - 512)],
    *[(56, 4, clusters) for clusters in (0, 2**14 + 1, 2**32 - 1)],
    *[(60, 4, count) for count in (65537, 2**32 - 1)],
    *[(32, 4, method) for method in (1, 2, 3)],
    (16, 4, 1024),
]


@pytest.mark.parametrize(("offset", "size", "value"), HEADER)
def test_header_fields_out_of_bounds_are_refused_at_once(offset: int, size: int, value: int) -> None:
    data = base()
    put(data, offset, value, size)
    if offset == 16:
        put(data, 8, 200)
    start = time.monotonic()
    tracemalloc.start()
    with pytest.raises((FormatError, CorruptImageError, UnsupportedFeatureError)):
        Qcow2Node(MemoryNode(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("length", [2**31, 2**32 - 1, 2**32 - 8, 500])
def test_extensions_that_leave_the_cluster_are_refused(length: int) -> None:
    data = base()
    put(data, 112, 0x12345678, 4)
    put(data, 116, length, 4)
    with pytest.raises(FormatError):
        read_header(MemoryNode(data))


def test_an_unknown_incompatible_bit_is_named_as_the_image_names_it() -> None:
    data = base(cluster_size=4096, size=1 << 20)
    header = read_header(MemoryNode(data))
    names = next(e for e in header.extensions if e.type == 0x6803F857)
    at = names.offset + 8
    data[at : at + 48] = bytes([0, 40]) + b"flux capacitor".ljust(46, b"\0")
    put(data, 72, 1 << 40 | 1 << 41)
    with pytest.raises(UnsupportedFeatureError, match="flux capacitor, unknown bit 41"):
        read_header(MemoryNode(data))


def test_what_is_not_understood_survives_and_autoclear_goes_with_the_first_write() -> None:
    data = base(cluster_size=4096, size=1 << 20)
    put(data, 80, 1 << 50)
    put(data, 88, 1 << 60 | 1 << 1)
    header = read_header(MemoryNode(data))
    end = header.extensions[-1].offset + 8 + len(header.extensions[-1].data)
    data[end : end + 24] = struct.pack(">II", 0xCAFE0001, 13) + b"unknown bytes" + bytes(3)
    before = bytes(data)
    file = MemoryNode(data, grows=True)
    with Qcow2Node(file, read_only=False) as node:
        node.read(0, 4096)
        node.flush()
    assert file.data == before
    with Qcow2Node(file, read_only=False) as node:
        node.write(0, b"x")
        assert u64(file.data, 88) == 0, "cleared before the first change, not after"
        node.resize(2 << 20)
    assert u64(file.data, 80) == 1 << 50
    assert file.data[104:4096] == before[104:4096]


ENTRIES = {
    "the header by a compressed cluster": lambda d: COMPRESSED,
    "itself": lambda d: l2_of(d) | COPIED,
    "the L1 table": lambda d: u64(d, 40) | COPIED,
    "the refcount table": lambda d: u64(d, 48) | COPIED,
    "a refcount block": lambda d: u64(d, u64(d, 48)) | COPIED,
    "itself, shared": lambda d: l2_of(d),
    "the L1 table, as zeros": lambda d: u64(d, 40) | COPIED | 1,
    "no cluster, as zeros": lambda d: 0x600 + 0x200 * 99 | COPIED | 1,
    "compressed, far away": lambda d: COMPRESSED | (1 << 50),
    "compressed, over the tables": lambda d: COMPRESSED | u64(d, 40) | 1 << 61,
    "copied nothing": lambda d: COPIED,
    "reserved bits": lambda d: 0x3F00_0000_0000_01FE,
    "far away": lambda d: (1 << 55) | COPIED,
    "past everything": lambda d: 0x00FF_FFFF_FFFF_FE00 | COPIED,
}


class Bounded(MemoryNode):
    """A file of at most 64 MiB, as a write at 2**55 fails on any real one."""

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        if offset > 64 << 20:
            raise NoSpaceError("too far")
        super()._writev(offset, buffers, fua)


@pytest.mark.parametrize("what", ENTRIES)
@pytest.mark.parametrize("request_kind", ["write", "part", "zero", "keep", "discard", "compressed"])
def test_guest_requests_never_change_metadata(what: str, request_kind: str) -> None:
    data = base()
    put(data, l2_of(data), ENTRIES[what](data))
    l1, table = u64(data, 40), u64(data, 48)
    block, l2 = u64(data, table), l2_of(data)
    file = Bounded(data, grows=True)
    node = Qcow2Node(file, read_only=False)
    requests: dict[str, Callable[[], object]] = {
        "write": lambda: node.write(0, b"\xcc" * CLUSTER),
        "part": lambda: node.write(10, b"\xcc" * 20),
        "zero": lambda: node.zero(0, CLUSTER),
        "keep": lambda: node.zero(0, CLUSTER, unmap=False),
        "discard": lambda: node.discard(0, CLUSTER),
        "compressed": lambda: node.write_compressed(0, node.compress(bytes(CLUSTER)) or b""),
    }
    try:
        requests[request_kind]()
        node.write(CLUSTER * 20, b"\xcc" * CLUSTER * 10)
        node.close()
    except BlockkitError:
        pass  # refused is as good as done
    now = file.data
    assert now[:4] == b"QFI\xfb"
    assert (u64(now, 40), u64(now, 48)) == (l1, table)
    assert u64(now, table) == block
    assert (u64(now, l1) & 0x00FF_FFFF_FFFF_FE00) == l2
    for start in (0, l1, table, block, l2):
        assert b"\xcc" * 8 not in now[start : start + CLUSTER], f"guest data in the metadata at {start:#x}"
    exercise(now)


def test_a_damaged_image_takes_no_more_writes() -> None:
    data = base()
    put(data, l2_of(data), u64(data, 40) | COPIED)
    file = MemoryNode(data, grows=True)
    node = Qcow2Node(file, read_only=False)
    with pytest.raises(CorruptImageError, match="metadata"):
        node.write(0, b"x")
    with pytest.raises(CorruptImageError, match="repair"):
        node.write(CLUSTER * 30, b"x")
    node.close()
    assert read_header(file).incompatible & Incompatible.CORRUPT


def test_tables_that_overlap_are_refused_for_writing() -> None:
    cases: list[Callable[[bytearray], None]] = [
        lambda d: put(d, 40, u64(d, 48)),
        lambda d: put(d, u64(d, 40), u64(d, 48) | COPIED),
        lambda d: put(d, u64(d, 40), u64(d, 40) | COPIED),
        lambda d: put(d, u64(d, 40), (1 << 40) | COPIED),
        lambda d: put(d, u64(d, 48), 0x200 + 1),
    ]
    for number, spoil in enumerate(cases):
        data = base()
        spoil(data)
        try:
            with pytest.raises(CorruptImageError):
                Qcow2Node(MemoryNode(data, grows=True), read_only=False)
        except BaseException as error:
            raise AssertionError(f"case {number}") from error
        exercise(data)


def test_a_table_copied_for_writing_does_not_trust_flags_of_a_shared_one() -> None:
    data = base()
    put(data, u64(data, 40), l2_of(data))
    file = MemoryNode(data, grows=True)
    with Qcow2Node(file, read_only=False) as node:
        before = u64(data, l2_of(data)) & 0x00FF_FFFF_FFFF_FE00
        node.write(0, b"n" * CLUSTER)
        assert node.map(0, 1).target != before
        assert node.read(0, CLUSTER * 2) == b"n" * CLUSTER + b"\x5a" * CLUSTER


def test_many_tables_far_away_cost_no_memory() -> None:
    size = (1 << 17) * CLUSTER * 64
    file = MemoryNode(grows=True)
    create(file, size, CreateOptions(cluster_size=CLUSTER))
    data = file.data
    l1 = u64(data, 40)
    for index in range(1 << 17):
        put(data, l1 + index * 8, ((index + 1) << 33) & 0x00FF_FFFF_FFFF_FE00 | COPIED)
    tracemalloc.start()
    with pytest.raises(CorruptImageError):
        Qcow2Node(MemoryNode(data, grows=True), read_only=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(data) + (8 << 20)


@pytest.mark.parametrize("entries", [2**32 - 1, 2**22 + 1])
def test_a_snapshot_with_a_huge_table_is_refused_for_writing(entries: int) -> None:
    data = base()
    where = -(-len(data) // CLUSTER) * CLUSTER
    data.extend(bytes(where + CLUSTER - len(data)))
    data[where : where + 60] = (
        struct.pack(">QIHHIIQIIQQ", 1024, entries, 1, 1, 0, 0, 0, 0, 16, 0, 512) + b"1s" + bytes(2)
    )
    put(data, 60, 1, 4)
    put(data, 64, where)
    start = time.monotonic()
    with pytest.raises(BlockkitError):
        Qcow2Node(MemoryNode(data, grows=True), read_only=False)
    assert time.monotonic() - start < 2


IMAGES = [
    bytes(base()),
    bytes(base(refcount_bits=64, compression_type="zstd")),
    bytes(base(compat="0.10", cluster_size=1024)),
]


@given(st.sampled_from(IMAGES), st.data())
@settings(max_examples=250, suppress_health_check=list(HealthCheck))
def test_any_damage_raises_nothing_but_our_errors(image: bytes, data: st.DataObject) -> None:
    spoiled = bytearray(image)
    tables = [0, 24, 40, 48, 72, 96, u64(spoiled, 40), u64(spoiled, 48), l2_of(spoiled), u64(spoiled, u64(spoiled, 48))]
    for _ in range(data.draw(st.integers(1, 4))):
        offset = data.draw(st.sampled_from(tables)) + data.draw(st.integers(0, 40))
        offset = min(offset, len(spoiled) - 1)
        if data.draw(st.booleans()):
            spoiled[offset] ^= 1 << data.draw(st.integers(0, 7))
        else:
            value = data.draw(st.sampled_from([0, 2**64 - 1, 2**63 - 1, 2**56, 512, 1024, 1 << 62, COPIED | 512]))
            put(spoiled, offset // 8 * 8, value)
    if data.draw(st.booleans()):
        del spoiled[data.draw(st.integers(0, len(spoiled))) :]
    exercise(spoiled)
    inspect(spoiled)


def inspect(data: bytes | bytearray) -> None:
    """List every structure; only errors of ours may come out, and none once the header is decoded."""
    try:
        node = Qcow2Structures(MemoryNode(data, read_only=True))
    except BlockkitError as error:
        assert "\n" not in str(error)  # noqa: PT017 -- any of them may come
        return
    for _ in zip(range(2000), node.structures(), strict=False):
        pass


@given(st.sampled_from(IMAGES[:2]), st.integers(0, 2**64 - 1), st.integers(0, 3), st.data())
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_images_of_any_feature_are_inspected(image: bytes, features: int, method: int, data: st.DataObject) -> None:
    spoiled = bytearray(image)
    put(spoiled, 72, features & ~8 | u64(spoiled, 72) & 8)
    put(spoiled, 32, method, 4)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.sampled_from([u64(spoiled, 40), u64(spoiled, 48), l2_of(spoiled)]))
        put(
            spoiled,
            min(place + 8 * data.draw(st.integers(0, 20)), len(spoiled) - 8),
            data.draw(st.integers(0, 2**64 - 1)),
        )
    inspect(spoiled)


class Holes(MemoryNode):
    """A file that begins with ``data`` and is a hole from there to ``size``."""

    size = 1 << 45

    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(data, read_only=True)
        self.read_bytes = 0

    def _map(self, offset: int, length: int) -> Extent:
        end = len(self.data)
        if offset >= end:
            return Extent(offset, length, Kind.ZERO, self, offset)
        return Extent(offset, min(length, end - offset), Kind.DATA, self, offset)

    def _read(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return bytes(self.data[offset : offset + length]).ljust(length, b"\0")


def test_tables_in_holes_take_no_longer_than_they_are() -> None:
    data = base(cluster_size=2 << 20, size=1 << 40)
    l1, table = u64(data, 40), u64(data, 48)
    for index in range(1 << 12):
        put(data, l1 + index * 8, (index + 64) << 21)
        put(data, table + index * 8, (index + 64) << 21)
    put(data, 36, 1 << 12, 4)
    file = Holes(data)
    tracemalloc.start()
    shown = sum(structure.name == "qcow2 refcount block" for structure in Qcow2Structures(file).structures())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shown == 1 << 12
    assert peak < 64 << 20
    assert file.read_bytes < 1 << 30, "all of the tables would be 16 GiB"


def test_tables_of_snapshots_that_lie_across_each_other_come_to_an_end() -> None:
    data = base()
    where = -(-len(data) // CLUSTER) * CLUSTER
    count = 2000
    data.extend(bytes(where + count * 64 - len(data)))
    for index in range(count):
        entry = struct.pack(">QIHHIIQIIQQ", 8 * index, 1 << 20, 1, 1, 0, 0, 0, 0, 16, 0, 512) + b"1s"
        data[where + index * 64 : where + index * 64 + len(entry)] = entry
    put(data, 60, count, 4)
    put(data, 64, where)
    found = [s for s in Qcow2Structures(MemoryNode(data)).structures() if s.name.startswith("qcow2 L1 table of")]
    assert sum(structure.size for structure in found) <= len(data)
    assert "overlap" in str(found[-1].fields[0].value)


def test_header_survives_being_rewritten() -> None:
    header = read_header(MemoryNode(base()))
    again = HeaderCluster(header.fixed, header.additional, header.extensions, header.backing_file)
    assert again.build() == header.build()
