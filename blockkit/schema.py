"""Typed records over Construct.

An on-disk structure is declared once, as a :class:`Record`: each field carries the Construct that encodes it, the type
a type checker sees, and one line with its unit and meaning. ``Record.schema`` is the plain ``construct.Struct``, for
anything Construct can do; it is made when it is first asked for. What fits is decoded and encoded without it, and what
does not, Construct judges (see :mod:`blockkit.constructs`).

``construct-typing`` was measured first: it adds 8 ms to the start of every command (typing_extensions and its wrapper
classes), has no frozen dataclasses and keeps Construct's own error texts, so it could not replace what is below.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, Self, dataclass_transform

from blockkit.constructs import Con, MisfitError
from blockkit.errors import FormatError
from blockkit.frozen import Frozen

if TYPE_CHECKING:
    from blockkit.block.buffers import Buffer


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


def field(con: Con, doc: str = "", *, names: type[enum.Enum] | None = None, default: Any = dataclasses.MISSING) -> Any:
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


class _Schema:
    """A record's Construct, made when it is first asked for."""

    def __get__(self, _: object, record: type[Record]) -> Any:
        if (made := record.__dict__.get("_made")) is None:
            import construct

            made = construct.Struct(*(name / con.construct for name, con in record._cons))
            type.__setattr__(record, "_made", made)
        return made


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Record(Frozen):
    """An immutable structure of an image's metadata.

    A subclass declares fields with :func:`field`, and is made with keyword arguments only. ``title``
    is what error messages and ``inspect`` call it.
    """

    schema = _Schema()  # not annotated, or dataclasses would ask for it
    title: ClassVar[str] = ""
    _cons: ClassVar[tuple[tuple[str, Con], ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._cons = tuple((f.name, f.metadata["construct"]) for f in dataclasses.fields(cls))
        cls.title = cls.__dict__.get("title", cls.__name__)

    @classmethod
    def parse(cls, data: Buffer, *, offset: int = 0) -> Self:
        """Decode ``data``, which lies ``offset`` bytes into its file and may be longer than the record.

        Raises:
            FormatError: ``data`` is short or violates the schema; the message names the field.
        """
        whole, at = bytes(data), 0
        values: dict[str, object] = {}
        try:
            for name, con in cls._cons:
                values[name], at = con.take(whole, at, values)
        except MisfitError:
            cls._refuse(whole, offset)
        return cls(**values)

    @classmethod
    def _refuse(cls, data: bytes, offset: int) -> NoReturn:
        """Let Construct decode what does not fit, and say what is wrong."""
        import construct

        try:
            cls.schema.parse(data)
        except construct.ConstructError as error:
            raise FormatError(_plain(error), where=cls.title, offset=offset) from error
        raise AssertionError(f"{cls.title}: Construct takes what was refused")

    def build(self) -> bytes:
        """Encode; ``parse(x.build()) == x`` for every record."""
        values = vars(self)
        try:
            return b"".join(con.give(values[name], values) for name, con in self._cons)
        except MisfitError:
            built: bytes = self.schema.build(values)
            return built

    def structure(self, offset: int) -> Structure:
        """Describe this record as it lies at ``offset`` bytes of its file."""
        values, position = vars(self), 0
        rows = []
        for f in dataclasses.fields(self):
            value, doc = values[f.name], f.metadata["doc"]
            size = len(f.metadata["construct"].give(value, values))
            if size:
                named = name_of(value, f.metadata["names"])
                meaning = f"{named} ({doc})" if named and doc else named or doc
                rows.append(FieldValue(offset + position, size, f.name, value, meaning))
            position += size
        return Structure(self.title, offset, position, rows)


def _plain(error: Exception) -> str:
    """Turn Construct's two-line texts into one line that starts with the field."""
    import construct

    text = " ".join(str(error).split())
    path = getattr(error, "path", "") or ""
    name = path.removeprefix("(parsing)").removeprefix("(building)").strip(" ->")
    text = text.removeprefix(f"Error in path {path}").strip()
    if isinstance(error, construct.StreamError):
        text = "the data ends here"
    return f"field {name}: {text}" if name else text
