"""Checking and repairing images that were damaged on purpose."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockkit.block.node import Kind
from blockkit.block.report import MAX_FINDINGS, Repair, Severity
from blockkit.errors import BlockkitError, CorruptImageError, NoSpaceError, ReadOnlyError
from blockkit.formats.qcow2 import schema
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.counts import decode_counts, encode_counts
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.inspect import structures
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.formats.qcow2.schema import COPIED, OFFSET_MASK, Incompatible
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.report import CheckReport

    Disk = Callable[..., Qcow2Node]

SIZE = 1 << 20
#: Offset -> byte of what is written to every sample.
DATA = {0: 1, 8192: 2, 20480: 3, SIZE - 4096: 4}


def sample(disk: Disk, **options: object) -> bytes:
    """Return an image of four written clusters."""
    node = disk(SIZE, **{"cluster_size": 4096, **options})
    for offset, byte in DATA.items():
        node.write(offset, bytes([byte]) * 4096)
    node.flush()
    assert isinstance(node.file, MemoryNode)
    return bytes(node.file.data)


class Image:
    """The bytes of an image, with ways to hurt it."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.header = read_header(MemoryNode(data))
        self.geometry = self.header.geometry

    def word(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 8], "big")

    def put(self, at: int, value: int, size: int = 8) -> None:
        self.data[at : at + size] = value.to_bytes(size, "big")

    @property
    def l1(self) -> int:
        return self.header.fixed.l1_table_offset

    @property
    def l2(self) -> int:
        return self.word(self.l1) & OFFSET_MASK

    @property
    def table(self) -> int:
        return self.header.fixed.refcount_table_offset

    def count(self, cluster: int, value: int | None = None) -> int:
        """Return, or set, a count in the first refcount block."""
        block, size, order = self.word(self.table), self.geometry.cluster_size, self.geometry.refcount_order
        counts = decode_counts(bytes(self.data[block : block + size]), order)
        if value is not None:
            counts[cluster] = value
            self.data[block : block + size] = encode_counts(counts, order)
        return counts[cluster]

    def check(self, repair: Repair = Repair.NONE, *, grows: bool = True) -> CheckReport:
        """Check, and keep what a repair made of the image."""
        file = MemoryNode(self.data, grows=grows)
        report = check_image(file, read_header(file), repair)
        self.data = file.data
        self.header = read_header(file)
        return report

    def reads_back(self) -> bool:
        node = Qcow2Node(MemoryNode(self.data), read_only=True)
        return all(node.read(offset, 4096) == bytes([byte]) * 4096 for offset, byte in DATA.items())


@pytest.fixture
def damaged(disk: Disk) -> Image:
    return Image(sample(disk))


