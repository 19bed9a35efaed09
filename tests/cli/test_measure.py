"""``blockkit img measure``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit import create_image, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIONS = (
    "",
    "-o cluster_size=512",
    "-o cluster_size=2M",
    "-o compat=0.10",
    "-o refcount_bits=1,cluster_size=4k",
    "-o preallocation=metadata",
    "-o preallocation=full",
    "-o backing_file=b,backing_fmt=raw",
)


@pytest.mark.interop
@pytest.mark.parametrize("output", ["human", "json"])
@pytest.mark.parametrize("options", OPTIONS[:4])
def test_the_measure_of_an_image_is_that_of_qemu_img(
    options: str, output: str, sample: Path, img: Callable, theirs: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sample.parent)
    words = ("measure", "-O", "qcow2", *options.split(), "--output", output, sample.name)
    assert img(*words) == theirs(*words)


@pytest.mark.interop
@pytest.mark.parametrize("target", ["qcow2", "raw"])
@pytest.mark.parametrize("size", ["0", "1", "1000", "1M", "10G", "123456789012"])
def test_the_measure_of_a_size_is_that_of_qemu_img(size: str, target: str, img: Callable, theirs: Callable) -> None:
    for options in OPTIONS if target == "qcow2" else ("",):
        words = ("measure", "-O", target, *options.split(), "--size", size)
        assert img(*words) == theirs(*words), options


@pytest.mark.parametrize(
    "words",
    [(), ("--size", "1M", "a"), ("-l", "one", "a"), ("-O", "nope", "--size", "1"), ("-o", "size=1", "--size", "1")],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], img: Callable) -> None:
    result = img("measure", *words)
    assert result.code == 1
    assert result.err.count("\n") == 1


def test_a_window_is_measured_by_what_it_shows(tmp_path: Path, img: Callable) -> None:
    disk = tmp_path / "disk.qcow2"
    create_image(disk, "qcow2", 4 << 20)
    with open_image(disk, read_only=False) as node:
        node.write(2 << 20, b"x" * (1 << 20))
    empty, full = (
        img(
            "measure", "-O", "qcow2", "--output", "json",
            "--image-opts", f"driver=window,offset={start},size={1 << 20},file.filename={disk}",
        ).json
        for start in (0, 2 << 20)
    )  # fmt: skip
    assert full["required"] - empty["required"] == 1 << 20
    assert "bitmaps" not in full
