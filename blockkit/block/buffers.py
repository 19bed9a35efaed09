"""What requests carry: buffers of callers, cut and counted without copying."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What callers may pass as data: any C-contiguous object with the buffer interface.
Buffer: TypeAlias = bytes | bytearray | memoryview


def split_buffers(buffers: Sequence[memoryview], length: int) -> tuple[list[memoryview], list[memoryview]]:
    """Cut a vector after ``length`` bytes, without copying."""
    head: list[memoryview] = []
    for index, buf in enumerate(buffers):
        size = len(buf)
        if size >= length:
            head.append(buf[:length])
            rest = list(buffers[index + 1 :])
            if size > length:
                rest.insert(0, buf[length:])
            return head, rest
        head.append(buf)
        length -= size
    return head, []


def total_length(buffers: Sequence[Buffer]) -> int:
    """Return the bytes of all ``buffers`` together (each must be byte-formatted)."""
    return len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))


def as_views(buffers: Sequence[Buffer]) -> list[memoryview]:
    """Return byte views of ``buffers``, dropping empty ones."""
    return [view for buf in buffers if (view := memoryview(buf).cast("B")).nbytes]
