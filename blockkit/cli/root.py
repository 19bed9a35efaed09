"""The top of the command tree, as click sees it, and what becomes of click's exceptions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from blockkit import __version__
from blockkit.cli.clicking import LazyGroup
from blockkit.cli.commands import COMMANDS
from blockkit.cli.declare import WrongWordsError
from blockkit.cli.settings import PROGRAM, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"{PROGRAM} {__version__}")
        context.exit()


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    help="Disk images as a block graph.",
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.pass_context
def root(context: click.Context, debug: bool) -> None:
    """Run before every command."""
    context.ensure_object(Settings).debug = debug


def invoke(words: Sequence[str], settings: Settings) -> int:
    """Run a command line and return its exit code.

    Raises:
        WrongWordsError: it is wrong.
        KeyboardInterrupt: click was interrupted.
    """
    try:
        with root.make_context(PROGRAM, list(words), obj=settings) as context:
            return root.invoke(context) or 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)  # noqa: T201
        return _code_of(error)
    except click.UsageError as error:
        text = error.format_message().rstrip(".")
        raise WrongWordsError(
            text[:1].lower() + text[1:],
            path=error.ctx.command_path if error.ctx else "",
            exit_code=_code_of(error),
        ) from error


def _code_of(error: click.UsageError) -> int:
    """Return the exit code of wrong words: that of the command or the group they are for, if it has its own."""
    command = error.ctx.command if error.ctx else None
    found: int | None = getattr(getattr(command, "declared", command), "failure_code", None)
    return found or error.exit_code
