"""Running the command line: in this process for most tests, in a new one where the process is what is tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from blockkit.cli.running import run

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


class Result(NamedTuple):
    """What a command did; the exit code comes first, for ``assert img(...).code == 0``."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """``cli("img", "info", path)`` runs a command line in this process."""

    def call(*words: object) -> Result:
        capfd.readouterr()
        code = run([str(word) for word in words])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Result(code, out, err)

    return call


@pytest.fixture
def img(cli: Callable[..., Result]) -> Callable[..., Result]:
    """``img("info", path)`` runs an image command in this process."""
    return lambda *words: cli("img", *words)


@pytest.fixture
def environment() -> dict[str, str]:
    """What a new interpreter needs to find this blockkit; output is buffered, as it is for everybody."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def process(environment: dict[str, str]) -> Callable[..., subprocess.Popen[bytes]]:
    """``process("img", "info", path)`` starts ``python -m blockkit``; ``env`` adds to its environment."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: object, env: dict[str, str] | None = None, **options: object) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        argv = [sys.executable, "-m", "blockkit", *map(str, words)]
        child = subprocess.Popen(argv, env=environment | (env or {}), **(pipes | options))  # type: ignore[call-overload]
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def theirs() -> Callable[..., Result]:
    """``theirs("info", path)`` runs qemu-img, whatever it exits with."""

    def call(*words: object) -> Result:
        argv = ["qemu-img", *map(str, words)]
        done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    return call


def _make(directory: Path) -> dict[str, Path]:
    """Make images of many kinds with qemu-img and qemu-io; returns them by name."""

    def qemu(program: str, *words: object) -> None:
        subprocess.run([program, *map(str, words)], check=True, capture_output=True, cwd=directory, timeout=60)

    def create(name: str, size: str, *options: str) -> Path:
        qemu("qemu-img", "create", "-q", "-f", "qcow2", *options, name, size)
        return directory / name

    def io(name: str, *commands: str) -> None:
        qemu("qemu-io", "-f", "qcow2", *[word for command in commands for word in ("-c", command)], name)

    images = {}
    sparse = directory / "sparse.raw"
    with sparse.open("wb") as file:
        file.write(b"x" * 70_000)
        file.seek(3 << 20)
        file.write(b"y" * 5000)
        file.truncate(8 << 20)
    images["raw, sparse"] = sparse
    odd = directory / "odd.raw"
    odd.write_bytes(b"z" * 70_001)
    images["raw, not a whole number of sectors"] = odd
    hole = directory / "hole.raw"
    with hole.open("wb") as file:
        file.truncate(5_000_001)
    images["raw, one hole"] = hole
    for name, options in {
        "plain": (),
        "small": ("-o", "cluster_size=512"),
        "large": ("-o", "cluster_size=2M"),
        "v2": ("-o", "compat=0.10"),
        "lazy": ("-o", "lazy_refcounts=on,refcount_bits=1"),
        "wide": ("-o", "refcount_bits=64"),
        "metadata": ("-o", "preallocation=metadata"),
        "metadata, small": ("-o", "preallocation=metadata,cluster_size=4k"),
        "falloc": ("-o", "preallocation=falloc"),
        "full": ("-o", "preallocation=full"),
    }.items():
        path = create(f"{name}.qcow2".replace(", ", "-"), "9M", *options)
        io(path.name, "write -P 1 0 100k", "write -P 2 1M 64k", "write -P 3 4198400 4k", "write -P 4 8M 1M")
        images[f"qcow2, {name}"] = path
    images["qcow2, empty"] = create("empty.qcow2", "1G")
    images["qcow2, no bytes"] = create("none.qcow2", "0")
    images["qcow2, odd size"] = create("odd.qcow2", "1000001")
    zero = create("zero.qcow2", "4M")
    io(
        "zero.qcow2",
        "write -P 1 0 1M",
        "write -z 128k 128k",
        "write -z -u 512k 128k",
        "write -z 2M 1M",
        "discard 64k 64k",
    )
    images["qcow2, zero clusters"] = zero
    for kind in ("zlib", "zstd"):
        qemu(
            "qemu-img", "convert", "-c", "-O", "qcow2", "-o", f"compression_type={kind}", "sparse.raw", f"{kind}.qcow2"
        )
        io(f"{kind}.qcow2", "write -P 9 5M 64k")
        images[f"qcow2, {kind}"] = directory / f"{kind}.qcow2"
    snapshots = create("snapshots.qcow2", "4M")
    io("snapshots.qcow2", "write -P 1 0 1M")
    qemu("qemu-img", "snapshot", "-c", "first", "snapshots.qcow2")
    io("snapshots.qcow2", "write -P 2 512k 1M")
    qemu("qemu-img", "snapshot", "-c", "the second", "snapshots.qcow2")
    images["qcow2, snapshots"] = snapshots
    bitmaps = create("bitmaps.qcow2", "4M")
    qemu("qemu-img", "bitmap", "--add", "bitmaps.qcow2", "one")
    qemu("qemu-img", "bitmap", "--add", "--disable", "-g", "4k", "bitmaps.qcow2", "two")
    images["qcow2, bitmaps"] = bitmaps
    base = create("base.qcow2", "3M")
    io("base.qcow2", "write -P 1 0 1M", "write -z 1M 64k")
    middle = create("middle.qcow2", "5M", "-b", base.name, "-F", "qcow2", "-o", "cluster_size=4k")
    io("middle.qcow2", "write -P 2 12k 24k", "write -P 3 4M 20k", "write -z 200k 40k")
    images["chain of two"] = middle
    top = create("top.qcow2", "6M", "-b", middle.name, "-F", "qcow2")
    io("top.qcow2", "write -P 4 2M 64k", "write -z 0 64k")
    images["chain of three"] = top
    over = create("over.qcow2", "10M", "-b", "sparse.raw", "-F", "raw")
    io("over.qcow2", "write -P 4 64k 64k")
    images["over raw"] = over
    images["in a directory"] = create("in.qcow2", "1M", "-b", str(base), "-F", "qcow2")
    return images


#: The names of the images that ``samples`` makes.
SAMPLES = (
    "raw, sparse",
    "raw, not a whole number of sectors",
    "raw, one hole",
    "qcow2, plain",
    "qcow2, small",
    "qcow2, large",
    "qcow2, v2",
    "qcow2, lazy",
    "qcow2, wide",
    "qcow2, metadata",
    "qcow2, metadata, small",
    "qcow2, falloc",
    "qcow2, full",
    "qcow2, empty",
    "qcow2, no bytes",
    "qcow2, odd size",
    "qcow2, zero clusters",
    "qcow2, zlib",
    "qcow2, zstd",
    "qcow2, snapshots",
    "qcow2, bitmaps",
    "chain of two",
    "chain of three",
    "over raw",
    "in a directory",
)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images of many kinds by name, made once; tests do not change them."""
    made = _make(tmp_path_factory.mktemp("samples"))
    assert set(made) == set(SAMPLES)
    return made


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, samples: dict[str, Path]) -> Path:
    """Each image of ``samples`` in turn."""
    return samples[request.param]
