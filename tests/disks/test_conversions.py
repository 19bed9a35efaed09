"""Random conversions of random chains: QEMU reads the same bytes from the result, and finds nothing wrong with it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from blockkit.block.copying import copier, parts
from blockkit.block.graph import open_image
from blockkit.block.node import Kind
from blockkit.units import KiB, MiB
from tests.amount import SEED, TIMES
from tests.conftest import run_program
from tests.disks.chains import SECTOR, ChainMaker, Image, backing_of, creation_options, difference, patchwork
from tests.disks.tool import as_json, blockkit, qemu_img

pytestmark = pytest.mark.interop

#: What is copied at once: into plain files, into clusters, what room is taken for, and natively.
SIZES = [
    (512 * KiB, MiB, 8 * MiB, 256 * KiB),
    (64 * KiB, 64 * KiB, 512 * KiB, 64 * KiB),
    (4 * KiB, 64 * KiB, 256 * KiB, 4 * KiB),
    (128 * KiB, 256 * KiB, MiB, 32 * KiB),
]


@pytest.fixture(params=range(8 * TIMES))
def rng(request: pytest.FixtureRequest) -> random.Random:
    """One for each case."""
    return random.Random(f"{SEED}: {request.param}")


@pytest.fixture
def image(tmp_path: Path, rng: random.Random) -> Image:
    return ChainMaker(tmp_path, rng).chain()


@dataclass
class Conversion:
    """A conversion to a target that may exist already.

    Attributes:
        words: The command line.
        target: What it makes or overwrites.
        behind: What the target holds behind the end of the source, and must go on holding.
    """

    words: list[str]
    target: Image
    behind: bytes = b""


class Converter:
    """Thinks of conversions of one image."""

    def __init__(self, image: Image, size: int, rng: random.Random) -> None:
        self._image, self._size, self._rng = image, size, rng
        self._maker = ChainMaker(image.path.parent, rng)

    def conversion(self) -> Conversion:
        rng = self._rng
        form = rng.choice(["raw", "qcow2", "qcow2"])
        words = ["convert", "-f", self._image.format, "-O", form, *self._ways(form)]
        path = self._image.path.with_name(f"target.{form}")
        path.unlink(missing_ok=True)
        ways = [self._new, self._over, self._into, self._into, self._into_zeros, self._onto_backing, self._onto_backing]
        how = rng.choice(ways)
        return how(words, Image(path, form, [*self._image.made]))

    def _ways(self, form: str) -> list[str]:
        """Return what says how, but not where to."""
        rng = self._rng
        words: list[str] = []
        if form == "qcow2" and rng.random() < 0.35:
            words += ["-c"]
        if rng.random() < 0.6:
            words += ["-S", rng.choice(["0", "512", "4k", "12k", "64k", "68k", "1M", "1536k", "8M", "16M"])]
        elif "-c" not in words and rng.random() < 0.15:
            words += ["-C"]
        elif rng.random() < 0.15:
            words += ["--salvage"]
        if rng.random() < 0.2:
            words += ["-m", str(rng.choice([1, 2, 4, 8, 16]))]
        if rng.random() < 0.2:
            words += ["-W"]
        if rng.random() < 0.15:
            words += ["-t", rng.choice(["none", "writeback", "writethrough", "directsync", "unsafe"])]
        if rng.random() < 0.15:
            words += ["-T", rng.choice(["none", "writeback", "directsync"])]
        if rng.random() < 0.1:
            words += ["-r", "500M"]
        return words

    def _options(self, form: str, *, plain: bool = False) -> list[str]:
        rng = self._rng
        if form == "qcow2":
            return ["-o", ",".join(creation_options(rng, self._size, plain=plain)[1])]
        return ["-o", f"preallocation={rng.choice(['falloc', 'full'])}"] if rng.random() < 0.2 else []

    def _new(self, words: list[str], target: Image) -> Conversion:
        return Conversion([*words, *self._options(target.format)], target)

    def _over(self, words: list[str], target: Image) -> Conversion:
        """A file that exists, and that is made anew."""
        self._existing(target, self._rng.choice([self._size, self._size // 2, self._size + MiB]))
        return self._new(words, target)

    def _into(self, words: list[str], target: Image) -> Conversion:
        """An image that exists, and that may be longer."""
        self._existing(target, self._size + self._rng.choice([0, 0, SECTOR, MiB, 100 * KiB + SECTOR]))
        return Conversion([*words, "-n"], target, target.contents()[self._size :])

    def _into_zeros(self, words: list[str], target: Image) -> Conversion:
        """An empty image."""
        _, options = creation_options(self._rng, self._size)
        how = ["-o", ",".join(options)] if target.format == "qcow2" else []
        run_program("qemu-img", "create", "-q", "-f", target.format, *how, target.path, self._size)
        return Conversion([*words, "-n", "--target-is-zero"], target)

    def _onto_backing(self, words: list[str], target: Image) -> Conversion:
        """An overlay of what the source is an overlay of, or of a copy of that, however long.

        What the source has no backing file for is its own, and the new one may hold anything.
        """
        rng = self._rng
        if target.format == "raw":
            return self._new(words, target)
        found = backing_of(self._image)
        name, form = found or ("", "")
        if found is None or rng.random() < 0.7:
            length = rng.choice([self._size, self._size // 2, self._size + MiB])
            data = Image(Path(name), form, []).contents() if found else patchwork(rng, length)
            backing = self._image.path.with_name("backing.raw")
            backing.write_bytes(data[:length])
            name, form = str(backing), "raw"
        return Conversion([*words, *self._options("qcow2", plain=True), "-B", name, "-F", form], target)

    def _existing(self, target: Image, size: int) -> None:
        if target.format == "raw":
            target.path.write_bytes(b"\xee" * size)
        else:
            made = self._maker.qcow2(target.path.name, size)
            target.made += made.made


@pytest.mark.parametrize("native", [False, True])
def test_conversions(image: Image, rng: random.Random, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What QEMU reads from the result is what it reads from the source, and nothing is wrong with its tables."""
    contents = image.contents()
    converter = Converter(image, len(contents), rng)
    for _ in range(3):
        _copy_in_pieces(rng, native, monkeypatch)
        case = converter.conversion()
        words = [*case.words, image.path, case.target.path]
        story = (words, case.target.made)
        ended = blockkit(*words)
        assert ended.code == 0, (ended, story)
        found, wanted = case.target.contents(), contents + case.behind
        assert not difference(found, wanted), (difference(found, wanted), story)
        if case.target.format == "qcow2":
            checked = qemu_img("check", "-f", "qcow2", case.target.path)
            assert checked.code == 0, (checked, story)
            with open_image(case.target.path, format="qcow2") as node:
                assert not difference(node.read(0, node.size), wanted), story


