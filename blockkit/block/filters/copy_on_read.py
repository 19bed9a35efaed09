"""Filling an image from its backing file as it is read."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from blockkit.block.bases import FilterNode
from blockkit.block.buffers import split_buffers, total_length
from blockkit.block.node import Kind
from blockkit.block.ranges import RangeLock
from blockkit.block.zeros import is_zero
from blockkit.errors import NodeError
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Node

log = logging.getLogger(__name__)


class CopyOnReadOptions(Frozen):
    """There are none."""


class CopyOnReadNode(FilterNode):
    """Stores what a read took from the backing file in the image on top, so that the next read finds it there.

    A copy never overwrites what was written meanwhile: writes that pass this filter and overlap a copy wait for it. A
    copy that fails is given up with a warning, and the read succeeds.

    Args:
        file: An image; without a backing file, or read-only, nothing is copied.
    """

    driver = "copy_on_read"

    def __init__(self, file: Node) -> None:
        super().__init__(file)
        self._lock = threading.Lock()
        self._ranges = RangeLock(self._lock)
        self._warned = False

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        length = min(total_length(buffers), self.size - offset)
        if self.file.read_only or not any(self._missing(offset, length)):
            self.file.pull(offset, buffers)
            return
        with self._holding(offset, length, exclusive=True):
            self.file.pull(offset, buffers)
            for start, count in self._missing(offset, length):
                _, rest = split_buffers(buffers, start - offset) if start > offset else ([], buffers)
                self._copy(start, count, split_buffers(rest, count)[0])

    def _missing(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the offset and length of what the image lacks and its backing file has."""
        backing = self.file.backing
        if backing is None:
            return
        for extent in self.file.extents(offset, length):
            count = min(extent.length, backing.size - extent.offset)
            if extent.kind is Kind.UNALLOCATED and count > 0:
                yield extent.offset, count

    def _copy(self, offset: int, length: int, data: list[memoryview]) -> None:
        try:
            if all(map(is_zero, data)):
                self.file.zero(offset, length, unmap=False)
            else:
                self.file.push(offset, data)
        except NodeError as error:
            if not self._warned:
                log.warning("%s: what is read cannot be copied from the backing file: %s", self, error)
            self._warned = True

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        with self._holding(offset, total_length(buffers)):
            super()._writev(offset, buffers, fua)

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        with self._holding(offset, length):
            super()._zero(offset, length, unmap, fast)

    def _discard(self, offset: int, length: int) -> None:
        with self._holding(offset, length):
            super()._discard(offset, length)

    @contextmanager
    def _holding(self, offset: int, length: int, *, exclusive: bool = False) -> Iterator[None]:
        ranges, end = self._ranges, offset + length
        with self._lock:
            if exclusive:
                token = ranges.exclusive(offset, end)
            else:
                while not (token := ranges.try_shared(offset, end)):
                    ranges.wait()
        try:
            yield
        finally:
            with self._lock:
                self._ranges.release(token)


class CopyOnReadDriver:
    """The driver named ``copy_on_read``."""

    name: ClassVar[str] = "copy_on_read"
    Options: ClassVar[type[CopyOnReadOptions]] = CopyOnReadOptions

    def open(self, file: Node, options: CopyOnReadOptions) -> Node:
        """Put the filter on top of ``file``."""
        return CopyOnReadNode(file)


DRIVER = CopyOnReadDriver()
