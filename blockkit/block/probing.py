"""Guessing the format of an image from its first bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.errors import FormatError

if TYPE_CHECKING:
    from blockkit.block.node import Node

#: How images of formats that have no driver here begin: offset, bytes, name. Read as raw, they would give the bytes of
#: the container for those of the disk.
_FOREIGN: Final = (
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"QED\0", "qed"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"LUKS\xba\xbe", "luks"),
)

#: What raw answers, which anything can be.
_UNKNOWN: Final = 1

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
    foreign = _foreign(head)
    if foreign is not None and best <= _UNKNOWN and foreign not in FORMATS:
        raise FormatError(f"is a {foreign} image, which cannot be opened here; -f raw shows its bytes", where=where)
    return names[0]


def _foreign(head: bytes) -> str | None:
    """Return the format that nothing here opens and that ``head`` begins; None if there is none."""
    return next((name for offset, magic, name in _FOREIGN if head.startswith(magic, offset)), None)


def other_than_raw(head: bytes) -> str | None:
    """Return the format, if not raw, that an image starting with ``head`` would be taken for."""
    if foreign := _foreign(head):
        return foreign
    try:
        name = probe_bytes(head, "image")
    except FormatError:
        return "more than one format"
    return name if name != "raw" else None
