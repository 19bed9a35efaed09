"""``blockkit img resize``."""

from __future__ import annotations

import re
from typing import Final

from blockkit.cli.declare import AS_QEMU_IMG, Choice, argument, declared, option
from blockkit.cli.images import open_named
from blockkit.cli.output import echo
from blockkit.cli.parameters import format_option, image_argument, opening, quiet_option

#: A size that would be taken for options.
_NEGATIVE: Final = re.compile(r"-[0-9.]+[bkmgtpe]?(ib|b)?", re.IGNORECASE)


def _keep_negative(words: list[str]) -> list[str]:
    """Keep a size such as ``-1G``, the last word, from being taken for options."""
    if words and _NEGATIVE.fullmatch(words[-1]) and "--" not in words:
        return [*words[:-1], "--", words[-1]]
    return words


@declared(
    "resize",
    prepare=_keep_negative,
    help="Change the size of the disk in IMAGE to SIZE, or by +SIZE or -SIZE.",
    examples=(
        "blockkit img resize disk.qcow2 +10G",
        "blockkit img resize -f raw --preallocation falloc disk.raw 20G",
        "blockkit img resize --shrink -f raw disk.raw -1G",
    ),
    **AS_QEMU_IMG,
)
@image_argument()
@argument("size", metavar="[+|-]SIZE")
@format_option()
@option(
    "--preallocation",
    type=Choice("off", "metadata", "falloc", "full"),
    default="off",
    show_default=True,
    help="How to reserve what is added.",
)
@option("--shrink", is_flag=True, help="Agree to lose what lies behind a smaller size.")
@quiet_option
@opening
def command(
    image: str,
    size: str,
    fmt: str | None,
    preallocation: str,
    shrink: bool,
    quiet: bool,
    share: bool,
    image_opts: bool,
    policy: str,
) -> None:
    """Resize and tell."""
    from blockkit.block.node import Preallocation
    from blockkit.img.resize import NewSize, resize

    wanted = NewSize.parse(size)
    with open_named(image, fmt, image_opts=image_opts, share=share, policy=policy, read_only=False) as node:
        resize(node, wanted, shrink=shrink, preallocate=Preallocation(preallocation))
    if not quiet:
        echo("Image resized.")
