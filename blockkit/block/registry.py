"""Finding a driver by name: the literal tables first, then the entry points of other packages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blockkit.errors import UnknownDriverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def load_driver(table: Mapping[str, str], group: str, kind: str, name: str) -> Any:
    """Return the driver called ``name``, importing its module.

    Args:
        table: Driver name to ``"module:attribute"``.
        group: The entry points asked about a name that is not in ``table``.
        kind: What such a driver is called in an error.
        name: The driver's name.

    Raises:
        UnknownDriverError: there is none of that name, or its package cannot be imported.
    """
    driver = find_driver(table, group, name)
    if driver is None:
        raise UnknownDriverError(f"there is no {kind} {name!r}{suggestion(name, table)}")
    return driver


def find_driver(table: Mapping[str, str], group: str, name: str) -> Any | None:
    """Return the driver called ``name``, or None if neither ``table`` nor the entry points of ``group`` have it."""
    if name in table:
        module, _, attribute = table[name].partition(":")
        return getattr(import_module(module), attribute)
    if not name.replace("-", "_").isidentifier():
        return None
    # Slow to import, and needed for drivers of other packages only.
    from importlib.metadata import entry_points

    for entry in entry_points(group=group, name=name):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise UnknownDriverError(f"driver {name!r} from {entry.value!r} cannot be loaded: {error}") from error
    return None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of an error about ``word``: the near miss among ``known``, or all of them."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(word.replace("-", "_"), names, n=1)
    if near:
        return f"; did you mean {near[0]!r}"
    return f"; known are {', '.join(names)}" if names else "; there are none"
