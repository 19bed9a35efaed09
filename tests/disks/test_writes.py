"""Random requests to random chains: what was read and what QEMU reads in the end is what a plain model holds."""

from __future__ import annotations

import io
import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from blockkit.block.fileobj import NodeFile
from blockkit.block.graph import open_image
from blockkit.block.node import Kind, Preallocation
from blockkit.block.resolve import resolved
from blockkit.errors import UnsupportedOperationError
from blockkit.formats.qcow2 import reading
from blockkit.protocols.hostfile import HostFile
from blockkit.units import GiB, KiB, MiB
from tests.amount import SEED, TIMES
from tests.conftest import run_program
from tests.disks.chains import SECTOR, ChainMaker, Image, difference, patchwork
from tests.disks.model import Model
from tests.disks.tool import qemu_img

if TYPE_CHECKING:
    from pathlib import Path

    from blockkit.block.node import Node

pytestmark = pytest.mark.interop

LONGEST = 6 * MiB
#: What an image may be opened through.
FILTERS = [None, None, None, None, "throttle", "trace", "copy_on_read", "window"]


@pytest.fixture(params=range(8 * TIMES))
def rng(request: pytest.FixtureRequest) -> random.Random:
    """One for each case."""
    return random.Random(f"{SEED}: {request.param}")


