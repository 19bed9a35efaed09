"""Copying blocks of one image into a new one, with the operands of dd."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Final

from blockkit.errors import OptionError, UsageError
from blockkit.frozen import Frozen
from blockkit.img.progress import Silent
from blockkit.units import SECTOR, align_up, parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blockkit.block.node import Node
    from blockkit.img.progress import Watch

#: The largest block size, bytes; as qemu-img's.
MAX_BLOCK_SIZE: Final = (1 << 31) - 1


class Operands(Frozen):
    """What is copied, in blocks.

    Attributes:
        source: ``if=``: the image to read.
        target: ``of=``: the image to make.
        block_size: ``bs=``: bytes of a block.
        count: ``count=``: blocks from the start of the source, the skipped ones included; None means all.
        skip: ``skip=``: blocks at the start that are left out.
    """

    source: str
    target: str
    block_size: int = 512
    count: int | None = None
    skip: int = 0

    @classmethod
    def parse(cls, words: Sequence[str]) -> Operands:
        """Read ``if=a of=b bs=1M count=3 skip=1``.

        Raises:
            OptionError: an operand is unknown, or its value means nothing.
            UsageError: an image is missing.
        """
        given: dict[str, str] = {}
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in ("if", "of", "bs", "count", "skip"):
                raise OptionError(f"dd: unknown operand {word!r}, expected if=, of=, bs=, count= or skip=")
            given[name] = value
        if not given.get("if") or not given.get("of"):
            raise UsageError("dd: both images are needed, as if=IMAGE and of=IMAGE")
        block_size = _number(given, "bs", 512)
        if not 1 <= block_size <= MAX_BLOCK_SIZE:
            raise OptionError(f"dd: bs is {block_size}, not from 1 to {MAX_BLOCK_SIZE}")
        count = _number(given, "count", 0) if "count" in given else None
        return cls(given["if"], given["of"], block_size, count, _number(given, "skip", 0))

    def span(self, size: int) -> tuple[int, int]:
        """Return offset and length, bytes, of what is copied from a disk of ``size`` bytes."""
        end = size if self.count is None else min(size, self.count * self.block_size)
        start = self.skip * self.block_size
        return (start, end - start) if start < end else (0, 0)


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    try:
        return parse_size(given[name]) if name in given else default
    except OptionError as error:
        raise OptionError(f"dd: {name}: {error}") from error


class DdRequest(Frozen):
    """One copy.

    Attributes:
        operands: What is copied where.
        output_format: Format of the new image.
        options: Its creation options.
        progress: Told the bytes copied.
    """

    operands: Operands
    output_format: str = "raw"
    options: Mapping[str, str] = field(default_factory=dict)
    progress: Watch = Silent


def dd(request: DdRequest, source: Node) -> int:
    """Make the target and copy into it; it is removed again if that fails.

    Args:
        request: What to do.
        source: The open source.

    Returns:
        Bytes copied.

    Raises:
        UsageError: the target is a file that the source stands on.
        BlockkitError: not everything was copied.
    """
    from blockkit.block.copy import CopyPlan, copy
    from blockkit.block.graph import create_image, open_image
    from blockkit.block.target import Target

    name = request.operands.target
    with Target(name) as target:
        target.keep_apart(source, "source")
        start, length = request.operands.span(align_up(source.size, SECTOR))
        create_image(name, request.output_format, align_up(length, SECTOR), options=request.options)
        target.overwritten = True
        with open_image(name, format=request.output_format, read_only=False) as node:
            inside = max(0, min(length, source.size - start))
            with request.progress(inside) as progress:
                plan = CopyPlan(target_is_zero=node.zero_when_made, advance=progress.advance)
                copy(source, node, plan, source_offset=start, length=inside)
            if not plan.target_is_zero and inside < length:
                node.zero(inside, length - inside)
            node.flush()
    return length
