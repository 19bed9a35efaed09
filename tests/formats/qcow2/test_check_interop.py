"""Damaged images: what we find, and what we make of them, next to what qemu-img does."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.block.facets import Checkable
from blockkit.block.report import CheckReport, Repair
from blockkit.block.tables import read_u64_table
from blockkit.errors import BlockkitError
from blockkit.formats.qcow2.check import check_image
from blockkit.formats.qcow2.header import SUPPORTED, read_header
from blockkit.formats.qcow2.schema import COPIED, OFFSET_MASK, BitmapsExtension, ExtensionType, Incompatible
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blockkit.formats.qcow2.header import HeaderCluster

pytestmark = pytest.mark.interop

COUNTERS = (
    "leaks",
    "corruptions",
    "check-errors",
    "total-clusters",
    "allocated-clusters",
    "fragmented-clusters",
    "compressed-clusters",
    "image-end-offset",
)
#: Name -> creation options, and what it has beside data.
IMAGES = {
    "plain": ("", ("snapshots", "compressed")),
    "bitmaps": ("cluster_size=4k", ("bitmaps", "snapshots")),
    "narrow": ("cluster_size=512,refcount_bits=1", ()),
    "two bits": ("cluster_size=4k,refcount_bits=2", ("snapshots",)),
    "wide": ("cluster_size=1k,refcount_bits=64", ("snapshots",)),
    "version 2": ("compat=0.10,cluster_size=8k", ("snapshots", "compressed")),
    "reserved": ("preallocation=metadata,cluster_size=4k", ()),
    "subclusters": ("extended_l2=on,cluster_size=16k", ("snapshots", "compressed")),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """``images(name)`` is an image of IMAGES, made once."""
    made: dict[str, bytes] = {}

    def make(name: str) -> bytes:
        if name not in made:
            made[name] = build(tmp_path_factory.mktemp("images") / "image.qcow2", *IMAGES[name])
        return made[name]

    return make


def build(path: Path, options: str, extras: tuple[str, ...]) -> bytes:
    rng = random.Random(str(path.name) + options)

    def run(*words: object) -> None:
        subprocess.run([*map(str, words)], check=True, capture_output=True)

    def write(times: int) -> None:
        words = []
        for _ in range(times):
            kind = rng.choice(["write -P 7", "write -P 9", "write -z", "write -z -u"])
            words += ["-c", f"{kind} {rng.randrange(100) * 65536} {rng.choice([4096, 65536, 131072])}"]
        run("qemu-io", "-f", "qcow2", *words, path)

    run("qemu-img", "create", "-f", "qcow2", *(["-o", options] if options else []), path, "8M")
    if "compressed" in extras:
        words = [word for at in (101, 103, 105) for word in ("-c", f"write -c -P 3 {at * 65536} 65536")]
        run("qemu-io", "-f", "qcow2", *words, path)
    write(12)
    if "bitmaps" in extras:
        run("qemu-img", "bitmap", "--add", "--enable", path, "one")
        run("qemu-img", "bitmap", "--add", "--disable", "-g", "64k", path, "two")
    if "snapshots" in extras:
        run("qemu-img", "snapshot", "-c", "first", path)
        write(6)
        run("qemu-img", "snapshot", "-c", "second", path)
        write(3)
    return path.read_bytes()


def open_image(data: bytes | bytearray) -> tuple[MemoryNode, HeaderCluster]:
    file = MemoryNode(data, grows=True)
    return file, read_header(file, accept=SUPPORTED | Incompatible.EXTENDED_L2)


def counters(report: CheckReport) -> dict[str, int]:
    return {name: getattr(report, name.replace("-", "_")) for name in COUNTERS}


def ask_qemu(path: Path, *options: str) -> dict[str, int] | None:
    """Return the counters of ``qemu-img check``; None if it gives up."""
    done = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", "--output", "json", *options, path], capture_output=True, check=False
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return None
    return {name: found.get(name, 0) for name in COUNTERS}


def targets(data: bytes) -> dict[str, list[int]]:
    """Return class of table entry -> where entries of it lie; used ones mostly."""
    file, header = open_image(data)
    fixed, size = header.fixed, header.geometry.cluster_size

    def entries(offset: int, count: int) -> list[int]:
        table = read_u64_table(file, offset, count, "big")
        empty = [index for index, entry in enumerate(table) if not entry]
        return [offset + 8 * i for i in [*(i for i, entry in enumerate(table) if entry), *empty[:3]]]

    def pointed(offset: int, count: int, mask: int) -> list[int]:
        found = []
        for entry in read_u64_table(file, offset, count, "big"):
            if entry & mask:
                found += entries(entry & mask, size // 8)
        return found

    table, table_size = fixed.refcount_table_offset, fixed.refcount_table_clusters * size // 8
    found = {
        "L1 entry": entries(fixed.l1_table_offset, fixed.l1_size),
        "L2 entry": pointed(fixed.l1_table_offset, fixed.l1_size, OFFSET_MASK),
        "refcount table entry": entries(table, table_size),
        "counts": pointed(table, table_size, OFFSET_MASK),
    }
    if fixed.nb_snapshots:
        found["snapshot L1 entry"] = entries(int.from_bytes(data[fixed.snapshots_offset :][:8], "big"), 1)
        found["snapshot"] = [fixed.snapshots_offset]
    extension = header.extension(ExtensionType.BITMAPS)
    if extension is not None:
        bitmaps = BitmapsExtension.parse(extension.data)
        start = bitmaps.bitmap_directory_offset
        found["bitmap"] = [start + 8 * i for i in range(bitmaps.bitmap_directory_size // 8)]
        found["bitmap table entry"] = [int.from_bytes(data[start : start + 8], "big")]
    return found


def damage(data: bytearray, at: int, cluster_size: int, rng: random.Random) -> None:
    """Change the word at ``at`` in one of the ways that mean something."""
    value, clusters = int.from_bytes(data[at : at + 8], "big"), -(-len(data) // cluster_size)
    flags = value & ~OFFSET_MASK
    value = rng.choice(
        [
            value ^ 1 << rng.randrange(64),
            value ^ 1 << rng.randrange(9, 24),
            value ^ COPIED,
            flags | rng.randrange(clusters + 2) * cluster_size,
            flags | rng.randrange(clusters) * cluster_size + 512 * rng.randrange(cluster_size // 512),
            0,
        ]
    )
    data[at : at + 8] = value.to_bytes(8, "big")


def damaged(data: bytes, name: str, times: int) -> list[tuple[str, bytearray]]:
    """Return what was damaged, and the image, for every class of entry."""
    found = []
    size = open_image(data)[1].geometry.cluster_size
    for kind, places in targets(data).items():
        for number in range(times):
            rng = random.Random(f"{name} {kind} {number}")
            copy = bytearray(data)
            for _ in range(rng.choice([1, 1, 2, 4])):
                damage(copy, rng.choice(places), size, rng)
            found.append((f"{kind} {number}", copy))
    return found


@pytest.mark.parametrize("name", IMAGES)
def test_a_sound_image_has_the_same_counters(images: Callable[[str], bytes], name: str, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    path.write_bytes(images(name))
    report = check_image(*open_image(images(name)), Repair.NONE)
    assert counters(report) == ask_qemu(path)
    assert report.clean


def lacks_a_version(report: CheckReport, name: str) -> bool:
    """Tell whether we found a zero flag in version 2: only we call that what it is before it is read."""
    return name == "version 2" and any("reserved bits" in finding.problem for finding in report.findings)


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_damage_is_found_with_the_same_counters(images: Callable[[str], bytes], name: str, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    for what, data in damaged(images(name), name, 5):
        path.write_bytes(data)
        theirs = ask_qemu(path)
        try:
            report = check_image(*open_image(data), Repair.NONE)
        except BlockkitError:
            assert theirs is None, what
            continue
        if theirs is None:
            assert report.corruptions or report.check_errors, what
        elif "past" not in what and any(f.where == "snapshot table" and report.check_errors for f in report.findings):
            continue  # a table that leaves the file: QEMU reads zeros there, we do not go on
        elif not lacks_a_version(report, name):
            assert counters(report) == theirs, what


@pytest.mark.slow
@pytest.mark.parametrize("repair", [Repair.LEAKS, Repair.ALL])
# With bitmaps qemu-img writes before it checks, and loses the snapshots it has not read yet.
@pytest.mark.parametrize("name", [name for name in IMAGES if name != "bitmaps"])
def test_a_repair_leaves_what_qemu_is_content_with(
    images: Callable[[str], bytes], name: str, repair: Repair, tmp_path: Path
) -> None:
    path, other = tmp_path / "ours.qcow2", tmp_path / "theirs.qcow2"
    for what, data in damaged(images(name), name, 2):
        other.write_bytes(data)
        before, contents = ask_qemu(other), read_all(other, tmp_path)
        ask_qemu(other, "-r", repair.value)
        theirs = ask_qemu(other)
        file, header = open_image(data)
        try:
            report = check_image(file, header, repair)
        except BlockkitError:
            assert before is None, what
            continue
        path.write_bytes(file.data)
        assert contents is None or read_all(path, tmp_path) == contents, f"{what}: guest data changed"
        if report.check_errors:
            continue  # not repaired: the image is as it was
        ours = ask_qemu(path)
        if ours is None:
            assert theirs is None, what
            assert not report.clean, what
            continue
        if not lacks_a_version(report, name):
            assert {**ours, "image-end-offset": 0} == {**counters(report), "image-end-offset": 0}, what
        # What QEMU could mend we must have mended: but not by writing to clusters that may be guest data.
        if theirs is not None and not any(theirs[key] for key in ("leaks", "corruptions", "check-errors")):
            wrong = {finding.where for finding in report.findings if not finding.repaired}
            assert not ours["leaks"], what
            assert not ours["corruptions"] or wrong <= {"L2 table", "active L1 table"} or points_to_data(what), what


@pytest.mark.slow
@pytest.mark.parametrize("repair", Repair)
@pytest.mark.parametrize("name", [name for name in IMAGES if name != "subclusters"])
def test_an_open_image_is_repaired_as_one_that_is_not_open(
    images: Callable[[str], bytes], name: str, repair: Repair, tmp_path: Path
) -> None:
    path = tmp_path / "image.qcow2"
    tree = {"driver": "qcow2", "repairing": "on", "file": {"driver": "file", "filename": str(path)}}
    opened = 0
    for what, data in damaged(images(name), name, 3):
        path.write_bytes(data)
        file, header = open_image(data)
        try:
            expected: object = counters(check_image(file, header, repair))
        except BlockkitError as error:
            expected = type(error)
        try:
            with blockkit.open_image(tree, read_only=False) as node:
                assert isinstance(node, Checkable)
                found: object = counters(node.check(repair))
                opened += 1
        except BlockkitError as error:
            found = type(error)
        assert found == expected, what
        assert path.read_bytes() == file.data, what
    assert opened > 10


def points_to_data(what: str) -> bool:
    """Tell whether an entry for an L2 table was damaged: then any cluster may be taken for a table."""
    return "L1 entry" in what or "snapshot" in what


def read_all(path: Path, directory: Path) -> bytes | None:
    """Return the guest's view, or None if it cannot be read."""
    raw = directory / "out.raw"
    done = subprocess.run(
        ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], capture_output=True, check=False
    )
    return raw.read_bytes() if done.returncode == 0 else None


