from __future__ import annotations

import ctypes
import errno
import io
import os
import tarfile
import zipfile
from array import array
from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import blockkit
from blockkit.block.fileobj import NodeFile
from blockkit.block.filters.faults import FaultRule, FaultsNode
from blockkit.errors import BlockkitError, UnsupportedOperationError
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from blockkit.block.node import Preallocation

DATA = bytes(range(256)) * 40


def test_it_reads_like_a_file_of_the_same_bytes() -> None:
    file, model = NodeFile(MemoryNode(DATA, read_only=True)), io.BytesIO(DATA)
    for offset, whence, length in ((0, 0, 10), (100, 0, 5000), (-7, 2, 100), (-50, 1, 3), (10**9, 0, 5), (0, 0, -1)):
        assert file.seek(offset, whence) == model.seek(offset, whence)
        assert file.read(length) == model.read(length)
        assert file.tell() == model.tell()
    assert file.readable()
    assert file.seekable()
    assert not file.writable()
    assert file.mode == "rb"


def test_a_buffered_reader_reads_disks() -> None:
    with io.BufferedReader(NodeFile(MemoryNode(DATA))) as file:
        file.seek(250)
        assert file.read(10) == DATA[250:260]
        assert file.peek(1)[:1] == DATA[260:261]
        assert file.read() == DATA[260:]


def test_writes_go_to_the_disk_and_stop_at_its_end() -> None:
    node = MemoryNode(bytes(100))
    with NodeFile(node) as file:
        file.seek(95)
        assert file.write(b"0123456789") == 5
        with pytest.raises(OSError, match="ends here") as caught:
            file.write(b"x")
        assert caught.value.errno == errno.ENOSPC
        assert file.write(b"") == 0
    assert node.data == bytes(95) + b"01234"
    assert not node.closed


def test_a_read_only_disk_is_a_read_only_file() -> None:
    with NodeFile(MemoryNode(DATA, read_only=True)) as file:
        assert file.mode == "rb"
        for write in (lambda: file.write(b"x"), lambda: file.truncate(5)):
            with pytest.raises(io.UnsupportedOperation):
                write()


def test_truncating_resizes_the_disk() -> None:
    node = MemoryNode(b"0123456789")
    with NodeFile(node) as file:
        assert file.truncate(4) == 4
        file.seek(2)
        assert file.truncate() == 2
    assert node.data == b"01"


def test_a_tar_archive_lives_on_a_disk(tmp_path: Path) -> None:
    blockkit.create_image(tmp_path / "disk", "qcow2", 1 << 20)
    with (
        blockkit.open_image(tmp_path / "disk", read_only=False) as node,
        io.BufferedRandom(NodeFile(node)) as file,
        tarfile.open(fileobj=file, mode="w") as tar,
    ):
        info = tarfile.TarInfo("hello.txt")
        info.size = 5000
        tar.addfile(info, io.BytesIO(b"hello" * 1000))
    with blockkit.open_image(tmp_path / "disk") as node, tarfile.open(fileobj=NodeFile(node)) as tar:
        member = tar.extractfile("hello.txt")
        assert member is not None
        assert member.read() == b"hello" * 1000


def test_a_zip_archive_lives_on_a_disk() -> None:
    node = MemoryNode(bytes(1 << 20))
    with io.BufferedRandom(NodeFile(node)) as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("hello.txt", "hello" * 1000)
        end = file.tell()
    # It is found by its end, which has to be that of the disk.
    node.resize(end)
    with zipfile.ZipFile(NodeFile(node)) as archive:
        assert archive.read("hello.txt") == b"hello" * 1000


def test_failures_are_those_of_files() -> None:
    node = FaultsNode(MemoryNode(bytes(512)), [FaultRule(operation="read", errno="ETIMEDOUT")])
    with NodeFile(node) as file, pytest.raises(OSError) as caught:
        file.read(1)
    assert caught.value.errno == errno.ETIMEDOUT
    assert isinstance(caught.value.__cause__, BlockkitError)


