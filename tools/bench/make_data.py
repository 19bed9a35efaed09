#!/usr/bin/env python3
"""Make the data the benchmark runs on: ``make_data.py DIRECTORY [--scale MIB] [NAME...]``.

The same on every machine, but for ``real.raw``, which holds files of this system. What is there already is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
CLUSTER = 65536
SEED = 20240101
#: The kinds of areas of the mixed image, and how often each comes.
KINDS = {"hole": 46, "random": 18, "text": 26, "zeros": 10}
#: Where the files of ``real.raw`` come from, in this order, until it is full.
REAL_TREES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/share")
SCATTERED_SIZE = 100 << 30
SCATTERED_CLUSTERS = 50_000


def make_text(rng: random.Random, size: int) -> bytes:
    """Return words of a made-up language, the frequent ones often, as running text."""
    letters, frequencies = "etaoinshrdlucmfwypvbgkjqxz", range(26, 0, -1)
    words = ["".join(rng.choices(letters, frequencies, k=rng.randint(2, 10))) for _ in range(6000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    ends = rng.choices([" ", " ", " ", " ", " ", " ", ", ", ".\n"], k=size // 6)
    text = "".join(word + end for word, end in zip(rng.choices(words, weights, k=size // 6), ends, strict=True))
    return (text.encode() * (size // len(text) + 1))[:size]


def make_mixed(path: Path, size: int) -> None:
    """Write areas of 4 KiB to 16 MiB of random bytes, text, written zeros, and holes."""
    rng = random.Random(SEED)
    pool = max(64 << 10, min(32 * MIB, size // 16))
    sources = {"random": rng.randbytes(pool), "text": make_text(rng, pool), "zeros": bytes(pool)}
    with path.open("wb") as file:
        file.truncate(size)
        offset = 0
        while offset < size:
            length = min(int(2 ** rng.uniform(12, 24)) // 4096 * 4096, size - offset)
            kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
            end = offset + length
            while kind != "hole" and offset < end:
                # An odd start, so that no two clusters are the same.
                start = rng.randrange(0, pool // 2)
                chunk = sources[kind][start : start + end - offset]
                offset += os.pwrite(file.fileno(), chunk, offset)
            offset = end


def real_files() -> Iterator[Path]:
    """Yield readable regular files of this system, in an order that stays the same."""
    for tree in REAL_TREES:
        for directory, subdirectories, names in os.walk(tree):
            subdirectories.sort()
            for name in sorted(names):
                file = Path(directory, name)
                if not file.is_symlink() and file.is_file() and os.access(file, os.R_OK):
                    yield file


def make_real(path: Path, size: int) -> None:
    """Store files of this system, as tar does, up to ``size`` bytes."""
    with tarfile.open(path, "w") as tar:
        for file in real_files():
            if tar.offset + file.stat().st_size + 4096 <= size:
                tar.add(file)
            elif tar.offset > size * 15 // 16:
                break
    os.truncate(path, -(-path.stat().st_size // CLUSTER) * CLUSTER)


def make_scattered(path: Path, clusters: int) -> None:
    """Write 4 KiB into each of many clusters, in random places and order, of a 100 GiB qcow2."""
    rng = random.Random(SEED)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(SCATTERED_SIZE)], check=True)
    places = rng.sample(range(SCATTERED_SIZE // CLUSTER), clusters)
    commands = "".join(f"write -q -P {1 + n % 255} {place * CLUSTER} 4k\n" for n, place in enumerate(places))
    run_qemu_io(path, commands)


def make_allocated(path: Path, size: int) -> None:
    """Fill every cluster of a qcow2, for requests that need no allocation."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(size)], check=True)
    step = min(4 * MIB, size)
    run_qemu_io(path, "".join(f"write -q -P {1 + at // step % 255} {at} {step}\n" for at in range(0, size, step)))


def run_qemu_io(path: Path, commands: str) -> None:
    """Feed commands to qemu-io, which is silent (-q) unless one fails."""
    done = subprocess.run(
        ["qemu-io", "-t", "unsafe", "-f", "qcow2", path], input=commands, capture_output=True, text=True, check=True
    )
    if "failed" in done.stdout + done.stderr:
        raise SystemExit(f"make_data.py: {path.name}: qemu-io: {(done.stdout + done.stderr).strip()[-200:]}")


def make(name: str, path: Path, scale: int) -> None:
    """Make the file called ``name``; ``scale`` is the size of the mixed image in MiB, and the others go with it."""
    match name:
        case "mixed.raw":
            make_mixed(path, scale * MIB)
        case "real.raw":
            make_real(path, scale * MIB // 5)
        case "scattered.qcow2":
            make_scattered(path, max(1, SCATTERED_CLUSTERS * scale // 2048))
        case "allocated.qcow2":
            make_allocated(path, scale * MIB // 2)
        case "mixed.qcow2":
            source = path.with_name("mixed.raw")  # made before it
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, path], check=True)


NAMES = ("mixed.raw", "real.raw", "mixed.qcow2", "scattered.qcow2", "allocated.qcow2")


def main() -> None:
    """Make what is asked for and is not there, each under a temporary name until it is whole."""
    parser = argparse.ArgumentParser(description="make the data the benchmark runs on")
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all, if none is named")
    parser.add_argument("--scale", type=int, default=2048, help="MiB of the mixed image (2048)")
    words = parser.parse_intermixed_args()
    wanted = set(words.names or NAMES)
    if unknown := wanted.difference(NAMES):
        parser.error(f"no data called {min(unknown)}; there are {', '.join(NAMES)}")
    if "mixed.qcow2" in wanted:
        wanted.add("mixed.raw")
    words.directory.mkdir(parents=True, exist_ok=True)
    for name in (name for name in NAMES if name in wanted):
        path = words.directory / name
        if path.exists():
            continue
        print(f"make_data: {name}", file=sys.stderr)
        unfinished = path.with_name(f"{name}.part")
        unfinished.unlink(missing_ok=True)
        make(name, unfinished, words.scale)
        unfinished.rename(path)


if __name__ == "__main__":
    main()
