"""Typed records over Construct.

An on-disk structure is declared once, as a :class:`Record`: each field carries the Construct that encodes it, the type
a type checker sees, and one line with its unit and meaning. ``Record.schema`` is the plain ``construct.Struct``, for
anything Construct can do. This is the only module that meets Construct's untyped side.

``construct-typing`` was measured first: it adds 8 ms to the start of every command (typing_extensions and its wrapper
classes), has no frozen dataclasses and keeps Construct's own error texts, so it could not replace what is below.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, dataclass_transform

import construct

from blockkit.errors import FormatError
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockkit.block.node import Buffer


class FieldValue(NamedTuple):
    """One field of one structure, where it lies and what it means.

    Attributes:
        offset: Bytes from the start of the file that holds it.
        size: Bytes.
        name: The specification's name.
        value: Decoded; an int, text, bytes or None.
        meaning: For people: names of flags and enumeration members, units, explanations.
    """

    offset: int
    size: int
    name: str
    value: object
    meaning: str


class Structure(NamedTuple):
    """One on-disk structure, for ``blockkit img inspect``.

    Attributes:
        name: What the specification calls it.
        offset: Bytes from the start of the file that holds it.
        size: Bytes.
        fields: Its fields, in order of offset.
    """

    name: str
    offset: int
    size: int
    fields: list[FieldValue]


def field(con: Any, doc: str = "", *, names: type[enum.Enum] | None = None, default: Any = dataclasses.MISSING) -> Any:
    """Declare a field.

    Args:
        con: The Construct that encodes it.
        doc: Unit and meaning, one line.
        names: An enumeration or a flag set that gives its values names.
        default: Value when the record is built without one.
    """
    return dataclasses.field(default=default, metadata={"construct": con, "doc": doc, "names": names})


def name_of(value: object, names: type[enum.Enum] | None) -> str:
    """Return the names ``names`` has for ``value``: ``"dirty, corrupt, unknown bits 0x40"``."""
    if names is None or not isinstance(value, int):
        return ""
    if issubclass(names, enum.Flag):
        known = [str(member.name) for member in names if value & member.value]
        unknown = value
        for member in names:
            unknown &= ~int(member.value)
        if unknown:
            known.append(f"unknown bits {unknown:#x}")
        return ", ".join(known).lower() or "none"
    try:
        return str(names(value).name).lower()
    except ValueError:
        return "unknown"


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Record(Frozen):
    """An immutable structure of an image's metadata.

    A subclass declares fields with :func:`field`, and is made with keyword arguments only. ``title``
    is what error messages and ``inspect`` call it.
    """

    schema: ClassVar[Any]
    title: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.schema = construct.Struct(*(f.name / f.metadata["construct"] for f in dataclasses.fields(cls)))
        cls.title = cls.__dict__.get("title", cls.__name__)

    @classmethod
    def parse(cls, data: Buffer, *, offset: int = 0) -> Self:
        """Decode ``data``, which lies ``offset`` bytes into its file and may be longer than the record.

        Raises:
            FormatError: ``data`` is short or violates the schema; the message names the field.
        """
        try:
            parsed = cls.schema.parse(bytes(data))
        except construct.ConstructError as error:
            raise FormatError(_plain(error), where=cls.title, offset=offset) from error
        except (OverflowError, MemoryError, UnicodeDecodeError) as error:
            raise FormatError(f"cannot be decoded: {error}", where=cls.title, offset=offset) from error
        return cls(**{f.name: parsed[f.name] for f in dataclasses.fields(cls)})

    def build(self) -> bytes:
        """Encode; ``parse(x.build()) == x`` for every record."""
        built: bytes = self.schema.build(vars(self))
        return built

    def structure(self, offset: int) -> Structure:
        """Describe this record as it lies at ``offset`` bytes of its file."""
        values, cons, position = vars(self), [], 0
        rows = []
        for f in dataclasses.fields(self):
            cons.append(f.name / f.metadata["construct"])
            end = len(construct.Struct(*cons).build(values))
            if end > position:
                value, doc = values[f.name], f.metadata["doc"]
                named = name_of(value, f.metadata["names"])
                meaning = f"{named} ({doc})" if named and doc else named or doc
                rows.append(FieldValue(offset + position, end - position, f.name, value, meaning))
            position = end
        return Structure(self.title, offset, position, rows)

    @classmethod
    def documentation(cls) -> Iterator[tuple[str, str, str]]:
        """Yield ``(name, construct, meaning)`` of each field, for generated reference pages."""
        for f in dataclasses.fields(cls):
            yield f.name, str(f.metadata["construct"]), f.metadata["doc"]


def _plain(error: construct.ConstructError) -> str:
    """Turn Construct's two-line texts into one line that starts with the field."""
    text = " ".join(str(error).split())
    path = getattr(error, "path", "") or ""
    name = path.removeprefix("(parsing)").removeprefix("(building)").strip(" ->")
    text = text.removeprefix(f"Error in path {path}").strip()
    if isinstance(error, construct.StreamError):
        text = "the data ends here"
    return f"field {name}: {text}" if name else text
