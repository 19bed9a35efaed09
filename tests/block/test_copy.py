"""Copying from node to node, whatever the source's tables and the target's clusters look like."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockkit.block.chain import locate
from blockkit.block.copy import CopyPlan, copy
from blockkit.block.copying.copier import Copier
from blockkit.block.facets import MapsInBulk
from blockkit.block.graph import create_image, open_image

if TYPE_CHECKING:
    from blockkit.block.copying.parts import Part

SIZE = 1 << 20
SECTOR = 512

#: A table of 512-byte clusters maps 32 KiB, so that a disk of 1 MiB has many tables, some empty, some of one kind.
RUN = st.tuples(
    st.sampled_from([*["data"] * 12, "zero", "zeros"]), st.integers(0, SIZE // SECTOR - 1), st.integers(1, 100)
)
RUNS = st.lists(RUN, min_size=3, max_size=20) | st.lists(RUN, max_size=2)


def fill(path: Path, cluster: int, runs: list[tuple[str, int, int]], backing: str | None = None) -> None:
    name = "qcow2" if cluster else "raw"
    options = {"cluster_size": cluster} if cluster else {}
    backing_format = "raw" if backing else None
    create_image(path, name, SIZE, options=options, backing_file=backing, backing_format=backing_format)
    with open_image(path, format=name, read_only=False) as node:
        for kind, first, count in runs:
            start, length = first * SECTOR, min(count, SIZE // SECTOR - first) * SECTOR
            if kind == "zero":
                node.zero(start, length)
            else:
                node.write(start, os.urandom(length) if kind == "data" else bytes(length))


def go_native(patch: pytest.MonkeyPatch, chunk: int) -> None:
    """Let native code copy from the first byte on, where it can be had."""
    patch.setattr("blockkit.block.copying.copier.WORTH_LOADING", 0)
    patch.setattr("blockkit.block.copying.copier.WORTH_COMPILING", 0)
    patch.setattr("blockkit.block.copying.copier.NATIVE_CHUNK", chunk)


@settings(max_examples=300, deadline=None)
@given(
    runs=RUNS,
    clusters=st.tuples(st.sampled_from([0, 512, 4096, 65536]), st.sampled_from([0, 512, 4096, 65536])),
    bounds=st.just((0, SIZE, 0)) | st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE), st.integers(0, 5000)),
    sparse=st.sampled_from([512, 4096, 4096, 70_000, 0]),
    compressed=st.sampled_from([False, False, True]),
    workers=st.integers(1, 3),
    read_only=st.sampled_from([True, True, True, False]),
    chunk=st.sampled_from([4096, 20_000, 1 << 20]),
    native=st.sampled_from([0, 4096, 50_000, 1 << 20]),
    below=st.none() | RUNS,
)
def test_the_target_reads_as_the_source(
    runs: list[tuple[str, int, int]],
    clusters: tuple[int, int],
    bounds: tuple[int, int, int],
    sparse: int,
    compressed: bool,
    workers: int,
    read_only: bool,
    chunk: int,
    native: int,
    below: list[tuple[str, int, int]] | None,
) -> None:
    start, length, goal = bounds[0], min(bounds[1], SIZE - bounds[0]), bounds[2]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr("blockkit.block.copying.copier.CHUNK", chunk)
        patch.setattr("blockkit.block.copying.copier.CLUSTERED_CHUNK", chunk)
        patch.setattr("blockkit.block.copying.parts.STRETCH", 3 * chunk)
        patch.setattr("blockkit.block.copying.parts.SPAN", 4 * chunk)
        if native:
            go_native(patch, min(native, chunk))
        theirs, ours = Path(name, "a.qcow2"), Path(name, "b")
        if below is not None and clusters[0]:
            fill(Path(name, "base"), 0, below)
            fill(theirs, clusters[0], runs, "base")
        else:
            fill(theirs, clusters[0], runs)
        if clusters[1]:
            create_image(ours, "qcow2", goal + length + 1, options={"cluster_size": clusters[1]})
        else:
            create_image(ours, "raw", goal + length + 1)
        done: list[int] = []
        plan: Any = CopyPlan(
            sparse_size=sparse,
            target_is_zero=True,
            compressed=compressed and clusters[1] > 0,
            workers=workers,
            advance=done.append,
        )
        with (
            open_image(theirs, format="qcow2" if clusters[0] else "raw", read_only=read_only) as source,
            open_image(ours, format="qcow2" if clusters[1] else "raw", read_only=False) as target,
        ):
            copy(source, target, plan, source_offset=start, length=length, target_offset=goal)
            expected = (bytes(goal) + source.read(start, length)).ljust(target.size, b"\0")
            assert target.read(0, target.size) == expected
        assert sum(done) == length


def test_a_source_that_maps_in_bulk_is_not_mapped_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "a.qcow2", 512, [("data", 3, 90), ("data", 1000, 1)])
    create_image(tmp_path / "b.qcow2", "qcow2", SIZE)
    with open_image(tmp_path / "a.qcow2") as source, open_image(tmp_path / "b.qcow2", read_only=False) as target:
        assert isinstance(source, MapsInBulk)
        expected = source.read(0, SIZE)
        with monkeypatch.context() as patch:
            patch.setattr(type(source), "_readv", None)
            patch.setattr(type(source), "_read", None)
            copy(source, target, CopyPlan(target_is_zero=True))
        assert target.read(0, SIZE) == expected


@settings(deadline=None)
@given(start=st.integers(0, 200_000), length=st.integers(1, 200_000), goal=st.integers(0, 200_000))
def test_compressed_clusters_keep_what_lies_beside_the_range(start: int, length: int, goal: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        create_image(Path(name, "a.qcow2"), "qcow2", 400_000)
        create_image(Path(name, "b.qcow2"), "qcow2", 400_384)
        with (
            open_image(Path(name, "a.qcow2"), read_only=False) as source,
            open_image(Path(name, "b.qcow2"), read_only=False) as target,
        ):
            source.write(0, b"new." * 50_000)
            before = b"old!" * 100_096
            target.write(0, before)
            copy(source, target, CopyPlan(compressed=True), source_offset=start, length=length, target_offset=goal)
            new = source.read(start, length)
            assert target.read(0, target.size) == before[:goal] + new + before[goal + length :]


def test_compressed_clusters_that_the_backing_file_supplies_are_not_stored_again(tmp_path: Path) -> None:
    base, top, goal = (str(tmp_path / name) for name in ("base.qcow2", "top.qcow2", "goal.qcow2"))
    create_image(base, "qcow2", SIZE)
    with open_image(base, read_only=False) as node:
        node.write(0, b"base" * (SIZE // 4))
    for name in (top, goal):
        create_image(name, "qcow2", SIZE, backing_file="base.qcow2", backing_format="qcow2")
    with open_image(top, read_only=False) as node:
        node.write(2 << 16, b"new")
        node.write((9 << 16) + 5, b"new")
    with open_image(top) as source, open_image(goal, read_only=False) as target:
        copy(source, target, CopyPlan(target_is_zero=True, over_backing=True, compressed=True))
        assert target.read(0, SIZE) == source.read(0, SIZE)
        stored = [found.offset >> 16 for found in locate(target) if found.depth == 0]
    assert stored == [2, 9]


@pytest.mark.parametrize("workers", [1, 3])
def test_who_may_be_interrupted_holds_nothing_that_others_wait_for(tmp_path: Path, workers: int) -> None:
    (tmp_path / "a").write_bytes(os.urandom(8 << 20))
    create_image(tmp_path / "b", "raw", 8 << 20)
    seen = set()
    plan = CopyPlan(workers=workers, advance=lambda _: seen.add(threading.current_thread()))
    with (
        open_image(tmp_path / "a", format="raw") as source,
        open_image(tmp_path / "b", format="raw", read_only=False) as target,
    ):
        copy(source, target, plan)
    assert (threading.current_thread() in seen) is (workers == 1)
    assert len(seen) <= workers
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nobody_copies_any_more_after_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(os.urandom(8 << 20))
    create_image(tmp_path / "b", "qcow2", 8 << 20)
    waits, real = threading.Event(), threading.Thread.join
    interrupts = [KeyboardInterrupt("first"), KeyboardInterrupt("second")]

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        waits.set()
        if interrupts:
            raise interrupts.pop(0)
        real(thread, timeout)

    class Slow(Copier):
        """Its other thread has a part in hand until the first one waits for it."""

        ended = False

        def deal(self, buffer: memoryview, batch: list[Part]) -> None:
            if threading.current_thread() is not threading.main_thread():
                waits.wait(60)
                time.sleep(0.2)
                Slow.ended = True

    monkeypatch.setattr(threading.Thread, "join", join)
    with (
        open_image(tmp_path / "a", format="raw") as source,
        open_image(tmp_path / "b", read_only=False) as target,
    ):
        with pytest.raises(KeyboardInterrupt, match="first"):
            Slow(source, target, CopyPlan(target_is_zero=True), 0, 8 << 20, 0).run()
        assert Slow.ended
    assert interrupts == []


@pytest.mark.parametrize("compressed", [False, True])
def test_zeros_hide_a_backing_file_whoever_says_that_the_target_is_zero(tmp_path: Path, compressed: bool) -> None:
    (tmp_path / "base").write_bytes(b"B" * SIZE)
    create_image(tmp_path / "a.qcow2", "qcow2", SIZE)
    create_image(tmp_path / "b.qcow2", "qcow2", SIZE, backing_file="base", backing_format="raw")
    with open_image(tmp_path / "a.qcow2", read_only=False) as source:
        source.write(70_000, b"data" * 1000)
    with open_image(tmp_path / "a.qcow2") as source, open_image(tmp_path / "b.qcow2", read_only=False) as target:
        copy(source, target, CopyPlan(target_is_zero=True, compressed=compressed))
        assert target.read(0, SIZE) == source.read(0, SIZE)
