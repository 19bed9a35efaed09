"""The columns of a table, in Python and native, are its extents."""

from __future__ import annotations

import itertools
from array import array
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blockkit
from blockkit.block.node import Kind
from blockkit.errors import CorruptImageError
from blockkit.formats.qcow2.extents import NativeColumns, table_columns, table_extents
from blockkit.formats.qcow2.schema import COMPRESSED, COPIED, OFFSET_MASK, ZERO
from blockkit.img.map import map_json
from blockkit.native.kernels import kernel
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BITS = 12
SIZE = 1 << BITS
ENTRIES = SIZE // 8
BASE = 7 * ENTRIES << BITS
SPECIAL = COMPRESSED | ZERO


@pytest.fixture(scope="module")
def native() -> NativeColumns:
    pytest.importorskip("llvmlite")
    function = kernel("blockkit.formats.qcow2.columns", "l2_columns", 6, compiled=True)
    assert function is not None
    return NativeColumns(function)


@st.composite
def tables(draw: st.DrawFn, *, odd: bool) -> array[int]:
    """Tables of runs that follow each other here and there, with or without COPIED; odd ones have another entry."""
    entries = array("Q", bytes(SIZE))
    index = 0
    host = draw(st.integers(1, 1 << 40)) * SIZE
    for gap, run, jump, mark in draw(
        st.lists(
            st.tuples(st.integers(0, 200), st.integers(1, 40), st.sampled_from([0, 0, 1, 3]), st.booleans()),
            max_size=12,
        )
    ):
        index += gap
        host += jump * SIZE
        for at in range(index, min(index + run, ENTRIES)):
            entries[at] = host | (COPIED if mark else 0)
            host += SIZE
        index += run
    if odd:
        at = draw(st.integers(0, ENTRIES - 1))
        entries[at] = draw(
            st.sampled_from([COPIED, ZERO, COMPRESSED | 5, 1 << 20 | ZERO, SIZE | 512, 1 << 9, OFFSET_MASK, 2])
        )
    return entries


def parts(entries: array[int], start: int, end: int, native: NativeColumns | None) -> Any:
    found = table_columns(entries, BASE, start, end, cluster_bits=BITS, special=SPECIAL, native=native)
    return None if found is None else list(zip(*found, strict=True))


def by_extents(entries: array[int], start: int, end: int) -> Any:
    """Return the same from extents; None where there is anything but data and nothing."""
    node = MemoryNode(SIZE)
    try:
        extents = list(
            table_extents(
                entries, BASE, start, end, cluster_bits=BITS, special=SPECIAL, data=node, node=node, table_offset=0
            )
        )
    except CorruptImageError:
        return None
    if {extent.kind for extent in extents} - {Kind.DATA, Kind.UNALLOCATED}:
        return None
    return [(extent.offset, extent.length, extent.target) for extent in extents if extent.kind is Kind.DATA]


@settings(max_examples=300)
@given(data=st.data(), odd=st.booleans())
def test_columns_are_the_extents(data: st.DataObject, odd: bool, native: NativeColumns) -> None:
    entries = data.draw(tables(odd=odd))
    whole = ENTRIES << BITS
    start = data.draw(st.integers(0, whole - 1))
    end = data.draw(st.integers(start + 1, whole))
    for low, high in ((0, whole), (start, end)):
        expected = by_extents(entries, BASE + low, BASE + high)
        plain, fast = (parts(entries, BASE + low, BASE + high, each) for each in (None, native))
        assert plain == fast
        if plain is None:
            # Entries that say nothing in an odd way are left to the general way too.
            part = entries[low >> BITS : (high - 1 >> BITS) + 1]
            assert expected is None or COPIED in part or any(entry and not entry & OFFSET_MASK for entry in part)
        else:
            assert plain == expected


def test_many_threads_use_the_native_way(native: NativeColumns) -> None:
    from concurrent.futures import ThreadPoolExecutor

    made = [array("Q", [0] * number + [COPIED | SIZE * (number + 1)] * 1 + [0] * 3) for number in range(200)]

    def one(number: int) -> bool:
        found = native.columns(made[number], 0, SIZE, SPECIAL | OFFSET_MASK & SIZE - 1)
        assert found is not None
        return [list(each) for each in found] == [[number * SIZE], [SIZE], [SIZE * (number + 1)]]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, itertools.chain.from_iterable([range(200)] * 20)))


@pytest.mark.interop("qemu-img")
@pytest.mark.parametrize("turned_off", [False, True])
def test_a_disk_of_many_tables_is_mapped_as_by_the_peer(
    tmp_path: Path, qemu_img: Callable[..., str], monkeypatch: pytest.MonkeyPatch, turned_off: bool
) -> None:
    """200 tables of 64 entries: the native way is compiled for so many."""
    path = tmp_path / "many.qcow2"
    blockkit.create_image(path, "qcow2", 200 * 64 * 512, options={"cluster_size": 512})
    with blockkit.open_image(path, format="qcow2", read_only=False) as disk:
        at = 0
        for number in itertools.count():
            length = (1 + number * 7 % 5) * 512
            if at + length > disk.size:
                break
            disk.write(at, bytes([number % 255 + 1]) * length)
            at += length + number * 11 % 4 * 512
    # A snapshot shares clusters, and what is written again is not shared any more: COPIED here and there.
    qemu_img("snapshot", "-c", "then", str(path))
    with blockkit.open_image(path, format="qcow2", read_only=False) as disk:
        for at in range(0, disk.size - 512, 40 * 512):
            disk.write(at, b"n" * 512)
    theirs = qemu_img("map", "--output", "json", "-f", "qcow2", str(path))
    if turned_off:
        monkeypatch.setenv("BLOCKKIT_NATIVE", "0")
    monkeypatch.setattr("blockkit.native.kernels._loaded", {})
    with blockkit.open_image(path, format="qcow2") as disk:
        ours = "".join(map_json(disk))
        assert (vars(disk)["_native_columns"] is None) is (turned_off or find_spec("llvmlite") is None)
    assert ours == theirs
    assert ours.count("\n") > 3000
