"""Sizes as people write them."""

from __future__ import annotations

import pytest

from blockkit.errors import OptionError
from blockkit.units import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1.0", 1), ("1.00b", 1), ("1.5k", 1536), ("1.1k", 1126), ("0.1G", 107374182), ("1.9T", 2089072092774)],
)
def test_a_fraction_of_a_unit_is_rounded_down_to_bytes_as_qemu_does(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["\u0661M", "1\u212a", "\u0661", "0x\u0661"])
def test_only_ascii_is_a_size(text: str) -> None:
    with pytest.raises(OptionError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1.5", "0.5", "1.5b", "1.5B"])
def test_a_fraction_of_a_byte_is_no_size(text: str) -> None:
    with pytest.raises(OptionError, match="not a whole number of bytes"):
        parse_size(text)


def test_a_fraction_may_have_its_suffix_from_elsewhere() -> None:
    assert parse_size("1.5", default_suffix="M") == 3 << 19
