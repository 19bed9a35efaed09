"""Lines of a map, native, are those that Python makes."""

from __future__ import annotations

import json
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockkit.img import map as img_map
from blockkit.img.map_lines import LONGEST
from blockkit.native.kernels import kernel

pytest.importorskip("llvmlite")

MOST = (1 << 63) - 1
numbers = st.one_of(
    st.integers(0, 1000), st.sampled_from([9, 10, 99, 100, 10**9, 10**18, 10**18 - 1]), st.integers(0, MOST)
)


@settings(max_examples=300)
@given(runs=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=20), told=numbers)
def test_native_lines_are_those_of_python(runs: list[tuple[int, int, int]], told: int) -> None:
    native = kernel("blockkit.img.map_lines", "map_lines", 6, compiled=True)
    assert native is not None
    starts, lengths, places = array("Q"), array("Q"), array("Q")
    at = told
    for gap, length, place in runs:
        if at + gap + length > MOST:
            break
        starts.append(at + gap)
        lengths.append(length)
        places.append(place)
        at += gap + length
    if not starts:
        return
    room = array("B", b"?" * (len(starts) * LONGEST + 64))
    out = room.buffer_info()[0]
    columns = (column.buffer_info()[0] for column in (starts, lengths, places))
    end = native(*columns, len(starts), told, out) - out
    text = room.tobytes()
    assert text[: end - 2].decode() == img_map._plain_lines(told, starts, lengths, places)
    assert text[end - 2 : end] == b",\n"
    # Behind the room there are others' bytes.
    assert text[len(starts) * LONGEST + 8 :] == b"?" * 56
    json.loads(f"[{text[: end - 2].decode()}]")


def test_the_longest_lines_fit() -> None:
    native = kernel("blockkit.img.map_lines", "map_lines", 6, compiled=True)
    assert native is not None
    most = (1 << 64) - 1
    columns = [array("Q", [value]) for value in (most - 10**18, 10**18, most)]
    room = array("B", bytes(LONGEST + 8))
    out = room.buffer_info()[0]
    end = native(*(column.buffer_info()[0] for column in columns), 1, 10**17, out) - out
    assert LONGEST - 8 <= end <= LONGEST
    assert f'"offset": {most}'.encode() in room.tobytes()
