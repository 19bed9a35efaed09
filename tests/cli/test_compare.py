"""``blockkit img compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit import create_image, open_image

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

MiB = 1 << 20


def raw(path: Path, size: int, **writes: bytes) -> Path:
    """Make a sparse file; keywords such as ``at_512`` say what it holds."""
    with path.open("wb") as file:
        file.truncate(size)
        for place, data in writes.items():
            file.seek(int(place.removeprefix("at_")))
            file.write(data)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    raw(tmp_path / "zero", 4 * MiB)
    raw(tmp_path / "longer", 5 * MiB)
    raw(tmp_path / "longer, not zero", 5 * MiB, at_4718600=b"x")
    raw(tmp_path / "one", 4 * MiB, at_1048577=b"x")
    raw(tmp_path / "same", 4 * MiB, at_1048577=b"x")
    raw(tmp_path / "other", 4 * MiB, at_1048577=b"x", at_3000000=b"y")
    raw(tmp_path / "last", 4 * MiB, at_4194303=b"x")
    raw(tmp_path / "odd", 1000, at_0=b"x" * 1000)
    raw(tmp_path / "padded", 1024, at_0=b"x" * 1000)
    create_image(tmp_path / "empty.qcow2", "qcow2", 4 * MiB)
    create_image(tmp_path / "one.qcow2", "qcow2", 4 * MiB, options={"cluster_size": 4096})
    with open_image(tmp_path / "one.qcow2", format="qcow2", read_only=False) as node:
        node.write(1048577, b"x")
        node.zero(2 * MiB, MiB)
    create_image(tmp_path / "over.qcow2", "qcow2", 4 * MiB, backing_file="one", backing_format="raw")
    return tmp_path


NAMES = (
    "zero", "longer", "longer, not zero", "one", "same", "other", "last", "odd", "padded",
    "empty.qcow2", "one.qcow2", "over.qcow2",
)  # fmt: skip


@pytest.mark.interop
@pytest.mark.parametrize("first", NAMES)
def test_the_verdict_is_that_of_qemu_img(
    first: str, images: Path, img: Callable, theirs: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    for second in NAMES:
        assert img("compare", first, second) == theirs("compare", first, second), second


@pytest.mark.interop
@pytest.mark.parametrize("second", ["zero", "same", "other", "longer", "over.qcow2"])
def test_a_strict_verdict_is_that_of_qemu_img(
    second: str, images: Path, img: Callable, theirs: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    assert img("compare", "-s", "one", second).code == theirs("compare", "-s", "one", second).code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("zero", "longer"), 0),
        (("-s", "zero", "longer"), 1),
        (("-s", "zero", "empty.qcow2"), 1),
        (("zero", "one"), 1),
        (("zero", "missing"), 2),
        (("-f", "qcow2", "zero", "one"), 2),
        (("zero",), 2),
        (("--bogus", "zero", "one"), 2),
    ],
)
def test_the_exit_code_tells_the_verdict(
    words: tuple[str, ...], code: int, images: Path, img: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    assert img("compare", *words).code == code


def test_quiet_prints_no_verdict(images: Path, img: Callable) -> None:
    result = img("compare", "-q", images / "zero", images / "one")
    assert result == (1, "", "")


def test_a_table_that_cannot_be_read_has_its_own_exit_code(images: Path, img: Callable) -> None:
    path = images / "one.qcow2"
    with path.open("r+b") as file:
        file.seek(40)
        table = int.from_bytes(file.read(8), "big")
        file.seek(table)
        file.write((1 << 63 | 1 << 50).to_bytes(8, "big"))
    assert img("compare", path, images / "one").code == 3


def test_data_that_cannot_be_read_has_its_own_exit_code(images: Path, img: Callable) -> None:
    path = images / "packed.qcow2"
    create_image(path, "qcow2", 4 * MiB)
    with open_image(path, format="qcow2", read_only=False) as node:
        node.write_compressed(0, node.compress(b"x" * 65536))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(5 * 65536)
        file.write(b"\xff" * (size - 5 * 65536))
    assert img("compare", path, images / "one").code == 4


def test_the_lowest_difference_is_told_whatever_thread_finds_it(
    tmp_path: Path, img: Callable, rng: random.Random
) -> None:
    data = bytearray(rng.randbytes(16 * MiB))
    (tmp_path / "a").write_bytes(data)
    for lowest in (15 * MiB, 7 * MiB + 513, 3 * MiB, 5):
        for place in range(lowest, len(data), MiB):
            data[place] ^= 1
        (tmp_path / "b").write_bytes(data)
        assert img("compare", tmp_path / "a", tmp_path / "b").out == (
            f"Content mismatch at offset {lowest // 512 * 512}!\n"
        )


def test_zeros_and_holes_are_not_read(tmp_path: Path, img: Callable) -> None:
    raw(tmp_path / "a", 1 << 40, at_0=b"x")
    create_image(tmp_path / "b", "qcow2", 1 << 40)
    with open_image(tmp_path / "b", format="qcow2", read_only=False) as node:
        node.write(0, b"x")
        node.zero(1 << 39, 1 << 30)
    assert img("compare", tmp_path / "a", tmp_path / "b").code == 0


def test_a_window_is_compared_with_what_it_shows(tmp_path: Path, img: Callable) -> None:
    """The map of a window is that of the window: where the disk below has zeros says nothing of it."""
    disk, part = tmp_path / "disk.qcow2", raw(tmp_path / "part", MiB, at_0=b"x" * 65536)
    create_image(disk, "qcow2", 4 * MiB)
    with open_image(disk, read_only=False) as node:
        node.write(2 * MiB, b"x" * 65536)
    window = f"driver=window,offset={2 * MiB},size={MiB},file.filename={disk}"
    other = f"driver=window,offset={MiB},size={MiB},file.filename={disk}"
    assert img("compare", "--image-opts", window, f"driver=raw,file.filename={part}").code == 0
    assert img("compare", "--image-opts", other, f"driver=raw,file.filename={part}").code == 1
    assert img("compare", "--image-opts", window, other).code == 1
