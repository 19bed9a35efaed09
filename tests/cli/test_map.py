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
    assert ours == expected


@pytest.mark.interop
def test_nothing_of_a_disk_is_mapped_as_qemu_img_does(tmp_path: Path, img: Callable, theirs: Callable) -> None:
    create_image(tmp_path / "a.qcow2", "qcow2", 1 << 20)
    asked = ("map", "--output", "json", "--start-offset", "4096", "--max-length", "0", tmp_path / "a.qcow2")
    assert img(*asked) == theirs(*asked)


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
    assert table.code == 1
    assert "0x10000" in table.err


@pytest.mark.interop
@pytest.mark.parametrize(
    "words", [(), ("--output", "json"), ("--max-length", "5"), ("--output=json", "--max-length=5")]
)
@pytest.mark.parametrize("start", ["1M", "1025k", "1E"])
def test_behind_the_end_there_is_nothing_as_qemu_img_tells(
    words: tuple[str, ...], start: str, tmp_path: Path, img: Callable, theirs: Callable
) -> None:
    for kind in ("raw", "qcow2"):
        path = tmp_path / f"a.{kind}"
        create_image(path, kind, 1 << 20)
        asked = ("map", "-f", kind, "--start-offset", start, *words, path)
        assert img(*asked) == theirs(*asked)


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


@pytest.fixture
def striped(tmp_path: Path) -> Path:
    """A qcow2 image of 1 MiB: data in clusters 1 and 9, zeros in 3 and 4, of which 4 keeps its place."""
    path = tmp_path / "striped.qcow2"
    create_image(path, "qcow2", 1 << 20)
    with open_image(path, read_only=False) as node:
        for cluster in (1, 4, 9):
            node.write(cluster << 16, b"x" * 65536)
        node.zero(3 << 16, 65536)
        node.zero(4 << 16, 65536, unmap=False)
    return path


def window(path: Path, start: int, size: int, form: str = "qcow2") -> str:
    return f"driver=window,offset={start},size={size},file.driver={form},file.file.filename={path}"


def test_a_window_is_mapped_where_it_is(striped: Path, img: Callable) -> None:
    start, size = 3 << 15, 12 << 16
    whole = img("map", "--output", "json", striped).json
    clipped = []
    for run in whole:
        first, end = max(run["start"], start), min(run["start"] + run["length"], start + size)
        if first < end:
            place = {"offset": run["offset"] + first - run["start"]} if "offset" in run else {}
            clipped.append(run | {"start": first - start, "length": end - first} | place)
    seen = img("map", "--output", "json", "--image-opts", window(striped, start, size))
    assert seen.json == clipped
    assert {run["zero"] for run in clipped if run["present"] and "offset" in run} == {True, False}


def test_a_window_of_a_sparse_file_has_its_holes(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.truncate(4 << 20)
        file.seek(1 << 20)
        file.write(b"x" * 65536)
    seen = img("map", "--output", "json", "--image-opts", window(path, 1 << 19, 2 << 20, "raw")).json
    told = [(run["start"], run["length"], run["zero"], run["offset"]) for run in seen]
    assert told == [
        (0, 1 << 19, True, 1 << 19),
        (1 << 19, 65536, False, 1 << 20),
        ((1 << 19) + 65536, (2 << 20) - (1 << 19) - 65536, True, (1 << 20) + 65536),
    ]


@pytest.mark.interop
@pytest.mark.parametrize("driver", ["throttle", "copy_on_read", "readonly", "faults"])
def test_a_filter_that_moves_nothing_is_mapped_as_what_is_below(driver: str, sample: Path, img: Callable) -> None:
    form = "raw" if sample.suffix == ".raw" else "qcow2"
    below = f"file.driver={form},file.file.filename={sample}"
    seen = img("map", "--output", "json", "--image-opts", f"driver={driver},{below}")
    assert seen.json == img("map", "--output", "json", "-f", form, sample).json


@pytest.mark.interop
@pytest.mark.parametrize(
    "nodes",
    [
        '{"driver":"raw","offset":196608,"size":2097152,"file":FILE}',
        '{"driver":"raw","offset":65536,"size":2097152,"file":{"driver":"raw","offset":131072,"file":FILE}}',
    ],
)
def test_an_offset_into_a_sparse_file_is_mapped_as_qemu_img_does(
    nodes: str, tmp_path: Path, img: Callable, theirs: Callable
) -> None:
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.truncate(4 << 20)
        file.seek(1 << 20)
        file.write(b"x" * 65536)
    name = "json:" + nodes.replace("FILE", f'{{"driver":"file","filename":"{path}"}}')
    asked = ("map", "--output", "json", name)
    assert img(*asked) == theirs(*asked)
