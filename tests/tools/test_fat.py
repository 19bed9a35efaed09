"""The demo's file system is one that other programs accept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FAT = Path(__file__).resolve().parents[2] / "tools" / "fat.py"
#: Smallest, around the size where the sector count leaves 16 bits, and largest.
SIZES_MIB = (9, 31, 32, 127)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    argv = list(map(str, words))
    argv[0] = shutil.which(argv[0], path="/usr/sbin:/sbin:/usr/bin:/bin") or argv[0]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.fixture
def make(tmp_path: Path):
    """``make(9, {"a.txt": b"..."})`` makes an image of so many MiB; a second call without a size adds files."""
    image = tmp_path / "disk.raw"

    def make(size_mib: int | None, files: dict[str, bytes]) -> Path:
        paths = [tmp_path / name for name in files]
        for path in paths:
            path.write_bytes(files[path.name])
        first = ["--add", image] if size_mib is None else [image, size_mib]
        done = run(sys.executable, FAT, *first, *paths)
        assert done.returncode == 0, done.stderr
        return image

    return make


@pytest.mark.interop("fsck.fat")
@pytest.mark.parametrize("size_mib", SIZES_MIB)
def test_fsck_finds_nothing_wrong(make, size_mib: int) -> None:
    make(size_mib, {"one.txt": b"1" * 5000, "empty": b"", "long-name.tar.gz": b"2" * 2048})
    image = make(None, {"later.txt": b"3" * 2049})
    done = run("fsck.fat", "-n", "-V", image)
    assert done.returncode == 0, done.stdout
    assert "5 files" in done.stdout  # the label counts as one


@pytest.mark.interop("mtype")
def test_mtools_reads_what_was_stored(make, rng) -> None:
    files = {"a.bin": rng.randbytes(100_000), "b.bin": rng.randbytes(1)}
    make(9, files)
    image = make(None, {"c.bin": b"added"})
    for name, data in [*files.items(), ("c.bin", b"added")]:
        output = subprocess.run(["mtype", "-i", image, f"::{name}"], capture_output=True, check=True).stdout
        assert output == data


@pytest.mark.parametrize("size_mib", [8, 129])
def test_a_size_that_is_not_fat16_is_refused(tmp_path: Path, size_mib: int) -> None:
    done = run(sys.executable, FAT, tmp_path / "disk.raw", size_mib)
    assert done.returncode == 1
    assert done.stderr.startswith("fat.py: ")


def test_a_full_disk_is_refused_in_one_line(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(10 << 20))
    done = run(sys.executable, FAT, tmp_path / "disk.raw", 9, big)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
