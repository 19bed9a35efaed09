"""``blockkit img map``."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Final

from blockkit.cli.declare import AS_QEMU_IMG, declared, option
from blockkit.cli.images import open_named
from blockkit.cli.parameters import SIZE, format_option, image_argument, opening, output_option
from blockkit.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.img.map import Mapped

#: Entries written at once: one string and one write for so many.
_BATCH: Final = 4096


@declared(
    "map",
    help="Show where the bytes of IMAGE are stored: the file, the offset in it, and the depth in the backing chain.",
    examples=(
        "blockkit img map disk.qcow2",
        "blockkit img map --output json --start-offset 1G --max-length 64M disk.qcow2",
    ),
    **AS_QEMU_IMG,
)
@image_argument()
@format_option()
@output_option
@option("-s", "--start-offset", type=SIZE, default=0, help="First byte to look at.")
@option("-l", "--max-length", type=SIZE, help="Bytes to look at; all if not given.")
@opening
def command(
    image: str,
    fmt: str | None,
    output: str,
    start_offset: int,
    max_length: int | None,
    share: bool,
    image_opts: bool,
    policy: str,
) -> None:
    """Open the image and print its runs."""
    from blockkit.img.map import map_image, map_json

    with open_named(image, fmt, image_opts=image_opts, share=share, policy=policy) as node:
        if output == "json":
            for text in map_json(node, start_offset, max_length):
                sys.stdout.write(text)
        else:
            _print_table(map_image(node, start_offset, max_length))


def _print_table(runs: Iterator[Mapped]) -> None:
    sys.stdout.write(f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File\n")
    while batch := list(islice(runs, _BATCH)):
        lines: list[str] = []
        for run in batch:
            if not run.data or run.zero:
                continue
            if run.offset is None:
                sys.stdout.write("".join(lines))
                raise ImageError(
                    f"the bytes at {run.start:#x} are compressed or encrypted and have no place in a file; "
                    "--output json shows them"
                )
            lines.append(f"{_hex(run.start)}{_hex(run.length)}{_hex(run.offset)}{run.filename}\n")
        sys.stdout.write("".join(lines))


def _hex(value: int) -> str:
    return f"{value:#x}".ljust(16) if value else "0".ljust(16)
