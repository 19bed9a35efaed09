"""Zeros are found wherever they are, as looking at every byte would find them."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from blockkit.block.zeros import is_zero, zero_fill, zero_grains


@st.composite
def _areas(draw: st.DrawFn) -> tuple[bytes, int]:
    grain = draw(st.sampled_from((1, 512, 700, 4096, 12288, 20480, 65536)))
    area = bytearray(draw(st.integers(0, 40 * grain + 1)))
    if len(area) > grain and draw(st.booleans()):
        # Anywhere in a grain, as far as its last byte.
        area[min(draw(st.integers(0, len(area) // grain)) * grain + draw(st.integers(0, grain)), len(area)) - 1] = 1
    for _ in range(draw(st.integers(0, 3))):
        if area:
            area[draw(st.integers(0, len(area) - 1))] = draw(st.integers(0, 255))
    return bytes(area), grain


@settings(max_examples=1000)
@given(_areas())
@example((bytes(81_919) + b"x" + bytes(10_000), 12288))
@example((bytes(102_399) + b"x" + bytes(10_000), 20480))
def test_zero_grains_are_counted_up_to_the_first_that_is_not(case: tuple[bytes, int]) -> None:
    area, grain = case
    expected = 0
    while expected * grain < len(area) and not any(area[expected * grain : (expected + 1) * grain]):
        expected += 1
    assert zero_grains(memoryview(area), grain) == expected
    assert is_zero(memoryview(area)) == (not any(area))


@given(st.integers(0, 200_000), st.integers(0, 1000))
def test_filling_reaches_every_byte_and_no_other(length: int, start: int) -> None:
    area = bytearray(b"\xff" * (start + length + 1))
    zero_fill(memoryview(area)[start : start + length])
    assert area == b"\xff" * start + bytes(length) + b"\xff"
