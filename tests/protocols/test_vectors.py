"""Vectored I/O is never short, and large aligned writes go in pieces."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockkit.protocols.hostfile import HostFile
from blockkit.protocols.vectors import write_in_pieces

if TYPE_CHECKING:
    from pathlib import Path


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), offset=st.integers(0, 70), piece=st.integers(1, 33))
def test_pieces_end_at_multiples_and_carry_everything(sizes: list[int], offset: int, piece: int) -> None:
    data = bytes(index % 251 + 1 for index in range(sum(sizes)))
    buffers, at = [], 0
    for size in sizes:
        buffers.append(memoryview(data)[at : at + size])
        at += size
    stored = bytearray(offset + len(data))
    calls: list[tuple[int, int]] = []

    def take(fd: int, parts: object, start: int, flags: int = 0) -> int:
        joined = b"".join(parts) if isinstance(parts, list) else bytes(parts)  # type: ignore[call-overload]
        calls.append((start, start + len(joined)))
        stored[start : start + len(joined)] = joined
        return len(joined)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwritev", take)
        patch.setattr(os, "pwrite", take)
        write_in_pieces(-1, offset, buffers, piece)
    assert stored[offset:] == data
    assert all(begin // piece == (end - 1) // piece for begin, end in calls)


@pytest.mark.parametrize(("offset", "calls"), [(0, 2), (512 << 10, 2), (64 << 10, 1)])
def test_only_aligned_writes_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int, calls: int) -> None:
    from blockkit.protocols.file import open_path

    seen = []
    real = os.pwrite

    def counted(fd: int, data: bytes, at: int) -> int:
        seen.append(at)
        return real(fd, data, at)

    with open_path(tmp_path / "a.raw", read_only=False, create=True) as node:
        assert isinstance(node, HostFile)
        node.resize(2 << 20)
        data = os.urandom(1 << 20)
        monkeypatch.setattr(os, "pwrite", counted)
        node.writev(offset, [memoryview(data)])
        assert node.read(offset, len(data)) == data
    assert len(seen) == calls
