"""Running one command: what ends well, what ends in one line on standard error, and the exit code of each."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from blockkit.cli.root import PROGRAM, Settings, root
from blockkit.errors import BlockkitError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 130
#: What a shell reports of a program that wrote to a closed pipe.
PIPE_CLOSED: Final = 141


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; nothing is raised unless ``--debug`` asks for it.

    Args:
        arguments: Without the program's name; None takes those of this process.
    """
    if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:
        root.main(prog_name=PROGRAM)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files are bytes, and come out as they went in.
        sys.stdout.reconfigure(errors="surrogateescape")
    settings = Settings()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _invoke(words, settings)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED  # whoever read our output has seen enough
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except click.UsageError as error:
        if settings.debug:
            raise
        return _usage(error)
    except click.ClickException as error:
        if settings.debug:
            raise
        _complain(error.format_message())
        return error.exit_code
    except BlockkitError as error:
        if settings.debug:
            raise
        _complain(str(error))
        return error.exit_code
    except Exception as error:
        if settings.debug:
            raise
        if isinstance(error, OSError):
            _drop_output()
        return _unexpected(error)
    return code


def _drop_output() -> None:
    """Keep the interpreter from trying once more, at its end, to write what could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _invoke(words: list[str], settings: Settings) -> int:
    try:
        with root.make_context(PROGRAM, words, obj=settings) as context:
            root.invoke(context)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    return 0


def _usage(error: click.UsageError) -> int:
    """Complain about a command line; a command may have its own exit code for that."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    text = error.format_message().rstrip(".")
    text = text[:1].lower() + text[1:]
    if error.ctx is None:
        _complain(text)
        return error.exit_code
    path = error.ctx.command_path
    where = path.removeprefix(PROGRAM).strip()
    _complain(f"{where + ': ' if where else ''}{text}; see '{path} --help'")
    return getattr(error.ctx.command, "failure_code", None) or error.exit_code


def _unexpected(error: Exception) -> int:
    if isinstance(error, OSError):
        translated = from_os_error(error, os.fsdecode(error.filename) if error.filename else "system")
        _complain(str(translated))
        return translated.exit_code
    if isinstance(error, MemoryError):
        _complain("out of memory")
    else:
        text = " ".join(str(error).split())
        _complain(f"internal error: {type(error).__name__}: {text}; run '{PROGRAM} --debug ...' to see where")
    return 1


def _complain(text: str) -> None:
    """Print one line on standard error; names may hold anything, so control characters are shown, not sent."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    try:
        print(f"{PROGRAM}: {line}", file=sys.stderr)  # noqa: T201
    except OSError:
        pass  # nobody listens
