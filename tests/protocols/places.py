"""Where each protocol has storage, for tests that take any of them: a new protocol says here where a test may write."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.protocols.loop import attach, detach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from blockkit.options import Tree


class Place(NamedTuple):
    """Storage of a protocol.

    Attributes:
        make: Given a directory and a number of bytes, yields the options of the storage, which is there for so long.
        needs_root: Whether only root can make it.
    """

    make: Callable[[Path, int], AbstractContextManager[Tree]]
    needs_root: bool = False


@contextmanager
def file(directory: Path, size: int) -> Iterator[Tree]:
    yield {"filename": str(directory / "disk")}


@contextmanager
def loop_device(directory: Path, size: int) -> Iterator[Tree]:
    path = directory / "device"
    path.touch()
    os.truncate(path, size)
    device = attach(path)
    try:
        yield {"filename": device}
    finally:
        detach(device)


#: Every protocol of the package.
PLACES = {"file": Place(file), "host_device": Place(loop_device, needs_root=True)}
