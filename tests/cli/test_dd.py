"""``blockkit img dd``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

OPERANDS = (
    "",
    "bs=1000",
    "bs=1000 count=3",
    "bs=1000 count=3 skip=98",
    "bs=1000 count=99 skip=98",
    "bs=1M",
    "bs=1M skip=1",
    "bs=64k skip=1 count=20",
    "count=0",
    "bs=7 skip=3",
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> Path:
    monkeypatch.chdir(tmp_path)
    with open("odd.raw", "wb") as file:
        file.write(rng.randbytes(50_000))
        file.seek(80_000)
        file.write(rng.randbytes(20_001))
    return tmp_path


@pytest.mark.interop
@pytest.mark.parametrize("operands", OPERANDS)
def test_the_copy_is_that_of_qemu_img(
    operands: str, directory: Path, samples: dict[str, Path], img: Callable, theirs: Callable
) -> None:
    for source in (directory / "odd.raw", samples["chain of three"]):
        ours = img("dd", f"if={source}", "of=ours.raw", *operands.split())
        expected = theirs("dd", f"if={source}", "of=theirs.raw", *operands.split())
        assert ours.code == expected.code == 0
        assert (directory / "ours.raw").read_bytes() == (directory / "theirs.raw").read_bytes()


def test_another_format_can_be_made(directory: Path, img: Callable, qemu_img: Callable) -> None:
    assert img("dd", "-O", "qcow2", "-o", "cluster_size=4k", "if=odd.raw", "of=a.qcow2", "bs=1M").code == 0
    qemu_img("check", "a.qcow2")
    qemu_img("compare", "-f", "raw", "-F", "qcow2", "odd.raw", "a.qcow2")


@pytest.mark.parametrize(
    "operands",
    ["", "if=odd.raw", "of=a", "if=odd.raw of=a seek=1", "if=odd.raw of=a bs=0", "if=odd.raw of=a bs=4G",
     "if=odd.raw of=a count=x", "if=odd.raw of=odd.raw", "if=odd.raw of=./odd.raw", "odd.raw a"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(operands: str, directory: Path, img: Callable) -> None:
    before = (directory / "odd.raw").read_bytes()
    result = img("dd", *operands.split())
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert (directory / "odd.raw").read_bytes() == before
    assert not (directory / "a").exists()


def test_a_failure_leaves_no_target(directory: Path, img: Callable) -> None:
    assert img("dd", "if=missing", "of=a").code == 1
    assert not (directory / "a").exists()


def test_a_target_that_existed_is_told_to_be_unfinished(directory: Path, img: Callable) -> None:
    (directory / "old").symlink_to("elsewhere")
    rules = '[{"operation": "read", "start": 4096, "end": 8192}]'
    source = f'json:{{"driver": "raw", "file": {{"driver": "faults", "rules": {rules}, "file.filename": "odd.raw"}}}}'
    result = img("dd", f"if={source}", "of=old")
    assert result.code == 1
    assert result.err.endswith("; old was overwritten and is unfinished\n")
    assert (directory / "old").is_symlink()
