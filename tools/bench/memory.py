#!/usr/bin/env python3
"""Free memory that does not have to be fetched from the host of a virtual machine first: ``memory.py MIB``.

A machine whose host takes back free memory faults it in again at the first touch, which costs several times as much as
copying into it, and how much of it is gone depends on what ran before: of the same command, one run takes three times
as long as another. Here a process touches memory and frees it again, all but a page of each MiB. What is left lies in
blocks too small to be given back, as long as the process lives.
"""

from __future__ import annotations

import mmap
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 20


@contextmanager
def at_hand(wanted: int) -> Iterator[None]:
    """While the body runs, ``wanted`` bytes of free memory are there at once, or as many as leave caches alone."""
    free = int(re.findall(r"MemFree: *(\d+)", Path("/proc/meminfo").read_text())[0]) << 10
    size = min(wanted, free * 3 // 4) // _BLOCK
    if size <= 0:
        yield
        return
    argv = [sys.executable, __file__, str(size)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None, "asked for above"
        holder.stdout.readline()  # it is ready
        try:
            yield
        finally:
            holder.communicate()


def hold(size: int) -> None:
    """Touch ``size`` MiB and free them but for a page each; return when standard input ends."""
    area = mmap.mmap(-1, size * _BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    for start in range(0, len(area), _BLOCK):
        area.madvise(mmap.MADV_DONTNEED, start + mmap.PAGESIZE, _BLOCK - mmap.PAGESIZE)
    print("ready", flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    hold(int(sys.argv[1]))
