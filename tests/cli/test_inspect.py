"""``blockkit img inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit import create_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.qcow2"
    create_image(path, "qcow2", 1 << 30, options={"cluster_size": 4096})
    return path


def test_fields_of_the_header_are_where_they_lie(image: Path, img: Callable) -> None:
    [header] = img("inspect", "--output", "json", image, "qcow2 header").json[:1]
    data = image.read_bytes()
    assert header["name"] == "qcow2 header"
    for field in header["fields"]:
        stored = data[field["offset"] : field["offset"] + field["size"]]
        if isinstance(field["value"], int):
            assert int.from_bytes(stored, "big") == field["value"], field
    fields = {field["name"]: field for field in header["fields"]}
    assert fields["size"]["value"] == 1 << 30
    assert fields["cluster_bits"]["value"] == 12
    assert "bytes" in fields["size"]["meaning"]


def test_the_table_has_a_title_and_a_row_for_each_field(image: Path, img: Callable) -> None:
    lines = img("inspect", image).out.splitlines()
    assert lines[0].startswith("qcow2 header at 0x0, ")
    assert lines[1].split()[:4] == ["0x0000000000", "4", "magic", "514649fb"]
    assert any("1073741824 (0x40000000)" in line for line in lines)


def test_structures_are_chosen_by_a_word_of_their_name(image: Path, img: Callable) -> None:
    everything = {one["name"] for one in img("inspect", "--output", "json", image).json}
    chosen = {one["name"] for one in img("inspect", "--output", "json", image, "feature").json}
    assert chosen == {name for name in everything if "feature" in name}


@pytest.mark.parametrize("output", ["human", "json"])
def test_a_word_that_no_structure_has_is_an_error(image: Path, img: Callable, output: str) -> None:
    result = img("inspect", "--output", output, image, "nothing of the kind")
    assert (result.code, result.out) == (2, "")
    assert "'nothing of the kind'" in result.err


def test_a_raw_image_has_no_structures(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(512))
    result = img("inspect", path)
    assert result.code == 1
    assert "raw" in result.err
