"""Bitmaps of a disk that is resized: the bits QEMU would leave, or a bitmap that says it is stale."""

from __future__ import annotations

import json
import random
import shutil
import struct
from contextlib import suppress
from itertools import count, pairwise
from typing import TYPE_CHECKING

import pytest

from blockkit.block.report import Repair
from blockkit.errors import CorruptImageError, NodeIOError, NoSpaceError, UnsupportedOperationError
from blockkit.formats.qcow2 import resize
from blockkit.formats.qcow2.bitmaps import ALL_ONES, Bitmap, read_bitmaps
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.formats.qcow2.schema import BitmapFlag, Incompatible
from blockkit.testing.memory import MemoryNode
from blockkit.testing.powercut import PowerCutNode
from blockkit.units import GiB
from tests.conftest import run_program
from tests.formats.qcow2.failing import FailsOnce

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Judge

SECTOR = 512
#: Clusters of 512 bytes full of bits, each for a sector, stand for this much.
SPAN = 512 * 8 * SECTOR
#: A name that makes the entry behind it begin in the last 8 bytes of a sector.
LONG_NAME = "x" * 448
_NUMBERS = count()


def make(path: Path, cluster: int, granularity: int, size: int, marks: list[int], first: str = "first") -> None:
    """Make an image with an enabled bitmap ``on`` and two disabled ones, in which QEMU set bits at ``marks``."""
    run_program("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", path, size)
    for flag, each in (("--enable", "on"), ("--disable", first), ("--disable", "off"), ("--disable", "empty")):
        run_program("qemu-img", "bitmap", "--add", flag, "-g", granularity, path, each)
    words = [word for at in marks for word in ("-c", f"write -q -z -u {at} {min(3 * SECTOR, size - at)}")]
    run_program("qemu-io", "-f", "qcow2", *words, path)
    for each in (first, "off"):
        run_program("qemu-img", "bitmap", "--merge", "on", path, each)


def bits(file: MemoryNode, bitmap: Bitmap) -> set[int]:
    """Return the numbers of the bits that are set, behind the end of the disk too."""
    cluster = read_header(file).geometry.cluster_size
    found = set[int]()
    for index, (entry,) in enumerate(struct.iter_unpack(">Q", file.read(bitmap.table_offset, 8 * bitmap.table_size))):
        data = b"\xff" * cluster if entry == ALL_ONES else file.read(entry, cluster) if entry else b""
        for at, byte in enumerate(data):
            if byte:
                found |= {(index * cluster + at) * 8 + bit for bit in range(8) if byte >> bit & 1}
    return found


def bitmaps(file: MemoryNode) -> dict[str, Bitmap]:
    """Return what our reader finds; it refuses tables that do not fit."""
    return {bitmap.name: bitmap for bitmap in read_bitmaps(file, read_header(file))}


def dirty(path: Path, name: str) -> list[tuple[int, int]]:
    """Return the ranges whose bits QEMU finds set, bytes."""
    # A server ends soon after its only client; until then it holds its image, and removes its socket.
    number = next(_NUMBERS)
    copy, socket = path.with_name(f"{number}.qcow2"), path.with_name(f"{number}.nbd")
    shutil.copy(path, copy)
    run_program("qemu-nbd", "--fork", "--read-only", "-f", "qcow2", "-k", socket, "-B", name, copy)
    options = f"driver=nbd,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:{name}"
    found = json.loads(run_program("qemu-img", "map", "--output=json", "--image-opts", options))
    return [(extent["start"], extent["length"]) for extent in found if not extent["data"]]


def changed(file: MemoryNode, name: str, change: Callable[[bytearray, Bitmap], None]) -> MemoryNode:
    """Return a copy in which ``change`` was made."""
    data = bytearray(file.data)
    change(data, bitmaps(file)[name])
    return MemoryNode(data, grows=True)


