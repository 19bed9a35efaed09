"""Copies in native code: what they write, where they stop, and when they are not asked."""

from __future__ import annotations

import mmap
import os
import random
import resource
import tempfile
from array import array
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockkit.block.copy import CopyPlan, copy
from blockkit.block.copying.carrier import Carrier, carrier
from blockkit.block.copying.copier import CHUNK
from blockkit.block.copying.parts import Parts
from blockkit.block.facets import Shifts
from blockkit.block.filters.trace import TraceEvent, TraceNode
from blockkit.block.filters.window import WindowNode, WindowOptions
from blockkit.block.graph import create_image, open_image
from blockkit.block.report import Repair
from blockkit.errors import BlockkitError, NodeIOError, OutOfRangeError
from blockkit.formats.raw import RawNode
from blockkit.protocols.file import create_file, open_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Node
    from blockkit.block.syscall import SystemCall

pytest.importorskip("llvmlite")

MIB = 1 << 20
#: What the target holds before.
OLD = 0xEE


def native(chunk: int, grain: int) -> Carrier:
    found = carrier(chunk, grain, compiled=True)
    assert found is not None
    return found


def pieces_of(offset: int, length: int, chunk: int, grain: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces of a range of the disk that are written or left out as a whole, counted from its beginning."""
    at = offset
    while at < offset + length:
        ends = [offset + length, at // chunk * chunk + chunk]
        if grain:
            ends.append(at // grain * grain + grain)
        yield at - offset, min(ends) - offset
        at = min(ends)


#: Runs of a repeated byte, many of them zero, and single bytes in between.
CONTENTS = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 255]), st.sampled_from([1, 1, 7, 64, 500, 512, 1500, 4096])), max_size=30
).map(lambda runs: b"".join(bytes([value]) * count for value, count in runs))


@settings(max_examples=300, deadline=None)
@given(
    data=CONTENTS,
    places=st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 1 << 40)),
    chunk=st.sampled_from([1, 512, 1000, 4096, 65536]),
    grain=st.sampled_from([0, 1, 64, 512, 700, 4096]),
    packed=st.booleans(),
)
def test_what_is_not_zero_is_written(
    data: bytes, places: tuple[int, int, int], chunk: int, grain: int, packed: bool
) -> None:
    place, goal, offset = places
    pieces = list(pieces_of(offset, len(data), chunk, grain))
    written = [(start, end) for start, end in pieces if not grain or any(data[start:end])]
    with tempfile.TemporaryDirectory() as name:
        Path(name, "a").write_bytes(b"?" * place + data + b"?" * 10)
        room = goal + len(data) + 10
        Path(name, "b").write_bytes(bytes([OLD]) * room)
        with open_path(Path(name, "a")) as source, open_path(Path(name, "b"), read_only=False) as target:
            copies, buffer = native(chunk, grain), memoryview(bytearray(chunk))
            model = bytearray([OLD]) * room
            if packed:
                notes = Notes(target, goal)
                assert copies.fill(notes, buffer, source, place, offset, len(data)) == len(data)
                at = goal
                for start, end in written:
                    model[at : at + end - start] = data[start:end]
                    at += end - start
                # Neighbours are one run.
                assert notes.bytes_noted() == [offset + at for start, end in written for at in range(start, end)]
                assert all(first[0] + first[1] < second[0] for first, second in zip(notes.runs, notes.runs[1:]))  # noqa: B905
            else:
                assert copies.carry(buffer, source, place, target, goal, offset, len(data)) == len(data)
                for start, end in written:
                    model[goal + start : goal + end] = data[start:end]
        assert Path(name, "b").read_bytes() == model


class Notes:
    """Room in a node that notes what it is told."""

    def __init__(self, node: Node, at: int, free: int = 1 << 40) -> None:
        self.node, self.at, self.free = node, at, free
        self.runs: list[tuple[int, int]] = []

    def next(self) -> tuple[Node, int, int]:
        return self.node, self.at, self.free

    def took(self, offset: int, length: int) -> None:
        self.runs.append((offset, length))

    def bytes_noted(self) -> list[int]:
        return [at for start, length in self.runs for at in range(start, start + length)]

    def put(self, offset: int, data: memoryview) -> None:
        raise NotImplementedError

    keep = abandon = put  # type: ignore[assignment]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "a").write_bytes(os.urandom(10_000))
    (tmp_path / "b").write_bytes(bytes([OLD]) * 20_000)
    return tmp_path / "a", tmp_path / "b"


def test_a_source_that_ends_early_is_copied_as_far_as_whole_chunks_go(files: tuple[Path, Path]) -> None:
    with open_path(files[0]) as source, open_path(files[1], read_only=False) as target:
        done = native(4096, 512).carry(memoryview(bytearray(4096)), source, 0, target, 0, 0, 20_000)
        assert done == 8192
        assert target.read(0, 20_000) == files[0].read_bytes()[:8192] + bytes([OLD]) * 11_808


def test_nothing_goes_behind_the_end_of_the_target(files: tuple[Path, Path]) -> None:
    with open_path(files[0]) as source, open_path(files[1], read_only=False) as target:
        assert native(4096, 512).carry(memoryview(bytearray(4096)), source, 0, target, 10_001, 0, 10_000) == 0
    assert files[1].read_bytes() == bytes([OLD]) * 20_000


def test_whoever_cannot_be_read_or_written_so_is_left_alone(files: tuple[Path, Path]) -> None:
    copies, buffer = native(4096, 512), memoryview(bytearray(4096))
    with open_path(files[0]) as source, open_path(files[1]) as target:
        assert copies.carry(buffer, source, 0, target, 0, 0, 10_000) == 0
    with open_path(files[0]) as source, open_path(files[1], read_only=False, cache="writethrough") as target:
        assert copies.carry(buffer, source, 0, target, 0, 0, 10_000) == 0
    with open_path(files[0]) as source, open_path(files[1], read_only=False) as target:
        assert copies.carry(buffer, TraceNode(source, print), 0, target, 0, 0, 10_000) == 0
        assert copies.carry(buffer, source, 0, TraceNode(target, print), 0, 0, 10_000) == 0
        for watched in (source, target):
            leave = watched.watch_calls(lambda _call: None)
            assert copies.carry(buffer, source, 0, target, 0, 0, 10_000) == 0
            leave()
        assert target.read(0, 20_000) == bytes([OLD]) * 20_000
        assert copies.carry(buffer, source, 0, target, 0, 0, 10_000) == 10_000
    with open_path(files[1], read_only=False) as target:
        assert copies.carry(buffer, source, 0, target, 0, 0, 10_000) == 0, "it is closed"


def test_what_was_written_is_flushed_by_close(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    with open_path(files[0]) as source, open_path(files[1], read_only=False) as target:
        fd = target.fileno()
        native(4096, 512).carry(memoryview(bytearray(4096)), source, 0, target, 0, 0, 5000)
    assert flushed == [fd]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file become longer; writes that would make it end there, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_runs_that_were_written_before_a_failure_are_noted(files: tuple[Path, Path]) -> None:
    data = b"".join(bytes([number]) * 512 + bytes(512) for number in range(1, 9))
    files[0].write_bytes(data)
    with open_path(files[0]) as source, create_file(files[1].with_name("c")) as target:
        notes = Notes(target, 0)
        with largest_file(2500):
            done = native(4096, 512).fill(notes, memoryview(bytearray(4096)), source, 0, 1 << 20, 8192)
        # Of the fifth run, 452 bytes were written, and the file has become longer by them.
        assert done == 4096
        assert notes.runs == [((1 << 20) + number * 1024, 512) for number in range(4)]
        assert target.size == 2500
        assert target.read(0, 2048) == b"".join(bytes([number]) * 512 for number in range(1, 5))


def test_more_runs_than_can_be_noted_are_left_to_others(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blockkit.block.copying.carrier._MOST_RUNS", 3)
    files[0].write_bytes((b"x" * 512 + bytes(512)) * 5)
    with open_path(files[0]) as source, open_path(files[1], read_only=False) as target:
        notes = Notes(target, 0)
        done = native(4096, 512).fill(notes, memoryview(bytearray(4096)), source, 0, 0, 5120)
    assert done == 3 * 1024
    assert notes.runs == [(0, 512), (1024, 512), (2048, 512)]


def test_no_more_is_put_into_room_than_there_is(files: tuple[Path, Path]) -> None:
    with open_path(files[0]) as source, open_path(files[1], read_only=False) as target:
        notes = Notes(target, 512, free=1024)
        assert native(4096, 512).fill(notes, memoryview(bytearray(4096)), source, 0, 0, 8192) == 1024
        assert target.read(1536, 1000) == bytes([OLD]) * 1000
    assert notes.runs == [(0, 1024)]


def ask_anew(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Let whoever asks for native code from now on have it, ``"1"``, or not, ``"0"``."""
    monkeypatch.setenv("BLOCKKIT_NATIVE", value)
    monkeypatch.setattr("blockkit.native.kernels._loaded", {})


# -- whole copies ------------------------------------------------------------------------------------------


class Seen:
    """What carriers were asked for, and what they did."""

    def __init__(self) -> None:
        self.carried: list[tuple[int, int]] = []
        self.compiled: list[bool] = []


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found = Seen()
    carry, make = Carrier._run, carrier

    def run(self: Carrier, *args: Any) -> Any:
        done = carry(self, *args)
        found.carried.append((args[6], done[0]))
        return done

    def asked(chunk: int, grain: int, *, compiled: bool) -> Carrier | None:
        found.compiled.append(compiled)
        return make(chunk, grain, compiled=compiled)

    monkeypatch.setattr(Carrier, "_run", run)
    monkeypatch.setattr("blockkit.block.copying.carrier.carrier", asked)
    monkeypatch.setattr("blockkit.block.copying.copier.WORTH_LOADING", 1)
    monkeypatch.setattr("blockkit.block.copying.copier.WORTH_COMPILING", 1)
    return found


def disk(path: Path, size: int = 24 * MIB) -> bytes:
    """Make a raw image of random data and holes of all lengths."""
    with open(path, "wb") as file:
        file.truncate(size)
        at = 0
        for length in (MIB, 4096, 9 * MIB, 65536, 3 * MIB + 512, 4096, 8 * MIB):
            data = bytearray(os.urandom(min(length, size - at)))
            data[len(data) // 2 :: 4096 * 5] = bytes(len(data[len(data) // 2 :: 4096 * 5]))
            data[len(data) // 4 // 4096 * 4096 : len(data) // 3] = bytes(len(data) // 3 - len(data) // 4 // 4096 * 4096)
            file.seek(at)
            file.write(data)
            at = min(size, at + length + 128 * 1024)
    return path.read_bytes()


@pytest.mark.parametrize(("goal", "cluster"), [("raw", 0), ("qcow2", 4096), ("qcow2", 65536), ("qcow2", 2 * MIB)])
@pytest.mark.parametrize("source", ["raw", "qcow2"])
def test_large_copies_are_native(tmp_path: Path, seen: Seen, source: str, goal: str, cluster: int) -> None:
    data = disk(tmp_path / "a.raw")
    if source == "qcow2":
        create_image(tmp_path / "a.qcow2", "qcow2", len(data))
        with open_image(tmp_path / "a.qcow2", read_only=False) as node:
            node.write(0, data)
    create_image(tmp_path / "b", goal, len(data), options={"cluster_size": cluster} if cluster else {})
    told: list[int] = []
    with (
        open_image(tmp_path / f"a.{source}", format=source) as left,
        open_image(tmp_path / "b", format=goal, read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True, advance=told.append))
        assert sum(told) == len(data)
        assert right.read(0, len(data)) == data
        if goal == "qcow2":
            right.flush()
            assert right.check(Repair.NONE).clean
    assert seen.compiled == [True]
    assert all(wanted == done for wanted, done in seen.carried)
    assert sum(done for _, done in seen.carried) > 9 * MIB
    assert max(wanted for wanted, _ in seen.carried) >= 2 * MIB
    if goal == "raw":
        zeros = sum(not any(data[at : at + 4096]) for at in range(0, len(data), 4096)) * 4096
        assert os.stat(tmp_path / "b").st_blocks * 512 <= len(data) - zeros + 65536


def test_what_native_code_takes_at_once_depends_on_how_long_that_takes(tmp_path: Path) -> None:
    with create_file(tmp_path / "a", 64 * MIB) as node:
        parts = Parts(node, node, CopyPlan(), 0, 64 * MIB, 0, chunk=MIB, fresh=False)
        parts.span = MIB
        parts.pace(MIB, 0.01)
        assert parts.span == 2 * MIB
        parts.pace(MIB, 0.01)
        assert parts.span == 2 * MIB, "so short a part tells nothing"
        for _ in range(9):
            parts.pace(parts.span, 0.01)
        assert parts.span == 16 * MIB
        parts.pace(16 * MIB, 0.05)
        assert parts.span == 16 * MIB
        parts.pace(5, 0.2)
        assert parts.span == 8 * MIB
        for _ in range(9):
            parts.pace(5, 0.2)
        assert parts.span == MIB


@pytest.mark.parametrize("value", ["0", "1"])
@pytest.mark.parametrize(("sparse", "left_out"), [(0, 0), (MIB, 0), (512 << 10, 0), (300 << 10, 10), (4096, 10)])
def test_shorter_runs_of_zeros_than_wanted_are_written(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, value: str, sparse: int, left_out: int
) -> None:
    ask_anew(monkeypatch, value)
    run = 300 << 10
    data = (b"x" * run + bytes(run)) * 10
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(bytes([OLD]) * len(data))
    with (
        open_image(tmp_path / "a", format="raw") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True, sparse_size=sparse))
    assert (tmp_path / "b").read_bytes().count(OLD) == left_out * run
    assert bool(seen.carried) is (value == "1")


def test_without_a_function_of_the_c_library_python_copies(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = disk(tmp_path / "a.raw")
    create_image(tmp_path / "b", "raw", len(data))
    monkeypatch.setattr("blockkit.block.copying.carry.CALLS", ("pread", "there_is_no_such_function", "memcmp"))
    with (
        open_image(tmp_path / "a.raw", format="raw") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True))
    assert (seen.compiled, seen.carried) == ([True], [])
    assert (tmp_path / "b").read_bytes() == data


def test_it_is_loaded_before_it_is_compiled(tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    data = disk(tmp_path / "a.raw")
    create_image(tmp_path / "b", "raw", len(data))
    monkeypatch.setattr("blockkit.block.copying.copier.WORTH_COMPILING", 4 * MIB)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("blockkit.native.kernels._loaded", {})
    with (
        open_image(tmp_path / "a.raw", format="raw") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True, workers=1))
    assert seen.compiled == [False, True]
    assert seen.carried
    assert (tmp_path / "b").read_bytes() == data


def test_without_native_code_python_copies(tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    data = disk(tmp_path / "a.raw")
    create_image(tmp_path / "b", "raw", len(data))
    ask_anew(monkeypatch, "0")
    with (
        open_image(tmp_path / "a.raw", format="raw") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True))
    assert (seen.compiled, seen.carried) == ([True], [])
    assert (tmp_path / "b").read_bytes() == data


@pytest.mark.parametrize(
    "plan",
    [
        CopyPlan(),
        CopyPlan(target_is_zero=True, steady=True),
        CopyPlan(target_is_zero=True, salvage=True),
        CopyPlan(target_is_zero=True, copy_range=True),
    ],
)
def test_what_it_cannot_do_it_is_not_asked_for(tmp_path: Path, seen: Seen, plan: CopyPlan) -> None:
    data = disk(tmp_path / "a.raw")
    create_image(tmp_path / "b", "raw", len(data))
    with (
        open_image(tmp_path / "a.raw", format="raw") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, plan)
    assert seen.compiled == []
    assert (tmp_path / "b").read_bytes() == data


def test_a_source_that_may_be_written_meanwhile_is_read_as_a_disk(tmp_path: Path, seen: Seen) -> None:
    data = disk(tmp_path / "a.raw")
    create_image(tmp_path / "b", "raw", len(data))
    with (
        open_image(tmp_path / "a.raw", format="raw", read_only=False) as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True))
    assert (seen.compiled, seen.carried) == ([], [])
    assert (tmp_path / "b").read_bytes() == data


def test_short_runs_of_data_are_not_worth_it(tmp_path: Path, seen: Seen) -> None:
    piece = 64 << 10
    with open(tmp_path / "a.raw", "wb") as file:
        file.truncate(8 * MIB)
        for at in range(0, 4 * MIB, 2 * piece):
            file.seek(at)
            file.write(os.urandom(piece))
        file.seek(5 * MIB)
        file.write(os.urandom(2 * MIB))
    create_image(tmp_path / "b", "raw", 8 * MIB)
    with (
        open_image(tmp_path / "a.raw", format="raw") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True))
    assert seen.carried
    assert min(wanted for wanted, _ in seen.carried) >= CHUNK
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a.raw").read_bytes()