class Session:
    """Makes requests of one node and of a model.

    Args:
        node: Open for writing.
        image: What it was opened from.
        model: What it must hold.
        rng: What decides.
        story: What was done, for whoever reads of a failure.
    """

    def __init__(self, node: Node, image: Image, model: Model, rng: random.Random, story: list[object]) -> None:
        self.node, self.image, self.model, self.rng, self.story = node, image, model, rng, story
        self.unit = image.cluster_size

    def request(self) -> None:
        """Do one thing of those that a guest, a tool or a program does."""
        rng, size = self.rng, len(self.model)
        if not size:
            self.resize()
            return
        step = rng.choice([1, 1, SECTOR, self.unit, self.unit])
        offset = rng.randrange(size) // step * step
        length = min(size - offset, rng.choice([1, SECTOR, 4 * KiB, self.unit, self.unit, 2 * self.unit,
                                                3 * self.unit + 1, rng.randrange(1, 400 * KiB)]))  # fmt: skip
        if rng.random() < 0.1:
            length = size - offset
        acts = (self.write, self.zero, self.discard, self.read, self.extents, self.data, self.through_file)
        act = rng.choices(acts, (35, 15, 8, 20, 7, 5, 7))[0]
        if rng.random() < 0.04:
            self.node.flush()
        elif rng.random() < 0.04 and self.node.driver == "qcow2":
            self.resize()
        else:
            act(offset, length)

    def write(self, offset: int, length: int) -> None:
        rng = self.rng
        data = patchwork(rng, length) if rng.random() < 0.5 else bytes([rng.randrange(256)]) * length
        pieces = self.pieces(length)
        self.story.append(("write", offset, length, pieces))
        if pieces is None:
            self.node.write(offset, data, fua=rng.random() < 0.1)
        else:
            ends = [sum(pieces[: index + 1]) for index in range(len(pieces))]
            self.node.writev(offset, [data[end - size : end] for end, size in zip(ends, pieces, strict=True)])
        self.model.write(offset, data)

    def zero(self, offset: int, length: int) -> None:
        unmap = self.rng.random() < 0.5
        self.story.append(("zero", offset, length, unmap))
        self.node.zero(offset, length, unmap=unmap)
        self.model.write(offset, bytes(length))

    def discard(self, offset: int, length: int) -> None:
        self.story.append(("discard", offset, length))
        self.node.discard(offset, length)
        self.model.discard(offset, length)

    def read(self, offset: int, length: int) -> None:
        pieces = self.pieces(length)
        if pieces is None:
            found = self.node.read(offset, length)
        else:
            buffers = [bytearray(size) for size in pieces]
            self.node.readv(offset, buffers)
            found = b"".join(buffers)
        wrong = self.model.differs(offset, found)
        assert not wrong, ("read", offset, length, pieces, wrong, self.story)

    def extents(self, offset: int, length: int) -> None:
        """What extents say is so: they leave nothing out, zeros are zeros, data is where they say."""
        data, position = self.node.read(offset, length), offset
        for extent in self.node.extents(offset, length):
            assert extent.offset == position, (extent, self.story)
            assert extent.length > 0, (extent, self.story)
            held = data[position - offset : position - offset + extent.length]
            position += extent.length
            if extent.kind is Kind.ZERO:
                assert not any(held), (extent, self.story)
            if extent.kind is Kind.DATA and extent.node is not self.node and extent.node is not None:
                inside = max(0, min(extent.length, extent.node.size - extent.target))
                there = extent.node.read(extent.target, inside) if inside else b""
                assert not difference(there.ljust(extent.length, b"\0"), held), (extent, self.story)
        assert position == offset + length, self.story

    def data(self, offset: int, length: int) -> None:
        """What a chain of extents comes down to is in the host file that it says."""
        held = self.node.read(offset, length)
        with resolved(self.node, offset, length) as runs:
            position = offset
            for run in runs:
                assert run.offset == position, (run, self.story)
                part = held[position - offset : position - offset + run.length]
                position += run.length
                if run.kind is Kind.DATA and isinstance(run.node, HostFile):
                    # Not by its own descriptor, which may insist on whole blocks.
                    with open(run.node.filename, "rb") as file:
                        there = os.pread(file.fileno(), run.length, run.target)
                    assert not difference(there.ljust(run.length, b"\0"), part), (run, self.story)

    def through_file(self, offset: int, length: int) -> None:
        """The file-like face reads and writes the same bytes, buffered or not."""
        length = min(length, 5000)
        data = bytes([self.rng.randrange(1, 256)]) * min(700, len(self.model) - offset)
        self.story.append(("file", offset, len(data)))
        raw = NodeFile(self.node)
        with io.BufferedRandom(raw) if self.rng.random() < 0.5 else raw as file:
            file.seek(offset)
            found = file.read(length) or b""
            wrong = self.model.differs(offset, found)
            assert not wrong, (offset, wrong, self.story)
            assert len(found) == length, (offset, self.story)
            file.seek(offset)
            assert file.write(data) == len(data)
        self.model.write(offset, data)

    def resize(self) -> None:
        rng, size = self.rng, len(self.model)
        size = rng.choice([size + SECTOR, size + self.unit, size + MiB, size - SECTOR, size // 2])
        size = max(SECTOR, size // SECTOR * SECTOR)
        grows = size > len(self.model)
        how = Preallocation(rng.choice(["off", "off", "metadata", "falloc", "full"]) if grows else "off")
        self.story.append(("resize", size, how))
        if size != len(self.model) and not self.image.resizes(grows=grows):
            with pytest.raises(UnsupportedOperationError, match=r"internal snapshots|bitmap 'b0' is in use"):
                self.node.resize(size)
            return
        self.node.resize(size, preallocate=how)
        self.model.resize(size)

    def together(self) -> None:
        """Three threads write and zero in turn where no other of them does."""
        size, count, failed = len(self.model), 3, []
        unit = min(size, self.rng.choice([SECTOR, 4 * KiB, 1000, max(SECTOR, self.unit // 2)]))
        seed = self.rng.random()
        self.story.append(("threads", unit))
        done: list[list[tuple[int, bytes]]] = [[] for _ in range(count)]

        def work(number: int) -> None:
            rng = random.Random(f"{seed} {number}")
            try:
                for _ in range(15):
                    place = rng.randrange(size // unit) // count * count + number
                    if (place + 1) * unit > size:
                        continue
                    data = bytes([rng.choice([0, rng.randrange(256)])]) * unit
                    if any(data):
                        self.node.write(place * unit, data)
                    else:
                        self.node.zero(place * unit, unit, unmap=rng.random() < 0.5)
                    done[number].append((place * unit, data))
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, (failed, self.story)
        for each in done:
            for place, data in each:
                self.model.write(place, data)

    def pieces(self, length: int) -> list[int] | None:
        """Return lengths of the buffers of a vector, or None for one buffer."""
        rng, sizes = self.rng, []
        if rng.random() < 0.5:
            return None
        while length and len(sizes) < 900:
            sizes.append(min(length, rng.choice([0, 1, 777, SECTOR, 4 * KiB, 64 * KiB, self.unit])))
            length -= sizes[-1]
        return [*sizes, length]


def opened(image: Image, rng: random.Random, story: list[object]) -> Node:
    """Open an image for writing, in one of many ways."""
    tree: dict[str, object] = {"driver": "qcow2", "file.filename": str(image.path)}
    if rng.random() < 0.3:
        tree["file.cache"] = rng.choice(["none", "writethrough", "directsync", "unsafe"])
    if rng.random() < 0.3:
        tree["cache_size"] = rng.choice(["64K", "4K", "512K"])
    if rng.random() < 0.2:
        tree["file.discard"] = rng.choice(["unmap", "ignore"])
    name = rng.choice(FILTERS)
    if name is not None:
        tree = {"driver": name, "file": tree}
        tree |= {"trace": {"sink": lambda _: None}, "throttle": {"bytes_per_second": 1024 * GiB}}.get(name, {})
    story.append(("open", str(tree)))
    return open_image(tree, read_only=False)


@pytest.mark.parametrize("quick", [False, True])
def test_requests(tmp_path: Path, rng: random.Random, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several sessions, some of them QEMU's; its snapshots stay what they were."""
    if quick:  # small reads in native code, after a few
        monkeypatch.setattr(reading, "_READS", 3)
        monkeypatch.setattr(reading, "_WORTH_LOADING", 0)
        monkeypatch.setattr(reading, "_WORTH_COMPILING", 0)
    maker = ChainMaker(tmp_path, rng)
    image = maker.chain(longest=LONGEST)
    if image.format != "qcow2":
        image = maker.qcow2("top.qcow2", LONGEST // 2, backing=image)
    story: list[object] = [*image.made]
    model = Model(image.contents())
    kept = {name: of_snapshot(image, name) for name in image.snapshots}
    for _ in range(rng.choice([1, 2, 3])):
        if rng.random() < 0.25 and len(model):
            by_qemu(image, model, rng, story)
        else:
            image.has_stale_bitmap = "in-use" in image.bitmap_flags()
            with opened(image, rng, story) as node:
                assert node.size == len(model), story
                session = Session(node, image, model, rng, story)
                for _ in range(rng.randrange(1, 40)):
                    session.request()
                if rng.random() < 0.25 and len(model) > 64 * KiB:
                    session.together()
        wrong = model.settle(image.contents())
        assert not wrong, (wrong, story)
        checked = qemu_img("check", "-f", "qcow2", image.path)
        assert checked.code == 0, (checked, story)
    for name, contents in kept.items():
        # QEMU shows a snapshot as long as the disk is now.
        found = of_snapshot(image, name).ljust(len(contents), b"\0")
        assert not difference(found[: len(contents)], contents), (name, story)


def by_qemu(image: Image, model: Model, rng: random.Random, story: list[object]) -> None:
    """Have qemu-io write and zero."""
    commands = []
    for _ in range(rng.randrange(1, 6)):
        unit = rng.choice([1, SECTOR, image.cluster_size])
        offset = rng.randrange(len(model)) // unit * unit
        length = min(len(model) - offset, rng.choice([1, SECTOR, 4 * KiB, 2 * image.cluster_size, 300 * KiB]))
        value = rng.choice([0, rng.randrange(256)])
        zeros = f"-z {rng.choice(['', '-u'])}" if not value else f"-P {value}"
        commands += ["-c", f"write -q {zeros} {offset} {length}"]
        model.write(offset, bytes([value]) * length)
    story.append(commands)
    run_program("qemu-io", "-f", "qcow2", "-d", "unmap", *commands, image.path)


def of_snapshot(image: Image, name: str) -> bytes:
    """Return what QEMU reads of an internal snapshot."""
    goal = image.path.with_name("snapshot.raw")
    run_program("qemu-img", "convert", "-f", "qcow2", "-l", f"snapshot.name={name}", "-O", "raw", image.path, goal)
    return goal.read_bytes()
