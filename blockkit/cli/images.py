"""Opening the images a command line names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockkit.block.node import Node
    from blockkit.block.policy import ImplicitPolicy


def open_named(
    name: str,
    fmt: str | None = None,
    *,
    image_opts: bool = False,
    share: bool = False,
    policy: str = "beneath",
    cache: str = "writeback",
    read_only: bool = True,
    backing: bool = True,
    options: dict[str, str] | None = None,
) -> Node:
    """Open an image as the options that commands share say.

    Args:
        name: As typed.
        fmt: ``-f``.
        image_opts: ``name`` is an option string.
        share: ``-U``.
        policy: ``--backing-policy``.
        cache: ``-t`` or ``-T``.
        read_only: Refuse writes.
        backing: Open backing files.
        options: Options of the format's driver.

    Raises:
        BlockkitError: it cannot be opened; the message names it.
    """
    from blockkit.block.graph import open_image

    tree: object = name
    if image_opts:
        from blockkit.options import parse_dotted

        tree = parse_dotted(name)
    node = open_image(
        tree,  # type: ignore[arg-type]
        format=fmt,
        read_only=read_only,
        policy=policy_named(policy),
        share=share,
        cache=cache,
        backing=backing,
        options=options,
    )
    if not read_only and fmt is None and not image_opts and node.driver == "raw":
        warn(
            f"{name}: the format was guessed to be raw, so writes to the first block are restricted; -f raw lifts that"
        )
    return node


def takes_option(driver: str, name: str) -> bool:
    """Tell whether the driver of a format has an option called ``name``."""
    from blockkit.formats import format_driver
    from blockkit.options import option_names

    return name in option_names(format_driver(driver).Options)


def policy_named(text: str) -> ImplicitPolicy:
    """Return the policy that ``--backing-policy`` calls ``text``."""
    from blockkit.block.policy import ImplicitPolicy

    return ImplicitPolicy.parse(text)


def creation_options(texts: tuple[str, ...]) -> dict[str, str]:
    """Return the options of several ``-o`` as one mapping, later ones first, in the order they were typed.

    Raises:
        OptionError: an option has no name.
    """
    from blockkit.options import parse_dotted

    found: dict[str, str] = {}
    for text in texts:
        found.update(parse_dotted(text))
    return found


def warn(text: str) -> None:
    """Print one line to standard error."""
    from blockkit.cli.output import echo

    echo(f"blockkit: warning: {text}", err=True)
