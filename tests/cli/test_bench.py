"""``blockkit img bench``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from blockkit.img.bench import BenchRequest, bench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MiB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.raw"
    path.write_bytes(b"x" * MiB)
    return path


class Recorder:
    """A disk that writes down what is asked of it."""

    size = 100

    def __init__(self) -> None:
        self.requests: list[object] = []

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= self.size - length
        self.requests.append(offset)
        return bytes(length)

    def write(self, offset: int, data: bytes) -> None:
        self.read(offset, len(data))

    def flush(self) -> None:
        self.requests.append("flush")


@pytest.mark.interop
@pytest.mark.parametrize("words", [(), ("-w", "--pattern", "3"), ("-s", "64k", "-S", "128k", "-o", "64k"), ("-d", "2")])
def test_it_tells_what_qemu_img_tells(words: tuple[str, ...], image: Path, img: Callable, theirs: Callable) -> None:
    asked = ("bench", "-f", "raw", "-c", "5", *words, image)
    ours, expected = img(*asked), theirs(*asked)
    assert ours.code == expected.code == 0
    assert ours.out.splitlines()[0] == expected.out.splitlines()[0]
    assert re.fullmatch(r"Run completed in \d+\.\d{3} seconds\.", ours.out.splitlines()[1])
    assert re.fullmatch(r"\d+ requests/s, .* ?[KMGT]?i?B/s", ours.out.splitlines()[2])


@pytest.mark.parametrize(
    "words",
    [("-d", "0"), ("-d", "100000"), ("-c", "-1"), ("-s", "0"), ("-s", "2M"), ("-o", "1M"), ("--pattern", "256"),
     ("--flush-interval", "10"), ("-w", "--flush-interval", "10"), ("-n",), ("-i", "io_uring")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], image: Path, img: Callable) -> None:
    before = image.read_bytes()
    result = img("bench", "-f", "raw", *words, image)
    assert result.code == 1
    assert image.read_bytes() == before


def test_a_read_only_run_changes_nothing_and_a_write_does(image: Path, img: Callable) -> None:
    assert img("bench", "-q", "-c", "300", image).code == 0
    assert image.read_bytes() == b"x" * MiB
    assert img("bench", "-q", "-w", "-f", "raw", "--pattern", "170", "-c", "2", image).code == 0
    assert image.read_bytes() == b"\xaa" * 8192 + b"x" * (MiB - 8192)


def test_requests_go_round_and_stay_inside_the_disk() -> None:
    disk = Recorder()
    bench(disk, BenchRequest(count=8, depth=1, buffer_size=30, step=20, offset=10))
    assert disk.requests == [10, 30, 50, 70, 10, 30, 50, 70]


@pytest.mark.parametrize("drain", [True, False])
def test_flushes_come_at_their_intervals(drain: bool) -> None:
    disk = Recorder()
    bench(disk, BenchRequest(count=7, depth=1, buffer_size=10, write=True, flush_interval=3, drain=drain))
    assert disk.requests == [0, 10, 20, "flush", 30, 40, 50, "flush", 60]


def test_all_requests_are_sent_by_many_threads() -> None:
    disk = Recorder()
    bench(disk, BenchRequest(count=5000, depth=8, buffer_size=10, write=True, flush_interval=50))
    assert sum(one != "flush" for one in disk.requests) == 5000
    assert disk.requests.count("flush") == 100


def test_an_error_of_one_thread_ends_the_run() -> None:
    class Broken(Recorder):
        def read(self, offset: int, length: int) -> bytes:
            if len(self.requests) > 100:
                raise OSError("gone")
            return super().read(offset, length)

    with pytest.raises(OSError, match="gone"):
        bench(Broken(), BenchRequest(count=1_000_000, depth=4, buffer_size=10))
