"""Showing progress."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from blockkit.cli import progress
from blockkit.cli.progress import Bar, Lines, OnDemand, Percent, Progress, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_the_bar_tells_share_rate_and_time_left(clock: Clock) -> None:
    stream = io.StringIO()
    with Bar(1 << 30, stream) as bar:
        clock.now += 10
        bar.advance(1 << 28)
        shown = stream.getvalue().rpartition("\r")[2]
        assert "25.0%  256 MiB of 1 GiB  25.6 MiB/s  0:30 left" in shown
        assert shown.startswith("[###")
        clock.now += 30
        bar.advance(3 << 28)
    assert stream.getvalue().endswith("1 GiB in 0:40, 25.6 MiB/s\x1b[K\n")


def test_the_bar_of_an_unknown_total_tells_what_is_done(clock: Clock) -> None:
    stream = io.StringIO()
    with Bar(0, stream) as bar:
        clock.now += 4
        bar.advance(1 << 20)
        assert stream.getvalue().endswith("\r1 MiB  256 KiB/s\x1b[K")


def test_text_is_what_qemu_img_prints(clock: Clock) -> None:
    stream = io.StringIO()
    with Percent(800, stream) as percent:
        clock.now += 1
        percent.advance(100)
        percent.advance(700)
    assert stream.getvalue() == "    (0.00/100%)\r    (12.50/100%)\r    (100.00/100%)\r\n"


def test_json_lines_tell_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    lines = Lines(1000, stream)
    with suppress(ZeroDivisionError), lines:
        clock.now += 10
        lines.advance(500)
        raise ZeroDivisionError
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["state"] for one in told] == ["running", "running", "failed"]
    assert told[1] == {
        "done": 500, "total": 1000, "percent": 50.0, "rate": 50, "remaining": 10.0, "state": "running",
    }  # fmt: skip


def test_updates_are_rare_and_counts_exact_from_many_threads() -> None:
    stream = io.StringIO()
    with Lines(80_000, stream) as lines:
        threads = [threading.Thread(target=lambda: [lines.advance(1) for _ in range(10_000)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert told[-1]["done"] == 80_000
    assert len(told) < 30


def test_a_watcher_that_went_away_does_not_stop_the_work() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Lines(10, Gone()) as lines:
        lines.advance(10)
    assert lines.done == 10


def test_nobody_watches_unless_asked() -> None:
    for silent in (watch(False, None), watch(True, None, quiet=True), watch(True, "off")):
        assert type(silent(1)) is OnDemand
    assert type(watch(True, None)(1)) is Percent
    assert type(watch(False, "json")(1)) is Lines
    assert type(watch(False, "bar")(1)) is Bar


@pytest.mark.parametrize("command", ["convert", "compare", "dd"])
def test_commands_tell_all_of_their_work(command: str, tmp_path: Path, img: Callable) -> None:
    source = tmp_path / "a.raw"
    source.write_bytes(b"x" * (3 << 20) + bytes(1 << 20))
    target = source if command == "compare" else tmp_path / "b.raw"
    words = (f"if={source}", f"of={target}") if command == "dd" else (source, target)
    result = img(command, "--progress", "json", *words)
    assert result.code == 0
    last = json.loads(result.err.splitlines()[-1])
    assert (last["done"], last["total"], last["state"]) == (4 << 20, 4 << 20, "finished")
    assert "(100.00/100%)" in img(command, "-p", *words).out


@pytest.mark.parametrize("kind", [OnDemand, Bar, Percent, Lines])
def test_a_signal_asks_how_far_it_is(kind: type[Progress]) -> None:
    stream = io.StringIO()
    with kind(200, stream) as progress:
        progress.every = float("inf")
        progress.advance(50)
        told = stream.getvalue()
        os.kill(os.getpid(), signal.SIGUSR1)
        progress.advance(50)
        assert "50" in stream.getvalue().removeprefix(told)
        told = stream.getvalue()
        progress.advance(20)
        assert stream.getvalue() == told
    if kind is OnDemand:
        assert stream.getvalue() == "    (50.00/100%)\n"
