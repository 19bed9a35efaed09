"""Copying to what takes any bytes anywhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blockkit.block.chain import locate
from blockkit.block.copying.copier import Copier
from blockkit.block.facets import HasHostFile
from blockkit.block.node import Kind
from blockkit.errors import NodeIOError

if TYPE_CHECKING:
    from blockkit.block.copying.parts import Part


class PlainCopier(Copier):
    """Writes each run of data where it belongs."""

    def deal(self, buffer: memoryview, batch: list[Part]) -> None:
        for part in batch:
            start, end, is_data = part[:3]
            if not is_data:
                self.write_zeros(start, end)
            elif not (self.plan.copy_range and self._copy_range(start, end)):
                view = buffer[: end - start]
                self.read(part, view)
                self._write(start, view)

    def _write(self, start: int, view: memoryview) -> None:
        """Write ``view``, leaving out zeros in whole grains of the target."""
        push, goal = self.target.push, start + self.shift
        for run, stop in self.runs(start, view):
            push(goal + run, [view[run:stop]])

    def _copy_range(self, start: int, end: int) -> bool:
        """Let the file system copy; False if it cannot."""
        target = self.target
        if not isinstance(target, HasHostFile):
            return False
        for found in locate(self.source, start, end - start):
            if found.kind is not Kind.DATA or not isinstance(found.node, HasHostFile):
                return False
            at, left, goal = found.target, found.length, found.offset + self.shift
            while left:
                try:
                    done = os.copy_file_range(found.node.fileno(), target.fileno(), left, at, goal)
                except OSError as error:
                    if error.errno in _NO_COPY_RANGE:
                        return False
                    raise NodeIOError(f"{target}: {os.strerror(error.errno or 5).lower()}") from error
                if not done:
                    return False
                at, goal, left = at + done, goal + done, left - done
        return True


def _no_copy_range() -> frozenset[int]:
    import errno

    return frozenset(
        {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY, errno.EPERM}
    )


_NO_COPY_RANGE = _no_copy_range()