@pytest.mark.parametrize("extra", [0, 8, 2000])
def test_snapshots_with_extra_data_of_a_wrong_size_are_written_anew(
    images: Callable[[str], bytes], extra: int, tmp_path: Path
) -> None:
    """Version 3 wants 16 bytes at least, and QEMU takes 1024 at most."""
    data = bytearray(images("plain"))
    offset = open_image(data)[1].fixed.snapshots_offset
    old = bytes(data[offset : offset + 256])
    known = int.from_bytes(old[36:40], "big")
    entry = old[:36] + extra.to_bytes(4, "big") + old[40 : 40 + min(extra, known)].ljust(extra, b"e")
    names = old[40 + known :][: int.from_bytes(old[12:14], "big") + int.from_bytes(old[14:16], "big")]
    second = -(-(40 + known + len(names)) // 8) * 8
    entry += names
    table = entry.ljust(-(-len(entry) // 8) * 8, b"\0") + old[second:]
    data[offset : offset + len(table)] = table
    path = tmp_path / "image.qcow2"
    path.write_bytes(data)
    file, header = open_image(data)
    before = check_image(file, header, Repair.NONE)
    assert before.corruptions == 1 or (extra > 1024 and before.check_errors == 1)
    report = check_image(file, header, Repair.ALL)
    assert report.clean, report.findings
    assert report.corruptions_fixed == 1
    path.write_bytes(file.data)
    assert ask_qemu(path) == counters(report)
    listed = subprocess.run(["qemu-img", "snapshot", "-l", path], capture_output=True, text=True, check=True).stdout
    assert "first" in listed
    assert "second" in listed
    shutil.copy(path, tmp_path / "copy.qcow2")
    subprocess.run(["qemu-img", "snapshot", "-a", "first", tmp_path / "copy.qcow2"], check=True)
