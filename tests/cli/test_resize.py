"""``blockkit img resize``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blockkit import create_image, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MiB = 1 << 20


@pytest.fixture(params=["raw", "qcow2"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    path = tmp_path / "a"
    create_image(path, request.param, 4 * MiB)
    with open_image(path, format=request.param, read_only=False) as node:
        node.write(0, b"x" * node.size)
    return request.param, path


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (("8M",), 8),
        (("+1M",), 5),
        (("--shrink", "3M"), 3),
        (("--shrink", "-1M"), 3),
        (("--shrink", "--", "-1M"), 3),
        (("4M",), 4),
        (("--preallocation", "falloc", "+2M"), 6),
        (("--preallocation=full", "6M"), 6),
    ],
)
def test_a_disk_grows_and_shrinks(
    words: tuple[str, ...], size: int, image: tuple[str, Path], img: Callable, qemu_img: Callable
) -> None:
    driver, path = image
    # The image comes first, as the size is the last word.
    before = [word for word in words[:-1] if word != "--"]
    after = words[-2:] if "--" in words else words[-1:]
    result = img("resize", "-f", driver, *before, path, *after)
    assert result == (0, "Image resized.\n", "")
    with open_image(path, format=driver) as node:
        kept = min(node.size, 4 * MiB)
        assert node.size == size * MiB
        assert node.read(0, kept) == b"x" * kept
        assert node.read(kept, node.size - kept) == bytes(node.size - kept)
    if driver == "qcow2":
        qemu_img("check", path)


@pytest.mark.parametrize(
    "words", [("3M",), ("-1M",), ("-100M",), ("lots",), ("",), ("--preallocation", "full", "4M"), ("--shrink", "0")]
)
def test_nothing_is_lost_without_consent(words: tuple[str, ...], image: tuple[str, Path], img: Callable) -> None:
    driver, path = image
    before = path.read_bytes()
    result = img("resize", "-f", driver, *words[:-1], path, words[-1])
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert path.read_bytes() == before


def test_a_guessed_raw_format_is_warned_about(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(MiB))
    result = img("resize", "-q", path, "2M")
    assert (result.code, result.out) == (0, "")
    assert "-f raw" in result.err
    assert path.stat().st_size == 2 * MiB
