#!/usr/bin/env python3
"""Compare blockkit with qemu-img on the same data, in turns, and print a table of ratios.

    python tools/bench/bench.py [--dir DIRECTORY] [--repeat N] [--json FILE] [ROW...]

Each of the peer's variants and ours run once to warm up; what the peer's slowest variants are is seen then, and those
take no further part. The rest and ours then take turns, N times. The medians count, and the ratio is the time of
the peer's best variant over ours: above 1, ours is faster. What we make is checked by the peer, once a row.

Commands that write files find as much free memory at hand as they will fill: see memory.py. Our byte code is compiled
before, as it is where a package has been installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memory import at_hand
from rows import Row, capture, default_command, make_rows
from timing import CommandError, Sample, Series, run

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
#: A variant this many times slower than the best one while warming up is not timed again.
HOPELESS = 1.5
#: Bytes of free memory to have at hand beside what a command writes.
SPARE = 1 << 30


@dataclass(frozen=True)
class Result:
    """What one row came to.

    Attributes:
        row: What was compared.
        best: The peer's best variant.
        ours: Our runs.
        ratio: The time of ``best`` over that of ``ours``.
        growth: How much larger our output is than the peer's, as a fraction.
        peers: Every variant of the peer that was timed.
        error: Why there are no figures, instead of them.
    """

    row: Row
    best: Series | None = None
    ours: Series | None = None
    ratio: float = 0.0
    growth: float = 0.0
    peers: Sequence[Series] = ()
    error: str = ""

    @property
    def missed(self) -> list[str]:
        """What the row was to reach and did not."""
        row = self.row
        if self.ours is None:
            return ["failed"]
        checks = {
            "time": row.target is not None and self.ratio < row.target,
            "size": row.size_limit is not None and self.growth > row.size_limit,
            "memory": row.peak_limit and self.ours.peak > row.peak_limit,
            "cpu": row.cpu_limit and self.ours.cpu > row.cpu_limit,
        }
        return [name for name, missed in checks.items() if missed]

    def as_json(self) -> dict[str, object]:
        """Return every figure, samples too."""
        series = [*self.peers, *([self.ours] if self.ours else [])]
        return {
            "row": self.row.name,
            "error": self.error,
            "best": self.best.label if self.best else "",
            "measure": self.row.measure,
            "ratio": self.ratio,
            "target": self.row.target,
            "size_growth": self.growth,
            "missed": self.missed,
            "series": [asdict(one) for one in series],
        }


def say(text: str) -> None:
    """Report progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def run_once(row: Row, argv: list[str]) -> Sample:
    """Time one run, from the same start as every other."""
    if row.output:
        Path(row.output).unlink(missing_ok=True)
    return run(argv, own_clock=row.own_clock)


def time_of(row: Row, series: Series) -> float:
    """Return what the row's ratio is of, seconds."""
    return series.cpu if row.measure == "cpu" else series.wall


def is_fast(row: Row, series: Series, best: float) -> bool:
    """Give a variant that was slow another chance: one slow run may be the machine's fault."""
    series.samples[:] = [run_once(row, series.argv)]
    return time_of(row, series) <= best * HOPELESS


def warm_up(row: Row, sizes: dict[str, int]) -> list[Series]:
    """Run every variant once, check what we make, and return the peer's that are worth timing."""
    peers = []
    for label, argv in row.peers.items():
        try:
            sample = run_once(row, argv)
        except CommandError as error:
            say(f"bench: {row.name}: without {label!r}: {error}")
            continue
        peers.append(Series(label, argv, [sample]))
        if row.output:
            sizes["peer"] = os.stat(row.output).st_size
    if not peers:
        raise CommandError(f"{row.name}: no variant of the peer works")
    run_once(row, row.ours)
    if row.output:
        sizes["ours"] = os.stat(row.output).st_size
    row.verify()
    best = min(time_of(row, series) for series in peers)
    chosen = [series for series in peers if time_of(row, series) <= best * HOPELESS or is_fast(row, series, best)]
    for series in chosen:
        series.samples.clear()
    return chosen


def measure(row: Row, repeat: int) -> Result:
    """Time one row."""
    say(f"bench: {row.name}")
    sizes: dict[str, int] = {}
    # What is written is no more than what is read.
    memory = 2 * sum(os.stat(name).st_blocks * 512 for name in row.data) + SPARE if row.output else 0
    with at_hand(memory):
        peers = warm_up(row, sizes)
        ours = Series("ours", row.ours, [])
        for turn in range(repeat):
            # Every other turn goes backwards, so that no variant always follows the same one.
            for series in [*peers, ours] if turn % 2 == 0 else [ours, *reversed(peers)]:
                series.samples.append(run_once(row, series.argv))
        if row.output:
            Path(row.output).unlink(missing_ok=True)
    best = min(peers, key=lambda series: time_of(row, series))
    growth = sizes["ours"] / sizes["peer"] - 1 if sizes else 0.0
    return Result(row, best, ours, time_of(row, best) / max(time_of(row, ours), 1e-9), growth, peers)


