"""Run a command and say what it took: wall time, CPU time, peak memory, of it and everything it started."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class CommandError(Exception):
    """A command did not work; the text says which one and what it said."""


@dataclass(frozen=True)
class Sample:
    """One run.

    Attributes:
        wall: Seconds; where the command prints how long its loop took, that.
        cpu: Seconds, user and system, of the process and those it waited for.
        peak: Bytes of memory of the largest of them. A child inherits the peak of the process that starts it, which is
            why the harness keeps itself small and makes the data in another process.
    """

    wall: float
    cpu: float
    peak: int


#: What a command may print of its own clock: ``qemu-img bench`` and random_io.py do.
_OWN_CLOCK = re.compile(rb"Run completed in ([0-9.]+) seconds")


def run(argv: Sequence[str], *, own_clock: bool = False) -> Sample:
    """Run ``argv`` to its end; output is dropped but for ``own_clock``, which reads the loop's time from it.

    Raises:
        CommandError: it could not be started, or exited with a status other than 0.
    """
    os.sync()  # what the last run left to be written must not be paid by this one
    out = subprocess.PIPE if own_clock else subprocess.DEVNULL
    try:
        with open(os.devnull, "rb") as nothing, open("stderr.txt", "w+b") as errors:
            start = time.perf_counter()
            child = subprocess.Popen(argv, stdin=nothing, stdout=out, stderr=errors)
            printed = child.stdout.read() if child.stdout else b""
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.perf_counter() - start
            child.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
    except OSError as error:
        raise CommandError(f"{argv[0]}: {error.strerror}") from error
    if child.returncode:
        raise CommandError(f"{' '.join(argv)}: exit {child.returncode}: {said[-300:]}")
    if own_clock:
        if not (match := _OWN_CLOCK.search(printed)):
            raise CommandError(f"{' '.join(argv)}: printed no time")
        wall = float(match[1])
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


@dataclass
class Series:
    """The runs of one command."""

    label: str
    argv: list[str]
    samples: list[Sample]

    @property
    def wall(self) -> float:
        """The median, seconds."""
        return median(sample.wall for sample in self.samples)

    @property
    def cpu(self) -> float:
        """The median, seconds."""
        return median(sample.cpu for sample in self.samples)

    @property
    def peak(self) -> int:
        """The largest, bytes."""
        return max(sample.peak for sample in self.samples)
