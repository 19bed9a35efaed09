"""Copying to images that store whole clusters compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.block.copying.copier import Copier
from blockkit.block.facets import WritesCompressed
from blockkit.block.zeros import is_zero, zero_fill
from blockkit.errors import UnsupportedOperationError
from blockkit.units import MiB, align_up

if TYPE_CHECKING:
    from blockkit.block.copying.parts import Part

#: What compressing may take in all, bytes.
_MEMORY: Final = 128 * MiB


class CompressedCopier(Copier):
    """Stores a chunk in compressed clusters, each one whole."""

    def find_unit(self) -> int:
        """Return what a compressed cluster holds, bytes."""
        if not isinstance(self.target, WritesCompressed):
            raise UnsupportedOperationError(f"{self.target}: {self.target.driver} cannot store compressed data")
        return self.target.compressed_cluster_size

    def find_workers(self) -> int:
        """Return as many threads as the plan has, unless they took too much memory."""
        assert isinstance(self.target, WritesCompressed), "judged when the copy began"
        return min(self.plan.workers, _MEMORY // (self.target.compression_memory + self.buffer_size))

    def deal(self, buffer: memoryview, batch: list[Part]) -> None:
        """Store what is in one chunk."""
        target, unit, shift = self.target, self.unit, self.shift
        assert isinstance(target, WritesCompressed), "judged when the copy began"
        first = batch[0][0]
        base = (first + shift) // unit * unit - shift  # source offset of the first cluster
        if len(batch) == 1 and not batch[0][2]:
            self.write_zeros(batch[0][0], batch[0][1], found=True)
            return
        stop = align_up(batch[-1][1] + shift, unit) - shift
        view = buffer[: stop - base]
        position = base
        held: set[int] = set()  # clusters that any part is in; the rest is not copied
        for part in batch:
            start, end, is_data = part[:3]
            self._fill_between(position, start, view, base)
            if is_data:
                self.read(part, view[start - base : end - base])
            else:
                zero_fill(view[start - base : end - base])
            held.update(range((start - base) // unit, (end - 1 - base) // unit + 1))
            position = end
        self._fill_between(position, stop, view, base)
        size = self.target.size
        for number in sorted(held):
            cluster = view[number * unit : (number + 1) * unit]
            goal = base + number * unit + shift
            if self.grain and is_zero(cluster):
                if not self.fresh:
                    self.target.zero(goal, min(unit, size - goal))
                continue
            encoded = target.compress(cluster)
            if encoded is None:
                self.target.write(goal, cluster[: size - goal])
            else:
                target.write_compressed(goal, encoded)

    def _fill_between(self, start: int, end: int, view: memoryview, base: int) -> None:
        """Fill the rest of the cluster that ``start`` is in, and the beginning of the one that ``end`` is in."""
        unit, shift = self.unit, self.shift
        near = min(end, align_up(start + shift, unit) - shift)
        far = max(near, (end + shift) // unit * unit - shift)
        for low, high in ((start, near), (far, end)):
            if low < high:
                self._fill_gap(low, high, view[low - base : high - base])

    def _fill_gap(self, start: int, end: int, buf: memoryview) -> None:
        """Fill a part of a compressed cluster that is not copied, and that the cluster must hold all the same."""
        zero_fill(buf)
        inside_start, inside_end = max(start, self.start), min(end, self.end)
        if self.plan.over_backing and inside_start < inside_end:
            # Inherited from the backing.
            self.read_source(inside_start, buf[inside_start - start : inside_end - start])
        # Outside the range that is copied, what the target holds already.
        behind = self.target.size - self.shift
        for low, high in ((start, min(end, self.start)), (max(start, self.end), min(end, behind))):
            if low < high:
                self.target.read_into(low + self.shift, buf[low - start : high - start])