def _copy_in_pieces(rng: random.Random, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy in pieces that images of this size have many of, and in native code from the first one on, or in Python."""
    plain, clustered, stretch, carried = rng.choice(SIZES)
    worth = 0 if native else 1 << 62
    for room, name, value in (
        (copier, "WORTH_LOADING", worth),
        (copier, "WORTH_COMPILING", worth),
        (copier, "CHUNK", plain),
        (copier, "CLUSTERED_CHUNK", clustered),
        (copier, "NATIVE_CHUNK", carried),
        (parts, "STRETCH", stretch),
    ):
        monkeypatch.setattr(room, name, value)


def test_reading(image: Image) -> None:
    """The bytes, their extents, and what the tools tell of the image are QEMU's."""
    wanted, story = image.contents(), image.made
    with open_image(image.path, format=image.format) as node:
        found = node.read(0, node.size)
        assert not difference(found.ljust(len(wanted), b"\0"), wanted), story
        position = 0
        for extent in node.extents():
            assert extent.offset == position, (extent, story)
            assert extent.length > 0, (extent, story)
            position += extent.length
            if extent.kind is Kind.ZERO or (extent.kind is Kind.UNALLOCATED and node.backing is None):
                assert not any(found[extent.offset : position]), (extent, story)
        assert position == node.size, story


def test_what_the_tools_tell(image: Image) -> None:
    """map, check, measure and info say what qemu-img says."""
    form, path, story = ("-f", image.format), image.path, image.made
    if image.format == "qcow2":
        check = ("check", *form, "--output=json", path)
        ours, theirs = blockkit(*check), qemu_img(*check)
        assert (ours.code, as_json(ours)) == (theirs.code, as_json(theirs)), story
    for options in ("cluster_size=64k", "cluster_size=4k", "cluster_size=2M,refcount_bits=64", "preallocation=falloc"):
        measure = ("measure", *form, "-O", "qcow2", "-o", options, "--output=json", path)
        theirs = qemu_img(*measure)
        if theirs.code == 0:
            assert as_json(blockkit(*measure)) == as_json(theirs), (options, story)
    map_words = ("map", *form, "--output=json", path)
    ours, theirs = blockkit(*map_words), qemu_img(*map_words)
    odd = any(each.stat().st_size % SECTOR for each in path.parent.glob("layer*.raw"))
    if not odd:  # QEMU tells of whole sectors, which no file has
        assert joined(as_json(ours)) == joined(as_json(theirs)), story
    info = ("info", *form, "--backing-chain", "--output=json", path)
    assert named(as_json(blockkit(*info))) == named(as_json(qemu_img(*info))), story


def joined(lines: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the lines of a map, with those joined that go on where the one before ends."""
    result: list[dict[str, object]] = []
    for line in lines:
        same = ("depth", "present", "zero", "data")
        if result and all(result[-1][key] == line[key] for key in same) and follows(result[-1], line):
            result[-1]["length"] = int(str(result[-1]["length"])) + int(str(line["length"]))
        else:
            result.append(dict(line))
    return result


def follows(before: dict[str, object], line: dict[str, object]) -> bool:
    """Whether ``line`` of a map lies in the file where the one before it ends, if they lie anywhere."""
    if "offset" not in before or "offset" not in line:
        return ("offset" in before) == ("offset" in line)
    return int(str(before["offset"])) + int(str(before["length"])) == int(str(line["offset"]))


def named(images: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return what info tells of a chain, without what a file system decides and what newer versions add."""
    return [{key: value for key, value in each.items() if key not in ("actual-size", "children")} for each in images]
