"""Copying to what takes any bytes anywhere."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from blockkit.block.chain import locate
from blockkit.block.copying.copier import Copier
from blockkit.block.copying.parts import DATA
from blockkit.block.facets import LendsDescriptor, Shifts, TakesByDescriptor
from blockkit.block.node import Kind
from blockkit.errors import from_os_error

if TYPE_CHECKING:
    from blockkit.block.copy import CopyPlan
    from blockkit.block.copying.parts import Part
    from blockkit.block.node import Node


class PlainCopier(Copier):
    """Writes each run of data where it belongs."""

    def __init__(self, source: Node, target: Node, plan: CopyPlan, start: int, length: int, shift: int) -> None:
        self._below, self._moved = _straight(target, shift)
        inside = start + length + shift <= target.size and not target.read_only
        self._by_descriptor = inside and isinstance(self._below, TakesByDescriptor)
        self._copies_range = plan.copy_range and self._by_descriptor
        super().__init__(source, target, plan, start, length, shift)

    def may_carry(self) -> bool:
        """Whether the target comes down to a host file that nothing on the way looks at."""
        return self._by_descriptor and not self._copies_range

    def deal(self, buffer: memoryview, batch: list[Part]) -> None:
        """Copy parts: natively those that can be, together, the others one by one."""
        self.parts.gathers = self.carrier is not None
        done = self._carry_together(buffer, batch) if self.carrier is not None and len(batch) > 1 else 0
        for part in batch[done:]:
            start, end, is_data = part[:3]
            if not is_data:
                self.write_zeros(start, end)
            elif not (self._copies_range and self._copy_range(start, end)):
                self._copy_part(buffer, part)

    def _carry_together(self, buffer: memoryview, batch: list[Part]) -> int:
        """Copy as many parts as native code can, from the first on; return how many."""
        node, moved, shift = batch[0][3], self._moved, self.shift
        pieces = []
        for start, end, _, holder, place in batch:
            if holder is not node or end - start >= self.chunk:
                break
            pieces.append((place, start + moved, start + shift, end - start))
        if node is None or self.carrier is None or not pieces:
            return 0
        return self.carrier.carry_pieces(buffer, node, self._below, pieces)

    def _copy_part(self, buffer: memoryview, part: Part) -> None:
        """Copy a part, natively as far as that goes."""
        at, end, _, node, place = part
        # What is shorter than a chunk takes as long to hand over as to copy.
        if node is not None and self.carrier is not None and end - at >= self.chunk:
            began = time.monotonic()
            done = self.carrier.carry(buffer, node, place, self._below, at + self._moved, at + self.shift, end - at)
            self.parts.pace(end - at, time.monotonic() - began)
            at, place = at + done, place + done
        while at < end:
            view = buffer[: min(self.chunk, end - at)]
            self.read((at, at + len(view), DATA, node, place), view)
            self._write(at, view)
            at, place = at + len(view), place + len(view)

    def _write(self, start: int, view: memoryview) -> None:
        """Write ``view``, leaving out zeros in whole grains of the target."""
        push, goal = self.target.push, start + self.shift
        for run, stop in self.runs(start, view):
            push(goal + run, [view[run:stop]])

    def _copy_range(self, start: int, end: int) -> bool:
        """Let the file system copy; False if it cannot, which is then not asked again, or if the data is encoded."""
        target = self._below
        assert isinstance(target, TakesByDescriptor), "judged when the copy began"
        into = target.writing_cell()
        for found in locate(self.source, start, end - start):
            if found.kind is not Kind.DATA or not isinstance(found.node, LendsDescriptor):
                return False
            cell = found.node.descriptor_cell()
            if cell is None or into is None:
                self._copies_range = False
                return False
            at, left, goal = found.target, found.length, found.offset + self._moved
            try:
                while left:
                    done = os.copy_file_range(cell[0], into[0], left, at, goal)
                    if not done:
                        return False
                    at, goal, left = at + done, goal + done, left - done
            except OSError as error:
                if error.errno in _NO_COPY_RANGE:
                    self._copies_range = False
                    return False
                raise from_os_error(error, f"{target}: cannot copy {left} bytes to {goal:#x}") from error
            finally:
                target.wrote(goal)
        return True


def _straight(node: Node, shift: int) -> tuple[Node, int]:
    """Return the node that requests come to in the end, and what is added to their offsets."""
    while isinstance(node, Shifts) and (below := node.shifted_to()) is not None:
        node, shift = below[0], shift + below[1]
    return node, shift


def _no_copy_range() -> frozenset[int]:
    import errno

    return frozenset(
        {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY, errno.EPERM}
    )


_NO_COPY_RANGE = _no_copy_range()
