"""Any sequence of operations leaves what a plain array of bytes would hold, in every cache mode."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockkit.block.node import Kind, Preallocation
from blockkit.protocols.descriptor import CACHE_MODES
from blockkit.protocols.file import HostFile, create_file, open_path

if TYPE_CHECKING:
    from pathlib import Path

#: A few blocks of 4 KiB: most requests share blocks with others, many cross the end.
LARGEST = 20_000

offsets = st.one_of(st.integers(0, LARGEST), st.integers(0, LARGEST // 512).map(lambda n: n * 512))
lengths = st.one_of(st.integers(0, 9000), st.integers(0, 16).map(lambda n: n * 512))
operations = st.one_of(
    st.tuples(st.just("write"), offsets, lengths, st.booleans()),
    st.tuples(st.just("vector"), offsets, st.lists(lengths, max_size=4), st.booleans()),
    st.tuples(st.just("read"), offsets, lengths),
    st.tuples(st.just("push"), offsets, lengths, st.booleans()),
    st.tuples(st.just("pull"), offsets, lengths),
    st.tuples(st.just("zero"), offsets, lengths, st.booleans()),
    st.tuples(st.just("discard"), offsets, lengths),
    st.tuples(st.just("resize"), offsets, st.sampled_from([Preallocation.OFF, Preallocation.FULL])),
    st.tuples(st.just("flush")),
)


class Model:
    """A host file beside the bytes it must hold."""

    def __init__(self, node: HostFile) -> None:
        self.node, self.expected = node, bytearray()
        self._fill = itertools.count(1)

    def fresh(self, length: int) -> bytes:
        """Bytes unlike those before and unlike zeros."""
        seed = next(self._fill)
        return bytes((seed * 37 + i) % 255 + 1 for i in range(length))

    def put(self, offset: int, data: bytes) -> None:
        if data:
            self.expected.extend(bytes(max(0, offset + len(data) - len(self.expected))))
            self.expected[offset : offset + len(data)] = data

    def clip(self, offset: int, length: int) -> tuple[int, int]:
        offset = min(offset, len(self.expected))
        return offset, min(length, len(self.expected) - offset)

    def write(self, offset: int, length: int, fua: bool) -> None:
        data = self.fresh(length)
        self.node.write(offset, data, fua=fua)
        self.put(offset, data)

    def vector(self, offset: int, sizes: list[int], fua: bool) -> None:
        parts = [self.fresh(size) for size in sizes]
        self.node.writev(offset, parts, fua=fua)
        self.put(offset, b"".join(parts))
        offset, total = self.clip(offset, sum(sizes))
        buffers = [bytearray(total // 3), bytearray(total - total // 3)]
        self.node.readv(offset, buffers)
        assert b"".join(buffers) == self.expected[offset : offset + total]

    def read(self, offset: int, length: int) -> None:
        offset, length = self.clip(offset, length)
        assert self.node.read(offset, length) == self.expected[offset : offset + length]

    def push(self, offset: int, length: int, fua: bool) -> None:
        data = self.fresh(length)
        if data:
            self.node.push(offset, [memoryview(data)], fua)
        self.put(offset, data)

    def pull(self, offset: int, length: int) -> None:
        buf = bytearray(b"?" * length)
        if length:
            self.node.pull(offset, [memoryview(buf)])
        assert buf == bytes(self.expected[offset : offset + length]).ljust(length, b"\0")

    def zero(self, offset: int, length: int, unmap: bool) -> None:
        self.node.zero(offset, length, unmap=unmap)
        self.put(offset, bytes(length))

    def discard(self, offset: int, length: int) -> None:
        offset, length = self.clip(offset, length)
        self.node.discard(offset, length)
        # What is there now is nobody's promise; what is around it is.
        self.put(offset, self.node.read(offset, length))

    def resize(self, size: int, mode: Preallocation) -> None:
        self.node.resize(size, preallocate=mode)
        del self.expected[size:]
        self.expected.extend(bytes(size - len(self.expected)))

    def flush(self) -> None:
        self.node.flush()

    def agree(self, path: Path) -> None:
        assert self.node.size == path.stat().st_size == len(self.expected)
        assert self.node.read(0, len(self.expected)) == self.expected
        at = 0
        for extent in self.node.extents():
            assert extent.offset == at
            assert extent.length > 0
            at += extent.length
            if extent.kind is Kind.ZERO:
                assert not any(self.expected[extent.offset : at])
        assert at == len(self.expected)


@pytest.mark.parametrize("cache", CACHE_MODES)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(operations, max_size=25))
def test_a_host_file_is_an_array_of_bytes(direct_path: Path, cache: str, steps: list[tuple[object, ...]]) -> None:
    with create_file(direct_path, cache=cache) as node:
        model = Model(node)
        for name, *arguments in steps:
            getattr(model, str(name))(*arguments)
            assert node.size == len(model.expected)
        model.agree(direct_path)
    assert direct_path.read_bytes() == model.expected
    with open_path(direct_path, cache=cache) as node:
        assert node.read(0, node.size) == model.expected
