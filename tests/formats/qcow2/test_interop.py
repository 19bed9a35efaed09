"""Images of ours read and written by QEMU's tools, theirs by us, and the same one by both in turn."""

from __future__ import annotations

import itertools
import json
import random
from typing import TYPE_CHECKING

import pytest

from blockkit.block.node import Kind
from blockkit.block.report import Repair
from blockkit.formats.qcow2.bitmaps import read_bitmaps
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.create import CreateOptions, create
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.formats.raw import RawNode
from blockkit.protocols.file import create_file, open_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., str]

SIZE = 3 << 20

AXES: dict[str, tuple[object, ...]] = {
    "cluster_size": tuple(512 << bits for bits in range(13)),
    "refcount_bits": (1, 2, 4, 8, 16, 32, 64),
    "compat": ("1.1", "0.10"),
    "compression_type": ("zlib", "zstd"),
    "lazy_refcounts": (False, True),
    "preallocation": ("off", "metadata", "falloc", "full"),
    "under": (None, "raw", "qcow2"),
}


def possible(case: dict[str, object]) -> bool:
    if case["compat"] == "0.10":
        if case["refcount_bits"] != 16 or case["compression_type"] != "zlib" or case["lazy_refcounts"]:
            return False
    return not (case["under"] and case["preallocation"] != "off")


def pairwise() -> list[dict[str, object]]:
    """Return few cases that have every possible pair of values of two options between them."""
    everything = [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]
    pairs = [frozenset(itertools.combinations(case.items(), 2)) for case in everything if possible(case)]
    having: dict[tuple[object, ...], list[frozenset[tuple[object, ...]]]] = {}
    for case in pairs:
        for pair in case:
            having.setdefault(pair, []).append(case)
    rng = random.Random(1)
    left = dict.fromkeys(sorted(having, key=str))
    chosen = []
    while left:
        # The first pair that is left, with as many others as one of some cases has.
        among = having[next(iter(left))]
        best = max(rng.sample(among, min(100, len(among))), key=lambda case: sum(pair in left for pair in case))
        for pair in best:
            left.pop(pair, None)
        chosen.append({key: value for pair in best for key, value in pair})
    return [{key: case[key] for key in AXES} for case in chosen]


CASES = pairwise()


def name(case: dict[str, object]) -> str:
    return "-".join(str(value) for value in case.values())


