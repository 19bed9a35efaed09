"""Geometry against plain arithmetic and the specification's own numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockkit.formats.qcow2.counts import decode_counts, encode_counts, typecode
from blockkit.formats.qcow2.geometry import Geometry, host_offset
from blockkit.formats.qcow2.overlap import MetadataMap

CLUSTER_BITS = st.integers(9, 21)
ORDERS = st.integers(0, 6)
SIZES = st.integers(0, 1 << 62)


@given(CLUSTER_BITS, ORDERS, SIZES)
def test_counts_of_things_follow_from_division(bits: int, order: int, size: int) -> None:
    geometry, cluster = Geometry(bits, order), 2**bits
    assert geometry.cluster_size == cluster
    assert geometry.l2_entries == cluster // 8 == 2**geometry.l2_bits
    assert 2**geometry.l2_span_bits == cluster // 8 * cluster
    assert geometry.refcount_bits == 2**order
    assert geometry.refcount_max == 2 ** (2**order) - 1
    assert geometry.refcount_block_entries == cluster * 8 // 2**order
    assert geometry.clusters(size) == size // cluster + (size % cluster != 0)
    span = cluster * cluster // 8
    assert geometry.l1_entries(size) == size // span + (size % span != 0)
    assert geometry.aligned(size) == geometry.clusters(size) * cluster


@given(CLUSTER_BITS)
def test_extended_entries_take_two_words(bits: int) -> None:
    geometry = Geometry(bits, 4, extended_l2=True)
    assert (geometry.l2_words, geometry.l2_entries) == (2, 2**bits // 16)


@pytest.mark.parametrize(
    ("entry", "offset", "available"),
    [(0x4000000000060000, 0x60000, 512), (0x400000000006004F, 0x6004F, 433), (0x4040000000060000, 0x60000, 1024)],
)
def test_descriptors_of_64_kib_clusters_split_at_bit_54(entry: int, offset: int, available: int) -> None:
    geometry = Geometry(16)
    assert geometry.compressed_range(entry) == (offset, available)
    assert geometry.compressed_entry(offset, available) == entry & ~(1 << 62)


@given(CLUSTER_BITS, st.integers(0, 2**62 - 1))
def test_a_descriptor_is_read_as_the_specification_says(bits: int, entry: int) -> None:
    x = 62 - (bits - 8)
    offset, available = Geometry(bits).compressed_range(entry | 1 << 62)
    assert offset == entry % 2**x
    assert available == (entry // 2**x + 1) * 512 - offset % 512


@given(CLUSTER_BITS, st.data())
def test_a_descriptor_covers_what_it_was_made_for_and_not_a_sector_more(bits: int, data: st.DataObject) -> None:
    geometry = Geometry(bits)
    offset = data.draw(st.integers(0, 2 ** min(55, 62 - (bits - 8)) - 1 - 2**22))
    length = data.draw(st.integers(1, geometry.cluster_size))
    entry = geometry.compressed_entry(offset, length)
    assert 0 <= entry < 1 << 62
    assert geometry.compressed_range(entry)[0] == offset
    assert length <= geometry.compressed_range(entry)[1] < length + 512
    last = (offset + length - 1) // geometry.cluster_size
    assert list(geometry.compressed_clusters(entry)) == list(range(offset // geometry.cluster_size, last + 1))


@given(st.integers(0, 2**64 - 1))
def test_an_offset_is_bits_9_to_55(entry: int) -> None:
    assert host_offset(entry) == entry // 512 % 2**47 * 512


def naive_counts(data: bytes, order: int) -> list[int]:
    width = 2**order
    if width >= 8:
        return [int.from_bytes(data[i : i + width // 8], "big") for i in range(0, len(data), width // 8)]
    return [byte // 2**shift % 2**width for byte in data for shift in range(0, 8, width)]


@given(ORDERS, st.integers(0, 64).flatmap(lambda n: st.binary(min_size=n * 8, max_size=n * 8)))
def test_counts_of_every_width_are_unpacked_and_packed(order: int, data: bytes) -> None:
    counts = decode_counts(data, order)
    assert list(counts) == naive_counts(data, order)
    assert counts.typecode == typecode(order)
    before = counts[:]
    assert encode_counts(counts, order) == data
    assert counts == before


RUNS = st.tuples(st.booleans(), st.integers(4000, 4200) | st.integers(0, 3 * 4096), st.integers(1, 5000))


@given(st.lists(RUNS, max_size=8), st.lists(st.tuples(st.integers(0, 18000), st.integers(1, 9000)), max_size=8))
def test_the_metadata_map_is_a_set(runs: list[tuple[bool, int, int]], questions: list[tuple[int, int]]) -> None:
    found, model = MetadataMap(), set[int]()
    for add, first, count in runs:
        (found.add if add else found.remove)(first, count)
        (model.update if add else model.difference_update)(range(first, first + count))
    for first, count in questions:
        assert found.first_in(first, count) == min(model & set(range(first, first + count)), default=None)
        assert (first in found) == (first in model)
