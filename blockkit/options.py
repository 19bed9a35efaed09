"""Options as text, dotted, nested or JSON: first one tree, then a typed dataclass.

A *tree* is a dict of plain values, lists and trees; its keys use underscores. ``driver=qcow2,file.filename=a.qcow2``,
``{"driver": "qcow2", "file.filename": "a.qcow2"}`` and ``{"driver": "qcow2", "file": {"filename": "a.qcow2"}}`` are
the same tree.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from blockkit.errors import BlockkitError, NameSyntaxError, OptionError
from blockkit.units import parse_size

Tree: TypeAlias = dict[str, Any]
T = TypeVar("T")

_TRUE = frozenset({"on", "true", "yes", "1"})
_FALSE = frozenset({"off", "false", "no", "0"})

#: Trees deeper than this are refused, long before the interpreter's stack ends.
MAX_DEPTH = 200


# -- text to trees -------------------------------------------------------------------------------------


def parse_dotted(text: str) -> Tree:
    """Read ``"driver=qcow2,file.filename=a.qcow2"`` as a tree of texts.

    A comma inside a value is doubled. A key without a value means ``on``. Of two equal keys the last counts.

    Raises:
        OptionError: a key is empty, or is both a value and a group.
    """
    flat: Tree = {}
    for item in _split_commas(text):
        key, equals, value = item.partition("=")
        flat[_key(key)] = value if equals else "on"
    return nest(flat)


def _split_commas(text: str) -> list[str]:
    """Split at single commas; a doubled one stands for itself."""
    items: list[str] = []
    current: list[str] = []
    index = 0
    while index < len(text):
        comma = text.find(",", index)
        if comma < 0:
            comma = len(text)
        current.append(text[index:comma])
        if text.startswith(",,", comma):
            current.append(",")
            index = comma + 2
            continue
        items.append("".join(current))
        current = []
        index = comma + 1
    if current:
        items.append("".join(current))
    return [item for item in items if item]


def format_dotted(tree: Mapping[str, Any]) -> str:
    """Return the text that :func:`parse_dotted` reads as ``tree``; lists become groups with the keys 0, 1, ..."""
    return ",".join(f"{key}={value.replace(',', ',,')}" for key, value in _flatten("", tree))


def _flatten(prefix: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        inner = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, list | tuple):
        inner = [(str(index), child) for index, child in enumerate(value)]
    elif isinstance(value, bool):
        return [(prefix, "on" if value else "off")]
    else:
        return [(prefix, str(value))]
    return [item for key, child in inner for item in _flatten(f"{prefix}.{key}" if prefix else key, child)]


def parse_json(text: str) -> Tree:
    """Read a JSON object as a tree.

    Raises:
        NameSyntaxError: it is not JSON, or not an object.
    """
    import json

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error).lower()
        raise NameSyntaxError(f"json:{_short(text)}: not valid JSON: {problem}") from error
    if not isinstance(value, dict):
        raise NameSyntaxError(f"json:{_short(text)}: is {type(value).__name__}, expected an object")
    return nest(value)


def nest(mapping: Mapping[str, Any], *, _depth: int = 0) -> Tree:
    """Return ``mapping`` as a tree: dotted keys become groups, hyphens in keys underscores; values are kept.

    Raises:
        OptionError: a key is not text or is empty, a key is both a value and a group, or groups are too deep.
    """
    if _depth > MAX_DEPTH:
        raise OptionError(f"options are nested more than {MAX_DEPTH} levels deep")
    tree: Tree = {}
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise OptionError(f"option name {key!r} is not text")
        *groups, last = _key(key).split(".")
        if not last or not all(groups):
            raise OptionError(f"option name {_short(key)!r} has an empty part")
        if len(groups) + _depth > MAX_DEPTH:
            raise OptionError(f"options are nested more than {MAX_DEPTH} levels deep")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise OptionError(f"option {group!r} in {_short(key)!r} is given both as a value and as a group")
        value = _nest_value(value, _depth + len(groups) + 1)
        held = place.get(last)
        if isinstance(held, dict) and isinstance(value, dict):
            held.update(value)
        elif last in place and isinstance(held, dict) != isinstance(value, dict):
            raise OptionError(f"option {_short(key)!r} is given both as a value and as a group")
        else:
            place[last] = value
    return tree


def _nest_value(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return nest(value, _depth=depth)
    if isinstance(value, list | tuple):
        if depth > MAX_DEPTH:
            raise OptionError(f"options are nested more than {MAX_DEPTH} levels deep")
        return [_nest_value(item, depth + 1) for item in value]
    return value


def _key(key: str) -> str:
    return key.strip().replace("-", "_")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


# -- trees to dataclasses ------------------------------------------------------------------------------


def _hints(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def option_names(cls: type[Any]) -> list[str]:
    """Return the names of the options that the dataclass ``cls`` holds."""
    return list(_hints(cls))


def build(cls: type[T], tree: Mapping[str, Any], where: str, *, beside: Iterable[str] = ()) -> T:
    """Make the dataclass ``cls`` from ``tree``, converting each value by the type of its field.

    Integers take sizes (``64K``), booleans ``on``/``off``/``true``/``false``/``yes``/``no``, enumerations and literals
    their values; groups become dataclasses, lists tuples.

    Args:
        cls: A dataclass; what ``tree`` lacks keeps its default.
        tree: From any of the functions above.
        where: What the options are for; starts every error.
        beside: Keys that somebody else takes out of the tree before, and that may be misspelt too.

    Raises:
        OptionError: a key is unknown or missing, or a value does not fit.
    """
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in hints:
            from blockkit.block.registry import suggestion

            raise OptionError(f"{where}: there is no option {_short(key)!r}{suggestion(key, [*hints, *beside])}")
        values[key] = _convert(hints[key], value, f"{where}: {key}")
    try:
        return cls(**values)
    except TypeError as error:
        lacking = ", ".join(repr(name) for name in _required(cls) if name not in values)
        raise OptionError(f"{where}: option {lacking or error} is needed") from error
    except ValueError as error:
        raise OptionError(f"{where}: {error}") from error


def _required(cls: type[Any]) -> list[str]:
    from dataclasses import MISSING

    return [f.name for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING]


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Return ``value`` as ``hint`` says, or raise an OptionError that starts with ``where``."""
    origin = get_origin(hint)
    if hint is Any or (origin is Callable and callable(value)):
        return value
    if origin is Union or origin is types.UnionType:
        return _convert_union(hint, value, where)
    if origin is Literal:
        return _convert_choice({str(choice): choice for choice in get_args(hint)}, value, where)
    if origin in (tuple, list):
        item = get_args(hint)[0]
        converted = [_convert(item, each, f"{where}.{n}") for n, each in enumerate(_items(value, where))]
        return tuple(converted) if origin is tuple else converted
    if isinstance(hint, type):
        if isinstance(value, hint) and not (hint in (int, float) and isinstance(value, bool)):
            return value
        if issubclass(hint, enum.Enum):
            return _convert_choice({str(member.value): member for member in hint}, value, where)
        if is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise OptionError(f"{where}: {value!r} is not a group of options")
            return build(hint, value, where)
        if hint in _SCALARS:
            return _SCALARS[hint](value, where)
    raise OptionError(f"{where}: {value!r} is not {getattr(hint, '__name__', hint)}")


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    choices = get_args(hint)
    if value is None and type(None) in choices:
        return None
    problem: BlockkitError | None = None
    for choice in choices:
        if choice is type(None):
            continue
        try:
            return _convert(choice, value, where)
        except OptionError as error:
            problem = problem or error
    assert problem is not None, "a union has a member that is not None"
    raise problem


