"""Immutable values with named fields that cost little to declare.

``dataclass(frozen=True)`` compiles six methods for each class, about a millisecond of the start of every command; a
:class:`Frozen` subclass takes a tenth of that, because all share the methods below. To everything else it is a
dataclass: ``fields``, ``replace`` and ``asdict`` work. Making an instance is slower, so what is made by the thousand
stays a dataclass or a named tuple.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Frozen:
    """An immutable value; a subclass declares its fields as a dataclass does."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(init=False, repr=False, eq=False)(cls)

    def __init__(self, *ordered: Any, **named: Any) -> None:
        fields = dataclasses.fields(self)
        if len(ordered) > len(fields):
            raise TypeError(f"{type(self).__name__}: {len(ordered)} values for {len(fields)} fields")
        values = self.__dict__
        for field, value in zip(fields, ordered, strict=False):
            values[field.name] = value
        for field in fields[len(ordered) :]:
            name = field.name
            if name in named:
                values[name] = named.pop(name)
            elif field.default is not dataclasses.MISSING:
                values[name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                values[name] = field.default_factory()
            else:
                raise TypeError(f"{type(self).__name__}: field {name} is missing")
        if named:
            raise TypeError(f"{type(self).__name__}: fields unknown or given twice: {', '.join(sorted(named))}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check what was given; for subclasses."""

    def __setattr__(self, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
