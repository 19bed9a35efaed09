"""New images on a block device that holds something else already."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blockkit.block.graph import create_image, open_image
from tests.protocols.loop import attach, detach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., str]

MIB = 1 << 20
SIZE = 6 * MIB


def blockkit(*words: object, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "blockkit", *map(str, words)]
    return subprocess.run(argv, input=given, capture_output=True, check=False)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """Yield a device of 8 MiB that is full of old data."""
    (tmp_path / "disk").write_bytes(os.urandom(8 * MIB))
    name = attach(tmp_path / "disk")
    yield name
    detach(name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a raw image with data, zeros and holes."""
    path = tmp_path / "source"
    with open(path, "wb") as file:
        file.truncate(SIZE)
        for start in (MIB, 4 * MIB):
            file.seek(start)
            file.write(os.urandom(100_000) + bytes(300_000) + os.urandom(5000))
    return path


def read(device: str, length: int = 8 * MIB) -> bytes:
    with open(device, "rb") as file:
        return file.read(length)


@pytest.mark.parametrize("words", ["", "-S 0", "-S 64k", "-m 1", "-t none", "--salvage"])
def test_convert_to_raw(source: Path, device: str, words: str) -> None:
    old = read(device)
    done = blockkit("img", "convert", "-f", "raw", "-O", "raw", *words.split(), source, device)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read(device) == source.read_bytes() + old[SIZE:]


def test_convert_to_raw_from_qcow2(source: Path, device: str, tmp_path: Path) -> None:
    assert not blockkit("img", "convert", "-O", "qcow2", source, tmp_path / "source.qcow2").returncode
    done = blockkit("img", "convert", "-O", "raw", tmp_path / "source.qcow2", device)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read(device, SIZE) == source.read_bytes()


def test_dd(source: Path, device: str) -> None:
    old = read(device)
    done = blockkit("img", "dd", "-f", "raw", "-O", "raw", "bs=4k", f"if={source}", f"of={device}")
    assert done.returncode == 0, done.stderr
    assert read(device) == source.read_bytes() + old[SIZE:]


@pytest.mark.parametrize("words", ["convert -f raw", "convert -n -f raw", "dd -f raw bs=512", "pipe", "pipe -n"])
@pytest.mark.parametrize("size", [65_636, 65_536])
def test_the_rest_of_the_last_sector_is_zero_and_what_is_behind_it_stays(
    tmp_path: Path, device: str, words: str, size: int
) -> None:
    old, data = read(device), os.urandom(size)
    (tmp_path / "odd").write_bytes(data)
    if words.startswith("dd"):
        done = blockkit("img", *words.split(), "-O", "raw", f"if={tmp_path / 'odd'}", f"of={device}")
    elif words.startswith("pipe"):
        done = blockkit("img", "convert", *words.split()[1:], "-f", "raw", "-O", "raw", "-", device, given=data)
    else:
        done = blockkit("img", *words.split(), "-O", "raw", tmp_path / "odd", device)
    assert done.returncode == 0, done.stderr
    rest = -size % 512
    assert read(device) == data + bytes(rest) + old[size + rest :]


def test_from_a_pipe(source: Path, device: str) -> None:
    old = read(device)
    done = blockkit("img", "convert", "-O", "raw", "-", device, given=source.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert read(device) == source.read_bytes() + old[SIZE:]


def test_from_a_pipe_that_brings_too_much(source: Path, device: str) -> None:
    done = blockkit("img", "convert", "-O", "raw", "-", device, given=bytes(9 * MIB))
    assert done.returncode == 1
    assert b"standard input is longer than the 8388608 bytes of the target" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("words", ["", "-c", "-o preallocation=metadata", "-o cluster_size=512"])
def test_convert_to_qcow2(source: Path, device: str, words: str, qemu_img: Run) -> None:
    done = blockkit("img", "convert", "-f", "raw", "-O", "qcow2", *words.split(), source, device)
    assert (done.returncode, done.stderr) == (0, b"")
    qemu_img("compare", "-f", "raw", "-F", "qcow2", source, device)
    qemu_img("check", "-f", "qcow2", device)


def test_who_says_that_new_images_are_zero(tmp_path: Path, device: str) -> None:
    for name, preallocation, on_file, on_device in (
        ("raw", "off", True, False),
        ("qcow2", "off", True, True),
        ("qcow2", "metadata", True, False),
    ):
        for place, expected in ((str(tmp_path / "file"), on_file), (device, on_device)):
            create_image(place, name, MIB, options={"preallocation": preallocation})
            with open_image(place, format=name, read_only=False) as node:
                assert node.zero_when_made is expected
                assert not expected or not any(node.read(0, MIB))
