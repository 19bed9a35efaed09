"""``blockkit img inspect``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from blockkit.cli.declare import AS_QEMU_IMG, WrongWordsError, argument, declared
from blockkit.cli.images import open_named, warn
from blockkit.cli.output import valid
from blockkit.cli.parameters import format_option, image_argument, opening, output_option
from blockkit.cli.terminal import BOLD, CYAN, paint
from blockkit.errors import ImageError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blockkit.block.node import Node
    from blockkit.schema import Structure


@declared(
    "inspect",
    help="List every on-disk structure of IMAGE with the offset, value and meaning of each field. "
    "With STRUCTURE, only those whose name has that word in it.",
    examples=(
        "blockkit img inspect disk.qcow2",
        "blockkit img inspect disk.qcow2 header",
        "blockkit img inspect --output json disk.qcow2 'l2 table'",
    ),
    **AS_QEMU_IMG,
)
@image_argument()
@argument("structures", nargs=-1, metavar="[STRUCTURE]...")
@format_option()
@output_option
@opening
def command(
    image: str,
    structures: tuple[str, ...],
    fmt: str | None,
    output: str,
    share: bool,
    image_opts: bool,
    policy: str,
) -> None:
    """Print structures as they are read."""
    from blockkit.img.inspect import inspect

    def open_image(options: dict[str, str] | None = None) -> Node:
        return open_named(image, fmt, image_opts=image_opts, share=share, policy=policy, backing=False, options=options)

    with _open_any(open_image) as node:
        found = _at_least_one(inspect(node, structures), structures)
        if output == "json":
            _print_json(found)
        else:
            _print_tables(found)


def _open_any(open_image: Callable[..., Node]) -> Node:
    """Open the image, or what of it there is to see if it needs something that is not supported."""
    try:
        return open_image()
    except ImageError as refused:
        try:
            node = open_image({"inspecting": "on"})
        except (ImageError, OptionError):
            # It cannot be decoded either, or its driver has no such option.
            raise refused from None
        warn(f"{refused}; its structures are shown all the same")
        return node


def _at_least_one(found: Iterator[Structure], names: tuple[str, ...]) -> Iterator[Structure]:
    """Pass structures on; it is an error if none has any of ``names``."""
    one = next(found, None)
    if one is not None:
        yield one
        yield from found
    elif names:
        raise WrongWordsError(f"no structure of the image is called {' or '.join(map(repr, names))}")


def _print_json(found: Iterator[Structure]) -> None:
    import json

    from blockkit.img.inspect import as_json

    separator = "[\n"
    for structure in found:
        sys.stdout.write(separator + valid(json.dumps(as_json(structure), ensure_ascii=False)))
        separator = ",\n"
    sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")


def _print_tables(found: Iterator[Structure]) -> None:
    from blockkit.img.inspect import plain

    first = True
    for structure in found:
        title = f"{structure.name} at {structure.offset:#x}, {structure.size} bytes"
        lines = ["" if first else "\n", paint(title, BOLD), "\n"]
        first = False
        width = max((len(field.name) for field in structure.fields), default=0)
        for offset, size, name, value, meaning in structure.fields:
            shown = _shown(plain(value))
            lines.append(
                f"  {offset:#012x} {size:>4}  {paint(name.ljust(width), CYAN)}  {shown:<20}  {meaning}".rstrip()
            )
            lines.append("\n")
        sys.stdout.write("".join(lines))


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 9:
        return f"{value} ({value:#x})"
    return "-" if value is None else str(value)