def test_positions_before_the_start_are_refused() -> None:
    with NodeFile(MemoryNode(bytes(10))) as file:
        for offset, whence in ((-1, os.SEEK_SET), (-11, os.SEEK_END)):
            with pytest.raises(OSError):
                file.seek(offset, whence)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)
        assert file.tell() == 0


def test_a_closed_file_refuses_everything_and_may_close_its_disk() -> None:
    node = MemoryNode(bytes(10))
    file = NodeFile(node, close_node=True)
    file.close()
    file.close()
    assert node.closed
    for use in (
        lambda: file.read(1),
        lambda: file.write(b""),
        lambda: file.seek(0),
        file.tell,
        lambda: file.truncate(0),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


# -- the same calls on a file of the system's ----------------------------------------------------------


class Number:
    """What is no int, but counts as one."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Big(ctypes.BigEndianStructure):
    _fields_: ClassVar = [("word", ctypes.c_uint32), ("byte", ctypes.c_uint8)]


LINES = b"first\nsecond\n\n" + DATA + b"\nlast, without an end"
Call = Callable[[io.RawIOBase], object]


@pytest.fixture(params=["r", "r+"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[io.FileIO, NodeFile]]:
    """A file of the system and a node of the same bytes, read-only or writable."""
    path = tmp_path / "disk"
    path.write_bytes(LINES)
    with (
        io.FileIO(path, request.param) as theirs,
        NodeFile(MemoryNode(LINES, read_only=request.param == "r")) as ours,
    ):
        yield theirs, ours


def outcome(call: Call, file: io.RawIOBase) -> object:
    """What came of a call: the value, or the kind of exception (of the system's kinds) and its errno."""
    try:
        return call(file)
    except OSError as error:
        return OSError, isinstance(error, io.UnsupportedOperation) and error.errno is None, error.errno
    except Exception as error:
        return type(error)


def same(call: Call, theirs: io.FileIO, ours: NodeFile, what: object = "") -> None:
    assert outcome(call, ours) == outcome(call, theirs), what
    if not theirs.closed:
        assert ours.tell() == theirs.tell(), what
        assert type(ours.tell()) is int


OFFSETS: list[Any] = [0, 1, 7, -1, -3, 10**6, 2**63, -(2**63) - 1, 2**70, True, False, Number(5), Number(-2)]
OFFSETS += [1.5, 0.0, None, "1", b"1", 2 + 0j]
#: 3 and 4 look for data and holes, which a file has elsewhere.
WHENCES: list[Any] = [0, 1, 2, 5, 7, -1, True, Number(2), 1.0, None, "0"]


def test_seeking_is_that_of_a_file(pair: tuple[io.FileIO, NodeFile]) -> None:
    for start in (0, 100):
        for offset, whence in product(OFFSETS, WHENCES):
            same(lambda file, at=start: file.seek(at), *pair)
            same(lambda file, to=offset, of=whence: file.seek(to, of), *pair, what=(start, offset, whence))
    for offset in OFFSETS:
        same(lambda file, to=offset: file.seek(to), *pair, what=offset)


def test_holes_are_not_looked_for() -> None:
    with NodeFile(MemoryNode(DATA)) as file:
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with pytest.raises(OSError) as caught:
                file.seek(0, whence)
            assert caught.value.errno == errno.EINVAL


def test_reading_is_that_of_a_file(pair: tuple[io.FileIO, NodeFile]) -> None:
    for start in (0, 3, len(LINES) - 2, len(LINES), len(LINES) + 9):
        for size in (0, 1, 100, -1, -5, None, Number(4), True, 1.5, "1", 2**63, 2**70, 10**6):
            same(lambda file, at=start: file.seek(at), *pair)
            same(lambda file, n=size: file.read(n), *pair, what=(start, size))
        for call in (
            lambda file: file.read(),
            lambda file: file.readall(),
            lambda file: file.readline(),
            lambda file: file.readline(3),
            lambda file: file.readline(1.5),
            lambda file: file.readlines(),
            lambda file: file.readlines(8),
            list,
            next,
        ):
            same(lambda file, at=start: file.seek(at), *pair)
            same(call, *pair, what=start)


TARGETS: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(10),
    "empty": lambda: bytearray(),
    "large": lambda: bytearray(20_000),
    "view": lambda: memoryview(bytearray(10)),
    "view of a part": lambda: memoryview(bytearray(10))[2:7],
    "words": lambda: memoryview(bytearray(16)).cast("I"),
    "table": lambda: memoryview(bytearray(12)).cast("B", (3, 4)),
    "array": lambda: array("I", [1, 2, 3]),
    "no words": lambda: array("I"),
    "every other": lambda: memoryview(bytearray(10))[::2],
    "bytes": lambda: b"1234",
    "read-only view": lambda: memoryview(b"1234"),
    "ctypes": lambda: (ctypes.c_uint32 * 4)(),
    "structures": lambda: (Big * 3)(),
    "text": lambda: "1234",
    "number": lambda: 5,
    "nothing": lambda: None,
}


@pytest.mark.parametrize("kind", TARGETS)
def test_reading_into_is_that_of_a_file(pair: tuple[io.FileIO, NodeFile], kind: str) -> None:
    def filled(file: io.RawIOBase) -> object:
        target = TARGETS[kind]()
        return file.readinto(target), memoryview(target).tobytes()

    for start in (0, len(LINES) - 3, len(LINES), len(LINES) + 9):
        same(lambda file, at=start: file.seek(at), *pair)
        same(filled, *pair, what=start)


SOURCES: list[Callable[[], Any]] = [
    *TARGETS.values(),
    lambda: memoryview(b"abcdefgh").cast("H"),
    lambda: memoryview(b"abcdefgh").cast("B", (2, 4)),
    lambda: array("I", [1, 2**32 - 1]),
    lambda: [1, 2],
]


def test_writing_is_that_of_a_file(pair: tuple[io.FileIO, NodeFile], tmp_path: Path) -> None:
    ours = pair[1]
    for number, source in enumerate(SOURCES):
        same(lambda file, at=number * 5: file.seek(at), *pair)
        if number != list(TARGETS).index("large"):  # which a file grows for
            same(lambda file, data=source: file.write(data()), *pair, what=number)
    same(lambda file: file.writelines([b"a", bytearray(b"bc"), memoryview(b"d")]), *pair)
    same(lambda file: file.writelines([]), *pair)
    same(lambda file: file.writelines(["a"]), *pair)
    same(lambda file: file.flush(), *pair)
    assert isinstance(ours.node, MemoryNode)
    assert ours.node.data == (tmp_path / "disk").read_bytes()


def test_truncating_is_that_of_a_file(pair: tuple[io.FileIO, NodeFile], tmp_path: Path) -> None:
    same(lambda file: file.seek(50), *pair)
    for size in (1.5, "1", -1, 2**63, 2**70, 100, Number(90), None, 70, 20):
        same(lambda file, to=size: file.truncate(to) and None, *pair, what=size)
        assert pair[1].node.size == (tmp_path / "disk").stat().st_size, size


def test_a_disk_that_cannot_change_its_size_refuses_to_be_truncated(tmp_path: Path) -> None:
    class FixedNode(MemoryNode):
        def _resize(self, size: int, preallocate: Preallocation) -> None:
            raise UnsupportedOperationError("its size is fixed")

    with NodeFile(FixedNode(DATA)) as file:
        file.seek(5)
        for size in (None, 0, 10, 10**6):
            with pytest.raises(OSError, match="fixed") as caught:
                file.truncate(size)
            assert isinstance(caught.value.__cause__, BlockkitError)
            assert file.tell() == 5
        assert file.read() == DATA[5:]


CALLS: dict[str, Call] = {
    "readable": lambda file: file.readable(),
    "writable": lambda file: file.writable(),
    "seekable": lambda file: file.seekable(),
    "isatty": lambda file: file.isatty(),
    "closed": lambda file: file.closed,
    "mode": lambda file: file.mode,  # type: ignore[attr-defined]
    "read": lambda file: file.read(),
    "read nothing": lambda file: file.read(0),
    "readall": lambda file: file.readall(),
    "readinto": lambda file: file.readinto(bytearray(3)),
    "readinto nothing": lambda file: file.readinto(bytearray()),
    "readinto bytes": lambda file: file.readinto(b"123"),  # type: ignore[arg-type]
    "readline": lambda file: file.readline(),
    "readlines": lambda file: file.readlines(),
    "write": lambda file: file.write(b"x"),
    "write nothing": lambda file: file.write(b""),
    "write text": lambda file: file.write("x"),  # type: ignore[arg-type]
    "writelines": lambda file: file.writelines([]),
    "seek": lambda file: file.seek(0),
    "seek by a fraction": lambda file: file.seek(1.5),  # type: ignore[arg-type]
    "seek from nowhere": lambda file: file.seek(0, 9),
    "tell": lambda file: file.tell(),
    "truncate": lambda file: file.truncate(len(LINES)),
    "truncate by a fraction": lambda file: file.truncate(1.5),  # type: ignore[arg-type]
    "flush": lambda file: file.flush(),
    "iter": lambda file: iter(file) is file,
    "next": next,
    "enter": lambda file: file.__enter__() is file,
    "exit": lambda file: file.__exit__(None, None, None),
    "close": lambda file: file.close(),
}


@pytest.mark.parametrize("kind", CALLS)
def test_an_open_file_and_a_closed_one_answer_as_files_do(pair: tuple[io.FileIO, NodeFile], kind: str) -> None:
    same(CALLS[kind], *pair)
    for file in pair:
        file.close()
        assert file.closed
    same(CALLS[kind], *pair)


def test_leaving_the_context_closes(pair: tuple[io.FileIO, NodeFile]) -> None:
    for file in pair:
        with file as entered:
            assert entered is file
        assert file.closed
        with pytest.raises(ValueError, match="closed"), file:
            pass


def test_buffers_on_top_behave_as_on_a_file(pair: tuple[io.FileIO, NodeFile], rng: random.Random) -> None:
    kind: Any = io.BufferedRandom if pair[0].writable() else io.BufferedReader
    theirs, ours = (kind(raw, 64) for raw in pair)
    assert ours.mode == theirs.mode
    for _ in range(2000):
        at, size = rng.randrange(len(LINES) - 200), rng.randrange(200)
        new = rng.randbytes(size)
        calls: list[Callable[[Any], object]] = [
            lambda file, n=size: file.read(n),
            lambda file, n=size: file.read1(n),
            lambda file, n=size: file.readinto(bytearray(n)),
            lambda file: file.readline(50),
            lambda file, to=at: file.seek(to),
            lambda file, by=size: file.seek(-by, 2),
            lambda file: file.tell(),
            lambda file: file.peek(1)[:1],
            lambda file: file.flush(),
        ]
        if ours.writable():
            calls += [lambda file, to=at, data=new: (file.seek(to), file.write(data))] * 3
        call = rng.choice(calls)
        assert outcome(call, ours) == outcome(call, theirs)
    for file in (theirs, ours):
        file.seek(0)
    assert ours.read() == theirs.read()
    for file in (theirs, ours):
        file.detach()


def test_a_disk_that_was_closed_below_is_an_error_of_files(tmp_path: Path) -> None:
    blockkit.create_image(tmp_path / "disk", "raw", 1000)
    node = blockkit.open_image(tmp_path / "disk", format="raw")
    file = NodeFile(node)
    node.close()
    for use in (lambda: file.read(1), lambda: file.readinto(bytearray(5))):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.EBADF
