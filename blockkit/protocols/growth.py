"""Space behind the end of a file that is growing.

A file system that knows where the next blocks will lie has less to do for each write, all of it while it keeps other
writers of the file out; and what is reserved in large pieces lies together.
"""

from __future__ import annotations

import os
from typing import Final

from blockkit.protocols import fallocate

#: What is reserved at once: as much as the file has grown, within these bounds, bytes.
_LEAST: Final = 4 << 20
_MOST: Final = 64 << 20
#: So near the end of what is reserved, bytes, more is, or nearer, at half of what that would be: the writes of several
#: threads are on their way.
_MARGIN: Final = 24 << 20
#: What is reserved is at most one part in so many of what is free: others need space too.
_PART: Final = 8


class Growth:
    """Keeps space reserved ahead of a file's end; the caller sees to it that one thread at a time is here.

    Args:
        fd: Open for writing; nobody else may be making the file longer.
        size: Its size, bytes.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._start = self._until = size
        self._reserves = True

    def follow(self, size: int) -> None:
        """The file has become ``size`` bytes long: reserve more if what there is will soon be used up."""
        step = min(size - self._start, _MOST)
        if not self._reserves or step < _LEAST or size + min(_MARGIN, step // 2) < self._until:
            return
        at = max(size, self._until)
        try:
            system = os.fstatvfs(self._fd)
            if system.f_bavail * system.f_frsize < step * _PART:
                self._reserves = False
                return
            # Noted first: what an interrupt or an error comes across may have been reserved all the same.
            self._until = at + step
            fallocate.reserve(self._fd, at, step)
        except OSError:
            self._reserves = False  # the writes themselves will show what is wrong

    def end(self) -> None:
        """Give back what was not used, and reserve nothing more.

        Raises:
            OSError: the file system does not take it back.
        """
        self._reserves = False
        size = os.fstat(self._fd).st_size
        if size < self._until:
            self._until = size
            os.ftruncate(self._fd, size)