def seconds(value: float) -> str:
    """Return seconds with three digits, as milliseconds below one."""
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def table_line(result: Result) -> str:
    """Return one line of the table."""
    row, best, ours = result.row, result.best, result.ours
    if best is None or ours is None:
        return f"| {row.title} | {result.error} | | | | | | | | | **no** |"
    target = f"≤ {seconds(row.cpu_limit)}" if row.cpu_limit else f"{row.target:g}" if row.target else "-"
    size = f"{result.growth:+.1%} (≤ {row.size_limit:+.0%})" if row.size_limit is not None else "-"
    met = f"**no: {', '.join(result.missed)}**" if result.missed else "yes" if target != "-" else "-"
    return (
        f"| {row.title} | `{best.label}` | {seconds(best.wall)} | {seconds(best.cpu)} "
        f"| {seconds(ours.wall)} | {seconds(ours.cpu)} | {ours.peak >> 20} MiB "
        f"| {result.ratio:.2f} | {target} | {size} | {met} |"
    )


def markdown(results: list[Result]) -> str:
    """Return the table."""
    head = "| row | qemu-img, best | wall | CPU | ours: wall | CPU | peak | ratio | target | size | met |"
    return "\n".join([head, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|", *map(table_line, results)])


def describe_machine(repeat: int) -> dict[str, object]:
    """Return what a reader needs to judge the figures."""
    commit = ""
    with suppress(CommandError, OSError):
        commit = capture(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]).strip()
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "commit": commit,
        "processors": os.cpu_count(),
        "processor": model.partition(":")[2].strip(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "peer": capture(["qemu-img", "--version"]).splitlines()[0],
        "load": os.getloadavg()[0],
        "repeat": repeat,
    }


def compile_package() -> None:
    """Compile blockkit's modules: an environment may keep Python from doing so."""
    where = capture([sys.executable, "-c", "import blockkit; print(*blockkit.__path__)"]).strip()
    capture([sys.executable, "-m", "compileall", "-q", where])


def bench(rows: list[Row], repeat: int, scale: int) -> list[Result]:
    """Make in the current directory what ``rows`` need, and run them; one that fails does not stop the rest."""
    results = []
    for row in rows:
        # In another process: see Sample.peak.
        words = [sys.executable, str(HERE / "make_data.py"), ".", "--scale", str(scale), *row.data]
        subprocess.run(words, check=True)
        try:
            results.append(measure(row, repeat))
        except CommandError as error:
            say(f"bench: {row.name}: {error}")
            results.append(Result(row, error=str(error).replace("|", "/").replace("\n", " ")[:120]))
    return results


def main() -> int:
    """Run the rows that are asked for; the exit status is 1 when one failed or missed its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where the data goes, about 8 GiB, kept; a temporary one by default")
    parser.add_argument("--repeat", type=int, default=5, help="timed runs of each variant (5)")
    parser.add_argument("--scale", type=int, default=2048, help="MiB of the mixed image; the rest goes with it (2048)")
    parser.add_argument("--json", type=Path, help="write every sample there too")
    parser.add_argument("--blockkit", default=shlex.join(default_command()), help="our command")
    parser.add_argument("--size-level", default="6", help="the compression_level chosen for size (6)")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="of --list; all, if none is named")
    words = parser.parse_intermixed_args()
    rows = make_rows([*shlex.split(words.blockkit), "img"], sys.executable, words.size_level)
    if words.list:
        print("\n".join(row.name for row in rows))
        return 0
    if unknown := set(words.rows) - {row.name for row in rows}:
        parser.error(f"no row called {min(unknown)}; --list names them")
    if shutil.which("qemu-img") is None:
        raise SystemExit("bench: no qemu-img to compare with (apt-get install qemu-utils)")
    report = words.json.resolve() if words.json else None
    with tempfile.TemporaryDirectory(prefix="blockkit-bench-") as scratch:
        if words.dir:
            words.dir.mkdir(parents=True, exist_ok=True)
        os.chdir(words.dir or scratch)
        compile_package()
        machine = describe_machine(words.repeat)
        results = bench([row for row in rows if not words.rows or row.name in words.rows], words.repeat, words.scale)
        os.chdir("/")
    print("; ".join(f"{name} {value}" for name, value in machine.items()), markdown(results), sep="\n\n")
    if report:
        report.write_text(
            json.dumps({"machine": machine, "rows": [result.as_json() for result in results]}, indent=1) + "\n"
        )
    return int(any(result.missed for result in results))


if __name__ == "__main__":
    sys.exit(main())
