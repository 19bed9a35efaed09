"""A disk as plain bytes, of which some may be what they like since they were discarded."""

from __future__ import annotations

import re

from tests.disks.chains import difference, padded


class Model:
    """What a disk must hold.

    Args:
        contents: What it holds at first.
    """

    def __init__(self, contents: bytes) -> None:
        self._bytes, self._loose = bytearray(contents), bytearray(len(contents))

    def __len__(self) -> int:
        return len(self._bytes)

    def write(self, offset: int, data: bytes) -> None:
        """Note what was written."""
        self._bytes[offset : offset + len(data)] = data
        self._loose[offset : offset + len(data)] = bytes(len(data))

    def discard(self, offset: int, length: int) -> None:
        """Note that a range may hold anything from now on."""
        self._loose[offset : offset + length] = b"\1" * length

    def resize(self, size: int) -> None:
        """Cut off what is behind ``size``, or add zeros."""
        for each in (self._bytes, self._loose):
            del each[size:]
            each += bytes(size - len(each))

    def settle(self, contents: bytes) -> str:
        """Compare with ``contents``, and keep them where anything was right; say what is wrong."""
        contents = contents[: len(self)] if len(contents) == len(padded(self._bytes)) else contents
        if len(contents) == len(self):
            for run in re.finditer(b"\1+", self._loose):
                self._bytes[run.start() : run.end()] = contents[run.start() : run.end()]
            self._loose[:] = bytes(len(self))
        return difference(contents, bytes(self._bytes))

    def differs(self, offset: int, found: bytes) -> str:
        """Compare with what was read at ``offset``; say what is wrong."""
        wanted = bytearray(self._bytes[offset : offset + len(found)])
        for run in re.finditer(b"\1+", self._loose[offset : offset + len(found)]):
            wanted[run.start() : run.end()] = found[run.start() : run.end()]
        return difference(found, bytes(wanted))
