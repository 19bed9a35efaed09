"""Reading words that follow a command's declaration plainly, in no time.

Whatever is not plain (help, a mistake, an option that acts while it is read) is left to click, which reads the same
words again and knows what to say. What is read here comes out as it would there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.cli.declare import Command, flags_of, load
from blockkit.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blockkit.cli.declare import Lazy, Parameter

#: Attributes of a parameter that are known here; one with another is not read here.
_KNOWN: Final = frozenset(
    (
        *("is_flag", "multiple", "metavar", "help", "default", "show_default"),
        *("callback", "expose_value", "required", "nargs"),
    )
)


class _NotPlainError(Exception):
    """Click has to see to it."""


def find(words: Sequence[str], commands: dict[str, Lazy], path: str) -> tuple[Command, dict[str, Any], str] | None:
    """Return the command that ``words`` name, the values they give it, and its path; None if they are not plain."""
    if not words or (entry := commands.get(words[0])) is None:
        return None
    path = f"{path} {words[0]}"
    if entry.commands:
        return find(words[1:], load(entry.commands), path)
    command = load(entry.place)
    if not isinstance(command, Command):
        return None
    values = read(command, words[1:])
    return None if values is None else (command, values, path)


def read(command: Command, words: Sequence[str]) -> dict[str, Any] | None:
    """Return the values that ``words`` give the parameters of ``command``; None if they are not plain."""
    if any(
        not _KNOWN.issuperset(each.attributes) or (each.flags and "nargs" in each.attributes)
        for each in command.parameters
    ):
        return None
    try:
        given, places = _sort(command, command.prepare(list(words)))
        _place(command, places, given)
        return dict(_values(command, given))
    except (_NotPlainError, ValueError, OptionError):
        return None


def _sort(command: Command, words: list[str]) -> tuple[dict[Parameter, list[str]], list[str]]:
    """Return the texts given for each option (empty ones for flags), and the words that are none."""
    flags = dict(flags_of(command.parameters))
    given: dict[Parameter, list[str]] = {}
    places: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            places += left
        elif word.startswith("--"):
            flag, equals, text = word.partition("=")
            parameter = flags.get(flag)
            if parameter is None or (parameter.is_flag and equals):
                raise _NotPlainError
            if not parameter.is_flag and not equals:
                text = _following(left)
            given.setdefault(parameter, []).append(text)
        elif word.startswith("-") and len(word) > 1:
            for at, letter in enumerate(word[1:], 2):
                parameter = flags.get("-" + letter)
                if parameter is None:
                    raise _NotPlainError
                if parameter.is_flag:
                    given.setdefault(parameter, []).append("")
                    continue
                given.setdefault(parameter, []).append(word[at:] or _following(left))
                break
        else:
            places.append(word)
    return given, places


def _following(words: Iterator[str]) -> str:
    word = next(words, None)
    if word is None:
        raise _NotPlainError
    return word


def _place(command: Command, places: list[str], given: dict[Parameter, list[str]]) -> None:
    """Deal words out to the arguments, in their order."""
    for parameter in command.parameters:
        if not parameter.is_argument:
            continue
        if parameter.attributes.get("nargs", 1) != 1:
            # As many as are left; one after it would have to be looked for from the end.
            given[parameter], places = places, []
        elif places:
            given[parameter], places = places[:1], places[1:]
    if places:
        raise _NotPlainError


def _values(command: Command, given: dict[Parameter, list[str]]) -> Iterator[tuple[str, Any]]:
    for parameter in command.parameters:
        attributes, texts = parameter.attributes, given.get(parameter)
        if texts and "callback" in attributes:
            raise _NotPlainError
        value: Any
        if texts is None and parameter.is_required:
            raise _NotPlainError
        if attributes.get("multiple") or attributes.get("nargs", 1) != 1:
            value = tuple(parameter.kind.parse(text) for text in texts or ())
        elif parameter.is_flag:
            value = bool(texts)
        elif texts is None:
            value = attributes.get("default")
        else:
            value = parameter.kind.parse(texts[-1])
        if attributes.get("expose_value", True):
            yield parameter.name, value
