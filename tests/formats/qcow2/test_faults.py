"""A file that fails at any moment: errors are ours, the node goes on, contents stay legal, leaks at most."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from blockkit.block.report import Repair
from blockkit.errors import BlockkitError, NodeIOError, NoSpaceError
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable

SECTOR = 512


class Faulty(MemoryNode):
    """Fails at chosen operations; a write may be done in part first.

    Args:
        data: As for a memory node.
        rng: Chooses how failures look.
    """

    def __init__(self, data: bytes | bytearray, rng: random.Random) -> None:
        super().__init__(data, grows=True)
        self.rng, self.steps, self.bad = rng, 0, range(0)

    def _step(self) -> bool:
        self.steps += 1
        return self.steps in self.bad

    def _refuse(self) -> None:
        raise self.rng.choice([NodeIOError("told to fail"), NoSpaceError("told to be full")])

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        if self._step():
            self._refuse()
        super()._readv(offset, buffers)

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        if self._step():
            data = b"".join(buffers)
            part = self.rng.choice([0, len(data) // 2 // SECTOR * SECTOR, len(data)])
            if part:
                super()._writev(offset, [memoryview(data)[:part]], fua)
            self._refuse()
        super()._writev(offset, buffers, fua)

    def _discard(self, offset: int, length: int) -> None:
        if self._step():
            self._refuse()
        super()._discard(offset, length)

    def _flush(self) -> None:
        if self._step():
            self._refuse()


def tag(number: int, sector: int) -> bytes:
    return (number.to_bytes(4, "big") + (sector + 1).to_bytes(4, "big")) * (SECTOR // 8)


class Workload:
    """The same requests every time, and the values each sector may have after them."""

    def __init__(self, file: Faulty, seed: int, backing: bytes) -> None:
        self.file, self.rng, self.backing = file, random.Random(seed), backing
        self.legal: dict[int, set[bytes]] = {}
        self.failures = 0
        self.node: Qcow2Node | None = self.open()

    def open(self) -> Qcow2Node:
        under = MemoryNode(self.backing) if self.backing else None
        return Qcow2Node(self.file, read_only=False, backing=under, cache_size=0)

    def known(self, sector: int) -> set[bytes]:
        start = sector * SECTOR
        return self.legal.get(sector, {self.backing[start : start + SECTOR].ljust(SECTOR, b"\0")})

    def do(self, sectors: range, new: Callable[[int], set[bytes]], request: Callable[[], object]) -> None:
        after = {sector: new(sector) for sector in sectors}
        try:
            request()
        except BlockkitError:
            self.failures += 1
            after = {sector: found | self.known(sector) for sector, found in after.items()}
        self.legal.update(after)

    def run(self, steps: int) -> None:
        for number in range(1, steps + 1):
            self.step(number)

    def step(self, number: int) -> None:
        node, rng, kind = self.node, self.rng, self.rng.randrange(12)
        cluster, total = node.cluster_size // SECTOR, node.size // SECTOR
        first = rng.randrange(total)
        count = min(rng.choice([1, cluster, 3 * cluster + 1]), total - first)
        sectors, at, length = range(first, first + count), first * SECTOR, count * SECTOR
        if kind < 5:
            data = b"".join(tag(number, s) for s in sectors)
            self.do(sectors, lambda s: {tag(number, s)}, lambda: node.write(at, data))
        elif kind < 6:
            start = first // cluster * cluster
            encoded = node.compress(b"".join(tag(number, s) for s in range(start, start + cluster)))
            if encoded is not None:
                inside = range(start, min(start + cluster, total))
                self.do(inside, lambda s: {tag(number, s)}, lambda: node.write_compressed(start * SECTOR, encoded))
        elif kind < 8:
            self.do(sectors, lambda s: {bytes(SECTOR)}, lambda: node.zero(at, length, unmap=kind == 6))
        elif kind < 9:
            self.do(sectors, lambda s: {bytes(SECTOR)} | self.known(s), lambda: node.discard(at, length))
        elif kind < 10:
            self.do(range(0), lambda s: set(), lambda: node.resize(node.size + 20 * SECTOR))
            for sector in range(total, node.size // SECTOR):
                self.legal.setdefault(sector, {bytes(SECTOR)})
        else:
            self.do(range(0), lambda s: set(), node.flush)

    def settle(self) -> None:
        """Look at everything through the node as it is, close it, and look again."""
        self.look()
        self.node.flush()
        self.node._close()
        header = read_header(self.file)
        report = check_image(self.file, header, Repair.NONE)
        assert report.corruptions + report.check_errors == 0, report.findings[:5]
        self.node = self.open()
        self.look()
        self.node._close()

    def look(self) -> None:
        data = self.node.read(0, self.node.size)
        for sector in range(len(data) // SECTOR):
            found = data[sector * SECTOR : (sector + 1) * SECTOR]
            legal = self.known(sector)
            assert found in legal, f"sector {sector}: {found[:8].hex()}, not one of {[v[:8].hex() for v in legal]}"


CASES = [(512, 64, False, False), (512, 1, True, False), (1024, 16, True, True), (512, 64, False, True)]


@pytest.mark.parametrize(("cluster", "bits", "lazy", "under"), CASES)
@pytest.mark.parametrize("run", [1, 3])
def test_one_failure_at_any_operation_leaks_at_most(
    run: int, cluster: int, bits: int, lazy: bool, under: bool, image: Callable[..., MemoryNode]
) -> None:
    size = cluster * 300
    new = bytes(image(size, cluster_size=cluster, refcount_bits=bits, lazy_refcounts=lazy).data)
    backing = b"".join(tag(1 << 20, s) for s in range(size // SECTOR)) if under else b""
    clean = Workload(Faulty(new, random.Random(0)), 7, backing)
    clean.run(40)
    last, failures = clean.file.steps, 0
    clean.settle()
    opening = Faulty(new, random.Random(0))
    Qcow2Node(opening, read_only=False)
    for bad in range(opening.steps + 1, last, 2 if last < 400 else 7):
        work = Workload(Faulty(new, random.Random(bad)), 7, backing)
        work.file.bad = range(bad, bad + run)
        try:
            work.run(40)
            work.file.bad = range(0)
            work.settle()
        except AssertionError as error:
            raise AssertionError(f"failing at operation {bad}: {error}") from error
        failures += work.failures
    assert failures > last // 50


def test_a_disk_that_fills_up_says_so_and_keeps_what_it_has(image: Callable[..., MemoryNode]) -> None:
    class Full(MemoryNode):
        room = 60_000

        def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
            if offset + sum(map(len, buffers)) > self.room:
                raise NoSpaceError("full")
            super()._writev(offset, buffers, fua)

    file = Full(image(1 << 20, cluster_size=512).data, grows=True)
    node, kept = Qcow2Node(file, read_only=False), []
    for sector in range(300):
        try:
            node.write(sector * 1024, tag(1, sector))
            kept.append(sector)
        except NoSpaceError:
            pass
    assert 10 < len(kept) < 300
    assert all(node.read(sector * 1024, SECTOR) == tag(1, sector) for sector in kept)
    file.room = 1 << 30
    node._close()
    report = check_image(file, read_header(file), Repair.NONE)
    assert report.corruptions + report.check_errors == 0, report.findings[:5]
