"""What every node must do, as tests: a driver's own tests start by subclassing these.

::

    class TestMyNode(WritableNodeContract):
        @pytest.fixture
        def node(self, contents: bytes, tmp_path: Path) -> Iterator[Node]:
            with make_my_node(tmp_path / "disk", contents) as node:
                yield node

``contents`` has data, zeros and an odd end; override it where a driver cannot hold that.
"""

from __future__ import annotations

import json
import random
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import pytest

from blockkit.block.chain import locate
from blockkit.block.node import Cap, Kind, Node
from blockkit.block.zeros import is_zero
from blockkit.errors import BlockkitError, ClosedError, OutOfRangeError, ReadOnlyError, UnsupportedOperationError
from blockkit.units import KiB, align_up, is_power_of_two

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.block.buffers import Buffer

#: Threads that use a node at once.
_THREADS = 4


def sample_contents() -> bytes:
    """Return what a disk holds in a contract: data, zeros, scattered bytes, and an end that no sector fits."""
    rng = random.Random("contract")
    scattered = bytearray(96 * KiB)
    for _ in range(40):
        scattered[rng.randrange(len(scattered))] = rng.randrange(1, 256)
    return rng.randbytes(64 * KiB) + bytes(128 * KiB) + scattered + rng.randbytes(5 * KiB + 3)


