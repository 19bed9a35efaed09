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
    assert (result.code, result.out) == (1, "")
    assert "'nothing of the kind'" in result.err


def test_a_raw_image_has_no_structures(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(512))
    result = img("inspect", path)
    assert result.code == 1
    assert "raw" in result.err


UNSUPPORTED = {
    "extended L2": (("-o", "extended_l2=on,cluster_size=128k"), "extended L2 entries"),
    "data file": (("-o", "data_file=x.raw,data_file_raw=on"), "external data file"),
    "encryption": (
        ("--object", "secret,id=s,data=abc", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"),
        "LUKS",
    ),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_an_image_that_cannot_be_opened_is_shown_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, img: Callable, qemu_img: Callable[..., str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options, reason = UNSUPPORTED[kind]
    qemu_img("create", "-f", "qcow2", *options, "a.qcow2", "4M")
    assert img("info", "a.qcow2").code == 1
    for words in (
        ("a.qcow2",),
        ("-f", "qcow2", "a.qcow2"),
        ("--image-opts", "driver=qcow2,file.filename=a.qcow2"),
        ("--output", "json", "a.qcow2"),
    ):
        result = img("inspect", *words)
        assert result.code == 0
        [line] = result.err.splitlines()
        assert line.startswith("blockkit: warning: a.qcow2: qcow2 header at 0x")
        assert reason in line
        for name in ("header", "feature name", "refcount table", "refcount block"):
            assert f"qcow2 {name}" in result.out
    assert all(set(one) == {"name", "offset", "size", "fields"} for one in result.json)


def test_every_feature_that_keeps_an_image_closed_is_named(image: Path, img: Callable) -> None:
    data = bytearray(image.read_bytes())
    data[72:80] = (1 << 40 | 1 << 2).to_bytes(8, "big")
    data[32:36] = (1).to_bytes(4, "big")
    image.write_bytes(data)
    result = img("inspect", image)
    assert result.code == 0
    [line] = result.err.splitlines()
    assert "external data file, unknown bit 40; encryption not supported: AES" in line
    assert "qcow2 refcount table" in result.out


def test_an_image_that_cannot_be_decoded_ends_in_one_line(image: Path, img: Callable) -> None:
    data = bytearray(image.read_bytes())
    data[72:80] = (1 << 4).to_bytes(8, "big")
    for offset, value in ((4, 4), (20, 40), (36, 2**32 - 1), (96, 2**31), (100, 7)):
        image.write_bytes(data[:offset] + value.to_bytes(4, "big") + data[offset + 4 :])
        result = img("inspect", "-f", "qcow2", image)
        assert (result.code, result.out) == (1, "")
        assert len(result.err.splitlines()) == 1


def test_a_format_that_is_refused_and_has_no_way_to_be_inspected_stays_refused(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.vmdk"
    path.write_bytes(b"KDMV" + bytes(508))
    result = img("inspect", path)
    assert result.code == 1
    assert "vmdk" in result.err
    assert len(result.err.splitlines()) == 1
