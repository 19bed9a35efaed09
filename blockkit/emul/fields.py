"""What devices keep in plain attributes, saved and brought back: numbers, flags, and queues of bytes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_BITS: Final = 64
_MOST_BYTES: Final = 1 << 20
#: Ends the name of an attribute that may be None.
_OPTIONAL: Final = "?"


def save_fields(device: object, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of attributes, as JSON has them; a name that ends in ``?`` may be None."""
    found = {}
    for name in names:
        value = getattr(device, name.rstrip(_OPTIONAL))
        found[name.rstrip(_OPTIONAL)] = list(value) if isinstance(value, deque) else value
    return found


def load_fields(device: object, names: Iterable[str], saved: dict[str, Any]) -> None:
    """Set attributes to what was saved.

    Raises:
        KeyError: a value is missing.
        ValueError: a value is of another kind than the one that is there.
    """
    for text in names:
        name = text.rstrip(_OPTIONAL)
        value, present = saved[name], getattr(device, name)
        if value is None and text != name:
            pass
        elif isinstance(present, deque | list):
            value = type(present)(_bytes(value, name))
        elif isinstance(value, bool) != isinstance(present, bool) or not isinstance(value, int):
            raise ValueError(f"{name}: {value!r:.40} is of the wrong kind")
        elif value.bit_length() > _MOST_BITS:
            raise ValueError(f"{name}: the number is too large")
        setattr(device, name, value)


def _bytes(value: object, name: str) -> list[int]:
    if not isinstance(value, list) or len(value) > _MOST_BYTES:
        raise ValueError(f"{name}: is no list of bytes")
    if not all(isinstance(each, int) and 0 <= each <= 0xFF for each in value):
        raise ValueError(f"{name}: has what is no byte")
    return value