class NodeContract:
    """What holds for every open node. Override ``node``, and ``contents`` if need be.

    Attributes:
        refuses_when_closed: Whether requests fail once it is closed; a driver for tests may go on.
    """

    refuses_when_closed: ClassVar[bool] = True

    @pytest.fixture
    def contents(self) -> bytes:
        """Return the bytes that ``node`` reads as; at least 64 KiB."""
        return sample_contents()

    @pytest.fixture
    def node(self, contents: bytes) -> Node:
        """Give a fresh node that reads as ``contents``, and close it afterwards."""
        raise NotImplementedError("a contract's subclass gives it the node to test")

    # -- reading ---------------------------------------------------------------------------------------

    def test_it_reads_as_its_contents(self, node: Node, contents: bytes) -> None:
        """The whole disk in one request, and its size."""
        assert node.size == len(contents)
        assert node.read(0, node.size) == contents

    def test_any_part_reads_as_that_part(self, node: Node, contents: bytes) -> None:
        """Requests at odd places, of odd lengths."""
        rng = random.Random(1)
        for _ in range(60):
            start = rng.randrange(len(contents))
            length = rng.choice((1, 511, 512, 4096, 70_000))
            data = contents[start : start + length]
            assert node.read(start, len(data)) == data
        assert node.read(node.size - 1, 1) == contents[-1:]

    def test_reading_nothing_gives_nothing(self, node: Node) -> None:
        """Wherever that is, the end included."""
        assert node.read(0, 0) == node.read(node.size, 0) == b""
        node.readv(node.size, [])
        node.readv(0, [bytearray(), bytearray()])

    def test_a_vectored_read_fills_its_buffers_in_order(self, node: Node, contents: bytes) -> None:
        """Buffers of any size, empty ones too, and views into larger ones."""
        frame = bytearray(b"\xaa" * 9000)
        view = memoryview(frame)[100:8100]
        buffers: list[bytearray | memoryview] = [bytearray(1), bytearray(), view, bytearray(60_000), bytearray(513)]
        total = sum(map(len, buffers))
        for start in (0, 3, len(contents) - total):
            node.readv(start, buffers)
            assert b"".join(buffers) == contents[start : start + total]
        assert frame[:100] == b"\xaa" * 100
        assert frame[8100:] == b"\xaa" * 900

    def test_reading_into_a_buffer_fills_all_of_it(self, node: Node, contents: bytes) -> None:
        """The buffer's old contents do not shine through zeros."""
        buf = bytearray(b"\xff" * len(contents))
        node.read_into(0, buf)
        assert buf == contents

    @pytest.mark.parametrize(
        ("offset", "length"),
        [(0, 1), (-1, 1), (-1, 0), (-1, 2), (1, 0), (1 << 62, 1), ((1 << 63) - 1, 2), (1 << 70, 1), (0, 1 << 63)],
    )
    def test_reading_outside_the_disk_is_refused(self, node: Node, offset: int, length: int) -> None:
        """Offsets count from the end of the disk, and before its start if negative."""
        offset = node.size + offset if offset >= 0 else offset
        with pytest.raises(OutOfRangeError) as caught:
            node.read(offset, length)
        assert_one_line(caught.value)
        if length < 1 << 20:
            with pytest.raises(OutOfRangeError):
                node.readv(offset, [bytearray(length)])

    def test_a_negative_length_is_refused(self, node: Node) -> None:
        """It is not a request to read backwards."""
        with pytest.raises(OutOfRangeError):
            node.read(1, -1)
        with pytest.raises(OutOfRangeError):
            node.map(1, -1)

    def test_a_parent_reads_zeros_past_the_end(self, node: Node, contents: bytes) -> None:
        """So that a short backing file needs no care."""
        buf = bytearray(b"\xff" * 1000)
        node.pull(node.size - 100, [memoryview(buf)[:150], memoryview(buf)[150:]])
        assert buf == contents[-100:] + bytes(900)
        assert node.pull_bytes(node.size - 100, 1000) == contents[-100:] + bytes(900)
        assert node.pull_bytes(node.size + 5, 10) == bytes(10)

    def test_many_threads_read_at_once(self, node: Node, contents: bytes) -> None:
        """Each gets its own bytes."""

        def read(number: int) -> None:
            rng = random.Random(number)
            for _ in range(30):
                start = rng.randrange(len(contents) - 5000)
                length = rng.randrange(1, 5000)
                assert node.read(start, length) == contents[start : start + length]

        in_threads(read)

    # -- where bytes lie -------------------------------------------------------------------------------

    def test_extents_tile_the_disk(self, node: Node) -> None:
        """In order, without gaps, none empty."""
        assert_tiled([(e.offset, e.length) for e in node.extents()], 0, node.size)
        assert_tiled([(e.offset, e.length) for e in node.extents(700, 50_000)], 700, 50_000)
        assert list(node.extents(node.size)) == list(node.extents(5, 0)) == []

    def test_extents_say_what_the_bytes_are(self, node: Node, contents: bytes) -> None:
        """Zeros are zeros, data is where it is said to be, and the rest is the backing file's."""
        for extent in node.extents():
            data = contents[extent.offset : extent.offset + extent.length]
            if extent.kind is Kind.ZERO:
                assert is_zero(memoryview(data))
            elif extent.kind is Kind.DATA:
                assert extent.node is not None
                assert extent.node.pull_bytes(extent.target, extent.length) == data
            elif extent.kind is Kind.UNALLOCATED:
                below = node.backing.pull_bytes(extent.offset, extent.length) if node.backing else bytes(len(data))
                assert below == data

    def test_map_agrees_with_extents(self, node: Node) -> None:
        """Asked anywhere inside an extent, it gives the rest of it or the start of that rest."""
        rng = random.Random(2)
        extents = list(node.extents())
        for extent in rng.sample(extents, min(len(extents), 30)):
            inside = rng.randrange(extent.length)
            found = node.map(extent.offset + inside, extent.length - inside)
            assert found.offset == extent.offset + inside
            assert 0 < found.length <= extent.length - inside
            assert found.kind is extent.kind
            if extent.kind is Kind.DATA:
                assert (found.node, found.target) == (extent.node, extent.target + inside)
            one = node.map(extent.offset + inside, 1)
            assert (one.kind, one.length) == (extent.kind, 1)

    def test_map_refuses_what_is_not_there(self, node: Node) -> None:
        """Empty ranges have no extent."""
        for offset, length in ((0, 0), (node.size, 1), (node.size - 1, 2), (-1, 1)):
            with pytest.raises(OutOfRangeError):
                node.map(offset, length)
        with pytest.raises(OutOfRangeError):
            node.extents(0, node.size + 1)

    def test_following_extents_to_the_host_tiles_the_disk(self, node: Node, contents: bytes) -> None:
        """Through the whole stack, with holes and without."""
        for holes in (False, True):
            found = list(locate(node, holes=holes))
            assert_tiled([(run.offset, run.length) for run in found], 0, node.size)
            for run in found:
                data = contents[run.offset : run.offset + run.length]
                if run.kind is Kind.DATA:
                    assert run.node is not None
                    assert run.node.pull_bytes(run.target, run.length) == data
                elif run.kind is not Kind.ENCODED:
                    assert is_zero(memoryview(data))

    # -- what it says of itself ------------------------------------------------------------------------

    def test_limits_make_sense(self, node: Node) -> None:
        """Alignments are powers of two, bounds are not negative."""
        limits = node.limits
        alignments = (limits.request_alignment, limits.memory_alignment)
        assert all(map(is_power_of_two, (*alignments, limits.zero_granularity, limits.discard_granularity)))
        assert limits.max_transfer >= 0
        assert limits.optimal_transfer >= 0

    def test_capabilities_are_honest_about_writing(self, node: Node) -> None:
        """They stay as they are, and agree with ``read_only``."""
        assert node.caps == node.caps
        assert (Cap.WRITE in node.caps) is not node.read_only
        if node.read_only:
            assert not node.caps & (Cap.WRITE | Cap.RESIZE)

    def test_a_read_only_node_refuses_every_change(self, node: Node, contents: bytes) -> None:
        """Even one that would change nothing."""
        if not node.read_only:
            return
        changes: list[Callable[[], None]] = [
            lambda: node.write(0, b"x"),
            lambda: node.writev(0, []),
            lambda: node.zero(0, 1),
            lambda: node.discard(0, 1),
            lambda: node.resize(node.size),
            lambda: node.push(0, [memoryview(b"x")]),
        ]
        for change in changes:
            with pytest.raises(ReadOnlyError) as caught:
                change()
            assert_one_line(caught.value)
        node.flush()
        assert node.read(0, node.size) == contents

    def test_it_describes_itself(self, node: Node) -> None:
        """For people in one line, for programs as JSON."""
        assert node.driver
        assert len(str(node).splitlines()) == len(repr(node).splitlines()) == 1
        json.dumps(node.describe())
        assert all(isinstance(child, Node) for child in node.children.values())

    def test_closing_twice_is_closing_once(self, node: Node) -> None:
        """And closes what is below."""
        children = list(node.children.values())
        assert not node.closed
        node.close()
        node.close()
        assert node.closed
        assert all(child.closed for child in children)

    def test_a_closed_node_refuses(self, node: Node) -> None:
        """Every request, in one line, even one that would not have to reach what is below."""
        node.close()
        if not self.refuses_when_closed:
            return
        uses: list[Callable[[], object]] = [
            lambda: node.read(0, 1),
            lambda: node.read(0, 0),
            lambda: node.readv(0, [bytearray(1)]),
            lambda: node.read_into(0, bytearray(1)),
            lambda: node.pull(0, [memoryview(bytearray(1))]),
            lambda: node.pull_bytes(0, 1),
            lambda: node.map(0, 1),
            lambda: list(node.extents()),
            lambda: node.write(0, b"x"),
            lambda: node.writev(0, [b"x"], fua=True),
            lambda: node.push(0, [memoryview(b"x")]),
            lambda: node.push_bytes(0, b"x", 1),
            lambda: node.zero(0, 1),
            lambda: node.discard(0, 1),
            lambda: node.resize(512),
            node.flush,
        ]
        for use in uses:
            with pytest.raises(ClosedError) as caught:
                use()
            assert_one_line(caught.value)


