"""What is compared: the rows of the table, each with the peer's variants and ours."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from timing import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

Argv = list[str]
#: qemu-img convert's ways to be fast; which is best differs by machine, so all are tried.
CONVERT_VARIANTS: dict[str, Argv] = {"": [], "-W": ["-W"], "-m 16 -W": ["-m", "16", "-W"]}
#: The page cache left out on both sides, or on one.
DIRECT_VARIANTS: dict[str, Argv] = {"-m 16 -W -t none": ["-m", "16", "-W", "-t", "none"]}
RANDOM_COUNT = 200_000
#: Bytes; an odd number of 4 KiB pieces, so every piece of an image of a power of two is visited once.
RANDOM_STEP = 162_017 * 4096


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name: What to call it on the command line.
        title: What the table says.
        target: The least ratio of the peer's time to ours; None where the row is for information.
        data: The files of make_data.py it needs.
        peers: Label -> the peer's command.
        ours: Our command.
        output: The file that every run makes; removed before each.
        measure: ``wall`` or ``cpu``: which time the ratio is of.
        own_clock: The commands print their own time.
        size_limit: The most our output may be larger than the peer's, as a fraction.
        peak_limit: Bytes of memory we may use at most; 0 for no limit.
        cpu_limit: Seconds of CPU we may use at most; 0 for no limit.
        verify: Called once after our warm-up; raises CommandError if what we made is wrong.
    """

    name: str
    title: str
    target: float | None
    data: tuple[str, ...]
    peers: dict[str, Argv]
    ours: Argv
    output: str = ""
    measure: str = "wall"
    own_clock: bool = False
    size_limit: float | None = None
    peak_limit: int = 0
    cpu_limit: float = 0
    verify: Callable[[], None] = field(default=lambda: None)


def capture(argv: Argv) -> str:
    """Return what a command prints; for checks, not for timing."""
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise CommandError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
    return done.stdout


def same_content(first: str, first_format: str, second: str, second_format: str) -> Callable[[], None]:
    """Return a check by the peer that two images hold the same, and that a qcow2 among them is sound."""

    def verify() -> None:
        capture(["qemu-img", "compare", "-f", first_format, "-F", second_format, first, second])
        if second_format == "qcow2":
            capture(["qemu-img", "check", "-f", "qcow2", second])

    return verify


#: Run by a process of its own: what it takes to hold two answers would count as the peak of every later command.
_COMPARE_JSON = """
import json, subprocess, sys
first, second = (json.loads(subprocess.check_output(json.loads(argv))) for argv in sys.argv[1:])
sys.exit(first != second)
"""


def same_json(ours: Argv, peer: Argv) -> Callable[[], None]:
    """Return a check that two commands print the same JSON."""

    def verify() -> None:
        try:
            capture([sys.executable, "-c", _COMPARE_JSON, json.dumps(ours), json.dumps(peer)])
        except CommandError as error:
            raise CommandError(f"{' '.join(ours)}: its JSON differs from the peer's, or is none") from error

    return verify


