"""What a guest's disk may stand on: every format that images can be made of, alone and over a backing file, and every
protocol. The list is made from the package's own tables, so what is added there takes part by itself.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import blockkit
from blockkit.block.copy import CopyPlan, copy
from blockkit.block.facets import Checkable
from blockkit.errors import UnsupportedOperationError
from blockkit.formats import FORMATS, format_driver
from blockkit.options import option_names
from blockkit.protocols import PROTOCOLS
from blockkit.testing.memory import MemoryNode
from tests.conftest import find_program, run_program
from tests.protocols.places import PLACES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INTERFACES = ("virtio", "ide")
#: What ``img check`` ends with for formats that have nothing to check; qemu-img's is the same.
_NOTHING_TO_CHECK = 63


class Stack(NamedTuple):
    """What a disk stands on.

    Attributes:
        name: For people.
        format: Of the image.
        protocol: Of its storage.
        backed: What the disk holds at first is in a raw backing file.
    """

    name: str
    format: str
    protocol: str = "file"
    backed: bool = False

    @property
    def needs_root(self) -> bool:
        return self.protocol in PLACES and PLACES[self.protocol].needs_root

    @contextmanager
    def disk(self, contents: Path, directory: Path) -> Iterator[StackedDisk]:
        """Make a disk that holds what a file holds, and take it away in the end."""
        size = contents.stat().st_size
        if self.protocol not in PLACES:
            pytest.fail(f"tests/protocols/places.py does not say where there is storage of protocol {self.protocol!r}")
        with PLACES[self.protocol].make(directory, size) as storage:
            tree = {"driver": self.protocol, **storage}
            made = StackedDisk(self, tree, directory / "below")
            if self.backed:
                run_program("cp", "--sparse=always", contents, made.below)
                made.digest = digest(made.below)
                blockkit.create_image(tree, self.format, backing_file=str(made.below), backing_format="raw")
            else:
                blockkit.create_image(tree, self.format, size)
                with blockkit.open_image(contents, format="raw") as source, made.open(read_only=False) as target:
                    copy(source, target, CopyPlan())
            yield made


class StackedDisk:
    """A disk that a guest uses, and that is looked at afterwards."""

    def __init__(self, stack: Stack, storage: dict[str, Any], below: Path) -> None:
        self.stack, self.storage, self.below, self.digest = stack, storage, below, ""

    def drive(self, interface: str) -> dict[str, Any]:
        """Return the options of a drive that is this disk."""
        return {"file": self.storage, "format": self.stack.format, "if": interface}

    def open(self, *, read_only: bool = True) -> blockkit.Node:
        return blockkit.open_image({"file": self.storage}, format=self.stack.format, read_only=read_only)

    def check(self) -> None:
        """See that the image is whole, as we and qemu-img see it, and that nobody wrote to the backing file."""
        with self.open() as node:
            can_check = isinstance(node, Checkable)
        name = self.storage.get("filename")
        if name is not None:
            words = [sys.executable, "-m", "blockkit", "img", "check", "-f", self.stack.format, name]
            ended_well(words, nothing_to_check=not can_check)
        if name is not None and self.stack.format in formats_of_qemu():
            ended_well([find_program("qemu-img"), "check", "-f", self.stack.format, name], nothing_to_check=True)
        if self.digest:
            assert digest(self.below) == self.digest, "the backing file was written to"

    def contents(self, directory: Path) -> Path:
        """Return a raw file of what the disk holds; qemu-img's reading of it, where it can read such images."""
        path, name, format_ = directory / "contents", self.storage.get("filename"), self.stack.format
        if name is not None and format_ in formats_of_qemu():
            run_program("qemu-img", "convert", "-f", format_, "-O", "raw", name, path)
        else:
            with self.open() as source:
                blockkit.create_image(path, "raw", source.size)
                with blockkit.open_image(path, format="raw", read_only=False) as target:
                    copy(source, target, CopyPlan(target_is_zero=True))
        return path


def ended_well(words: list[Any], *, nothing_to_check: bool) -> None:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if not (done.returncode == 0 or (nothing_to_check and done.returncode == _NOTHING_TO_CHECK)):
        pytest.fail(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def formats_of_qemu() -> frozenset[str]:
    """Return the names of what qemu-img reads."""
    told = run_program("qemu-img", "--help")
    return frozenset(told.partition("Supported formats:")[2].partition("\n")[0].split())


def can_be_made(name: str) -> bool:
    """Whether there can be new images of a format."""
    driver = format_driver(name)
    if not hasattr(driver, "create"):
        return False
    try:
        driver.create(MemoryNode(grows=True), 1 << 20, driver.CreateOptions())
    except UnsupportedOperationError:
        return False
    return True


def all_stacks() -> list[Stack]:
    """Return one of each kind."""
    found = []
    for name in sorted(FORMATS):
        if can_be_made(name):
            found.append(Stack(name, name))
            if "backing_file" in option_names(format_driver(name).CreateOptions):
                found.append(Stack(f"{name}-over-raw", name, backed=True))
    found += [Stack(f"raw-on-{name}", "raw", protocol=name) for name in sorted(PROTOCOLS) if name != "file"]
    return found


def parameter(stack: Stack, *values: Any, marks: tuple[pytest.MarkDecorator, ...] = ()) -> Any:
    """Return a parameter of a test: other values, and a stack with its marks."""
    marks = (*marks, pytest.mark.root) if stack.needs_root else marks
    return pytest.param(*values, stack, id="-".join([*map(str, values), stack.name]), marks=marks)
