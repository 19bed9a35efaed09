"""A system call that a node made for its bytes, for whoever watches."""

from __future__ import annotations

from typing import NamedTuple


class SystemCall(NamedTuple):
    """A system call that has come back.

    Attributes:
        start: When it began, in nanoseconds, as ``time.perf_counter_ns`` has them.
        name: As the manual calls it: ``preadv``, ``fdatasync``, ...
        action: What it is for: ``read``, ``write``, ``flush``, ``zero``, ``discard``, ``reserve``, ``resize``,
            ``map``.
        fd: The descriptor.
        offset: Bytes; the new size of ``resize``.
        length: Bytes that were asked for.
        took: Nanoseconds.
        result: What went wrong, or how many bytes were moved if not all were; else empty.
    """

    start: int
    name: str
    action: str
    fd: int
    offset: int
    length: int
    took: int
    result: str
