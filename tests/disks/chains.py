"""Random chains of images that QEMU's tools make, and what QEMU reads of them."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from blockkit.units import KiB, MiB, align_up
from tests.conftest import run_program

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

SECTOR: Final = 512
CLUSTER_SIZES: Final = [512, 1 * KiB, 4 * KiB, 16 * KiB, 64 * KiB, 64 * KiB, 64 * KiB, 128 * KiB, 1 * MiB, 2 * MiB]
#: Tables of smaller clusters than these would be most of what a large image has.
_FINE: Final = 24 * MiB


@dataclass
class Image:
    """An image, and how it came to be.

    Attributes:
        path: Its file.
        format: ``raw`` or ``qcow2``.
        made: What made it, and the images below it, in order.
        options: What a qcow2 image was created with.
        cluster_size: Bytes; a sector's of a raw image.
        snapshots: Names of its internal snapshots.
        has_stale_bitmap: Whether there is a persistent bitmap that was not saved.
    """

    path: Path
    format: str
    made: list[str]
    options: list[str] = field(default_factory=list)
    cluster_size: int = SECTOR
    snapshots: list[str] = field(default_factory=list)
    has_stale_bitmap: bool = False

    def resizes(self, *, grows: bool) -> bool:
        """Whether it can be made longer, or shorter."""
        return not self.has_stale_bitmap and (not self.snapshots or (grows and "compat=0.10" not in self.options))

    def contents(self) -> bytes:
        """Return what QEMU reads of it, in whole sectors."""
        goal = self.path.with_name("contents.raw")
        run_program("qemu-img", "convert", "-f", self.format, "-O", "raw", self.path, goal)
        try:
            return padded(goal.read_bytes())
        finally:
            goal.unlink()

    def information(self) -> dict[str, Any]:
        """Return what ``qemu-img info`` tells."""
        found = run_program("qemu-img", "info", "-f", self.format, "--output=json", self.path)
        return dict(json.loads(found))

    def bitmap_flags(self) -> set[str]:
        """Return what ``qemu-img info`` calls its bitmap; nothing without one."""
        found = self.information()["format-specific"]["data"].get("bitmaps", [])
        return {flag for bitmap in found for flag in bitmap["flags"]}


def padded(data: bytes) -> bytes:
    """Return ``data`` and zeros, up to the end of its last sector."""
    return data.ljust(align_up(len(data), SECTOR), b"\0")


def difference(found: bytes, wanted: bytes) -> str:
    """Say where two disks differ first, and in how many sectors; nothing if they do not."""
    if found == wanted:
        return ""
    if len(found) != len(wanted):
        return f"{len(found)} bytes, expected {len(wanted)}"
    wrong = [at for at in range(0, len(wanted), SECTOR) if found[at : at + SECTOR] != wanted[at : at + SECTOR]]
    return f"{len(wrong)} sectors differ, the first at {wrong[0]:#x}"


def patchwork(rng: random.Random, length: int) -> bytes:
    """Return ``length`` bytes of zeros, of nearly zeros, of text-like and of random runs, in any order."""
    patches: list[bytes] = []
    left = length
    while left > 0:
        size = rng.choice([1, SECTOR, SECTOR, 3 * SECTOR, 4 * KiB, 12 * KiB, 64 * KiB, rng.randrange(1, 70 * KiB)])
        kind = rng.random()
        if kind < 0.45:
            patch = bytes(size)
        elif kind < 0.55:
            patch = rng.choice([bytes(size - 1) + b"\7", b"\x08" + bytes(size - 1)])
        elif kind < 0.9:
            patch = bytes([rng.randrange(1, 256)]) * size
        else:
            patch = rng.randbytes(size)
        patches.append(patch)
        left -= size
    return b"".join(patches)[:length]


def creation_options(rng: random.Random, size: int, *, plain: bool = False) -> tuple[int, list[str]]:
    """Return a cluster size, and options for a qcow2 image of ``size`` bytes; a ``plain`` one preallocates nothing."""
    cluster_size = rng.choice(CLUSTER_SIZES)
    if cluster_size <= KiB and size > _FINE:
        cluster_size = 4 * KiB
    options = [f"cluster_size={cluster_size}"]
    if rng.random() < 0.25:
        options.append("compat=0.10")
    else:
        if rng.random() < 0.4:
            options.append(f"refcount_bits={rng.choice([1, 2, 4, 8, 16, 32, 64])}")
        elif rng.random() < 0.2:
            options.append("lazy_refcounts=on")
        if rng.random() < 0.4:
            options.append("compression_type=zstd")
    if not plain and rng.random() < 0.3:
        options.append(f"preallocation={rng.choice(['metadata', 'falloc', 'full'])}")
    return cluster_size, options


class SpoiledError(Exception):
    """QEMU damaged an image of its own, as it does now and then in compressed writes with clusters of 512 bytes."""


class ChainMaker:
    """Makes images in one directory.

    Args:
        directory: Where.
        rng: What decides.
    """

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self._directory, self._rng = directory, rng

    def chain(self, *, longest: int = 20 * MiB + 24 * SECTOR + 57) -> Image:
        """Make up to three images on top of each other, of lengths of their own; return the topmost."""
        while True:
            try:
                return self._chain(longest)
            except SpoiledError:
                continue

    def _chain(self, longest: int) -> Image:
        rng = self._rng
        odd, whole = rng.randrange(1, 4 * MiB), rng.randrange(8 * KiB) * SECTOR
        sizes = [0, SECTOR, 64 * KiB, MiB, 3 * MiB, odd, whole, 8 * MiB, 5 * MiB + SECTOR, longest]
        size = min(longest, rng.choice(sizes))
        image: Image | None = None
        for number in range(rng.choice([1, 1, 2, 2, 3])):
            own = size
            if rng.random() < 0.5:
                own = max(SECTOR, int(size * rng.choice([0.3, 0.9, 1.5])) + rng.choice([0, 1, 511, SECTOR]))
            if image is None and rng.random() < 0.5:
                image = self.raw(f"layer{number}.raw", own)
            else:
                image = self.qcow2(f"layer{number}.qcow2", own, backing=image)
        assert image is not None
        return image

    def raw(self, name: str, size: int) -> Image:
        """Make a raw image of holes and data."""
        rng, path = self._rng, self._directory / name
        with path.open("wb") as file:
            file.truncate(size)
            for _ in range(rng.randrange(8) if size else 0):
                at = rng.randrange(size)
                if rng.random() < 0.6:
                    at = at // (4 * KiB) * 4 * KiB
                file.seek(at)
                file.write(patchwork(rng, min(size - at, self._length(4 * KiB))))
        return Image(path, "raw", [f"{name}: {size} bytes"])

    def qcow2(self, name: str, size: int, *, backing: Image | None = None) -> Image:
        """Make a qcow2 image in which QEMU wrote, zeroed, discarded and compressed, with snapshots now and then."""
        rng, path = self._rng, self._directory / name
        cluster_size, options = creation_options(rng, size, plain=backing is not None)
        words = ["create", "-q", "-f", "qcow2", "-o", ",".join(options)]
        if backing is not None:
            words += ["-b", backing.path.name, "-F", backing.format]
        run_program("qemu-img", *words, path, size)
        made = [*(backing.made if backing else []), " ".join([*words, name, str(size)])]
        image = Image(path, "qcow2", made, options, cluster_size)
        disk = align_up(size, SECTOR)
        if not disk:
            return image
        for number in range(rng.choice([1, 1, 2])):
            made += self.exercise(image, disk, rng.randrange(12))
            if rng.random() < 0.15 and "refcount_bits=1" not in options:
                image.snapshots.append(f"s{number}")
                run_program("qemu-img", "snapshot", "-c", image.snapshots[-1], path)
                made.append(f"snapshot s{number}")
        if rng.random() < 0.1 and "compat=0.10" not in options:
            made += self.add_bitmap(image, disk)
        return image

    def add_bitmap(self, image: Image, size: int) -> list[str]:
        """Add a bitmap that QEMU has set bits in, which may be disabled after that; return what was done."""
        rng, granularity = self._rng, self._rng.choice([SECTOR, 4 * KiB, 64 * KiB, MiB])
        run_program("qemu-img", "bitmap", "--add", "-g", granularity, image.path, "b0")
        made = [f"bitmap -g {granularity}", *self.exercise(image, size, rng.randrange(4))]
        if rng.random() < 0.6:
            run_program("qemu-img", "bitmap", "--disable", image.path, "b0")
            made.append("disable bitmap")
        return made

    def exercise(self, image: Image, size: int, count: int) -> list[str]:
        """Have qemu-io do some requests; return them."""
        rng, cluster_size = self._rng, image.cluster_size
        pattern = self._directory / "pattern"
        pattern.write_bytes(patchwork(rng, rng.choice([70 * KiB, 300 * KiB, MiB])))
        commands = []
        for _ in range(count):
            unit = rng.choice([1, SECTOR, 4 * KiB, cluster_size, cluster_size, cluster_size, 64 * KiB])
            at = rng.randrange(size) // unit * unit
            length = min(size - at, self._length(cluster_size))
            kind = rng.random()
            if kind < 0.3:
                commands.append(f"write -q -s {pattern} {at} {length}")
            elif kind < 0.5:
                commands.append(f"write -q -P {rng.randrange(256)} {at} {length}")
            elif kind < 0.72:
                commands.append(f"write -q -z {rng.choice(['', '-u'])} {at} {length}")
            elif kind < 0.86:
                commands.append(f"discard -q {at} {length}")
            elif (at := at // cluster_size * cluster_size) + cluster_size <= size:
                commands.append(f"write -q -c -s {pattern} {at} {cluster_size}")
        self._obey(image.path, commands)
        return commands

    def _obey(self, path: Path, commands: Sequence[str]) -> None:
        """Run commands of qemu-io; a compressed write where there is data already is refused, which is no matter."""
        if not commands:
            return
        words = [word for command in commands for word in ("-c", command)]
        argv = ["qemu-io", "-f", "qcow2", "-d", "unmap", *words, path]
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
        if b"corrupt" in done.stderr:
            raise SpoiledError(path)

    def _length(self, cluster_size: int) -> int:
        rng = self._rng
        return rng.choice([1, SECTOR, 4 * KiB, cluster_size, cluster_size, 2 * cluster_size, 5 * cluster_size,
                           300 * KiB, rng.randrange(1, MiB)])  # fmt: skip


def backing_of(image: Image) -> tuple[str, str] | None:
    """Return the name and format of what an image stands on."""
    found = image.information()
    if "backing-filename" not in found:
        return None
    return os.fspath(found["full-backing-filename"]), str(found["backing-filename-format"])