def test_a_copy_that_is_held_up_goes_in_small_steps(tmp_path: Path) -> None:
    data = disk(tmp_path / "a.raw")
    create_image(tmp_path / "b", "qcow2", len(data))
    told: list[int] = []
    with (
        open_image(tmp_path / "a.raw", format="raw") as left,
        open_image(tmp_path / "b", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True, steady=True, advance=told.append))
    assert max(told) <= 3 * MIB
    assert sum(told) == len(data)


def test_whoever_watches_sees_every_call(tmp_path: Path, seen: Seen) -> None:
    data = disk(tmp_path / "a.raw")
    create_image(tmp_path / "b", "raw", len(data))
    calls: list[SystemCall] = []
    with open_path(tmp_path / "a.raw") as below, open_image(tmp_path / "b", format="raw", read_only=False) as right:
        leave = below.watch_calls(calls.append)
        copy(RawNode(below), right, CopyPlan(target_is_zero=True))
        leave()
    assert sum(call.length for call in calls if call.action == "read") > 15 * MIB
    assert (tmp_path / "b").read_bytes() == data


def test_traced_sources_and_targets_see_every_request(tmp_path: Path, seen: Seen) -> None:
    data = disk(tmp_path / "a.raw")
    create_image(tmp_path / "b", "raw", len(data))
    with (
        open_image(tmp_path / "a.raw", format="raw") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        events: list[TraceEvent] = []
        copy(TraceNode(left, events.append), TraceNode(right, events.append), CopyPlan(target_is_zero=True))
    assert seen.carried == []
    assert sum(event.length for event in events if event.operation == "read") > 15 * MIB
    assert (tmp_path / "b").read_bytes() == data


def test_windows_are_copied_between_natively_and_kept_to(tmp_path: Path, seen: Seen) -> None:
    data = disk(tmp_path / "a.raw")
    (tmp_path / "b").write_bytes(bytes([OLD]) * len(data))
    with (
        open_image(tmp_path / "a.raw", format="raw") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        source = WindowNode(left, WindowOptions(offset=4096, size=4 * MIB))
        target = WindowNode(right, WindowOptions(offset=512, size=5 * MIB))
        assert isinstance(target, Shifts)
        copy(source, target, CopyPlan(target_is_zero=True, sparse_size=0), target_offset=MIB)
        assert [wanted for wanted, _ in seen.carried]
        with pytest.raises(OutOfRangeError):
            copy(source, target, CopyPlan(target_is_zero=True, sparse_size=0), target_offset=2 * MIB)
    start = 512 + MIB
    found = (tmp_path / "b").read_bytes()
    assert found[:start] == bytes([OLD]) * start
    assert found[512 + 5 * MIB :] == bytes([OLD]) * (len(data) - 512 - 5 * MIB)


@pytest.mark.parametrize("sparse", [512, 4096, 70_000])
def test_it_leaves_out_what_python_leaves_out(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, sparse: int
) -> None:
    data = disk(tmp_path / "a.raw")
    found = []
    for value in ("0", "1"):
        ask_anew(monkeypatch, value)
        # Both of the same pieces: what a piece is ends with a chunk too.
        monkeypatch.setattr("blockkit.block.copying.copier.NATIVE_CHUNK", CHUNK)
        # What is left out shows.
        (tmp_path / "b").write_bytes(bytes([OLD]) * (len(data) + MIB))
        with (
            open_image(tmp_path / "a.raw", format="raw") as left,
            open_image(tmp_path / "b", format="raw", read_only=False) as right,
        ):
            target = WindowNode(right, WindowOptions(offset=512 * 3))
            copy(left, target, CopyPlan(target_is_zero=True, sparse_size=sparse), target_offset=512)
        found.append((tmp_path / "b").read_bytes())
    assert seen.carried
    assert found[0] == found[1]
    assert found[0][2048:].count(OLD) > MIB


def test_a_guessed_target_is_guarded_all_the_same(tmp_path: Path, seen: Seen) -> None:
    create_image(tmp_path / "inner.qcow2", "qcow2", 4 * MIB)
    with open_image(tmp_path / "inner.qcow2", read_only=False) as node:
        node.write(0, os.urandom(4 * MIB))
    create_image(tmp_path / "b", "raw", 16 * MIB)
    with (
        open_image(tmp_path / "inner.qcow2", format="raw") as left,
        open_image(tmp_path / "b", read_only=False) as right,
        pytest.raises(NodeIOError, match="look like qcow2"),
    ):
        copy(left, right, CopyPlan(target_is_zero=True))
    assert seen.carried == []


@pytest.mark.parametrize("goal", ["raw", "qcow2"])
def test_a_failure_is_told_as_python_tells_it(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, goal: str
) -> None:
    data = disk(tmp_path / "a.raw")
    texts = []
    for value in ("0", "1"):
        ask_anew(monkeypatch, value)
        create_image(tmp_path / "b", goal, len(data))
        with (
            open_image(tmp_path / "a.raw", format="raw") as left,
            open_image(tmp_path / "b", format=goal, read_only=False) as right,
        ):
            with largest_file(6 * MIB + 512), pytest.raises(BlockkitError) as caught:
                copy(left, right, CopyPlan(target_is_zero=True, workers=1))
            texts.append(str(caught.value).partition(" bytes at ")[2].partition(": ")[2])
            if goal == "qcow2":
                right.flush()
                report = right.check(Repair.NONE)
                assert not report.corruptions
    assert texts[0] == texts[1] == "file too large"
    assert seen.carried


def test_cells_are_never_given_out_for_what_must_be_aligned(direct_path: Path) -> None:
    with create_file(direct_path, 8192, cache="none") as node:
        assert node.writing_cell() is None
    with create_file(direct_path, 8192) as node:
        cell = node.writing_cell()
        assert isinstance(cell, array)
        assert cell[0] == node.fileno()
    assert cell[0] == -1


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many pieces were handed over at once, and how many of them were dealt with."""
    made: list[tuple[int, int]] = []
    real = Carrier.carry_pieces

    def note(self: Carrier, buffer: memoryview, source: Any, target: Any, pieces: Any) -> int:
        done = real(self, buffer, source, target, pieces)
        made.append((len(pieces), done))
        return done

    monkeypatch.setattr(Carrier, "carry_pieces", note)
    return made


def scattered(path: Path) -> bytes:
    """Make an image of clusters that lie in the file in another order than on the disk, some of them zero in part."""
    rng = random.Random(7)
    create_image(path, "qcow2", 32 * MIB, options={"cluster_size": 4096})
    places = rng.sample(range(8192), 2000)
    with open_image(path, read_only=False) as node:
        for place in places:
            data = rng.randbytes(4096)
            cut = rng.choice([0, 0, 512, 2048, 4095])
            node.write(place * 4096, bytes(cut) + data[cut:])
        return node.read(0, node.size)


@pytest.mark.parametrize("sparse", [4096, 512, 0])
@pytest.mark.parametrize("shift", [0, MIB, 1024])
def test_what_lies_anywhere_is_handed_over_together(
    tmp_path: Path, seen: Seen, together: list[tuple[int, int]], sparse: int, shift: int
) -> None:
    data = scattered(tmp_path / "a")
    create_image(tmp_path / "b", "raw", len(data) + shift)
    with (
        open_image(tmp_path / "a") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(sparse_size=sparse, target_is_zero=True), target_offset=shift)
    assert (tmp_path / "b").read_bytes() == bytes(shift) + data
    if sparse:
        assert all(done == count for count, done in together)
        assert sum(done for _, done in together) > 1000
        assert max(count for count, _ in together) == 256


@pytest.mark.parametrize("most", [0, 1, 17])
def test_where_native_code_ends_python_goes_on(
    tmp_path: Path, seen: Seen, together: list[tuple[int, int]], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = scattered(tmp_path / "a")
    create_image(tmp_path / "b", "raw", len(data))
    make = Carrier.__init__

    def init(self: Carrier, function: Any, many: Any, *args: Any) -> None:
        make(self, function, lambda none, job, pieces, count: many(none, job, pieces, min(count, most)), *args)

    monkeypatch.setattr(Carrier, "__init__", init)
    with (
        open_image(tmp_path / "a") as left,
        open_image(tmp_path / "b", format="raw", read_only=False) as right,
    ):
        copy(left, right, CopyPlan(target_is_zero=True))
    assert (tmp_path / "b").read_bytes() == data
    assert {done for count, done in together if count > most} == {most}


def test_pieces_that_end_early_are_not_taken_for_done(tmp_path: Path) -> None:
    found = carrier(64 * 1024, 4096, compiled=True)
    assert found is not None
    (tmp_path / "a").write_bytes(os.urandom(10_000))
    create_image(tmp_path / "b", "raw", MIB)
    buffer = memoryview(mmap.mmap(-1, 64 * 1024))
    with open_path(tmp_path / "a") as left, open_path(tmp_path / "b", read_only=False) as right:
        pieces = [(0, 8192, 8192, 4096), (4096, 0, 0, 4096), (8192, 65536, 65536, 4096), (0, 131072, 131072, 512)]
        assert found.carry_pieces(buffer, left, right, pieces) == 2
        assert found.carry_pieces(buffer, left, right, [*pieces[:2], (0, MIB - 100, MIB - 100, 512)]) == 0
        assert right.read(0, 12_288) == left.read(4096, 4096) + bytes(4096) + left.read(0, 4096)
        stop = left.watch_calls(lambda _: None)
        assert found.carry_pieces(buffer, left, right, pieces) == 0
        stop()
        assert found.carry_pieces(buffer, left, right, pieces) == 2
