"""Finding a driver by name: the literal tables first, then the entry points of other packages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from blockkit.errors import UnknownDriverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Kind of a driver -> what it has beside its name: dataclasses of options, and what is called.
_MEMBERS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "format": (("Options", "CreateOptions"), ("probe", "open", "create")),
    "protocol": (("Options",), ("open", "create")),
    "filter": (("Options",), ("open",)),
}


def load_driver(table: Mapping[str, str], group: str, kind: str, name: str) -> Any:
    """Return the driver called ``name``, importing its module.

    Args:
        table: Driver name to ``"module:attribute"``.
        group: The entry points asked about a name that is not in ``table``.
        kind: What such a driver is: ``format``, ``protocol`` or ``filter``.
        name: The driver's name.

    Raises:
        UnknownDriverError: there is none of that name, its package cannot be imported, or what it names is no driver.
    """
    driver = find_driver(table, group, kind, name)
    if driver is None:
        raise UnknownDriverError(f"there is no {kind} {name!r}{suggestion(name, known_names(table, group))}")
    return driver


def find_driver(table: Mapping[str, str], group: str, kind: str, name: str) -> Any | None:
    """Return the driver called ``name``, or None if neither ``table`` nor the entry points of ``group`` have it.

    Raises:
        UnknownDriverError: there is an entry point, but what it names cannot be imported or is no driver.
    """
    if name in table:
        module, _, attribute = table[name].partition(":")
        return getattr(import_module(module), attribute)
    if not _can_be_named(name):
        return None
    # Slow to import, and needed for drivers of other packages only.
    from importlib.metadata import entry_points

    for entry in entry_points(group=group, name=name):
        try:
            driver = entry.load()
        except Exception as error:  # whatever the module of another package raises
            problem = " ".join(str(error).split()) or type(error).__name__
            raise UnknownDriverError(f"driver {name!r} from {entry.value!r} cannot be loaded: {problem}") from error
        if problem := _why_no_driver(driver, kind):
            options, calls = _MEMBERS[kind]
            raise UnknownDriverError(
                f"entry point {name!r} of {group}, {entry.value!r}, is no driver: {problem}; "
                f"expected an object with {', '.join(('name', *options, *calls))}"
            )
        return driver
    return None


def _can_be_named(name: str) -> bool:
    """Tell whether a driver of another package is looked for by ``name``, which may be any text."""
    return name.replace("-", "_").isidentifier()


def _why_no_driver(driver: object, kind: str) -> str:
    """Say what keeps an object of another package from being a driver of ``kind``; empty if nothing does."""
    from dataclasses import is_dataclass

    if isinstance(driver, type):
        return f"it is the class {driver.__name__}, not an object of it"
    options, calls = _MEMBERS[kind]
    lacking = [each for each in ("name", *options, *calls) if not hasattr(driver, each)]
    if lacking:
        return f"it is of type {type(driver).__name__} and has no {', '.join(lacking)}"
    if not isinstance(driver.name, str):  # type: ignore[attr-defined]
        return "its name is no text"
    for each in options:
        cls = getattr(driver, each)
        if not (isinstance(cls, type) and is_dataclass(cls)):
            return f"its {each} is no dataclass"
    uncallable = [each for each in calls if not callable(getattr(driver, each))]
    return f"its {uncallable[0]} cannot be called" if uncallable else ""


def known_names(table: Mapping[str, str], group: str) -> set[str]:
    """Return the names of ``table`` and of the entry points of ``group``, none of which is imported."""
    from importlib.metadata import entry_points

    return {*table, *(entry.name for entry in entry_points(group=group) if _can_be_named(entry.name))}


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of an error about ``word``: the near miss among ``known``, or all of them."""
    names = sorted(known)
    if near := near_miss(word, names):
        return f"; did you mean {near!r}"
    return f"; known are {', '.join(names)}" if names else "; there are none"


def near_miss(word: str, known: Iterable[str]) -> str | None:
    """Return which of ``known`` a misspelt word means, if any."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word.replace("-", "_"), list(known), n=1)), None)
