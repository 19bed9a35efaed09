"""What there is to know about an image and its backing chain without reading the disk."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.facets import HasAllocatedSize, HasFacts
from blockkit.block.facts import ImageFacts
from blockkit.units import SECTOR, align_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blockkit.block.facts import SnapshotFacts
    from blockkit.block.node import Node


class ImageInfo(NamedTuple):
    """One image.

    Attributes:
        filename: By which it was opened.
        format: The name of its driver.
        virtual_size: Bytes of the disk, in whole sectors.
        actual_size: Bytes its files take on their disks; None where nobody knows.
        facts: What its metadata says.
        specific: What only its format has.
        full_backing: Where the backing file is looked for, or None.
    """

    filename: str
    format: str
    virtual_size: int
    actual_size: int | None
    facts: ImageFacts
    specific: Mapping[str, object] = MappingProxyType({})
    full_backing: str | None = None


def describe_image(node: Node, filename: str) -> ImageInfo:
    """Describe the image whose top is ``node``, named ``filename``; its backing file is not looked at."""
    layer = format_of(node)
    facts = layer.facts() if isinstance(layer, HasFacts) else ImageFacts()
    return ImageInfo(
        filename=filename,
        format=layer.driver,
        virtual_size=align_up(node.size, SECTOR),
        actual_size=actual_size(node),
        facts=facts,
        specific=layer.describe(),
        full_backing=full_name(facts.backing_file, filename) if facts.backing_file is not None else None,
    )


def describe_chain(node: Node, filename: str) -> Iterator[ImageInfo]:
    """Describe an image that is open with its backing files, and each of them, from the top."""
    below: Node | None = node
    while below is not None:
        info = describe_image(below, filename)
        yield info
        below = format_of(below).backing
        filename = info.full_backing or (str(below) if below is not None else "")


def format_of(node: Node) -> Node:
    """Return the topmost node that is no filter."""
    from blockkit.block.bases import FilterNode

    while isinstance(node, FilterNode):
        node = node.file
    return node


def full_name(backing: str, image: str) -> str:
    """Return the name by which a backing file recorded in ``image`` is opened."""
    if "://" in backing or backing.startswith(("json:", "/")):
        return backing
    return os.path.join(os.path.dirname(image), backing.removeprefix("file:"))


def actual_size(node: Node) -> int | None:
    """Return the bytes that the files of one image, without its backing files, take on their disks."""
    if isinstance(node, HasAllocatedSize):
        return node.allocated_size
    sizes = [actual_size(child) for role, child in node.children.items() if role != "backing"]
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def as_json(info: ImageInfo) -> dict[str, object]:
    """Return ``info`` by qemu-img's names and in its order."""
    facts, told = info.facts, dict[str, object]()
    if facts.backing_format is not None and facts.backing_file is not None:
        told["backing-filename-format"] = facts.backing_format
    if facts.snapshots:
        told["snapshots"] = [_snapshot_json(one) for one in facts.snapshots]
    told["virtual-size"] = info.virtual_size
    told["filename"] = info.filename
    if facts.cluster_size is not None:
        told["cluster-size"] = facts.cluster_size
    told["format"] = info.format
    if info.actual_size is not None:
        told["actual-size"] = info.actual_size
    if info.specific:
        told["format-specific"] = {"type": info.format, "data": dict(info.specific)}
    if info.full_backing is not None:
        told["full-backing-filename"] = info.full_backing
    if facts.encrypted:
        told["encrypted"] = True
    if facts.backing_file is not None:
        told["backing-filename"] = facts.backing_file
    told["dirty-flag"] = facts.dirty
    return told


def _snapshot_json(snapshot: SnapshotFacts) -> dict[str, object]:
    told: dict[str, object] = {"icount": snapshot.icount} if snapshot.icount is not None else {}
    return told | {
        "vm-clock-nsec": snapshot.vm_clock_nsec % 1_000_000_000,
        "name": snapshot.name,
        "date-sec": snapshot.date_sec,
        "date-nsec": snapshot.date_nsec,
        "vm-clock-sec": snapshot.vm_clock_nsec // 1_000_000_000,
        "id": snapshot.id,
        "vm-state-size": snapshot.vm_state_size,
    }
