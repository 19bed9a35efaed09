"""Click's side of the commands: groups that load a command when it is used, help with examples, and mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from blockkit.cli import declare
from blockkit.cli.declare import WrongWordsError
from blockkit.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click.shell_completion import CompletionItem

    from blockkit.cli.declare import Lazy


class LazyGroup(click.Group):
    """A group whose commands are a literal table.

    Attributes:
        table: Its commands.
        failure_code: The exit code of a command line that has none of them; None for the usual one.
    """

    def __init__(self, *args: Any, table: Mapping[str, Lazy], failure_code: int | None = None, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.table, self.failure_code = table, failure_code

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        found = declare.load(entry.place)
        return build(found) if isinstance(found, declare.Command) else found

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


class DeclaredCommand(click.Command):
    """Click's side of a declared command: with examples and exit codes in its help."""

    def __init__(self, declared: declare.Command) -> None:
        super().__init__(declared.name, help=declared.help, params=[_parameter(each) for each in declared.parameters])
        self.declared = declared

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words as the command wants them; a complaint about them names it."""
        try:
            return super().parse_args(ctx, self.declared.prepare(args))
        except WrongWordsError as error:
            raise self.declared.blame(error, ctx.command_path)  # noqa: B904 - it is the same error
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # the parser does not know whose words it reads
            raise

    def invoke(self, ctx: click.Context) -> int:
        return self.declared.run(ctx.params, ctx.command_path)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.declared.examples:
            with formatter.section("Examples"):
                for example in self.declared.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in self.declared.exits.items()])


def build(declared: declare.Command) -> DeclaredCommand:
    """Return click's side of a command."""
    if not declared.shown_by:
        return DeclaredCommand(declared)
    made: DeclaredCommand = declare.load(declared.shown_by)(declared)
    return made


def _parameter(declared: declare.Parameter) -> click.Parameter:
    words = [*declared.flags, declared.name]
    if declared.is_argument:
        return click.Argument(words, type=_type(declared.kind), **declared.attributes)
    if not declared.is_flag:
        return click.Option(words, type=_type(declared.kind), **declared.attributes)
    return click.Option(words, **declared.attributes)


def _type(kind: declare.Kind) -> click.ParamType[Any]:
    if isinstance(kind, declare.Choice):
        return click.Choice(kind.words)
    if isinstance(kind, declare.Integer):
        return click.INT if kind.least is kind.most is None else click.IntRange(kind.least, kind.most)
    if isinstance(kind, declare.Float):
        return click.FLOAT
    return click.STRING if kind is declare.TEXT else _Parsed(kind)


class _Parsed(click.ParamType[Any]):
    """Values that a kind of ours parses and shells complete."""

    def __init__(self, kind: declare.Kind) -> None:
        self.kind, self.name = kind, kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.kind.parse(value)
        except (ValueError, OptionError) as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        if self.kind.completes == "file":
            return [CompletionItem(incomplete, type="file")]
        if self.kind.completes == "format":
            from blockkit.formats import FORMATS

            return [CompletionItem(name) for name in sorted(FORMATS) if name.startswith(incomplete)]
        return []
