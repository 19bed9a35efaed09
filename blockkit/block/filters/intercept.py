"""A filter that sees every request in one place."""

from __future__ import annotations

import enum
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.bases import FilterNode
from blockkit.block.buffers import total_length

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Preallocation


class Operation(enum.Enum):
    """What a request asks for."""

    READ = "read"
    WRITE = "write"
    ZERO = "zero"
    DISCARD = "discard"
    FLUSH = "flush"
    RESIZE = "resize"


class Request(NamedTuple):
    """One request on its way down.

    Attributes:
        operation: What it asks for.
        offset: Its first byte; for a resize 0.
        length: Its bytes; for a resize the new size.
        buffers: What is to be filled or stored; empty for the others.
        fua: Whether a write is to be durable when it returns.
    """

    operation: Operation
    offset: int = 0
    length: int = 0
    buffers: tuple[memoryview, ...] = ()
    fua: bool = False


class InterceptNode(FilterNode):
    """Hands every request, and the function that passes it on, to :meth:`_intercept`."""

    @abstractmethod
    def _intercept(self, request: Request, go: Callable[[], None]) -> None:
        """Answer ``request``, if it succeeds by calling ``go``."""

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        request = Request(Operation.READ, offset, total_length(buffers), tuple(buffers))
        self._intercept(request, partial(super()._readv, offset, buffers))

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        request = Request(Operation.WRITE, offset, total_length(buffers), tuple(buffers), fua)
        self._intercept(request, partial(super()._writev, offset, buffers, fua))

    def _zero(self, offset: int, length: int, unmap: bool, fast: bool) -> None:
        self._intercept(Request(Operation.ZERO, offset, length), partial(super()._zero, offset, length, unmap, fast))

    def _discard(self, offset: int, length: int) -> None:
        self._intercept(Request(Operation.DISCARD, offset, length), partial(super()._discard, offset, length))

    def _flush(self) -> None:
        self._intercept(Request(Operation.FLUSH), super()._flush)

    def _resize(self, size: int, preallocate: Preallocation) -> None:
        self._intercept(Request(Operation.RESIZE, 0, size), partial(super()._resize, size, preallocate))