@pytest.fixture
def small(tmp_path: Path, qemu_img: Callable[..., str]) -> MemoryNode:
    """An image of 512-byte clusters whose bitmaps have three clusters of bits each, the last half used."""
    path, size = tmp_path / "small.qcow2", SPAN * 5 // 2
    make(path, 512, SECTOR, size, [0, SPAN - SECTOR, 2 * SPAN, size - 3 * SECTOR])
    return MemoryNode(path.read_bytes(), grows=True)


@pytest.mark.interop("qemu-img", "qemu-io", "qemu-nbd")
@pytest.mark.parametrize(
    ("cluster", "granularity"),
    [(512, 512), (1024, 2048), (4096, 512), (65536, 512), (65536, 65536)],
)
def test_bits_are_those_that_qemu_leaves(tmp_path: Path, cluster: int, granularity: int, judge: Judge) -> None:
    path, theirs = tmp_path / "ours.qcow2", tmp_path / "theirs.qcow2"
    span = cluster * 8 * granularity
    size = span * 5 // 2 + 3 * SECTOR
    third = span // 3 // SECTOR * SECTOR
    marks = [0, span - SECTOR, span, span + third, 2 * span, 2 * span + 40 * SECTOR, size - SECTOR]
    make(path, cluster, granularity, size, marks)
    shutil.copy(path, theirs)
    sizes = [size + SECTOR, size + span * 4, size - 2 * SECTOR, 2 * span + 42 * SECTOR, 2 * span, size,
             span + third + SECTOR, size + (66 if cluster == 512 else 3) * span, span // 2, 3 * span]  # fmt: skip
    for size in sizes:
        # QEMU does not resize when an enabled bitmap is stale, which it is once we have changed the disk.
        run_program("qemu-img", "resize", "-q", "--shrink", theirs, size)
        file = MemoryNode(path.read_bytes(), grows=True)
        with Qcow2Node(file, read_only=False) as node:
            node.metadata.marked_bitmaps.add("on")
            node.resize(size)
        path.write_bytes(file.data)
        assert judge.check(file.data) == 0, (size, judge.words)
        assert check_image(file, read_header(file), Repair.NONE).clean
        found = bitmaps(file)
        assert {name: bitmap.in_use for name, bitmap in found.items()} == {
            "on": True,
            "first": False,
            "off": False,
            "empty": False,
        }
        for name in ("off", "first", "empty"):
            wanted = dirty(theirs, name)
            assert dirty(path, name) == wanted, (size, name)
            ours = bits(file, found[name])
            ranges = {(at // granularity, -(-(at + length) // granularity)) for at, length in wanted}
            assert ours == {bit for start, end in ranges for bit in range(start, end)}, (size, name)


def test_tables_that_fit_stay_where_they_are(small: MemoryNode) -> None:
    before = {name: bitmap.table_offset for name, bitmap in bitmaps(small).items()}
    log = PowerCutNode(small)
    with Qcow2Node(log, read_only=False) as node:
        node.resize(node.size + SECTOR)
        node.resize(node.size - SECTOR)
    assert {name: bitmap.table_offset for name, bitmap in bitmaps(small).items()} == before
    for cut in range(len(log.log) + 1):
        found = bitmaps(MemoryNode(log.state(cut)))
        assert not any(found[name].in_use for name in ("first", "off", "empty"))


def test_a_cluster_of_ones_has_no_ones_behind_the_end(small: MemoryNode, judge: Judge) -> None:
    def ones(data: bytearray, bitmap: Bitmap) -> None:
        for index in range(bitmap.table_size):
            struct.pack_into(">Q", data, bitmap.table_offset + index * 8, ALL_ONES)

    for size, clusters in ((SPAN * 7 // 2, 1), (SPAN * 3 // 2, 1), (2 * SPAN, 0)):
        file = changed(small, "empty", ones)
        kept = min(size, SPAN * 5 // 2)
        with Qcow2Node(file, read_only=False) as node:
            node.resize(size)
        found = bitmaps(file)["empty"]
        assert bits(file, found) == set(range(kept // SECTOR))
        entries = struct.unpack(f">{found.table_size}Q", file.read(found.table_offset, found.table_size * 8))
        assert sum(entry > ALL_ONES for entry in entries) == clusters
        assert judge.check(file.data) == 0, judge.words


def test_a_bitmap_that_was_not_saved_prevents_resizing(small: MemoryNode) -> None:
    def use(data: bytearray, bitmap: Bitmap) -> None:
        data[bitmap.entry_offset + 15] |= BitmapFlag.IN_USE

    file = changed(small, "off", use)
    before = bytes(file.data)
    with Qcow2Node(file, read_only=False) as node:
        for size in (node.size + SPAN, node.size // 2):
            with pytest.raises(UnsupportedOperationError, match="cannot be resized while bitmap 'off' is in use: it"):
                node.resize(size)
    assert file.data == before


def test_a_bitmap_that_became_stale_meanwhile_does_not(small: MemoryNode) -> None:
    with Qcow2Node(small, read_only=False) as node:
        node.write(0, b"changed")
        node.resize(4 * SPAN)
        node.check(Repair.ALL)
        node.resize(SPAN)
    assert bitmaps(small)["on"].in_use
    with Qcow2Node(small, read_only=False) as node:
        with pytest.raises(UnsupportedOperationError, match="bitmap 'on' is in use"):
            node.resize(3 * SPAN)


def test_bitmaps_that_somebody_ignored_while_writing_are_ignored(small: MemoryNode, judge: Judge) -> None:
    small.data[95] = 0
    before = {extension.type: extension.data for extension in read_header(small).extensions}
    with Qcow2Node(small, read_only=False) as node:
        node.resize(4 * SPAN)
    header = read_header(small)
    assert (header.autoclear, {extension.type: extension.data for extension in header.extensions}) == (0, before)
    assert judge.check(small.data) == 3, judge.words


def test_sizes_that_no_bitmap_can_have_are_refused(small: MemoryNode) -> None:
    before = bytes(small.data)
    with Qcow2Node(small, read_only=False) as node:
        with pytest.raises(UnsupportedOperationError, match="size 0 while it has bitmap 'on'"):
            node.resize(0)
        with pytest.raises(NoSpaceError, match=r"bitmap 'on' takes .* more than 512 MiB"):
            node.resize(2048 * GiB + SECTOR)
    assert small.data == before


@pytest.mark.parametrize("entry", [0x200 | ALL_ONES, 1 << 60, 0x600 | 2, 0])
def test_what_is_no_cluster_of_bits_is_not_freed(small: MemoryNode, entry: int) -> None:
    def spoil(data: bytearray, bitmap: Bitmap) -> None:
        # 0 stands for the refcount table.
        struct.pack_into(">Q", data, bitmap.table_offset + 16, entry or read_header(small).fixed.refcount_table_offset)

    file = changed(small, "off", spoil)
    node = Qcow2Node(file, read_only=False)
    with pytest.raises(CorruptImageError, match="qcow2 bitmap table at"):
        node.resize(SPAN)
    assert node.size == read_header(file).fixed.size == SPAN * 5 // 2
    node.close()
    assert not any(bitmaps(file)[name].in_use for name in ("first", "off", "empty"))
    assert bool(read_header(file).incompatible & Incompatible.CORRUPT) == (not entry)


@pytest.mark.parametrize("room", range(9))
def test_without_room_nothing_is_changed(small: MemoryNode, room: int) -> None:
    file = MemoryNode(small.data)
    before = {name: bits(file, bitmap) for name, bitmap in bitmaps(file).items()}
    taken: list[int] = []
    with Qcow2Node(file, read_only=False) as node:
        size, refcounts = node.size, node.metadata.refcounts
        with suppress(NoSpaceError):
            while True:
                taken.append(refcounts.allocate(1)[0])
        for cluster in taken[:room]:
            refcounts.give_back(cluster, 1)
        # Four tables, and a cluster for what is left of the bits of three.
        if room >= 7:
            node.resize(SPAN + SECTOR)
            return
        with pytest.raises(NoSpaceError):
            node.resize(SPAN + SECTOR)
        assert node.size == size
    found = bitmaps(file)
    assert not any(found[name].in_use for name in ("first", "off", "empty"))
    assert {name: bits(file, bitmap) for name, bitmap in found.items()} == before
    assert check_image(file, read_header(file), Repair.NONE).leaks == len(taken) - room


def test_shrinking_that_cannot_drop_data_gives_tables_back(small: MemoryNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NodeIOError("told to fail")

    monkeypatch.setattr(resize, "_drop", fail)
    with Qcow2Node(small, read_only=False) as node, pytest.raises(NodeIOError):
        node.resize(SPAN)
    assert check_image(small, read_header(small), Repair.NONE).clean


SIZES = [SPAN * 7 // 2, SPAN * 3 // 2, SPAN * 66, SPAN // 4, SPAN * 2 + SECTOR]


@pytest.mark.parametrize("flushes", [False, True])
def test_a_power_cut_leaves_bits_that_are_right_or_stale(tmp_path: Path, flushes: bool, judge: Judge) -> None:
    """Nor does it ever leave an image that cannot be opened, or one with worse than leaks."""
    path, size = tmp_path / "image.qcow2", SPAN * 5 // 2
    make(path, 512, SECTOR, size, [*range(0, size, 600 * SECTOR), size - SECTOR], first=LONG_NAME)
    file = MemoryNode(path.read_bytes(), grows=True)
    assert bitmaps(file)["off"].entry_offset % SECTOR == SECTOR - 8
    names = [LONG_NAME, "off", "empty"]
    wanted = {(name, size): bits(file, bitmaps(file)[name]) for name in names}
    log, rng = PowerCutNode(file), random.Random(flushes)
    settled = {0: size}
    node = Qcow2Node(log, read_only=False)
    for old, new in pairwise([size, *SIZES]):
        for name in names:
            wanted[name, new] = {bit for bit in wanted[name, old] if bit < new // SECTOR}
        node.resize(new)
        if flushes:
            node.flush()
            settled[len(log.log)] = new
    node.close()
    settled[len(log.log)] = SIZES[-1]
    stale = 0
    for cut in range(len(log.log) + 1):
        for state in log.crashes(cut, rng, 12):
            under = MemoryNode(state, grows=True)
            report = check_image(under, read_header(under), Repair.NONE)
            assert report.corruptions + report.check_errors == 0, f"cut at {cut}: {report.findings[:5]}"
            found, now = bitmaps(under), read_header(under).fixed.size
            assert cut not in settled or now == settled[cut]
            for name in names:
                stale += found[name].in_use
                assert cut not in settled or not found[name].in_use, f"cut at {cut}: {name} is stale"
                if not found[name].in_use:
                    assert bits(under, found[name]) == wanted[name, now], f"cut at {cut}: {name}"
            if rng.random() < 0.05:
                assert judge.check(state) in (0, 3), f"cut at {cut}: {judge.words}"
    assert stale, "no cut came in between"
    assert judge.check(file.data) == 0, judge.words


@pytest.mark.parametrize("size", [SPAN * 7 // 2, SPAN * 3 // 2])
def test_resizing_that_fails_costs_bitmaps_at_most(small: MemoryNode, size: int, judge: Judge) -> None:
    initial, failures = bytes(small.data), 0
    wanted = {bit for bit in bits(small, bitmaps(small)["off"]) if bit < size // SECTOR}
    for nth in range(1, 100):
        file = FailsOnce(initial, grows=True)
        node = Qcow2Node(file, read_only=False)
        file.left = nth
        try:
            node.resize(size)
            if file.left > 0:
                break
        except NodeIOError:
            failures += 1
        file.left = 10**9
        node.resize(size)
        assert node.size == size
        node.close()
        for name, bitmap in bitmaps(file).items():
            assert bitmap.in_use or bits(file, bitmap) == (set() if name == "empty" else wanted), (nth, name)
        assert judge.check(file.data) in (0, 3), (nth, judge.words)
    assert failures > 20
