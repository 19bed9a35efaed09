"""``blockkit img compare``."""

from __future__ import annotations

from contextlib import ExitStack

from blockkit.cli.declare import declared, option
from blockkit.cli.images import open_named
from blockkit.cli.output import echo
from blockkit.cli.parameters import cache_option, format_option, image_argument, opening, quiet_option
from blockkit.cli.progress import watch, watching
from blockkit.cli.terminal import GREEN, RED, paint
from blockkit.units import SECTOR, align_up


@declared(
    "compare",
    help="Tell whether FIRST and SECOND hold the same disk. Where one is longer, the rest of it must be zeros.",
    examples=(
        "blockkit img compare disk.raw disk.qcow2",
        "blockkit img compare -s -f qcow2 -F qcow2 a.qcow2 b.qcow2",
    ),
    exits={
        0: "the images hold the same disk",
        1: "they differ",
        2: "one cannot be opened, or the command line is wrong",
        3: "the map of one cannot be read",
        4: "one cannot be read",
        130: "interrupted",
        143: "terminated",
    },
    failure_code=2,
)
@image_argument("first")
@image_argument("second")
@format_option("-f", "first_format", "the first image")
@format_option("-F", "second_format", "the second image")
@cache_option("-T", "cache", "writeback", "both images")
@option("-s", "strict", is_flag=True, help="Sizes, and what is stored, must be the same too.")
@quiet_option
@watching
@opening
def command(
    first: str,
    second: str,
    first_format: str | None,
    second_format: str | None,
    cache: str,
    strict: bool,
    quiet: bool,
    show: bool,
    mode: str | None,
    share: bool,
    image_opts: bool,
    policy: str,
) -> int:
    """Compare and tell."""
    from blockkit.img.compare import compare

    def tell(text: str) -> None:
        if not quiet:
            echo(text)

    with ExitStack() as stack:
        one, other = (
            stack.enter_context(open_named(name, fmt, image_opts=image_opts, share=share, policy=policy, cache=cache))
            for name, fmt in ((first, first_format), (second, second_format))
        )
        sizes = [align_up(node.size, SECTOR) for node in (one, other)]
        found = compare(one, other, strict=strict, progress=watch(show, mode, quiet=quiet))
    if not strict and sizes[0] != sizes[1] and (found is None or found.offset >= min(sizes)):
        tell("Warning: Image size mismatch!")
    if found is None:
        tell(paint("Images are identical.", GREEN))
        return 0
    if found.kind == "size":
        tell(paint("Strict mode: Image size mismatch!", RED))
    elif found.kind == "status":
        tell(paint(f"Strict mode: Offset {found.offset} block status mismatch!", RED))
    else:
        tell(paint(f"Content mismatch at offset {found.offset}!", RED))
    return 1
