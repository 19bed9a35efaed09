"""What the qcow2 tests share: images in memory, and somebody else's opinion of them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from blockkit.formats.qcow2.create import CreateOptions, create
from blockkit.formats.qcow2.node import Qcow2Node
from blockkit.testing.memory import MemoryNode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: A machine that is busy with something else must not fail a test.
settings.register_profile("patient", deadline=None, print_blob=True)
settings.load_profile("patient")


def make_image(size: int, **options: object) -> MemoryNode:
    file = MemoryNode(grows=True)
    create(file, size, CreateOptions(**options))  # type: ignore[arg-type]
    return file


@pytest.fixture
def image() -> Callable[..., MemoryNode]:
    """``image(size, cluster_size=512)`` is the file of a new image, in memory."""
    return make_image


@pytest.fixture
def disk() -> Callable[..., Qcow2Node]:
    """``disk(size, cluster_size=512)`` is a new image, open for writing; its file is ``.file``."""
    return lambda size, **options: Qcow2Node(make_image(size, **options), read_only=False)


class Judge:
    """qemu-img's opinion of an image."""

    def __init__(self, directory: Path) -> None:
        self.path, self.raw = directory / "judged.qcow2", directory / "model.raw"

    def check(self, image: bytes | bytearray, *options: str) -> int:
        """Return the exit code of ``qemu-img check``: 0 clean, 2 corrupt, 3 leaks only."""
        self.path.write_bytes(image)
        done = subprocess.run(
            ["qemu-img", "check", "-f", "qcow2", *options, self.path], capture_output=True, text=True, check=False
        )
        self.words = done.stdout + done.stderr
        return done.returncode

    def same(self, image: bytes | bytearray, model: bytes | bytearray) -> bool:
        """Tell whether qemu reads ``model`` from the image."""
        self.path.write_bytes(image)
        self.raw.write_bytes(model)
        done = subprocess.run(
            ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", self.path, self.raw],
            capture_output=True,
            text=True,
            check=False,
        )
        self.words = done.stdout + done.stderr
        return done.returncode == 0


@pytest.fixture
def judge(tmp_path: Path, qemu_img: Callable[..., str]) -> Judge:
    return Judge(tmp_path)