class WritableNodeContract(NodeContract):
    """What holds for every node that is open for writing, beside what holds for all.

    Attributes:
        can_shrink: Whether a node that can be resized can be made smaller.
        size_unit: What the sizes it can be resized to are multiples of, bytes.
    """

    can_shrink: ClassVar[bool] = True
    size_unit: ClassVar[int] = 1

    def reopen(self, node: Node) -> Node | None:
        """Close ``node`` and open the same disk again; None where nothing outlives the node."""
        return None

    def test_what_is_written_is_read(self, node: Node, contents: bytes) -> None:
        """And nothing else changes, whatever the alignment."""
        disk = bytearray(contents)
        rng = random.Random(3)
        for offset, length in ((0, 1), (1, 511), (4095, 2), (0, 4096), (65_530, 70_000), (len(disk) - 7, 7)):
            data = rng.randbytes(length)
            node.write(offset, data)
            disk[offset : offset + length] = data
            assert node.read(0, node.size) == disk

    def test_a_vectored_write_stores_its_buffers_in_order(self, node: Node, contents: bytes) -> None:
        """Bytes, bytearrays and views alike; they are not kept."""
        reused = bytearray(b"2" * 5000)
        parts: list[Buffer] = [b"1", b"", reused, memoryview(b"3" * 70_000)[1:]]
        disk = bytearray(contents)
        data = b"".join(parts)
        disk[1000 : 1000 + len(data)] = data
        node.writev(1000, parts)
        reused[:] = b"x" * 5000
        assert node.read(0, node.size) == disk

    def test_writing_nothing_changes_nothing(self, node: Node, contents: bytes) -> None:
        """Wherever that is, the end included."""
        node.write(0, b"")
        node.writev(node.size, [])
        node.zero(node.size, 0)
        node.discard(node.size, 0)
        assert node.read(0, node.size) == contents

    def test_zeroed_ranges_read_as_zeros(self, node: Node, contents: bytes) -> None:
        """With space given back or kept, aligned or not."""
        disk = bytearray(contents)
        ranges = [(5, 1, True), (0, 4096, False), (4090, 70_001, True), (len(disk) - 3, 3, False)]
        for offset, length, unmap in ranges:
            node.zero(offset, length, unmap=unmap)
            disk[offset : offset + length] = bytes(length)
            assert node.read(0, node.size) == disk

    def test_fast_zeroing_zeroes_or_refuses(self, node: Node, contents: bytes) -> None:
        """A refusal leaves the disk as it was; a node that says it can must not refuse."""
        disk = bytearray(contents)
        unit = min(max(node.limits.zero_granularity, node.limits.request_alignment, 4096), node.size)
        for unmap in (True, False):
            try:
                node.zero(0, unit, unmap=unmap, fast=True)
            except UnsupportedOperationError:
                assert Cap.FAST_ZERO not in node.caps
            else:
                disk[:unit] = bytes(unit)
            assert node.read(0, node.size) == disk

    def test_a_discard_touches_nothing_else(self, node: Node, contents: bytes) -> None:
        """What it covers is undefined but does not change by itself, and can be written again."""
        node.discard(4096, 65_536)
        assert node.read(0, 4096) == contents[:4096]
        assert node.read(69_632, node.size - 69_632) == contents[69_632:]
        assert node.read(4096, 65_536) == node.read(4096, 65_536)
        node.write(8192, b"again")
        assert node.read(8192, 5) == b"again"

    @pytest.mark.parametrize("seed", range(4))
    def test_any_mixture_of_requests_behaves_like_a_bytearray(self, node: Node, contents: bytes, seed: int) -> None:
        """The model of every disk."""
        rng = random.Random(seed)
        disk = bytearray(contents)
        for _ in range(80):
            offset = rng.randrange(len(disk))
            length = min(rng.choice((1, 3, 512, 4096, 5000, 65_536, 100_000)), len(disk) - offset)
            match rng.choice(("write", "write", "write", "zero", "zero", "discard", "flush", "read")):
                case "write":
                    data = rng.randbytes(length)
                    node.write(offset, data, fua=rng.random() < 0.1)
                    disk[offset : offset + length] = data
                case "zero":
                    node.zero(offset, length, unmap=rng.random() < 0.5)
                    disk[offset : offset + length] = bytes(length)
                case "discard":
                    node.discard(offset, length)
                    disk[offset : offset + length] = node.read(offset, length)
                case "flush":
                    node.flush()
                case "read":
                    assert node.read(offset, length) == disk[offset : offset + length]
        assert node.read(0, node.size) == disk
        self.test_extents_tile_the_disk(node)
        self.test_extents_say_what_the_bytes_are(node, bytes(disk))
        self.test_following_extents_to_the_host_tiles_the_disk(node, bytes(disk))

    def test_threads_on_ranges_of_their_own_do_not_meet(self, node: Node, contents: bytes) -> None:
        """Ranges side by side, cutting through whatever units the format has."""
        disk = bytearray(contents)
        share = len(disk) // _THREADS

        def work(number: int) -> None:
            rng = random.Random(number)
            first = number * share
            for _ in range(40):
                offset = first + rng.randrange(share)
                length = min(rng.choice((1, 700, 4096, 30_000)), first + share - offset)
                if rng.random() < 0.2:
                    data = bytes(length)
                    node.zero(offset, length)
                else:
                    data = rng.randbytes(length)
                    node.write(offset, data)
                disk[offset : offset + length] = data
                assert node.read(offset, length) == data

        in_threads(work)
        assert node.read(0, node.size) == disk

    def test_writing_past_the_end_grows_or_is_refused(self, node: Node, contents: bytes) -> None:
        """As the capabilities say; a refusal writes nothing."""
        data = b"\xee" * 100
        changes: list[Callable[[], None]] = [
            lambda: node.write(node.size - 50, data),
            lambda: node.push(node.size - 50, [memoryview(data)]),
        ]
        for change in changes:
            if Cap.GROW in node.caps:
                before = node.size
                change()
                assert node.size == before + 50
                assert node.read(node.size - 100, 100) == data
            else:
                with pytest.raises(OutOfRangeError):
                    change()
                assert node.read(0, node.size) == contents
        if Cap.GROW not in node.caps:
            with pytest.raises(OutOfRangeError):
                node.zero(node.size - 50, 100)
        with pytest.raises(OutOfRangeError):
            node.discard(node.size - 50, 101)
        with pytest.raises(OutOfRangeError):
            node.write(-1, b"x")

    def test_a_grown_disk_ends_in_zeros(self, node: Node, contents: bytes) -> None:
        """Or, without the capability, does not grow."""
        larger = align_up(len(contents) + 100_001, self.size_unit)
        if Cap.RESIZE not in node.caps:
            with pytest.raises(UnsupportedOperationError) as caught:
                node.resize(larger)
            assert_one_line(caught.value)
            assert node.size == len(contents)
            return
        node.resize(larger)
        assert node.size == larger
        assert node.read(0, larger) == contents.ljust(larger, b"\0")
        node.write(larger - 1, b"!")
        assert node.read(larger - 2, 2) == b"\0!"
        self.test_extents_tile_the_disk(node)

    def test_what_a_shrunk_disk_lost_does_not_come_back(self, node: Node, contents: bytes) -> None:
        """It grows by zeros, not by what was there."""
        if Cap.RESIZE not in node.caps:
            return
        smaller = align_up(1000, self.size_unit)
        if not self.can_shrink:
            with pytest.raises(UnsupportedOperationError):
                node.resize(smaller)
            assert node.read(0, node.size) == contents
            return
        node.resize(smaller)
        assert node.read(0, node.size) == contents[:smaller]
        node.resize(len(contents))
        assert node.read(0, node.size) == contents[:smaller].ljust(len(contents), b"\0")

    def test_sizes_that_no_disk_has_are_refused(self, node: Node) -> None:
        """Before anything is changed."""
        before = node.size
        for size in (-1, 1 << 63, 1 << 80):
            with pytest.raises(OutOfRangeError):
                node.resize(size)
        assert node.size == before

    def test_what_was_written_outlives_the_node(self, node: Node, contents: bytes) -> None:
        """After a close, and with bytes made durable one by one."""
        node.write(100, b"kept", fua=True)
        node.zero(5000, 1000)
        node.flush()
        node.write(70_000, b"kept too")
        again = self.reopen(node)
        if again is None:
            return
        disk = bytearray(contents)
        disk[100:104], disk[5000:6000], disk[70_000:70_008] = b"kept", bytes(1000), b"kept too"
        with again:
            assert again.read(0, again.size) == disk


def assert_tiled(pieces: Sequence[tuple[int, int]], start: int, length: int) -> None:
    """Check that ``(offset, length)`` pieces cover a range in order without gaps."""
    assert all(count > 0 for _, count in pieces)
    assert all(offset + count == after for (offset, count), (after, _) in pairwise(pieces))
    assert pieces[0][0] == start
    assert sum(count for _, count in pieces) == length


def assert_one_line(error: BlockkitError) -> None:
    """Check that an error's message is one line that does not end like a sentence."""
    text = str(error)
    assert text
    assert len(text.splitlines()) == 1
    assert not text.endswith(".")


def in_threads(work: Callable[[int], None]) -> None:
    """Run ``work(0)``, ``work(1)``, ... at once in threads and raise what the first of them raised."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
