#!/usr/bin/env python3
"""What it saves that the host decompresses a kernel: instructions and CPU time until Debian's have started a shell.

    python tools/bench/machine/kernels.py [--repeat N]

Needs tools/get-guests and blockkit[jit], whose code is compiled before anything is measured. They take turns. CPU time
is that of a whole process, the median of its runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tests.guests.debian import Debian, initrd  # noqa: E402 - the checkout is not installed

WHO = ("guest", "host", "auto")
SECONDS = 600
#: Prints instructions and seconds.
SCRIPT = """
import sys, time
import blockkit
kernel, disk, who = sys.argv[1:]
line = "console=ttyS0 quiet panic=-1"
with blockkit.Machine(kernel=kernel, initrd=disk, append=line, accelerator="jit", kernel_decompress=who) as vm:
    vm.expect("READY")
    print(vm.session.pc.cpu.executed, time.process_time())
"""


def run(kernel: Path, disk: Path, who: str) -> tuple[int, float]:
    """Start a kernel in a process of its own; return instructions and CPU seconds."""
    command = [sys.executable, "-c", SCRIPT, str(kernel), str(disk), who]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT)
    instructions, seconds = done.stdout.split()
    return int(instructions), float(seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="how often each is run (default 3)")
    given = parser.parse_args()
    print("| kernel | decompressed by | million instructions | CPU |\n|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        for architecture in ("amd64", "i386"):
            kernel, disk = Debian(architecture).kernel(), Path(name) / f"initrd-{architecture}"
            disk.write_bytes(initrd(architecture, (), "echo READY"))
            run(kernel, disk, "auto")
            found: dict[str, list[tuple[int, float]]] = {who: [] for who in WHO}
            for _ in range(given.repeat):
                for who in WHO:
                    found[who].append(run(kernel, disk, who))
            for who, runs in found.items():
                instructions, seconds = runs[0][0] / 1e6, median(seconds for _, seconds in runs)
                print(f"| {kernel.name} | {who} | {instructions:,.0f} | {seconds:.2f} s |", flush=True)


if __name__ == "__main__":
    main()
