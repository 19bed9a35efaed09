#!/usr/bin/env python3
"""Compare the machine with QEMU TCG: starting Linux, and reading a disk in it; CPU time, in turns, medians.

    python tools/bench/machine/bench.py [--repeat N] [ROW...]

Both start Debian's cloud kernel (tools/get-guests) with the same initial RAM disk, command line and image. What reading
costs is the difference between many reads and none, so that starting is not in it. Needs gcc, qemu-system-x86_64, and
blockkit[jit], whose code is compiled before anything is measured.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT))

from tests.guests.debian import Debian, initrd  # noqa: E402 - the checkout is not installed

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY = 256
LINE = "console=ttyS0 quiet panic=-1"
SECONDS = 600


class Row(NamedTuple):
    """Something to be measured.

    Attributes:
        name: For people and for the command line.
        size: Bytes of a read; 0 for starting alone.
        count: Reads.
        order: ``random`` or ``sequential``.
        interface: What the disk is behind.
        target: The ratio wanted, the peer's time over ours.
    """

    name: str
    size: int
    count: int
    order: str
    interface: str
    target: float


ROWS = (
    Row("boot-virtio", 0, 0, "random", "virtio", 0.25),
    Row("boot-ide", 0, 0, "random", "ide", 0.25),
    Row("random-4k-virtio", 4096, 8000, "random", "virtio", 1 / 3),
    Row("sequential-1m-virtio", 1 << 20, 1000, "sequential", "virtio", 0.5),
    Row("random-4k-ide", 4096, 4000, "random", "ide", 1 / 3),
    Row("sequential-1m-ide", 1 << 20, 500, "sequential", "ide", 0.5),
)


def ram_disk(row: Row, count: int, reader: Path) -> bytes:
    """Return the initial RAM disk of a row."""
    from tests.guests.cpio import Archive

    script = "for d in /dev/vda /dev/sda; do [ -b $d ] && disk=$d; done\necho READY $disk"
    if count:
        script += f"\n/reads $disk {row.size} {count} {row.order}"
    more = Archive()
    more.add_tree(reader, "reads")
    return initrd("amd64", (row.interface,), script) + more.finish()


def spent(command: Sequence[str], log: Path) -> float:
    """Run a command and return its CPU time in seconds; what the guest says must be there."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    log.write_bytes(done.stdout + done.stderr)
    if b"READY /dev" not in done.stdout:
        raise SystemExit(
            f"{command[0]}: the guest did not come up; see {log}:\n{done.stdout[-2000:].decode(errors='replace')}"
        )
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def qemu(kernel: Path, disk: Path, image: Path, row: Row) -> list[str]:
    """Return the peer's command line."""
    return [
        *("qemu-system-x86_64", "-accel", "tcg", "-m", str(MEMORY), "-display", "none", "-nodefaults", "-no-reboot"),
        *("-serial", "stdio", "-kernel", str(kernel), "-initrd", str(disk), "-append", LINE),
        *("-drive", f"file={image},format=qcow2,if={row.interface},cache=writeback"),
    ]


def ours(kernel: Path, disk: Path, image: Path, row: Row) -> list[str]:
    """Return our command line."""
    return [
        *(sys.executable, "-m", "blockkit", "run", "--accel", "jit", "-m", f"{MEMORY}M", "--no-reboot"),
        *("--serial", "stdio", "--kernel", str(kernel), "--initrd", str(disk), "--append", LINE),
        *("--drive", f"file={image},format=qcow2,if={row.interface}"),
    ]


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="how often each is run (default 3)")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(row.name for row in ROWS))
    given = parser.parse_args(arguments)
    kernel = Debian("amd64").kernel()
    print("| row | QEMU TCG, CPU | ours, CPU | ratio | target |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        reader, image = directory / "reads", directory / "disk.qcow2"
        subprocess.run(["gcc", "-O1", "-static", "-o", reader, HERE / "reads.c"], check=True)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "256M"], check=True)
        subprocess.run(["qemu-io", "-c", "write -P 7 0 256M", image], check=True, capture_output=True)
        for row in ROWS:
            if given.rows and row.name not in given.rows:
                continue
            found: dict[str, list[float]] = {"qemu": [], "ours": []}
            for _ in range(given.repeat):
                for who, command in (("qemu", qemu), ("ours", ours)):
                    times = []
                    for count in (row.count, 0) if row.count else (0,):
                        disk = directory / f"initrd-{row.name}-{count}"
                        disk.write_bytes(ram_disk(row, count, reader))
                        times.append(spent(command(kernel, disk, image, row), directory / "log"))
                    found[who].append(times[0] - times[1] if row.count else times[0])
            theirs, mine = median(found["qemu"]), median(found["ours"])
            print(
                f"| {row.name} | {theirs:.2f} s | {mine:.2f} s | {theirs / mine:.2f} | {row.target:.2f} |", flush=True
            )


if __name__ == "__main__":
    main(sys.argv[1:])
