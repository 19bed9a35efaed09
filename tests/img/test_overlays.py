"""Everything that reads a disk sees what an overlay leaves to its backing file, a whole table of it or a part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from blockkit.block.graph import create_image, open_image
from blockkit.block.node import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., str]

SIZE = 3 << 20
#: Bytes that a table of an image with clusters of 512 bytes maps.
REACH = 32 << 10


def blockkit(*words: object) -> bytes:
    made = subprocess.run([sys.executable, "-m", "blockkit", *map(str, words)], capture_output=True, check=False)
    assert (made.returncode, made.stderr) == (0, b""), made.stderr.decode()
    return made.stdout


@pytest.fixture(params=["nothing", "one byte", "far away", "here and there", "zeros"])
def overlay(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return an overlay that stores what its name says, of a base with data wherever it is left out."""
    (tmp_path / "base.raw").write_bytes(os.urandom(SIZE - 5120))
    create_image(tmp_path / "mid.qcow2", "qcow2", SIZE, backing_file="base.raw", backing_format="raw")
    with open_image(tmp_path / "mid.qcow2", read_only=False) as node:
        node.write(SIZE // 2, b"mid" * 1000)
    path = tmp_path / "top.qcow2"
    options = {"cluster_size": 512}
    create_image(path, "qcow2", SIZE, options=options, backing_file="mid.qcow2", backing_format="qcow2")
    with open_image(path, read_only=False) as node:
        if request.param == "one byte":
            node.write(0, b"x")
        elif request.param == "far away":
            node.write(SIZE - REACH, b"x" * 512)
        elif request.param == "here and there":
            for at in range(REACH, SIZE, 5 * REACH):
                node.write(at, b"x" * 10_000)
        elif request.param == "zeros":
            node.zero(10 * REACH, 20 * REACH)
            node.discard(50 * REACH, REACH)
    return path


def contents(path: Path) -> bytes:
    """Return what blockkit reads in small steps, which QEMU's own reading is compared with."""
    with open_image(path) as node:
        return b"".join(node.read(at, 4096) for at in range(0, SIZE, 4096))


def test_reading_is_as_qemu_reads(overlay: Path, qemu_img: Run) -> None:
    qemu_img("convert", "-O", "raw", overlay, overlay.with_name("theirs"))
    assert contents(overlay) == overlay.with_name("theirs").read_bytes()


@pytest.mark.parametrize("words", ["-O raw", "-O raw -S 0", "-O qcow2", "-O qcow2 -o cluster_size=512", "-c -O qcow2"])
@pytest.mark.parametrize("native", ["0", "1"])
def test_convert(overlay: Path, words: str, native: str, monkeypatch: pytest.MonkeyPatch, qemu_img: Run) -> None:
    monkeypatch.setenv("BLOCKKIT_NATIVE", native)
    goal = overlay.with_name("goal")
    blockkit("img", "convert", *words.split(), overlay, goal)
    kind = "raw" if "raw" in words else "qcow2"
    qemu_img("compare", "-F", kind, overlay, goal)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_streams_and_dd(overlay: Path, kind: str, qemu_img: Run) -> None:
    goal = overlay.with_name("goal")
    goal.write_bytes(blockkit("img", "convert", "-O", kind, overlay, "-"))
    qemu_img("compare", "-F", kind, overlay, goal)
    goal.unlink()
    blockkit("img", "dd", "-O", kind, "bs=64k", f"if={overlay}", f"of={goal}")
    qemu_img("compare", "-F", kind, overlay, goal)


def test_an_existing_target(overlay: Path, qemu_img: Run) -> None:
    goal = overlay.with_name("goal")
    goal.write_bytes(b"?" * SIZE)
    blockkit("img", "convert", "-n", "-O", "raw", overlay, goal)
    qemu_img("compare", "-F", "raw", overlay, goal)


def test_over_the_same_backing_file(overlay: Path, qemu_img: Run) -> None:
    goal = overlay.with_name("goal")
    blockkit("img", "convert", "-O", "qcow2", "-B", "mid.qcow2", "-F", "qcow2", overlay, goal)
    qemu_img("compare", overlay, goal)


def test_map_measure_and_compare(overlay: Path, qemu_img: Run) -> None:
    theirs = json.loads(qemu_img("map", "--output", "json", overlay))
    ours = json.loads(blockkit("img", "map", "--output", "json", overlay))
    assert ours == theirs
    words = ["measure", "-O", "qcow2", "--output", "json", overlay]
    assert json.loads(blockkit("img", *words)) == json.loads(qemu_img(*words))
    qemu_img("convert", "-O", "raw", overlay, overlay.with_name("theirs"))
    assert b"identical" in blockkit("img", "compare", "-F", "raw", overlay, overlay.with_name("theirs"))


@pytest.mark.parametrize("words", ["", "-c", "-n"])
def test_what_a_shorter_backing_file_does_not_have_is_copied(tmp_path: Path, words: str, qemu_img: Run) -> None:
    """QEMU 7.2 makes zeros of it."""
    data = os.urandom(SIZE // 2) + bytes(SIZE // 4) + os.urandom(SIZE // 4)
    (tmp_path / "base").write_bytes(data)
    (tmp_path / "short").write_bytes(data[: SIZE // 4 + 512 * 3])
    source, goal = tmp_path / "source.qcow2", tmp_path / "goal"
    create_image(source, "qcow2", SIZE, backing_file="base", backing_format="raw")
    with open_image(source, read_only=False) as node:
        node.write(70_000, b"data" * 1000)
    if words == "-n":
        create_image(goal, "qcow2", SIZE, backing_file="short", backing_format="raw")
    blockkit("img", "convert", *words.split(), "-O", "qcow2", "-B", "short", "-F", "raw", source, goal)
    qemu_img("compare", source, goal)
    with open_image(goal) as node:
        assert next(iter(node.extents())).kind is Kind.UNALLOCATED, "what it has is not"


@pytest.mark.parametrize("kind", ["no backing file", "a shorter one", "zeros over one"])
@pytest.mark.parametrize("way", ["convert", "convert -c", "convert --salvage", "convert -n", "stream", "pipe", "dd"])
def test_what_nobody_stores_hides_another_backing_file(tmp_path: Path, kind: str, way: str, qemu_img: Run) -> None:
    """Where the source has no backing file it is zero, whatever the new backing file holds."""
    (tmp_path / "base").write_bytes(b"B" * SIZE)
    (tmp_path / "short").write_bytes(b"B" * (SIZE // 4))
    source, goal = tmp_path / "source.qcow2", tmp_path / "goal"
    backing = None if kind == "no backing file" else "short" if kind == "a shorter one" else "base"
    create_image(source, "qcow2", SIZE, backing_file=backing, backing_format="raw" if backing else None)
    with open_image(source, read_only=False) as node:
        node.write(70_000, b"data" * 1000)
        if kind == "zeros over one":
            node.zero(SIZE // 2, SIZE // 2)
    over = ("-B", tmp_path / "base", "-F", "raw")
    option = f"backing_file={tmp_path / 'base'},backing_fmt=raw"
    if way == "stream":
        goal.write_bytes(blockkit("img", "convert", "-O", "qcow2", *over, source, "-"))
    elif way == "dd":
        blockkit("img", "dd", "-O", "qcow2", "-o", option, "bs=64k", f"if={source}", f"of={goal}")
    elif way == "pipe":
        qemu_img("convert", "-O", "raw", source, tmp_path / "flat")
        argv = [sys.executable, "-m", "blockkit", "img", "convert", "-O", "qcow2", *map(str, over), "-", str(goal)]
        with open(tmp_path / "flat", "rb") as flat, subprocess.Popen(["cat"], stdin=flat, stdout=-1) as cat:
            subprocess.run(argv, stdin=cat.stdout, check=True)
    else:
        if way == "convert -n":
            create_image(goal, "qcow2", SIZE, backing_file="base", backing_format="raw")
        blockkit("img", *way.split(), "-O", "qcow2", *over, source, goal)
    qemu_img("compare", source, goal)