class Both:
    """One image, changed by either side, beside what it must read as."""

    def __init__(self, case: dict[str, object], where: Path, qemu_img: Run, qemu_io: Run, rng: random.Random) -> None:
        self.path, self.raw, self.qemu_img, self.qemu_io, self.rng = (
            where / "top",
            where / "raw",
            qemu_img,
            qemu_io,
            rng,
        )
        self.options = {key: value for key, value in case.items() if key != "under"}
        self.model, self.under = bytearray(SIZE), case["under"]
        if self.under:
            data = rng.randbytes(SIZE // 2 + 512)
            self.below = where / "below"
            self.raw.write_bytes(data)
            qemu_img("convert", "-f", "raw", "-O", self.under, self.raw, self.below)
            self.model[: len(data)] = data

    def create_ours(self) -> None:
        extra = {"backing_file": "below", "backing_fmt": self.under} if self.under else {}
        with create_file(self.path) as file:
            create(file, SIZE, CreateOptions(**self.options, **extra))  # type: ignore[arg-type]

    def create_theirs(self) -> None:
        words = [
            f"{key}={str(v).lower() if not isinstance(v, bool) else 'on' if v else 'off'}"
            for key, v in self.options.items()
        ]
        words = [word for word in words if word != "compression_type=zlib" or self.options["compat"] == "1.1"]
        backing = ["-b", self.below, "-F", self.under] if self.under else []
        self.qemu_img("create", "-f", "qcow2", "-o", ",".join(words), *backing, self.path, SIZE)

    def open(self, *, read_only: bool = False) -> Qcow2Node:
        backing = None
        if self.under:
            backing = open_path(self.below)
            backing = Qcow2Node(backing) if self.under == "qcow2" else RawNode(backing)
        return Qcow2Node(open_path(self.path, read_only=read_only), read_only=read_only, backing=backing, cache_size=0)

    def spot(self) -> tuple[int, int]:
        offset = self.rng.randrange(SIZE // 512) * 512
        return offset, min(self.rng.choice([512, 4096, 70000 // 512 * 512, 1 << 19]), SIZE - offset)

    def ours(self, steps: int = 6) -> None:
        with self.open() as node:
            for _ in range(steps):
                offset, length = self.spot()
                kind = self.rng.randrange(7)
                if kind < 3:
                    data = self.rng.randbytes(length)
                    node.write(offset, data)
                    self.model[offset : offset + length] = data
                elif kind == 3:
                    node.zero(offset, length, unmap=self.rng.random() < 0.5)
                    self.model[offset : offset + length] = bytes(length)
                elif kind == 4:
                    node.discard(offset, length)
                    self.model[offset : offset + length] = node.read(offset, length)
                else:
                    size = node.cluster_size
                    offset = offset // size * size
                    piece = self.rng.randbytes(size // 3 + 1)
                    data = (piece * 3)[:size]
                    encoded = node.compress(data)
                    if encoded is not None:
                        node.write_compressed(offset, encoded)
                        end = min(offset + size, SIZE)
                        self.model[offset:end] = data[: end - offset]
            assert node.read(0, SIZE) == self.model

    def theirs(self, steps: int = 6) -> None:
        commands = []
        cluster = int(str(self.options["cluster_size"]))
        with self.open(read_only=True) as node:
            taken = [extent for extent in node.extents() if extent.kind is not Kind.UNALLOCATED]
            allocated = {start for e in taken for start in range(e.offset, e.offset + e.length, cluster)}
        for _ in range(steps):
            offset, length = self.spot()
            allocated.update(range(offset // cluster * cluster, offset + length, cluster))
            byte, kind = self.rng.randrange(1, 256), self.rng.randrange(5)
            if kind < 2:
                commands.append(f"write -P {byte} {offset} {length}")
                self.model[offset : offset + length] = bytes([byte]) * length
            elif kind == 2:
                commands.append(f"write -z {'-u ' if byte & 1 else ''}{offset} {length}")
                self.model[offset : offset + length] = bytes(length)
            elif kind == 3:
                free = [start for start in range(0, SIZE, cluster) if start not in allocated]
                offset = self.rng.choice(free) if free else 0
                length = min(cluster, SIZE - offset)
                # QEMU refuses to compress over a cluster that is allocated.
                if length == cluster and offset not in allocated:
                    allocated.add(offset)
                    commands.append(f"write -c -P {byte} {offset} {length}")
                    self.model[offset : offset + length] = bytes([byte]) * length
            else:
                commands.append("flush")
        self.qemu_io(self.path, *commands, "flush")

    def agree(self) -> None:
        self.qemu_img("check", "-f", "qcow2", self.path)
        self.raw.write_bytes(self.model)
        self.qemu_img("compare", "-f", "qcow2", "-F", "raw", self.path, self.raw)
        with self.open(read_only=True) as node:
            assert node.read(0, SIZE) == self.model
            report = check_image(node.file, node.header, Repair.NONE)
            assert report.clean, report.findings[:5]


@pytest.mark.parametrize("case", CASES, ids=name)
@pytest.mark.parametrize("by", ["us", "them"])
def test_an_image_is_written_by_both_in_turn(
    by: str, case: dict[str, object], tmp_path: Path, qemu_img: Run, qemu_io: Run, rng: random.Random
) -> None:
    both = Both(case, tmp_path, qemu_img, qemu_io, rng)
    both.create_ours() if by == "us" else both.create_theirs()
    both.agree()
    for _ in range(2):
        both.ours()
        both.agree()
        both.theirs()
        both.agree()


@pytest.mark.parametrize(("cluster", "bits"), [(512, 16), (4096, 64), (65536, 8)])
def test_snapshots_keep_their_data_while_we_write(
    cluster: int, bits: int, tmp_path: Path, qemu_img: Run, qemu_io: Run, rng: random.Random
) -> None:
    case: dict[str, object] = {key: values[0] for key, values in AXES.items()}
    both = Both(case | {"cluster_size": cluster, "refcount_bits": bits}, tmp_path, qemu_img, qemu_io, rng)
    both.create_theirs()
    kept = {}
    for number in range(2):
        both.theirs(10)
        both.ours(10)
        qemu_img("snapshot", "-c", f"snap{number}", both.path)
        kept[f"snap{number}"] = bytes(both.model)
        both.ours(10)
        both.agree()
    both.theirs(10)
    both.ours(20)
    both.agree()
    for snap, data in kept.items():
        qemu_img("convert", "-l", snap, "-f", "qcow2", "-O", "raw", both.path, both.raw)
        assert both.raw.read_bytes() == data
    qemu_img("snapshot", "-a", "snap0", both.path)
    both.model[:] = kept["snap0"]
    both.agree()
    both.ours()
    for snap in kept:
        qemu_img("snapshot", "-d", snap, both.path)
    both.ours()
    both.agree()


def test_a_bitmap_we_do_not_keep_is_marked_in_use(
    tmp_path: Path, qemu_img: Run, qemu_io: Run, rng: random.Random
) -> None:
    case: dict[str, object] = {key: values[0] for key, values in AXES.items()}
    both = Both(case | {"cluster_size": 4096}, tmp_path, qemu_img, qemu_io, rng)
    both.create_theirs()
    qemu_img("bitmap", "--add", both.path, "on")
    qemu_img("bitmap", "--add", "--disable", both.path, "off")
    both.theirs()
    before = both.path.read_bytes()
    with both.open() as node:
        node.read(0, SIZE)
    assert both.path.read_bytes() == before
    both.ours()
    both.agree()
    with open_path(both.path) as file:
        state = {bitmap.name: bitmap.in_use for bitmap in read_bitmaps(file, read_header(file))}
    assert state == {"on": True, "off": False}
    info = json.loads(qemu_img("info", "--output=json", both.path))
    flags = {bitmap["name"]: bitmap["flags"] for bitmap in info["format-specific"]["data"]["bitmaps"]}
    assert "in-use" in flags["on"]
    assert "in-use" not in flags["off"]
    both.theirs()
    both.agree()


@pytest.mark.parametrize("compat", ["1.1", "0.10"])
def test_sizes_changed_by_both_read_as_zeros(
    compat: str, tmp_path: Path, qemu_img: Run, qemu_io: Run, rng: random.Random
) -> None:
    case: dict[str, object] = {key: values[0] for key, values in AXES.items()}
    # QEMU does not grow version 2 over a backing file.
    under = "raw" if compat == "1.1" else None
    case |= {"cluster_size": 4096, "refcount_bits": 16, "compat": compat, "under": under}
    both = Both(case, tmp_path, qemu_img, qemu_io, rng)
    both.create_ours()
    both.ours(15)
    size = SIZE
    for step in range(8):
        new = rng.randrange(1, 4 * SIZE // 512) * 512
        if step % 2:
            qemu_img("resize", *(["--shrink"] if new < size else []), "-f", "qcow2", both.path, new)
        else:
            with both.open() as node:
                node.resize(new)
        grown = bytearray(both.model[:new])
        grown.extend(bytes(new - len(grown)))
        both.model, size = grown, new
        qemu_img("check", "-f", "qcow2", both.path)
        both.raw.write_bytes(both.model)
        qemu_img("compare", "-f", "qcow2", "-F", "raw", both.path, both.raw)
        with both.open(read_only=True) as node:
            assert node.size == new
            assert node.read(0, new) == both.model
