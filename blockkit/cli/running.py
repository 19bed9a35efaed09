"""Running one command: what ends well, what ends in one line on standard error, and the exit code of each."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from blockkit.cli import plain
from blockkit.cli.commands import COMMANDS
from blockkit.cli.declare import WrongWordsError
from blockkit.cli.output import echo
from blockkit.cli.settings import PROGRAM, Settings
from blockkit.errors import BlockkitError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

INTERRUPTED: Final = 130
#: What a shell reports of a program that wrote to a closed pipe.
PIPE_CLOSED: Final = 141
#: What a shell reports of a program that a signal ended, less the signal's number.
_ENDED_BY: Final = 128
#: Signals after which what was begun is undone; SIGHUP comes when a terminal goes away.
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class Terminated(SystemExit):
    """A signal to end arrived: what was begun is undone, as after an interrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(_ENDED_BY + number)
        self.exit_code = _ENDED_BY + number


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; nothing is raised unless ``--debug`` asks for it.

    Args:
        arguments: Without the program's name; None takes those of this process.
    """
    if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:
        from blockkit.cli.root import root

        root.main(prog_name=PROGRAM)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files are bytes, and come out as they went in.
        sys.stdout.reconfigure(errors="surrogateescape")
    settings = Settings()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _ending_well():
            code = _invoke(words, settings)
            sys.stdout.flush()
    except Terminated as error:
        _complain(_with_notes("terminated", error))
        return error.exit_code
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED  # whoever read our output has seen enough
    except KeyboardInterrupt as error:
        _complain(_with_notes("interrupted", error))
        return INTERRUPTED
    except WrongWordsError as error:
        if settings.debug:
            raise
        return _wrong(error)
    except BlockkitError as error:
        if settings.debug:
            raise
        _complain(_with_notes(str(error), error))
        return error.exit_code
    except Exception as error:
        if settings.debug:
            raise
        if (ended := _ended_by(error)) is not None:
            return ended
        if isinstance(error, OSError) and (_drop_output() or _is_from_printing(error)):
            error.filename = error.filename or "standard output"
        return _unexpected(error)
    return code


@contextmanager
def _ending_well() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the body with :class:`Terminated`, unless ignored; others do not disturb that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(number)

    before = {each: signal.getsignal(each) for each in _ENDING if signal.getsignal(each) != signal.SIG_IGN}
    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _drop_output() -> bool:
    """Keep the interpreter from trying once more, at its end, to write what could not be written; tell if it had to."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _is_from_printing(error: OSError) -> bool:
    """Tell whether ``error`` was raised while something was printed: unbuffered, nothing is left to try again."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is echo.__code__


def _ended_by(error: Exception) -> int | None:
    """Return the exit code if a signal is behind ``error``: one that comes while a class is made ends as another."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, KeyboardInterrupt | Terminated):
        cause = cause.__cause__
    if cause is None:
        return None
    _complain(_with_notes("terminated" if isinstance(cause, Terminated) else "interrupted", error))
    return cause.exit_code if isinstance(cause, Terminated) else INTERRUPTED


def _with_notes(text: str, error: BaseException) -> str:
    """Return ``text`` and what was noted about ``error`` on its way here, such as a target left unfinished."""
    return "; ".join((text, *getattr(error, "__notes__", ())))


def _invoke(words: list[str], settings: Settings) -> int:
    found = plain.find(words, COMMANDS, PROGRAM)
    if found is not None:
        command, values, path = found
        return command.run(values, path)
    from blockkit.cli.root import invoke

    return invoke(words, settings)


def _wrong(error: WrongWordsError) -> int:
    where = error.path.removeprefix(PROGRAM).strip()
    _complain(f"{where + ': ' if where else ''}{error}" + (f"; see '{error.path} --help'" if error.path else ""))
    return error.exit_code


def _unexpected(error: Exception) -> int:
    if isinstance(error, OSError):
        translated = from_os_error(error, os.fsdecode(error.filename) if error.filename else "system")
        _complain(_with_notes(str(translated), error))
        return translated.exit_code
    if isinstance(error, MemoryError):
        _complain(_with_notes("out of memory", error))
    else:
        text = _with_notes(" ".join(str(error).split()), error)
        _complain(f"internal error: {type(error).__name__}: {text}; run '{PROGRAM} --debug ...' to see where")
    return 1


def _complain(text: str) -> None:
    """Print one line on standard error; names may hold anything, so control characters are shown, not sent."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    try:
        print(f"{PROGRAM}: {line}", file=sys.stderr)  # noqa: T201
    except OSError:
        pass  # nobody listens
