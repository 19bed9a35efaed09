"""Guessing the format of an image from its first bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.errors import FormatError

if TYPE_CHECKING:
    from blockkit.block.node import Node

#: Bytes of an image that drivers are shown.
PROBE_SIZE: Final = 4096


def probe(file: Node) -> str:
    """Return the name of the format that the image in ``file`` most likely has.

    Raises:
        FormatError: two formats are equally likely, or none is possible.
    """
    return probe_bytes(file.read(0, min(PROBE_SIZE, file.size)), str(file))


def probe_bytes(head: bytes, where: str) -> str:
    """Return the name of the format that an image starting with ``head`` most likely has; see :func:`probe`."""
    from blockkit.formats import FORMATS, format_driver

    scores = {name: format_driver(name).probe(head) for name in FORMATS}
    best = max(scores.values(), default=0)
    names = [name for name, score in scores.items() if score == best and score > 0]
    if not names:
        raise FormatError("no format recognises it", where=where)
    if len(names) > 1:
        raise FormatError(f"could be {' or '.join(names)}; say which (-f, format=)", where=where)
    return names[0]


def other_than_raw(head: bytes) -> str | None:
    """Return the format, if not raw, that an image starting with ``head`` would be taken for."""
    try:
        name = probe_bytes(head, "image")
    except FormatError:
        return "more than one format"
    return name if name != "raw" else None
