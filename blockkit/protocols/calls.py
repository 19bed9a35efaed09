"""The system calls of host files and devices, watched.

While nobody watches, the modules that make them use those of the standard library, and nothing is in between.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from blockkit.block.syscall import SystemCall
from blockkit.protocols import device, direct, fallocate, growth, hostfile, vectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Told = Callable[[SystemCall], None]
    #: What is asked for, from the arguments behind the descriptor: name, action, offset, length.
    _Meaning = tuple[str, str, int, int]

_lock: Final = threading.Lock()
_watchers: Final[list[Told]] = []


def _all(buffers: Any) -> int:
    return sum(map(len, buffers))


def _fallocated(mode: int, offset: int, length: int) -> _Meaning:
    action = "discard" if mode & fallocate.PUNCH_HOLE else "zero" if mode & fallocate.ZERO_RANGE else "reserve"
    return "fallocate", action, offset, length


def _reserved(offset: int, length: int) -> _Meaning:
    return "ioctl", "reserve", offset, length


def _written(buffers: Any, offset: int, flags: int = 0) -> _Meaning:
    return "pwritev2" if flags else "pwritev", "write", offset, _all(buffers)


def _asked(request: int, argument: Any) -> _Meaning:
    if request != device.BLKDISCARD:
        return "ioctl", "ask", 0, 0
    return "ioctl", "discard", *struct.unpack("QQ", argument)


#: What the arguments of functions mean, those of the operating system first.
_OS: Final[dict[str, Callable[..., _Meaning]]] = {
    "pread": lambda length, offset: ("pread", "read", offset, length),
    "preadv": lambda buffers, offset: ("preadv", "read", offset, _all(buffers)),
    "pwrite": lambda data, offset: ("pwrite", "write", offset, len(data)),
    "pwritev": _written,
    "fdatasync": lambda: ("fdatasync", "flush", 0, 0),
    "ftruncate": lambda size: ("ftruncate", "resize", size, 0),
    "posix_fallocate": lambda offset, length: ("posix_fallocate", "reserve", offset, length),
    "lseek": lambda offset, _: ("lseek", "map", offset, 0),
}
_FCNTL: Final[dict[str, Callable[..., _Meaning]]] = {"ioctl": _asked}


class _Watched:
    """A module, of which some functions are watched.

    Args:
        module: It.
        meanings: What the arguments of those mean, by name.
    """

    def __init__(self, module: ModuleType, meanings: dict[str, Callable[..., _Meaning]]) -> None:
        self._module = module
        for name, meaning in meanings.items():
            setattr(self, name, _watched(getattr(module, name), meaning))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _watched(call: Callable[..., Any], meaning: Callable[..., _Meaning]) -> Callable[..., Any]:
    """Return a function that does what ``call`` does, and tells of it."""

    def watched(fd: int, *arguments: Any) -> Any:
        name, action, offset, length = meaning(*arguments)
        result = ""
        start = time.perf_counter_ns()
        try:
            answer = call(fd, *arguments)
            took = time.perf_counter_ns() - start
        except OSError as error:
            took = time.perf_counter_ns() - start
            result = error.strerror or str(error)
            raise
        else:
            if action in ("read", "write"):
                done = answer if isinstance(answer, int) else len(answer)
                result = "" if done == length else f"{done} bytes"
            return answer
        finally:
            for told in tuple(_watchers):
                told(SystemCall(start, name, action, fd, offset, length, took, result))

    return watched


def watch(told: Told) -> Callable[[], None]:
    """Tell of every system call of this package that moves, keeps or gives back bytes.

    Args:
        told: Takes them, in the threads that make them, when they have come back.

    Returns:
        What is to be called to watch no more.
    """
    with _lock:
        if not _watchers:
            _install()
        _watchers.append(told)
    return lambda: _leave(told)


def _leave(told: Told) -> None:
    with _lock:
        if told in _watchers:
            _watchers.remove(told)
        while _replaced and not _watchers:
            setattr(*_replaced.pop())


#: What stands elsewhere while somebody watches: modules, names, and what they had there.
_replaced: Final[list[tuple[ModuleType, str, Any]]] = []


def _install() -> None:
    watched_os, watched_fcntl = _Watched(os, _OS), _Watched(fcntl, _FCNTL)
    for module, name, value in (
        (hostfile, "os", watched_os),
        (vectors, "os", watched_os),
        (direct, "os", watched_os),
        (growth, "os", watched_os),
        (device, "fcntl", watched_fcntl),
        (fallocate, "fallocate", _watched(fallocate.fallocate, _fallocated)),
        (fallocate, "reserve", _watched(fallocate.reserve, _reserved)),
    ):
        _replaced.append((module, name, getattr(module, name)))
        setattr(module, name, value)
