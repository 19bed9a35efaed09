"""A part of a disk as a disk, with limits of one's choice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from blockkit.block.bases import FilterNode
from blockkit.block.shifted import ShiftedNode
from blockkit.errors import OptionError
from blockkit.frozen import Frozen
from blockkit.units import MAX_OFFSET, is_power_of_two

if TYPE_CHECKING:
    from blockkit.block.node import Limits, Node


class WindowOptions(Frozen):
    """What part is shown, and what it says of itself.

    Attributes:
        offset: Where the window starts, bytes.
        size: Bytes; None means up to the end, and lets it be resized.
        request_alignment: Instead of that of the node below; a power of two, or None for the same.
        memory_alignment: Likewise.
        zero_granularity: Likewise.
        discard_granularity: Likewise.
        max_transfer: Bytes, 0 for no bound, None for the same as below.
        optimal_transfer: Likewise.
    """

    offset: int = 0
    size: int | None = None
    request_alignment: int | None = None
    memory_alignment: int | None = None
    zero_granularity: int | None = None
    discard_granularity: int | None = None
    max_transfer: int | None = None
    optimal_transfer: int | None = None

    def __post_init__(self) -> None:
        for name in _ALIGNMENTS:
            value = getattr(self, name)
            if value is not None and not is_power_of_two(value):
                raise OptionError(f"window: {name} {value} is not a power of two")
        for name in _SIZES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MAX_OFFSET:
                raise OptionError(f"window: {name} {value} is not from 0 to {MAX_OFFSET}")

    def limits(self, below: Limits) -> Limits:
        """Return ``below`` with what these options change."""
        wanted = {name: getattr(self, name) for name in (*_ALIGNMENTS, *_SIZES)}
        return replace(below, **{name: value for name, value in wanted.items() if value is not None})


_SIZES = ("max_transfer", "optimal_transfer")
_ALIGNMENTS = ("request_alignment", "memory_alignment", "zero_granularity", "discard_granularity")


class WindowNode(ShiftedNode, FilterNode):
    """Shows ``options.size`` bytes of ``file`` from ``options.offset`` on.

    Args:
        file: What is looked at.
        options: Which part, and with what limits.
    """

    driver = "window"

    def __init__(self, file: Node, options: WindowOptions) -> None:
        FilterNode.__init__(self, file)
        self._set_window(options.offset, options.size)
        self._options = options

    @property
    def limits(self) -> Limits:
        return self._options.limits(self.file.limits)


class WindowDriver:
    """The driver named ``window``."""

    name: ClassVar[str] = "window"
    Options: ClassVar[type[WindowOptions]] = WindowOptions

    def open(self, file: Node, options: WindowOptions) -> Node:
        """Put the window on top of ``file``."""
        return WindowNode(file, options)


DRIVER = WindowDriver()