def make_rows(img: Argv, python: str, size_level: str) -> list[Row]:
    """Return every row.

    Args:
        img: Our command, up to and with ``img``.
        python: The interpreter that has blockkit.
        size_level: The compression_level chosen for size.
    """
    mib = 1 << 20
    rows: list[Row] = []

    def convert(
        name: str,
        title: str,
        target: float,
        source: str,
        words: str,
        output: str,
        *,
        own_words: str = "",
        size_limit: float | None = None,
        variants: dict[str, Argv] | None = None,
    ) -> None:
        formats = ["-f", source.rpartition(".")[2], "-O", output.rpartition(".")[2]]
        extra = CONVERT_VARIANTS if variants is None else variants
        rows.append(
            Row(
                name,
                title,
                target,
                (source,),
                {
                    label or "default": ["qemu-img", "convert", *formats, *words.split(), *flags, source, output]
                    for label, flags in extra.items()
                },
                [*img, "convert", *formats, *words.split(), *own_words.split(), source, output],
                output=output,
                size_limit=size_limit,
                peak_limit=256 * mib,
                verify=same_content(source, formats[1], output, formats[3]),
            )
        )

    def both(
        name: str,
        title: str,
        target: float | None,
        data: tuple[str, ...],
        *words: str,
        cpu_limit: float = 0,
        agree: bool = False,
    ) -> None:
        ours, peer = [*img, *words], ["qemu-img", *words]
        verify = same_json(ours, peer) if agree else lambda: None
        row = Row(name, title, target, data, {"default": peer}, ours, verify=verify)
        row.cpu_limit = cpu_limit
        row.measure = "cpu" if cpu_limit else "wall"
        rows.append(row)

    plain = {**CONVERT_VARIANTS, **DIRECT_VARIANTS}
    convert("raw-raw", "raw → raw", 1.2, "mixed.raw", "", "out.raw", variants={**plain, "-C": ["-C"]})
    convert("raw-qcow2", "raw → qcow2", 1.2, "mixed.raw", "", "out.qcow2", variants=plain)
    convert("qcow2-raw", "qcow2 → raw", 1.2, "mixed.qcow2", "", "out.raw", variants=plain)
    convert("zlib", "raw → qcow2 `-c` (zlib)", 4, "real.raw", "-c", "out.qcow2", size_limit=0.12)
    title = f"raw → qcow2 `-c -o compression_level={size_level}`"
    level = f"-o compression_level={size_level}"
    convert("zlib-size", title, 1.5, "real.raw", "-c", "out.qcow2", own_words=level, size_limit=0.05)
    zstd = "-c -o compression_type=zstd"
    convert("zstd", f"raw → qcow2 `{zstd}`", 1.3, "real.raw", zstd, "out.qcow2", size_limit=0.05)
    convert("scattered-convert", "100 GiB scattered → qcow2", 1.2, "scattered.qcow2", "", "out.qcow2")
    convert("scattered-raw", "100 GiB scattered → raw", 1.2, "scattered.qcow2", "", "out.raw")
    scattered, mixed = ("scattered.qcow2",), ("mixed.raw",)
    json_map = ("map", "-f", "qcow2", "--output", "json", *scattered)
    both("scattered-map", "`map --output json` of it", 1.5, scattered, *json_map, agree=True)
    both("scattered-check", "`check` of it", 0.5, scattered, "check", "-f", "qcow2", *scattered)
    measure = ("measure", "-f", "raw", "-O", "qcow2", "--output", "json", *mixed)
    both("measure", "`measure`", None, mixed, *measure, agree=True)
    both("info", "`info`, CPU", None, scattered, "info", "-f", "qcow2", *scattered, cpu_limit=0.070)
    compare = ("compare", "-f", "raw", "-F", "qcow2", "mixed.raw", "mixed.qcow2")
    both("compare", "`compare` raw, qcow2", None, (*mixed, "mixed.qcow2"), *compare)
    rows.extend(random_row(python, mode, target) for mode, target in (("read", 1.5), ("write", 1.0)))
    return rows


def random_row(python: str, mode: str, target: float) -> Row:
    """Compare 4 KiB requests in this process with ``qemu-img bench`` at each depth and kind of asynchronous I/O."""
    base = ["qemu-img", "bench", "-f", "qcow2", "-c", str(RANDOM_COUNT), "-s", "4096", "-S", str(RANDOM_STEP)]
    if mode == "write":
        base += ["-w", "--pattern=170"]
    peers = {
        f"-d {depth} {' '.join(aio)}": [*base, "-d", str(depth), *aio, "allocated.qcow2"]
        for depth in (1, 4, 32, 64)
        for aio in (["-i", "threads"], ["-i", "io_uring"], ["-i", "native", "-t", "none"])
    }
    script = str(Path(__file__).with_name("random_io.py"))
    ours = [python, script, mode, "allocated.qcow2", str(RANDOM_COUNT), str(RANDOM_STEP)]
    title = {"read": "4 KiB reads, in process", "write": "4 KiB overwrites, in process"}[mode]
    return Row(f"random-{mode}", title, target, ("allocated.qcow2",), peers, ours, own_clock=True)


def default_command() -> Argv:
    """Return our command line's program: the one beside the interpreter that runs this."""
    return [str(Path(sys.executable).with_name("blockkit"))]
