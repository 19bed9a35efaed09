"""Any sequence of requests reads back like a plain array of bytes, and qemu-img agrees."""

from __future__ import annotations

import random
import subprocess
from importlib.util import find_spec
from types import BuiltinFunctionType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from blockkit.block.node import Kind
from blockkit.block.report import Repair
from blockkit.formats.qcow2 import reading, refcounts
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.create import CreateOptions, create
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.protocols.file import create_file
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from pathlib import Path

    from blockkit.block.node import Node

SPOT = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(-2, 2), st.booleans())
LENGTH = st.sampled_from([1, 511, 512, 513]) | st.integers(1, 5000)


class Keeping(MemoryNode):
    """A file that takes no hints: what is discarded stays, for whoever forgets to write over it."""

    def _discard(self, offset: int, length: int) -> None:
        return


class Disk(RuleBasedStateMachine):
    """A qcow2 node beside a bytearray."""

    def judge(self, image: bytes, model: bytes, below: MemoryNode | None, rng: random.Random) -> None:
        """Hear somebody else's opinion."""

    def new_file(self) -> Node:
        """Return what the image is to be in."""
        return Keeping(grows=True)

    def image(self) -> bytes:
        """Return what is in it."""
        return bytes(self.file.data)

    def __init__(self) -> None:
        super().__init__()
        self.node: Qcow2Node | None = None

    @initialize(
        bits=st.sampled_from([9, 9, 9, 10, 12, 16]),
        order=st.integers(0, 6),
        compat=st.sampled_from(["1.1", "1.1", "0.10"]),
        lazy=st.booleans(),
        zstd=st.booleans(),
        preallocation=st.sampled_from(["off", "off", "off", "metadata", "full"]),
        tables=st.sampled_from([0, 0, 8]),
        clusters=st.integers(0, 300),
        odd=st.integers(0, 8),
        under=st.sampled_from([None, None, "raw", "qcow2"]),
        part=st.floats(0, 1.5),
        seed=st.integers(0, 1 << 30),
    )
    def start(
        self,
        bits: int,
        order: int,
        compat: str,
        lazy: bool,
        zstd: bool,
        preallocation: str,
        tables: int,
        clusters: int,
        odd: int,
        under: str | None,
        part: float,
        seed: int,
    ) -> None:
        self.rng = random.Random(seed)
        cluster = 1 << bits
        size = min(clusters * cluster, 2 << 20) + min(odd, cluster // 512 - 1) * 512
        new = compat == "1.1"
        options = CreateOptions(
            cluster_size=cluster,
            compat=compat,  # type: ignore[arg-type]
            refcount_bits=1 << order if new else 16,
            lazy_refcounts=lazy and new,
            compression_type="zstd" if zstd and new else "zlib",
            preallocation="off" if under else preallocation,  # type: ignore[arg-type]
            backing_file="under" if under else None,
        )
        self.file, self.cache = self.new_file(), tables * (cluster + 512)
        create(self.file, size, options)
        self.cluster, self.below = cluster, None
        self.model = bytearray(size)
        if under:
            length = int(size * part) // 512 * 512
            data = self.rng.randbytes(length)
            self.below = MemoryNode(data)
            if under == "qcow2":
                self.below = MemoryNode(grows=True)
                create(self.below, length, CreateOptions(cluster_size=1024))
                with Qcow2Node(self.below, read_only=False) as layer:
                    layer.write(0, data)
            self.under, self.model[:] = under, data[:size].ljust(size, b"\0")
        self.open()

    def open(self) -> None:
        below: MemoryNode | Qcow2Node | None = None
        if self.below is not None:
            below = MemoryNode(self.below.data)
            below = Qcow2Node(below) if self.under == "qcow2" else below
        self.node = Qcow2Node(self.file, read_only=False, backing=below, cache_size=self.cache)

    def place(self, spot: tuple[float, int, bool], length: int) -> tuple[int, int]:
        size = len(self.model)
        offset = int(spot[0] * size)
        if spot[2]:
            offset = max(0, min(size - 1, offset // self.cluster * self.cluster + spot[1]))
        return offset, min(length * (1 if length < 600 else max(1, self.cluster // 1000)), size - offset)

    @precondition(lambda self: self.model)
    @rule(spot=SPOT, length=LENGTH, fua=st.booleans())
    def write(self, spot: tuple[float, int, bool], length: int, fua: bool) -> None:
        offset, length = self.place(spot, length)
        data = self.rng.randbytes(length)
        cut = length // 3
        self.node.writev(offset, [data[:cut], bytearray(data[cut:])], fua=fua)
        self.model[offset : offset + length] = data

    @precondition(lambda self: self.model)
    @rule(spot=SPOT, small=st.booleans())
    def write_compressed(self, spot: tuple[float, int, bool], small: bool) -> None:
        offset = self.place((spot[0], 0, True), 1)[0]
        piece = self.rng.randbytes(3 if small else self.cluster // 2)
        data = (piece * (self.cluster // len(piece) + 1))[: self.cluster]
        encoded = self.node.compress(data)
        if encoded is not None:
            self.node.write_compressed(offset, encoded)
            end = min(offset + self.cluster, len(self.model))
            self.model[offset:end] = data[: end - offset]

    @precondition(lambda self: self.model)
    @rule(spot=SPOT, length=LENGTH, unmap=st.booleans(), end=st.booleans())
    def zero(self, spot: tuple[float, int, bool], length: int, unmap: bool, end: bool) -> None:
        offset, length = self.place(spot, length)
        length = len(self.model) - offset if end else length
        self.node.zero(offset, length, unmap=unmap)
        self.model[offset : offset + length] = bytes(length)

    @precondition(lambda self: self.model)
    @rule(spot=SPOT, length=LENGTH, end=st.booleans())
    def discard(self, spot: tuple[float, int, bool], length: int, end: bool) -> None:
        offset, length = self.place(spot, length)
        length = len(self.model) - offset if end else length
        self.node.discard(offset, length)
        now, before = self.node.read(offset, length), self.model[offset : offset + length]
        assert all(new in (0, old) for new, old in zip(now, before, strict=True)), "old bytes or zeros, nothing else"
        self.model[offset : offset + length] = now

    @rule()
    def flush(self) -> None:
        self.node.flush()

    @rule()
    def reopen(self) -> None:
        self.node._close()
        self.open()

    @rule(sectors=st.integers(0, 600), grow=st.booleans())
    def resize(self, sectors: int, grow: bool) -> None:
        size = len(self.model)
        new = size // 512 * 512 + sectors * 512 if grow else max(0, size // 512 - sectors) * 512
        self.node.resize(new)
        del self.model[new:]
        self.model.extend(bytes(new - len(self.model)))

    @invariant()
    def reads_like_the_model(self) -> None:
        if self.node is None:
            return
        size = len(self.model)
        assert self.node.size == size
        offset = self.rng.randrange(size + 1)
        length = self.rng.randrange(min(size - offset, 1 << 18) + 1)
        assert self.node.read(offset, length) == self.model[offset : offset + length]

    def teardown(self) -> None:
        if self.node is None:
            return
        node, size, position = self.node, len(self.model), 0
        assert node.read(0, size) == self.model
        for extent in node.extents():
            assert extent.offset == position
            assert extent.length > 0
            at = position
            while at < position + extent.length:
                piece = node.map(at, position + extent.length - at)
                assert piece.kind is extent.kind
                if extent.kind is Kind.DATA:
                    assert piece.target - at == extent.target - position
                at += piece.length
            position += extent.length
        assert position == size
        node._close()
        report = check_image(self.file, read_header(self.file), Repair.NONE)
        assert report.clean, report.findings[:5]
        self.judge(self.image(), bytes(self.model), self.below, self.rng)


FEW = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def test_any_sequence_of_requests_reads_back() -> None:
    run_state_machine_as_test(Disk, settings=FEW)


def test_counts_survive_a_cache_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refcounts, "_CACHE_SIZE", 1)
    run_state_machine_as_test(Disk, settings=settings(FEW, max_examples=15))


@pytest.mark.interop("qemu-img")
def test_qemu_img_reads_what_any_sequence_left(tmp_path: Path) -> None:
    class Judged(Disk):
        def judge(self, image: bytes, model: bytes, below: MemoryNode | None, rng: random.Random) -> None:
            top, raw, under = tmp_path / "top.qcow2", tmp_path / "model.raw", tmp_path / "under"
            top.write_bytes(image)
            raw.write_bytes(model)
            if below is not None:
                under.write_bytes(below.data)
                # Version 2 says nothing about the format; qemu-img would guess it.
                run_qemu("rebase", "-u", "-f", "qcow2", "-b", under, "-F", self.under, top)
            run_qemu("check", "-f", "qcow2", top)
            if model:
                run_qemu("compare", "-f", "qcow2", "-F", "raw", top, raw)

    run_state_machine_as_test(Judged, settings=settings(FEW, max_examples=15))


@pytest.mark.skipif(find_spec("llvmlite") is None, reason="needs llvmlite")
def test_any_sequence_of_requests_reads_back_natively(
    direct_path: Path, answers_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_READS", 0)
    native = []

    class Quick(Disk):
        def new_file(self) -> Node:
            direct_path.unlink(missing_ok=True)
            return create_file(direct_path)

        def image(self) -> bytes:
            return direct_path.read_bytes()

        @invariant()
        def small_reads_are_like_the_model(self) -> None:
            for _ in range(8 if self.node is not None and self.model else 0):
                offset = self.rng.randrange(len(self.model))
                length = min(self.rng.randrange(self.cluster + 2), len(self.model) - offset)
                assert self.node.read(offset, length) == self.model[offset : offset + length]
                native.append(isinstance(self.node.read, BuiltinFunctionType))

        def teardown(self) -> None:
            super().teardown()
            if self.node is not None:
                self.file.close()

    run_state_machine_as_test(Quick, settings=FEW)
    # How many depends on what is generated: a tenth to a half.
    assert any(native) is answers_at_once


def run_qemu(*words: object) -> None:
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
