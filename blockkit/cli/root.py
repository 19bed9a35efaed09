"""The top of the command tree."""

from __future__ import annotations

from typing import Final

import click

from blockkit import __version__
from blockkit.cli.command import Lazy, LazyGroup, option

PROGRAM: Final = "blockkit"

COMMANDS: Final = {
    "run": Lazy("blockkit.cli.run.command:command", "Start a PC with disk images of any kind."),
    "img": Lazy("blockkit.cli.img:group", "Make, convert, examine and check disk images."),
    "completion": Lazy("blockkit.cli.completion:command", "Print a script that completes commands in a shell."),
}


class Settings:
    """What holds for the whole run.

    Attributes:
        debug: Let errors end in a traceback.
    """

    __slots__ = ("debug",)

    def __init__(self) -> None:
        self.debug = False


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"{PROGRAM} {__version__}")
        context.exit()


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    help="Disk images as a block graph.",
    context_settings={"max_content_width": 100},
)
@option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
@option("--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_context
def root(context: click.Context, debug: bool) -> None:
    """Run before every command."""
    context.ensure_object(Settings).debug = debug
