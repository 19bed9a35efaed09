"""The benchmark's data is what its description says; the benchmark itself is not run here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench"


def run(*words: object) -> str:
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=True).stdout


def test_mixed_data_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(BENCH / "make_data.py", tmp_path / name, "--scale", "1", "mixed.raw")
    data = (tmp_path / "one" / "mixed.raw").read_bytes()
    assert len(data) == 1 << 20
    assert data == (tmp_path / "two" / "mixed.raw").read_bytes()
    assert any(data)


def test_data_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mixed.raw").write_bytes(b"here")
    run(BENCH / "make_data.py", tmp_path, "--scale", "1", "mixed.raw")
    assert (tmp_path / "mixed.raw").read_bytes() == b"here"
    assert os.listdir(tmp_path) == ["mixed.raw"]


def test_real_files_fill_their_image_and_no_more(tmp_path: Path) -> None:
    run(BENCH / "make_data.py", tmp_path, "--scale", "10", "real.raw")
    assert 0 < (tmp_path / "real.raw").stat().st_size <= 2 << 20


@pytest.mark.interop
def test_scattered_and_allocated_images_are_sound(tmp_path: Path, qemu_img) -> None:
    run(BENCH / "make_data.py", tmp_path, "--scale", "1", "scattered.qcow2", "allocated.qcow2")
    assert "24/1638400" in qemu_img("check", tmp_path / "scattered.qcow2")
    assert "100.00% allocated" in qemu_img("check", tmp_path / "allocated.qcow2")


def test_the_rows_have_names_of_their_own() -> None:
    names = run(BENCH / "bench.py", "--list").split()
    assert len(names) == len(set(names)) > 10
