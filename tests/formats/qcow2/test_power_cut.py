"""What a power cut leaves, at every operation that reached the file: leaks at most, and only bytes that are legal.

Every sector the guest writes is a tag no other sector ever holds, so that bytes of another place are told at once.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from blockkit.block.node import Preallocation
from blockkit.block.report import Repair
from blockkit.errors import CorruptImageError
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.formats.qcow2.schema import Incompatible
from blockkit.testing.memory import MemoryNode
from blockkit.testing.powercut import Logged, PowerCutNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Judge

SECTOR = 512
ZERO = bytes(SECTOR)


def tag(operation: int, sector: int) -> bytes:
    """Return a sector that says who wrote it, and compresses well."""
    return struct.pack(">II", operation + 1, sector + 1) * (SECTOR // 8)


@dataclass
class Change:
    """One guest operation: between which file operations it ran, and what it left legal."""

    start: int
    end: int
    values: dict[int, frozenset[bytes]]
    size: int


@dataclass
class History:
    """All guest operations of one run, and what may be seen after a power cut at any moment of it."""

    size: int
    below: Callable[[int], bytes]
    changes: list[Change] = field(default_factory=list)
    flushes: list[tuple[int, int, int]] = field(default_factory=list)

    def initial(self, sector: int) -> bytes:
        """Return what a sector holds at first; what the backing has behind the end must never show."""
        return self.below(sector) if sector < self.size // SECTOR else ZERO

    def current(self, sector: int) -> frozenset[bytes]:
        for change in reversed(self.changes):
            if sector in change.values:
                return change.values[sector]
        return frozenset([self.initial(sector)])

    def legal(self, cut: int) -> tuple[list[set[bytes]], set[int]]:
        """Return the legal values of every sector, and the legal sizes, after ``cut`` file operations."""
        settled = max((count for _, end, count in self.flushes if end <= cut), default=0)
        sectors = max([self.size, *(c.size for c in self.changes)]) // SECTOR
        values, size = [{self.initial(s)} for s in range(sectors)], self.size
        for change in self.changes[:settled]:
            size = change.size
            for sector, found in change.values.items():
                values[sector] = set(found)
        sizes = {size}
        for change in self.changes[settled:]:
            if change.start >= cut:
                break
            sizes.add(change.size)
            for sector, found in change.values.items():
                values[sector] |= found
        return values, sizes


class Guest:
    """Drives a node at random, and keeps its history."""

    def __init__(self, node: Qcow2Node, log: PowerCutNode, backing: bytes, rng: random.Random) -> None:
        self.node, self.log, self.rng = node, log, rng
        self.history = History(
            node.size, lambda s: (backing[s * SECTOR : (s + 1) * SECTOR] or ZERO).ljust(SECTOR, b"\0")
        )
        self.number = 0

    def range(self) -> tuple[int, int]:
        sectors, cluster = self.node.size // SECTOR, self.node.cluster_size // SECTOR
        first = self.rng.randrange(sectors)
        count = self.rng.choice([1, cluster, cluster * 2 + 1, cluster * 9])
        if self.rng.random() < 0.5:
            first = first // cluster * cluster
        return first, max(1, min(count, sectors - first))

    def note(self, start: int, values: dict[int, frozenset[bytes]]) -> None:
        self.history.changes.append(Change(start, len(self.log.log), values, self.node.size))

    def step(self, kind: str) -> None:
        node, start = self.node, len(self.log.log)
        first, count = self.range()
        self.number += 1
        sectors = range(first, first + count)
        # The change is known to the history before it happens, as the power may go in the middle of it.
        if kind == "write":
            node.write(first * SECTOR, b"".join(tag(self.number, s) for s in sectors))
            self.note(start, {s: frozenset([tag(self.number, s)]) for s in sectors})
        elif kind == "compressed":
            cluster = node.cluster_size // SECTOR
            first = first // cluster * cluster
            data = b"".join(tag(self.number, s) for s in range(first, first + cluster))
            encoded = node.compress(data)
            if encoded is not None:
                node.write_compressed(first * SECTOR, encoded)
                inside = range(first, min(first + cluster, node.size // SECTOR))
                self.note(start, {s: frozenset([tag(self.number, s)]) for s in inside})
        elif kind == "room":
            cluster = node.cluster_size // SECTOR
            first, count = first // cluster * cluster, max(count // cluster, 1)
            room = node.room(first * SECTOR, count * cluster * SECTOR)
            if room is None:
                return
            put: dict[int, frozenset[bytes]] = {}
            for at in range(first, first + count * cluster, cluster):
                if self.rng.random() < 0.7:
                    tags = {s: tag(self.number, s) for s in range(at, at + cluster)}
                    room.put(at * SECTOR, memoryview(b"".join(tags.values())))
                    put |= {s: frozenset([value]) for s, value in tags.items()}
            if self.rng.random() < 0.2:
                room.abandon()
            else:
                room.keep()
                self.note(start, put)
        elif kind in ("zero", "keep"):
            node.zero(first * SECTOR, count * SECTOR, unmap=kind == "zero")
            self.note(start, {s: frozenset([ZERO]) for s in sectors})
        elif kind == "discard":
            values = {s: self.history.current(s) | {ZERO} for s in sectors}
            node.discard(first * SECTOR, count * SECTOR)
            self.note(start, values)
        elif kind == "flush":
            done = len(self.history.changes)
            node.flush()
            self.history.flushes.append((start, len(self.log.log), done))
        elif kind in ("grow", "preallocate"):
            old = node.size // SECTOR
            mode = Preallocation.METADATA if kind == "preallocate" else Preallocation.OFF
            node.resize(node.size + self.rng.randrange(1, 40) * SECTOR * 5, preallocate=mode)
            self.note(start, {s: frozenset([ZERO]) for s in range(old, node.size // SECTOR)})
        elif kind == "shrink" and node.size > 100 * SECTOR:
            old, new = node.size // SECTOR, (node.size // SECTOR) * 3 // 4
            values = {s: self.history.current(s) | {ZERO, self.history.below(s)} for s in range(new, old)}
            node.resize(new * SECTOR)
            self.note(start, values)


def cuts(log: PowerCutNode, cut: int, rng: random.Random, samples: int) -> Iterator[bytearray]:
    """Yield what may be left after ``cut`` operations: all, what was flushed, the last torn, and random parts."""
    risky = log.at_risk(cut)
    yield log.state(cut)
    if not risky:
        return
    if len(risky) > 1:
        yield log.state(cut, lost=risky)
    yield log.state(cut, torn={cut - 1: some_sectors(log.log[cut - 1], rng)})
    for _ in range(samples if len(risky) > 1 else 0):
        odds = rng.choice([0.1, 0.5, 0.9])
        lost = {index for index in risky if rng.random() < odds}
        torn = {index: some_sectors(log.log[index], rng) for index in risky if rng.random() < 0.2}
        yield log.state(cut, lost=lost, torn=torn)


def some_sectors(logged: Logged, rng: random.Random) -> set[int]:
    """Choose some of the sectors of the file that an operation changed."""
    sectors = range(logged.offset // SECTOR, -(-(logged.offset + logged.length) // SECTOR))
    return {sector for sector in sectors if rng.random() < 0.5}


MIX = (
    ["write"] * 8
    + ["room"] * 3
    + ["compressed"] * 2
    + ["zero", "zero", "keep", "discard", "discard"]
    + ["flush"] * 3
    + ["grow"]
)


def illegal(history: History, cut: int, node: Qcow2Node) -> str:
    """Say what the guest must not see after a cut; nothing if all is well."""
    values, sizes = history.legal(cut)
    if node.size not in sizes:
        return f"size {node.size}, not one of {sizes}"
    data = node.read(0, node.size)
    for sector in range(node.size // SECTOR):
        found = data[sector * SECTOR : (sector + 1) * SECTOR]
        if found not in values[sector]:
            return f"sector {sector} holds {found[:16].hex()}, not one of {[v[:16].hex() for v in values[sector]]}"
    return ""


def survives(history: History, cut: int, state: bytes | bytearray, backing: bytes) -> bytes:
    """Reopen what a cut left, look at it, repair it if it says so, write to it; returns it as it is then."""
    header = read_header(MemoryNode(state))
    dirty = bool(header.incompatible & Incompatible.DIRTY)
    under = MemoryNode(backing) if backing else None
    assert not (wrong := illegal(history, cut, Qcow2Node(MemoryNode(state), backing=under))), f"cut at {cut}: {wrong}"
    file = MemoryNode(state, grows=True)
    report = check_image(file, header, Repair.NONE)
    assert dirty or not (report.corruptions or report.check_errors), f"cut at {cut}: {report.findings[:5]}"
    if dirty:
        with pytest.raises(CorruptImageError):
            Qcow2Node(MemoryNode(state, grows=True), read_only=False).write(0, b"x")
        report = check_image(file, header, Repair.ALL)
        assert report.clean, f"cut at {cut}: {report.findings[:5]}"
    repaired = bytes(file.data)
    node = Qcow2Node(file, read_only=False, backing=under)
    assert not (wrong := illegal(history, cut, node)), f"cut at {cut}, repaired: {wrong}"
    node.write(0, b"\xee" * min(node.size, 3 * node.cluster_size))
    node.close()
    report = check_image(MemoryNode(file.data), read_header(MemoryNode(file.data)), Repair.NONE)
    assert report.corruptions + report.check_errors == 0, f"cut at {cut}, written to: {report.findings[:5]}"
    return repaired


def prove(
    file: MemoryNode,
    *,
    steps: list[str],
    rng: random.Random,
    backing: bytes = b"",
    judge: Judge | None = None,
    samples: int = 2,
    every: int = 1,
    cache_size: int = 0,
) -> None:
    log = PowerCutNode(file)
    under = MemoryNode(backing) if backing else None
    node = Qcow2Node(log, read_only=False, backing=under, cache_size=cache_size)
    guest = Guest(node, log, backing, rng)
    for kind in steps:
        guest.step(kind)
    start = len(log.log)
    node.close()
    guest.history.flushes.append((start, len(log.log), len(guest.history.changes)))
    for cut in range(0, len(log.log) + 1, every):
        for state in cuts(log, cut, rng, samples):
            after = survives(guest.history, cut, state, backing)
            if judge is not None and rng.random() < 0.02:
                assert judge.check(after) in (0, 3), f"cut at {cut}: {judge.words}"


CASES = [
    # cluster_size, refcount_bits, lazy, backing (in 64ths of the size), compat
    (512, 16, False, 0, "1.1"),
    (512, 64, False, 70, "1.1"),
    (512, 1, False, 40, "1.1"),
    (1024, 64, True, 40, "1.1"),
    (512, 64, True, 0, "1.1"),
    (4096, 2, False, 64, "1.1"),
    (1024, 16, False, 0, "0.10"),
    (512, 16, False, 64, "0.10"),
]


@pytest.mark.parametrize(("cluster", "bits", "lazy", "under", "compat"), CASES)
@pytest.mark.parametrize("seed", range(2))
def test_any_mix_of_requests(
    seed: int,
    cluster: int,
    bits: int,
    lazy: bool,
    under: int,
    compat: str,
    image: Callable[..., MemoryNode],
    judge: Judge,
) -> None:
    rng = random.Random(f"{seed} {cluster} {bits} {lazy} {under}")
    size = cluster * 160
    backing = b"".join(tag(1 << 20, s) for s in range(size // 64 * under // SECTOR))
    file = image(size, cluster_size=cluster, refcount_bits=bits, lazy_refcounts=lazy, compat=compat)
    steps = rng.choices(MIX + (["preallocate", "shrink"] if seed else []), k=28)
    prove(file, steps=steps, rng=rng, backing=backing, judge=judge)


@pytest.mark.parametrize("compat", ["1.1", "0.10"])
def test_growing_over_a_longer_backing_file(compat: str, image: Callable[..., MemoryNode]) -> None:
    rng = random.Random(8)
    backing = b"".join(tag(1 << 20, s) for s in range(4096 // SECTOR * 200))
    file = image(4096 * 20 + 3 * SECTOR, cluster_size=4096, compat=compat)
    steps = ["write", "flush", "grow", "write", "grow", "shrink", "grow", "flush", "write", "shrink", "grow"]
    prove(file, steps=steps, rng=rng, backing=backing, samples=6)


@pytest.mark.parametrize("lazy", [False, True])
def test_the_refcount_table_moves(lazy: bool, image: Callable[..., MemoryNode], judge: Judge) -> None:
    # One cluster of table counts 64 blocks of 64 clusters of 512 bytes: 2 MiB.
    rng = random.Random(5)
    file = image(4 << 20, cluster_size=512, refcount_bits=64, lazy_refcounts=lazy)
    with Qcow2Node(file, read_only=False) as node:
        node.write(2 << 20, b"\x11" * ((1 << 20) + 900_000))
        room = 64 * 64 - sum(1 for c in range(64 * 64) if node.metadata.refcounts.get(c))
    assert 0 < room < 400
    log = PowerCutNode(file)
    node = Qcow2Node(log, read_only=False, cache_size=0)
    guest = Guest(node, log, node.read(0, node.size), rng)
    guest.range = lambda: (rng.randrange(2000), 90)  # type: ignore[method-assign]
    for kind in ["write"] * 3 + ["flush", "discard", "write", "write", "flush", "write", "write", "discard", "write"]:
        guest.step(kind)
    start = len(log.log)
    node.close()
    guest.history.flushes.append((start, len(log.log), len(guest.history.changes)))
    assert read_header(file).fixed.refcount_table_clusters > 1, "the table has moved"
    for cut in range(0, len(log.log) + 1, 7):
        for state in cuts(log, cut, rng, 1):
            under = MemoryNode(state, grows=True)
            # Opening it for writing looks at the whole table, which a lazy image must not lose either.
            Qcow2Node(under, read_only=False)
            assert not (wrong := illegal(guest.history, cut, Qcow2Node(under))), f"cut at {cut}: {wrong}"
            if read_header(under).incompatible & Incompatible.DIRTY:
                continue
            report = check_image(under, read_header(under), Repair.NONE)
            assert report.corruptions + report.check_errors == 0, f"cut at {cut}: {report.findings[:5]}"


@pytest.mark.parametrize("seed", range(3))
def test_clusters_shared_with_a_snapshot(seed: int, tmp_path: Path, qemu_img: Callable[..., str], judge: Judge) -> None:
    rng, path, raw = random.Random(seed), tmp_path / "s.qcow2", tmp_path / "s.raw"
    size = 512 * 200
    old = b"".join(tag(99, s) for s in range(size // SECTOR * 3 // 4)).ljust(size, b"\0")
    raw.write_bytes(old)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=512", raw, path)
    qemu_img("snapshot", "-c", "snap", path)
    file = MemoryNode(path.read_bytes(), grows=True)
    log = PowerCutNode(file)
    node = Qcow2Node(log, read_only=False, cache_size=0)
    guest = Guest(node, log, old, rng)
    for kind in rng.choices([k for k in MIX if k != "grow"], k=16):
        guest.step(kind)
    start = len(log.log)
    node.close()
    guest.history.flushes.append((start, len(log.log), len(guest.history.changes)))
    for cut in range(len(log.log) + 1):
        for state in cuts(log, cut, rng, 2):
            after = survives(guest.history, cut, state, b"")
            if rng.random() < 0.05:
                assert judge.check(after) in (0, 3), f"cut at {cut}: {judge.words}"
                qemu_img("convert", "-l", "snap", "-f", "qcow2", "-O", "raw", judge.path, raw)
                assert raw.read_bytes() == old, f"cut at {cut}: the snapshot changed"
