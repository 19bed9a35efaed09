"""Every on-disk structure of an image, as rows and as JSON."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from blockkit.block.facets import Inspectable
from blockkit.errors import UnsupportedOperationError
from blockkit.img.info import format_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blockkit.block.node import Node
    from blockkit.schema import Structure


def inspect(node: Node, names: Sequence[str] = ()) -> Iterator[Structure]:
    """Yield the on-disk structures of the image whose top is ``node``, one after the other as they are read.

    Args:
        node: The top of the stack.
        names: Yield only structures whose name has one of these words in it, or matches one as a pattern; all if
            empty.

    Raises:
        UnsupportedOperationError: images of this format have no structures.
    """
    image = format_of(node)
    if not isinstance(image, Inspectable):
        raise UnsupportedOperationError(f"{node}: images of format {image.driver} have no structures to inspect")
    wanted = [name.lower() for name in names]
    for structure in image.structures():
        if not wanted or any(_fits(structure.name.lower(), name) for name in wanted):
            yield structure


def _fits(name: str, wanted: str) -> bool:
    return wanted in name or fnmatchcase(name, wanted)


def plain(value: object) -> object:
    """Return a field's value as JSON has it: bytes as text if they are printable ASCII, as hexadecimal if not."""
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        text = data.rstrip(b"\0").decode("ascii", "replace")
        return text if text.isascii() and text.isprintable() and text else data.hex()
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def as_json(structure: Structure) -> dict[str, object]:
    """Return ``structure`` as JSON-able values; offsets and sizes are bytes."""
    return {
        "name": structure.name,
        "offset": structure.offset,
        "size": structure.size,
        "fields": [
            {
                "name": field.name,
                "offset": field.offset,
                "size": field.size,
                "value": plain(field.value),
                "meaning": field.meaning,
            }
            for field in structure.fields
        ],
    }
