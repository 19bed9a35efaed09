"""The commands' own classes: groups that load a command when it is used, and help with examples and exit codes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from blockkit.errors import BlockkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    F = TypeVar("F", bound=Callable[..., Any])


class Lazy(NamedTuple):
    """A command that is imported when it runs.

    Attributes:
        place: ``"module:attribute"``.
        summary: One line for the list of commands, so that the list imports nothing.
    """

    place: str
    summary: str


class WithHelp(click.Command):
    """A command whose help option is made without click's machinery of translations and cleaning."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        if not self.add_help_option:
            return None
        return Option(
            ["-h", "--help"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_help,
            help="Show this message and exit.",
        )


def _show_help(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(context.get_help())
        context.exit()


class LazyGroup(WithHelp, click.Group):
    """A group whose commands are a literal table."""

    def __init__(self, *args: Any, table: Mapping[str, Lazy], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` start with; an unknown one is told with the near miss."""
        name = args[0] if args else ""
        if name not in self.table and not name.startswith("-") and not ctx.resilient_parsing:
            from blockkit.block.registry import suggestion

            ctx.fail(f"no such command {name!r}{suggestion(name, self.table)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.table.items()])


class ImageCommand(WithHelp):
    """A command with examples and exit codes in its help.

    Args:
        *args: As for ``click.Command``.
        examples: Command lines.
        exits: What each exit code means.
        failure_code: Exit code of every error, for a command whose other codes are answers; None leaves each error its
            own.
        **extra: As for ``click.Command``.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        exits: Mapping[int, str] | None = None,
        failure_code: int | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(*args, **extra)
        self.examples, self.exits, self.failure_code = examples, exits or EXITS, failure_code

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BlockkitError as error:
            # An error that has its own code already knows better.
            if self.failure_code is not None and "exit_code" not in vars(error):
                error.exit_code = self.failure_code
            raise
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in self.exits.items()])


#: What the exit codes of most commands mean.
EXITS = {
    0: "success",
    1: "the operation failed",
    2: "the command line is wrong",
    3: "the image is at fault",
    130: "interrupted",
    143: "terminated",
}


class Option(click.Option):
    """An option whose help is taken as it is.

    click cleans the indentation of every help text, which makes it execute ``inspect`` at every start.
    """

    def __init__(self, *args: Any, help: str = "", **extra: Any) -> None:  # noqa: A002
        super().__init__(*args, **extra)
        self.help = help or None


def option(*declarations: str, **attributes: Any) -> Callable[[F], F]:
    """Return a decorator that adds an :class:`Option`."""
    return click.option(*declarations, cls=Option, **attributes)