WIDTHS = [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_sound_image_is_clean(disk: Disk, bits: int) -> None:
    report = Image(sample(disk, refcount_bits=bits)).check()
    assert report.clean
    assert report.findings == []
    assert (report.total_clusters, report.allocated_clusters, report.fragmented_clusters) == (256, 4, 0)


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_leak_is_found_and_given_back(disk: Disk, bits: int) -> None:
    image = Image(sample(disk, refcount_bits=bits))
    end = len(image.data) // 4096
    image.data += b"x" * 4096
    image.count(end, 1)
    report = image.check()
    assert (report.leaks, report.corruptions) == (1, 0)
    assert report.image_end_offset == (end + 1) * 4096
    report = image.check(Repair.LEAKS)
    assert (report.leaks, report.leaks_fixed) == (0, 1)
    assert image.count(end) == 0
    assert image.data[-4096:] == bytes(4096), "its space was not given back"
    assert report.image_end_offset == end * 4096
    assert image.reads_back()


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_count_of_zero_for_a_cluster_in_use_is_mended(disk: Disk, bits: int) -> None:
    image = Image(sample(disk, refcount_bits=bits))
    cluster = (image.word(image.l2) & OFFSET_MASK) // 4096
    image.count(cluster, 0)
    report = image.check()
    assert report.leaks == 0
    assert report.corruptions == 2  # the count, and the copied flag that now says too much
    assert image.check(Repair.ALL).corruptions_fixed == 1
    assert image.count(cluster) == 1
    assert image.check().clean
    assert image.reads_back()


def test_leaks_are_not_repaired_where_counts_are_lost(damaged: Image) -> None:
    damaged.count((damaged.word(damaged.l2) & OFFSET_MASK) // 4096, 0)
    before = bytes(damaged.data)
    report = damaged.check(Repair.LEAKS)
    assert report.check_errors == 1
    assert damaged.data == before


def test_a_count_too_high_is_a_leak_and_its_flag_is_wrong_until_mended(damaged: Image) -> None:
    cluster = (damaged.word(damaged.l2) & OFFSET_MASK) // 4096
    damaged.count(cluster, 3)
    report = damaged.check()
    assert (report.leaks, report.corruptions) == (1, 1)
    report = damaged.check(Repair.LEAKS)
    assert (report.leaks_fixed, report.corruptions_fixed, report.clean) == (1, 0, True)


@pytest.mark.parametrize("where", ["l1", "l2"])
def test_a_copied_flag_that_is_missing_is_set(damaged: Image, where: str) -> None:
    at = getattr(damaged, where)
    damaged.put(at, damaged.word(at) & ~COPIED)
    assert damaged.check().corruptions == 1
    report = damaged.check(Repair.ALL)
    assert (report.corruptions, report.corruptions_fixed) == (0, 1)
    assert [finding.repaired for finding in report.findings] == [True]
    assert damaged.word(at) & COPIED
    assert damaged.check().clean


def test_two_entries_that_share_a_cluster_both_lose_the_copied_flag(damaged: Image) -> None:
    damaged.put(damaged.l2 + 8, damaged.word(damaged.l2))
    assert damaged.check().corruptions == 1
    assert damaged.check(Repair.ALL).clean
    assert not damaged.word(damaged.l2) & COPIED
    assert damaged.count((damaged.word(damaged.l2) & OFFSET_MASK) // 4096) == 2
    assert damaged.reads_back()


@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.parametrize(
    "entry", [0, 0x200, 0x1FF, 1 << 40, 1 << 63], ids=["none", "unaligned", "reserved", "past the end", "nowhere"]
)
def test_a_lost_refcount_block_is_built_anew(damaged: Image, entry: int, grows: bool) -> None:
    damaged.put(damaged.table, damaged.word(damaged.table) ^ entry if entry == 0x1FF else entry)
    if not grows:
        damaged.data += bytes(16 * 4096)
    assert not damaged.check().clean
    report = damaged.check(Repair.ALL, grows=grows)
    assert report.clean, report.findings
    assert report.corruptions_fixed > 0
    assert damaged.reads_back()
    assert damaged.check().clean


def test_a_refcount_table_that_guest_data_overlaps_is_built_elsewhere(damaged: Image) -> None:
    old = damaged.table
    damaged.put(damaged.l2 + 80, old | COPIED)
    assert damaged.check(Repair.ALL).clean
    assert damaged.table != old
    assert damaged.count(old // 4096) == 1


def test_a_shared_refcount_block_is_replaced_even_where_a_count_cannot_tell(disk: Disk) -> None:
    image = Image(sample(disk, refcount_bits=1))
    image.put(image.table, image.word(image.l2) & OFFSET_MASK)
    image.check(Repair.ALL)
    assert image.check().clean
    assert image.reads_back()


def test_flags_stay_where_only_leaks_are_mended_and_more_is_wrong(damaged: Image) -> None:
    damaged.put(damaged.l2, damaged.word(damaged.l2) & ~COPIED)
    damaged.put(damaged.l2 + 80, COPIED | 1 << 40)
    before = bytes(damaged.data)
    assert damaged.check(Repair.LEAKS).corruptions > 1
    assert damaged.data == before


def test_a_full_device_keeps_its_old_structure(damaged: Image) -> None:
    damaged.put(damaged.table, 0)
    before = bytes(damaged.data)
    with pytest.raises(NoSpaceError, match="a new refcount structure takes"):
        damaged.check(Repair.ALL, grows=False)
    assert damaged.data == before


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (COPIED | 1 << 40, "past the end of the file"),
        (COPIED | 0x5200, "not a multiple of the cluster size"),
        (COPIED | 1 << 57, "reserved bits"),
        (schema.COMPRESSED | COPIED | 0x3000, "copied flag"),
    ],
)
def test_a_bad_l2_entry_is_reported_and_kept(damaged: Image, entry: int, words: str) -> None:
    at = damaged.l2 + 88
    damaged.put(at, entry)
    for repair in Repair:
        report = damaged.check(repair)
        assert report.corruptions > 0
        assert words in " ".join(map(str, report.findings))
    assert damaged.word(at) & ~COPIED == entry & ~COPIED
    assert damaged.reads_back()


def test_an_unaligned_entry_that_holds_no_data_becomes_a_plain_zero(damaged: Image) -> None:
    at = damaged.l2 + 88
    damaged.put(at, 0x5200 | schema.ZERO)
    assert damaged.check().corruptions > 0
    assert damaged.check(Repair.ALL).clean
    assert damaged.word(at) == schema.ZERO


def test_nothing_is_written_to_guest_data_that_an_l1_entry_takes_for_a_table(disk: Disk) -> None:
    node = disk(SIZE * 4, cluster_size=4096)
    guest = array("Q", [0x5200 | schema.ZERO] * 512)
    guest.byteswap()
    node.write(0, guest.tobytes())
    node.flush()
    assert isinstance(node.file, MemoryNode)
    image = Image(bytes(node.file.data))
    host = image.word(image.l2) & OFFSET_MASK
    image.put(image.l1 + 8, host | COPIED)
    image.check(Repair.ALL)
    assert image.data[host : host + 4096] == guest.tobytes()


def test_zero_clusters_are_corrupt_in_version_2(disk: Disk) -> None:
    image = Image(sample(disk, compat="0.10"))
    image.put(image.l2 + 88, schema.ZERO)
    assert image.check().corruptions == 1


def test_a_cluster_with_more_references_than_a_count_holds_is_corrupt(disk: Disk) -> None:
    image = Image(sample(disk, refcount_bits=1))
    for index in range(10, 20):
        image.put(image.l2 + 8 * index, image.word(image.l2))
    report = image.check()
    assert report.corruptions == 10
    assert "11 references, more than the 1" in report.findings[0].problem


def test_more_references_than_a_byte_holds_are_counted_exactly(disk: Disk) -> None:
    image = Image(sample(disk))
    cluster = (image.word(image.l2) & OFFSET_MASK) // 4096
    for index in range(6, 250):
        image.put(image.l2 + 8 * index, image.word(image.l2) & ~COPIED)
    image.put(image.l1 + 8, 0)
    for index in range(256, 512):
        image.put(image.l2 + 8 * index, image.word(image.l2) & ~COPIED)
    assert image.check(Repair.ALL).clean
    assert image.count(cluster) == 1 + 244 + 256


@pytest.mark.parametrize("repair", [Repair.LEAKS, Repair.ALL])
def test_a_repair_clears_the_dirty_and_the_corrupt_bit(damaged: Image, repair: Repair) -> None:
    damaged.put(72, int(Incompatible.DIRTY | Incompatible.CORRUPT))
    assert damaged.check(repair).clean
    assert damaged.header.incompatible == 0


def test_the_corrupt_bit_stays_while_something_is_wrong(damaged: Image) -> None:
    damaged.put(72, int(Incompatible.CORRUPT))
    damaged.put(damaged.l2 + 88, COPIED | 1 << 40)
    damaged.check(Repair.ALL)
    assert damaged.header.incompatible == Incompatible.CORRUPT


def test_a_check_writes_nothing_and_a_repair_needs_leave_to_write(damaged: Image) -> None:
    damaged.count(0, 7)
    file = MemoryNode(damaged.data, read_only=True)
    assert not check_image(file, read_header(file), Repair.NONE).clean
    with pytest.raises(ReadOnlyError):
        check_image(file, read_header(file), Repair.ALL)


def test_findings_are_bounded_but_counted(disk: Disk) -> None:
    node = disk(64 << 20, cluster_size=512)
    assert isinstance(node.file, MemoryNode)
    node.write(0, b"x" * (9 << 20))
    node.flush()
    image = Image(bytes(node.file.data))
    for at in range(image.table, image.table + 512 * image.header.fixed.refcount_table_clusters, 8):
        if image.word(at):
            block = image.word(at)
            image.data[block : block + 512] = b"\0\5\0\4" * 128
    report = image.check()
    assert len(report.findings) == MAX_FINDINGS
    assert report.leaks == -(-len(image.data) // 512)


class Recorder(MemoryNode):
    """Remembers every write, and between which flushes it came."""

    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(data, grows=True)
        self.start = bytes(data)
        self.epochs: list[list[tuple[int, bytes]]] = [[]]

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        super()._writev(offset, buffers, fua)
        self.epochs[-1].append((offset, b"".join(buffers)))

    def _flush(self) -> None:
        self.epochs.append([])

    def states(self) -> list[bytes]:
        """Return what a power cut may leave: of the writes since the last flush one alone, or the first few."""
        found, durable = [], MemoryNode(self.start, grows=True)
        for epoch in self.epochs:
            for offset, data in epoch:
                alone = MemoryNode(durable.data, grows=True)
                alone.write(offset, data)
                found.append(bytes(alone.data))
            for offset, data in epoch:
                durable.write(offset, data)
                found.append(bytes(durable.data))
        return found


def hurt(image: Image, rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 5)):
        kind = rng.randrange(5)
        if kind == 0:
            image.count(rng.randrange(12), rng.randrange(4))
        elif kind == 1:
            image.put(image.l2, image.word(image.l2) ^ COPIED)
        elif kind == 2:
            image.put(image.table, rng.choice([0, 0x200, 1 << 40]))
            return
        elif kind == 3:
            image.put(image.l2 + 8 * rng.randrange(40, 60), 0x5200 | schema.ZERO)
        else:
            image.put(image.l1, image.word(image.l1) ^ COPIED)


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_during_a_repair_makes_nothing_worse(damaged: Image, seed: int) -> None:
    hurt(damaged, random.Random(seed))
    before = damaged.check()
    file = Recorder(damaged.data)
    assert check_image(file, read_header(file), Repair.ALL).clean
    for state in file.states():
        image = Image(state)
        report = image.check()
        assert report.corruptions <= before.corruptions
        # Errors are counted in clusters, and a new structure at the end adds some.
        assert before.check_errors or not report.check_errors
        assert image.reads_back()
        assert image.check(Repair.ALL).clean


# -- hostile images ------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=12),
    words=st.lists(st.tuples(st.integers(0, 1 << 13), st.integers(0, (1 << 64) - 1)), max_size=4),
    repair=st.sampled_from(Repair),
)
def test_random_damage_raises_nothing_but_our_errors(
    changes: list[tuple[int, int]], words: list[tuple[int, int]], repair: Repair
) -> None:
    data = bytearray(HOSTILE_BASE)
    for at, value in changes:
        data[at % len(data)] = value
    for at, value in words:
        at = at * 8 % (len(data) - 8)
        data[at : at + 8] = value.to_bytes(8, "big")
    file = MemoryNode(data, grows=True)
    try:
        header = read_header(file)
        for structure in structures(file, header):
            assert structure.fields is not None
        check_image(file, header, repair)
    except BlockkitError:
        pass


def hostile_base() -> bytes:
    from blockkit.formats.qcow2.create import CreateOptions, create

    file = MemoryNode(grows=True)
    create(file, SIZE, CreateOptions(cluster_size=512))
    node = Qcow2Node(file, read_only=False)
    node.write(0, b"y" * 20000)
    node.flush()
    return bytes(file.data)


HOSTILE_BASE = hostile_base()


class Sparse(MemoryNode):
    """A file that ends much later than what it holds."""

    length = 1 << 41

    @property
    def size(self) -> int:
        return self.length


def test_a_file_of_too_many_clusters_is_refused_before_memory_is_taken() -> None:
    file = Sparse(HOSTILE_BASE)
    with pytest.raises(CorruptImageError, match=r"has 4294967296 clusters, more than the 1073741824"):
        check_image(file, read_header(file), Repair.NONE)


def test_a_long_sparse_file_costs_little(damaged: Image) -> None:
    class Long(Sparse):
        length = 1 << 37

    file = Long(damaged.data)
    report = check_image(file, read_header(file), Repair.NONE)
    assert report.clean


def test_tables_that_overlap_without_end_are_given_up(disk: Disk) -> None:
    node = disk(SIZE, cluster_size=4096)
    assert isinstance(node.file, MemoryNode)
    node.flush()
    image = Image(bytes(node.file.data).ljust(1 << 20, b"\0"))
    table = b"".join(
        schema.SnapshotHeader(
            l1_table_offset=4096 * (index % 7 + 8),
            l1_size=(1 << 19) // 8 - 8192,
            id_str_size=0,
            name_size=0,
            date_sec=0,
            date_nsec=0,
            vm_clock_nsec=0,
            vm_state_size=0,
            extra_data_size=16,
        ).build()
        + bytes(16)
        for index in range(200)
    )
    image.put(60, 200, 4)
    image.put(64, 1 << 19)
    image.data[1 << 19 : (1 << 19) + len(table)] = table
    report = image.check(Repair.NONE)
    assert report.check_errors == 1
    assert "they overlap" in " ".join(str(finding) for finding in report.findings if finding.severity is Severity.ERROR)


def test_an_image_that_was_checked_still_reads(damaged: Image) -> None:
    node = Qcow2Node(MemoryNode(damaged.data, grows=True), read_only=False)
    assert node.check(Repair.ALL).clean
    node.write(4096, b"z" * 4096)
    assert node.map(4096, 4096).kind is Kind.DATA
    node.flush()
    assert node.check(Repair.NONE).clean
