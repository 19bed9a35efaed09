"""The Constructs that fields are declared with, under Construct's own names, made when somebody asks for them.

A declaration reads as it does in Construct (``Int32ub``, ``If(this.version >= 3, Int64ub)``) and means the same:
:attr:`Con.construct` is the Construct itself. But importing Construct and compiling its classes is a fifth of the run
of ``blockkit img info``, and what nearly every structure consists of, whole numbers and bytes, is decoded by
:mod:`struct`. So each of these also takes its value out of bytes and gives it back, and says :class:`MisfitError` to
whatever is not as it should be: then Construct is asked, and decides.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class MisfitError(Exception):
    """The bytes or the value do not fit the declaration; Construct knows how to say why."""


class Con:
    """How a field is encoded.

    Attributes:
        construct: The Construct.
    """

    @cached_property
    def construct(self) -> Any:
        import construct

        return self._make(construct)

    def _make(self, library: Any) -> Any:
        """Return the Construct, of the library."""
        raise NotImplementedError

    def take(self, data: bytes, at: int, before: Mapping[str, object]) -> tuple[object, int]:
        """Decode a value.

        Args:
            data: Holds it.
            at: Where in ``data``.
            before: The values of the fields before it.

        Returns:
            The value, and where the next one lies.

        Raises:
            MisfitError: it is none.
        """
        raise NotImplementedError

    def give(self, value: object, before: Mapping[str, object]) -> bytes:
        """Encode a value.

        Raises:
            MisfitError: it cannot be.
        """
        raise NotImplementedError


class _Whole(Con):
    """A whole number without a sign."""

    def __init__(self, name: str, form: str) -> None:
        self._name, self._struct = name, struct.Struct(form)

    def _make(self, library: Any) -> Any:
        return getattr(library, self._name)

    def take(self, data: bytes, at: int, before: Mapping[str, object]) -> tuple[object, int]:
        end = at + self._struct.size
        if end > len(data):
            raise MisfitError
        return self._struct.unpack_from(data, at)[0], end

    def give(self, value: object, before: Mapping[str, object]) -> bytes:
        try:
            return self._struct.pack(value)
        except struct.error:
            raise MisfitError from None


class Bytes(Con):
    """So many bytes."""

    def __init__(self, count: int) -> None:
        self._count = count

    def _make(self, library: Any) -> Any:
        return library.Bytes(self._count)

    def take(self, data: bytes, at: int, before: Mapping[str, object]) -> tuple[object, int]:
        end = at + self._count
        if end > len(data):
            raise MisfitError
        return data[at:end], end

    def give(self, value: object, before: Mapping[str, object]) -> bytes:
        if not isinstance(value, bytes) or len(value) != self._count:
            raise MisfitError
        return value


class Const(Con):
    """These bytes and no others."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def _make(self, library: Any) -> Any:
        return library.Const(self._value)

    def take(self, data: bytes, at: int, before: Mapping[str, object]) -> tuple[object, int]:
        end = at + len(self._value)
        if data[at:end] != self._value:
            raise MisfitError
        return self._value, end

    def give(self, value: object, before: Mapping[str, object]) -> bytes:
        if value != self._value:
            raise MisfitError
        return self._value


class _GreedyBytes(Con):
    """All bytes that are left."""

    def _make(self, library: Any) -> Any:
        return library.GreedyBytes

    def take(self, data: bytes, at: int, before: Mapping[str, object]) -> tuple[object, int]:
        return data[at:], max(at, len(data))

    def give(self, value: object, before: Mapping[str, object]) -> bytes:
        if not isinstance(value, bytes):
            raise MisfitError
        return value


class _AtLeast:
    """Whether a field before it is at least so much."""

    def __init__(self, name: str, least: int) -> None:
        self.name, self.least = name, least

    def make(self, library: Any) -> Any:
        return getattr(library.this, self.name) >= self.least

    def holds(self, before: Mapping[str, object]) -> bool:
        value = before.get(self.name)
        if not isinstance(value, int):
            raise MisfitError
        return value >= self.least


class _Name:
    """A field before it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __ge__(self, least: int) -> _AtLeast:
        return _AtLeast(self._name, least)


class _This:
    """The record, in conditions."""

    def __getattr__(self, name: str) -> _Name:
        return _Name(name)


class If(Con):
    """A field that is there under a condition, and else None and no bytes."""

    def __init__(self, condition: _AtLeast, con: Con) -> None:
        self._condition, self._con = condition, con

    def _make(self, library: Any) -> Any:
        return library.If(self._condition.make(library), self._con.construct)

    def take(self, data: bytes, at: int, before: Mapping[str, object]) -> tuple[object, int]:
        return self._con.take(data, at, before) if self._condition.holds(before) else (None, at)

    def give(self, value: object, before: Mapping[str, object]) -> bytes:
        return self._con.give(value, before) if self._condition.holds(before) else b""


this: Final = _This()
GreedyBytes: Final = _GreedyBytes()
Int8ub: Final = _Whole("Int8ub", ">B")
Int16ub: Final = _Whole("Int16ub", ">H")
Int32ub: Final = _Whole("Int32ub", ">I")
Int64ub: Final = _Whole("Int64ub", ">Q")
Int16ul: Final = _Whole("Int16ul", "<H")
Int32ul: Final = _Whole("Int32ul", "<I")
Int64ul: Final = _Whole("Int64ul", "<Q")
