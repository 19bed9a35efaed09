"""What a command is: its name, its parameters, its help, and the function that runs it.

Declarations know nothing of click, which takes as long to import as the rest of a short command. Words that follow the
declaration plainly are read by :mod:`blockkit.cli.plain`; everything else (help, completion, mistakes) is click's
business, which :mod:`blockkit.cli.clicking` makes of the same declaration.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blockkit.errors import BlockkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

#: What the exit codes of most commands mean.
EXITS: Final = {
    0: "success",
    1: "the operation failed",
    2: "the command line is wrong",
    3: "the image is at fault",
    130: "interrupted",
    143: "terminated",
}

#: Image commands end as qemu-img's do: with 1 whatever is wrong, unless the code is an answer.
FAILED: Final = 1
AS_QEMU_IMG: Final[dict[str, Any]] = {
    "failure_code": FAILED,
    "exits": {
        0: "success",
        FAILED: "the command failed, or its words or the image are wrong",
        130: "interrupted",
        143: "terminated",
    },
}

#: Where parameters wait for the command they belong to.
_WAITING: Final = "__declared_parameters__"


class WrongWordsError(Exception):
    """A command line that cannot be meant.

    Attributes:
        path: The command, with the program's name and its groups; empty while not known.
        exit_code: What the process ends with.
    """

    def __init__(self, text: str, *, path: str = "", exit_code: int = 2) -> None:
        super().__init__(text)
        self.path, self.exit_code = path, exit_code


class Lazy(NamedTuple):
    """A command that is imported when it runs.

    Attributes:
        place: ``"module:attribute"``.
        summary: One line for the list of commands, so that the list imports nothing.
        commands: Where the table of a group is; empty for a command.
    """

    place: str
    summary: str
    commands: str = ""


def load(place: str) -> Any:
    """Return what is at ``"module:attribute"``."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


class Kind:
    """How the text of a parameter becomes its value.

    Attributes:
        name: What help calls such a value.
        completes: What shells complete it with: ``""`` for nothing, ``"file"``, ``"format"``.
    """

    name = "text"
    completes = ""

    def parse(self, text: str) -> Any:
        """Return the value.

        Raises:
            ValueError, OptionError: ``text`` is none.
        """
        return text


class Integer(Kind):
    """A whole number, in a range if one is given."""

    name = "integer"

    def __init__(self, least: int | None = None, most: int | None = None) -> None:
        self.least, self.most = least, most

    def parse(self, text: str) -> int:
        value = int(text)
        if (self.least is not None and value < self.least) or (self.most is not None and value > self.most):
            raise ValueError(f"{value} is out of range")
        return value


class Float(Kind):
    """A number."""

    name = "float"

    def parse(self, text: str) -> float:
        return float(text)


class Choice(Kind):
    """One of several words."""

    name = "choice"

    def __init__(self, *words: str) -> None:
        self.words = words

    def parse(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(f"{text!r} is not one of {', '.join(self.words)}")
        return text


TEXT: Final = Kind()
INTEGER: Final = Integer()
FLOAT: Final = Float()


class Parameter:
    """An option or an argument.

    Attributes:
        flags: What is typed to name an option, such as ``("-f", "--format")``; empty for an argument.
        name: What the function calls it.
        kind: Of its value.
        attributes: Whatever else click may be told.
    """

    __slots__ = ("attributes", "flags", "kind", "name")

    def __init__(self, declarations: Sequence[str], kind: Kind, attributes: dict[str, Any]) -> None:
        self.flags = tuple(word for word in declarations if word.startswith("-"))
        names = [word for word in declarations if not word.startswith("-")]
        if not names:
            # As click does: after the first of the longest kind, a word rather than a letter.
            first = next((flag for flag in self.flags if flag.startswith("--")), self.flags[0])
            names = [first.partition("/")[0].lstrip("-").replace("-", "_").lower()]
        self.name, self.kind, self.attributes = names[0], kind, attributes

    @property
    def is_argument(self) -> bool:
        """Whether it is told by its place."""
        return not self.flags

    @property
    def is_flag(self) -> bool:
        """Whether it is an option without a value."""
        return bool(self.attributes.get("is_flag")) or any("/" in flag for flag in self.flags)

    @property
    def is_required(self) -> bool:
        """Whether the command cannot do without."""
        return bool(self.attributes.get("required", self.is_argument and self.attributes.get("nargs", 1) > 0))


class Command:
    """A declared command; see :func:`declared`."""

    def __init__(self, name: str, function: Callable[..., int | None], **extra: Any) -> None:
        self.name, self.function = name, function
        #: In the order they are declared in.
        self.parameters: list[Parameter] = getattr(function, _WAITING, [])[::-1]
        self.help: str = extra.pop("help")
        self.examples: Sequence[str] = extra.pop("examples")
        self.exits: Mapping[int, str] = extra.pop("exits", EXITS)
        self.failure_code: int | None = extra.pop("failure_code", None)
        self.prepare: Callable[[list[str]], list[str]] = extra.pop("prepare", list)
        self.shown_by: str = extra.pop("shown_by", "")
        assert not extra, f"{name}: {', '.join(extra)}"

    def run(self, values: Mapping[str, Any], path: str) -> int:
        """Run it and return the exit code.

        Args:
            values: Of all parameters that the function takes.
            path: What was typed to name the command, for errors.
        """
        try:
            return self.function(**values) or 0
        except BlockkitError as error:
            # An error that has its own code already knows better.
            if self.failure_code is not None and "exit_code" not in vars(error):
                error.exit_code = self.failure_code
            raise
        except WrongWordsError as error:
            raise self.blame(error, path)  # noqa: B904 - it is the same error

    def blame(self, error: WrongWordsError, path: str) -> WrongWordsError:
        """Tell ``error`` whose words are wrong."""
        error.path = error.path or path
        error.exit_code = self.failure_code or error.exit_code
        return error


def declared(name: str, **extra: Any) -> Callable[[Callable[..., int | None]], Command]:
    """Return a decorator that makes a function, with the parameters below it, a command.

    The function returns the exit code; None is 0.

    Args:
        name: As it is typed.
        **extra: ``help``, one paragraph; ``examples``, command lines; ``exits``, what each exit code means;
            ``failure_code``, the exit code of every error, for a command whose other codes are answers; ``prepare``,
            which gets the words before they are read; ``shown_by``, ``"module:class"`` of click's side.
    """

    def declare(function: Callable[..., int | None]) -> Command:
        return Command(name, function, **extra)

    return declare


def option(*declarations: str, **attributes: Any) -> Callable[[F], F]:
    """Return a decorator that adds an option; ``type`` is a :class:`Kind`, the rest as for ``click.option``."""
    default = attributes.get("default")
    kind = attributes.pop("type", None) or (INTEGER if type(default) is int else TEXT)
    return _adding(Parameter(declarations, kind, attributes))


def argument(name: str, **attributes: Any) -> Callable[[F], F]:
    """Return a decorator that adds an argument; ``type`` is a :class:`Kind`, the rest as for ``click.argument``."""
    return _adding(Parameter((name,), attributes.pop("type", TEXT), attributes))


def _adding(parameter: Parameter) -> Callable[[F], F]:
    def add(function: F) -> F:
        # Decorators are applied from the last one up.
        function.__dict__.setdefault(_WAITING, []).append(parameter)
        return function

    return add


def flags_of(parameters: Sequence[Parameter]) -> Iterator[tuple[str, Parameter]]:
    """Yield what may be typed to name an option, and the option; ``--yes/--no`` are two."""
    for parameter in parameters:
        for flag in parameter.flags:
            for word in flag.split("/"):
                yield word, parameter