def _convert_choice(choices: dict[str, Any], value: Any, where: str) -> Any:
    text = ("on" if value else "off") if isinstance(value, bool) else str(value)
    if text in choices:
        return choices[text]
    raise OptionError(f"{where}: {value!r} is not one of {', '.join(choices)}")


def _items(value: Any, where: str) -> list[Any]:
    """Return the members of a list, which dotted text writes as the keys 0, 1, ..."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Mapping) and set(value) == {str(n) for n in range(len(value))}:
        return [value[str(n)] for n in range(len(value))]
    raise OptionError(f"{where}: {value!r} is not a list")


def _convert_int(value: Any, where: str) -> int:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except OptionError as error:
            raise OptionError(f"{where}: {error}") from error
    raise OptionError(f"{where}: {value!r} is not an integer")


def _convert_float(value: Any, where: str) -> float:
    if isinstance(value, str | int) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = float("nan")
        if abs(number) < float("inf"):
            return number
    raise OptionError(f"{where}: {value!r} is not a number")


def _convert_bool(value: Any, where: str) -> bool:
    if isinstance(value, str):
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
    raise OptionError(f"{where}: {value!r} is not on or off")


def _convert_str(value: Any, where: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise OptionError(f"{where}: {value!r} is not text")


_SCALARS: dict[type, Any] = {int: _convert_int, float: _convert_float, bool: _convert_bool, str: _convert_str}
