"""``blockkit img check``."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from blockkit import create_image, open_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.qcow2"
    create_image(path, "qcow2", 4 << 20)
    with open_image(path, format="qcow2", read_only=False) as node:
        node.write(0, b"x" * 200_000)
    return path


def poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def entry(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        file.seek(offset)
        return int.from_bytes(file.read(8), "big") & 0x00FFFFFFFFFFFE00


def leak(path: Path) -> None:
    """Count a cluster at the end of the file that nobody uses."""
    block = entry(path, entry(path, 48))
    cluster = -(-path.stat().st_size // 65536)
    with path.open("ab") as file:
        file.truncate((cluster + 1) * 65536)
    poke(path, block + 2 * cluster, b"\0\1")


def corrupt(path: Path) -> None:
    """Make the first L2 entry point behind the end of the file."""
    table = entry(path, entry(path, 40))
    poke(path, table, (1 << 63 | 1 << 40).to_bytes(8, "big"))


@pytest.mark.interop
@pytest.mark.parametrize("words", [(), ("--output", "json"), ("-q",), ("-q", "--output=json")])
def test_the_check_of_sound_images_is_what_qemu_img_says(
    words: tuple[str, ...], sample: Path, img: Callable, theirs: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sample.parent)
    ours, expected = img("check", *words, sample.name), theirs("check", *words, sample.name)
    assert (ours.code, ours.out) == (expected.code, expected.out)


@pytest.mark.interop
@pytest.mark.parametrize("damage", [leak, corrupt])
@pytest.mark.parametrize("repair", [(), ("-r", "leaks"), ("-r", "all")])
@pytest.mark.parametrize("words", [(), ("--output", "json")])
def test_damage_is_judged_and_repaired_as_qemu_img_does(
    damage: Callable, repair: tuple[str, ...], words: tuple[str, ...], image: Path, img: Callable, theirs: Callable
) -> None:
    damage(image)
    saved = image.with_suffix(".saved")
    shutil.copy(image, saved)
    expected = theirs("check", *words, *repair, image)
    shutil.copy(saved, image)
    ours = img("check", *words, *repair, image)
    assert ours.code == expected.code
    # qemu-img prints each finding where it prints the summary; ours go to standard error.
    wanted = expected.json if words else [line for line in expected.out.splitlines() if "=" not in line or "%" in line]
    assert (ours.json if words else [x for x in ours.out.splitlines() if "=" not in x or "%" in x]) == wanted


@pytest.mark.parametrize(("damage", "code"), [(leak, 3), (corrupt, 2)])
def test_the_exit_code_tells_what_is_wrong(damage: Callable, code: int, image: Path, img: Callable) -> None:
    assert img("check", image).code == 0
    damage(image)
    result = img("check", image)
    assert result.code == code
    assert result.err


def test_a_raw_image_cannot_be_checked(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(512))
    assert img("check", path).code == 63


@pytest.mark.parametrize("words", [("--bogus",), ("-r", "some"), ()])
def test_a_wrong_command_line_does_not_look_like_a_finding(words: tuple[str, ...], img: Callable) -> None:
    assert img("check", *words, "/no/such/file").code == 1


def test_an_image_that_is_none_does_not_look_like_leaks(tmp_path: Path, img: Callable) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(b"QFI\xfb" + bytes(600))
    assert img("check", "-f", "qcow2", path).code == 1


@pytest.mark.interop
@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("repair", [(), ("-r", "leaks"), ("-r", "all")])
def test_marked_images_are_checked_and_unmarked_as_by_qemu_img(
    bits: int, repair: tuple[str, ...], image: Path, img: Callable, theirs: Callable
) -> None:
    results = []
    for run in (theirs, img):
        poke(image, 79, bytes([bits]))
        result = run("check", *repair, image)
        results.append((result.code, result.out, image.read_bytes()[79]))
    assert results[0] == results[1]
