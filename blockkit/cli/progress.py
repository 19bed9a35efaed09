"""Showing how far an operation is: a bar for people, qemu-img's lines for its scripts, JSON lines for programs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

from blockkit.cli.declare import Choice, option
from blockkit.cli.terminal import is_terminal
from blockkit.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, TypeVar

    from blockkit.img.progress import Watch

    F = TypeVar("F", bound=Callable[..., Any])

#: Seconds between two updates.
_BAR_EVERY: Final = 0.1
_JSON_EVERY: Final = 0.5
#: Seconds before the first rate means anything.
_SETTLED: Final = 0.2


class Progress:
    """Counts what is done and shows it now and then; ``advance`` costs a lock and a look at the clock.

    A subclass shows in its own way; SIGUSR1 asks for it out of turn. Text goes to ``stream`` while other threads
    advance, but never twice at once.

    Args:
        total: Bytes there are to do; 0 where nobody knows.
        stream: Where it is shown.
    """

    every: float = _BAR_EVERY

    def __init__(self, total: int, stream: TextIO) -> None:
        self.total, self.stream = total, stream
        self.done = 0
        self._lock = threading.Lock()
        self._start = self._shown = time.monotonic()
        self._asked = False
        if threading.current_thread() is threading.main_thread():
            # It may interrupt whoever holds the lock: it only leaves word.
            signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "_asked", True))

    def advance(self, count: int) -> None:
        """Note that ``count`` more bytes are done; from any thread."""
        with self._lock:
            self.done += count
            now = time.monotonic()
            if self._asked or now - self._shown >= self.every:
                self._asked, self._shown = False, now
                self._emit(self.show())

    def __enter__(self) -> Self:
        with self._lock:
            self._emit(self.show())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._emit(self.end(kind is None))

    def _emit(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            self.every = float("inf")  # nobody watches any more; that is no reason to stop

    # -- what a subclass shows -------------------------------------------------------------------------

    def show(self) -> str:
        """Return what to print now."""
        raise NotImplementedError

    def end(self, finished: bool) -> str:
        """Return what to print at the end; ``finished`` is False after an error."""
        raise NotImplementedError

    # -- what there is to show -------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._start

    @property
    def fraction(self) -> float:
        """From 0 to 1; 0 where the total is not known."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def rate(self) -> float:
        """Bytes per second on average; 0 before that means anything."""
        elapsed = self.elapsed
        return self.done / elapsed if elapsed >= _SETTLED else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at that rate; None where nobody knows."""
        rate = self.rate
        return (self.total - self.done) / rate if rate and self.total else None


class Bar(Progress):
    """A line that is drawn again and again."""

    def show(self) -> str:
        amount = format_size(self.done)
        if self.total:
            amount = f"{self.fraction * 100:5.1f}%  {amount} of {format_size(self.total)}"
        if self.rate:
            amount += f"  {format_size(int(self.rate))}/s"
        if self.remaining is not None:
            amount += f"  {_clock(self.remaining)} left"
        width = _width(self.stream) - len(amount) - 4
        if not self.total or width < 8:
            return f"\r{amount}\x1b[K"
        full = int(self.fraction * width)
        return f"\r[{'#' * full}{'.' * (width - full)}] {amount}\x1b[K"

    def end(self, finished: bool) -> str:
        amount = f"{format_size(self.done)} in {_clock(self.elapsed)}"
        if self.rate:
            amount += f", {format_size(int(self.rate))}/s"
        return f"\r{amount}{'' if finished else ', not finished'}\x1b[K\n"


class Percent(Progress):
    """The numbers qemu-img prints, for scripts that read them."""

    def show(self) -> str:
        return f"    ({self.fraction * 100:3.2f}/100%)\r" if self.total else ""

    def end(self, finished: bool) -> str:
        return f"{self.show()}\n"


class Lines(Progress):
    """One JSON object a line: ``done``, ``total``, ``percent``, ``rate``, ``remaining``, ``state``."""

    every = _JSON_EVERY

    def show(self) -> str:
        return self._line("running")

    def end(self, finished: bool) -> str:
        return self._line("finished" if finished else "failed")

    def _line(self, state: str) -> str:
        import json

        remaining = self.remaining
        told = {
            "done": self.done,
            "total": self.total,
            "percent": round(self.fraction * 100, 2),
            "rate": round(self.rate),
            "remaining": None if remaining is None else round(remaining, 1),
            "state": state,
        }
        return json.dumps(told) + "\n"


class OnDemand(Progress):
    """Nothing, until somebody asks how far it is: then a line as qemu-img prints it."""

    every = float("inf")

    def __enter__(self) -> Self:
        return self

    def show(self) -> str:
        return f"    ({self.fraction * 100:3.2f}/100%)\n"

    def end(self, finished: bool) -> str:
        return ""


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 80


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def watching(function: F) -> F:
    """Add ``-p`` and ``--progress``, passed on as ``show`` and ``mode``."""
    function = option("-p", "show", is_flag=True, help="Show progress; a bar on a terminal.")(function)
    return option(
        "--progress",
        "mode",
        type=Choice("bar", "text", "json", "off"),
        help="How to show progress: bar, qemu-img's lines, JSON lines on standard error, not at all.",
    )(function)


def watch(show: bool, mode: str | None, *, quiet: bool = False, stdout_free: bool = True) -> Watch:
    """Return what makes the progress of an operation.

    Args:
        show: ``-p``.
        mode: ``--progress``.
        quiet: ``-q``.
        stdout_free: Standard output carries no data, so that qemu-img's lines can go there as they do from it.
    """
    if mode is None and show and not quiet:
        mode = "bar" if is_terminal(sys.stderr) else "text"
    if mode == "bar":
        return lambda total: Bar(total, sys.stderr)
    if mode == "json":
        return lambda total: Lines(total, sys.stderr)
    if mode == "text":
        return lambda total: Percent(total, sys.stdout if stdout_free else sys.stderr)
    return lambda total: OnDemand(total, sys.stderr)
