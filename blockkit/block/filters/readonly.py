"""Refusing writes, whatever is below."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from blockkit.block.bases import FilterNode
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from blockkit.block.node import Node


class ReadOnlyOptions(Frozen):
    """There are none."""


class ReadOnlyNode(FilterNode):
    """Reads pass, everything that would change the disk is refused."""

    driver = "readonly"
    transparent = True

    def __init__(self, file: Node) -> None:
        super().__init__(file)
        self.read_only = True

    def _flush(self) -> None:
        """Do nothing: nothing came through here that could need it."""


class ReadOnlyDriver:
    """The driver named ``readonly``."""

    name: ClassVar[str] = "readonly"
    Options: ClassVar[type[ReadOnlyOptions]] = ReadOnlyOptions

    def open(self, file: Node, options: ReadOnlyOptions) -> Node:
        """Put the filter on top of ``file``."""
        return ReadOnlyNode(file)


DRIVER = ReadOnlyDriver()
