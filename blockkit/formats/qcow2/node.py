"""An open qcow2 image, whole: read, written, flushed, resized, checked.

A flush that finds changed tables holds the metadata lock while it writes them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from blockkit.formats.qcow2.header import read_header
from blockkit.formats.qcow2.writing import Qcow2Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.buffers import Buffer
    from blockkit.block.node import Preallocation
    from blockkit.block.report import CheckReport, Repair
    from blockkit.schema import Structure


class Qcow2Node(Qcow2Writer):
    """A qcow2 image; see :class:`~blockkit.formats.qcow2.reading.Qcow2Reader` for its arguments."""

    # -- flushing, resizing, closing -----------------------------------------------------------------------

    def _flush(self) -> None:
        if not self.read_only:
            with self._lock:
                if self.metadata.dirty:
                    self.metadata.commit()
        self.metadata.barrier()

    def _close(self) -> None:
        with self._lock:
            self._stop_quick()
        if not self.read_only:
            with self._lock:
                self.metadata.close()
        self._decoded.clear()

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        from blockkit.formats.qcow2.resize import resize

        with self._resizing:
            try:
                resize(self, size, preallocate)
            finally:
                self._reach = self.size

    def extend_reach(self, reach: int) -> None:
        """Let clusters be mapped up to ``reach`` bytes."""
        with self._lock:
            self._reach = reach

    @contextmanager
    def cutting(self, first: int, last: int, reach: int) -> Iterator[None]:
        """Let clusters be mapped up to ``reach`` bytes only, and keep everybody out of clusters ``[first, last)``."""
        with self._lock:
            self._reach = reach
            token = self._ranges.exclusive(first, last)
        try:
            yield
        finally:
            with self._lock:
                self._ranges.release(token)

    @contextmanager
    def _paused_writers(self) -> Iterator[None]:
        """Keep every change of the image out, after waiting for those on their way."""
        with self._resizing:
            try:
                with self._lock:
                    self._paused = True
                    token = self._ranges.exclusive(0, self.header.geometry.clusters(self.size))
                try:
                    yield
                finally:
                    with self._lock:
                        self._ranges.release(token)
            finally:
                with self._lock:
                    self._paused = False
                    self._ranges.wake()

    def set_size(self, size: int) -> None:
        """Change the virtual size in the header, after everything it depends on; the tables reach that far already."""
        self._flush()
        with self._lock:
            self._stop_quick()
            self.size = size
            self.header.fixed = replace(self.header.fixed, size=size)
            self.metadata.write_header()

    def empty_clusters(self, first: int, last: int) -> None:
        """Make clusters ``[first, last)`` read as zeros, whatever the backing holds."""
        if self.header.fixed.version >= 3:
            self._empty_clusters(first, last, keep=False, zero=True)
        else:
            super()._zero(first << self._bits, (last - first) << self._bits, False, False)

    def write_tail(self, offset: int, data: Buffer) -> None:
        """Store bytes behind the end of the disk that are about to become part of it."""
        self._writev(offset, [memoryview(data)], False)

    def preallocate(self, offset: int, length: int, mode: Preallocation) -> None:
        """Reserve clusters for a range that is not allocated, as ``mode`` says."""
        from blockkit.formats.qcow2.resize import preallocate

        with self._resizing:
            preallocate(self, offset, length, mode)

    # -- looking closer ------------------------------------------------------------------------------------

    def check(self, repair: Repair) -> CheckReport:
        """Check all metadata, and mend it as ``repair`` says; who writes meanwhile waits until that is done."""
        from blockkit.block.report import Repair
        from blockkit.formats.qcow2.check import check_image

        if repair is not Repair.NONE and self.read_only:
            self._refuse_write()
        if self.read_only:
            return check_image(self.file, self.header, repair)
        with self._paused_writers():
            with self._lock:
                self.metadata.close()
            if repair is Repair.NONE:
                return check_image(self.file, self.header, repair)
            self.metadata.retire()
            try:
                return check_image(self.file, self.header, repair)
            finally:
                with self._lock:
                    marked = self.metadata.marked_bitmaps
                    self.header = read_header(self.file)
                    self._load()
                    self.metadata.marked_bitmaps = marked
                    self._bump_generation()

    def structures(self) -> Iterator[Structure]:
        """Yield every on-disk structure."""
        from blockkit.formats.qcow2.inspect import structures

        return structures(self.file, self.header)
