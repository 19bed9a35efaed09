"""What the disks of a saved machine must be like when it goes on, and what was written to throw-away ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from blockkit.block.facets import HasHostFile
from blockkit.block.node import Kind
from blockkit.emul.saved.schema import MAX_PIECE
from blockkit.errors import FormatError, translating

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blockkit.block.node import Node
    from blockkit.emul.drives import Drive


def describe(drive: Drive) -> dict[str, Any]:
    """Return what a disk is, as far as the guest may know, and of which nodes."""
    return {
        "interface": drive.config.interface,
        "size": drive.node.size,
        "read_only": drive.disk.read_only,
        "serial": drive.disk.serial,
        "snapshot": drive.config.snapshot,
        "graph": _graph(_kept(drive)),
    }


def _graph(node: Node) -> dict[str, Any]:
    return {
        "driver": node.driver,
        "size": node.size,
        "nodes": {role: _graph(child) for role, child in sorted(node.children.items())},
    }


def _kept(drive: Drive) -> Node:
    """Return the part of a disk that is there after the machine has gone."""
    if drive.config.snapshot and not drive.disk.read_only:
        assert drive.node.backing is not None
        return drive.node.backing
    return drive.node


def differences(saved: Sequence[Any], drives: Sequence[Drive]) -> Iterator[str]:
    """Yield in what the disks that are there differ from those that were saved."""
    if len(saved) != len(drives):
        yield f"the machine had {len(saved)} disks, not {len(drives)}"
        return
    for was, drive in zip(saved, drives, strict=True):
        now = describe(drive)
        for key, value in now.items():
            if not isinstance(was, dict) or was.get(key) != value:
                before = was.get(key) if isinstance(was, dict) else None
                text = "is made of other nodes" if key == "graph" else f"{key} is {value!r}, and was {before!r}"
                yield f"{drive.name} ({drive.config.name}): {text}"
                break


def states(drives: Sequence[Drive]) -> dict[str, Any]:
    """Return what the files under the disks are like: name, size and time of the last change of each."""
    return {drive.name: [_state(node) for node in _files(_kept(drive))] for drive in drives}


def paths(drives: Sequence[Drive]) -> dict[str, list[str]]:
    """Return the names of these files, for when they have been closed."""
    return {drive.name: [os.path.abspath(node.filename) for node in _files(_kept(drive))] for drive in drives}


def states_of(names: dict[str, list[str]]) -> dict[str, Any]:
    """Return the same as :func:`states`, of files that are closed."""
    with translating("saved machine"):
        return {
            drive: [_as_state(name, os.stat(name)) for name in files if os.path.exists(name)]
            for drive, files in names.items()
        }


def _files(node: Node) -> Iterator[Node]:
    if isinstance(node, HasHostFile) and not node.children:
        yield node
    for _, child in sorted(node.children.items()):
        yield from _files(child)


def _state(node: Node) -> dict[str, Any]:
    assert isinstance(node, HasHostFile)
    with translating(node.filename):
        return _as_state(os.path.abspath(node.filename), os.fstat(node.fileno()))


def _as_state(name: str, status: os.stat_result) -> dict[str, Any]:
    return {"name": name, "size": status.st_size, "changed": status.st_mtime_ns}


def changes(saved: dict[str, Any], drives: Sequence[Drive]) -> Iterator[str]:
    """Yield which files are not what they were."""
    for name, now in states(drives).items():
        was = saved.get(name)
        if not isinstance(was, list) or len(was) != len(now):
            yield f"{name}: stands on other files"
            continue
        for before, after in zip(was, now, strict=True):
            if not isinstance(before, dict) or any(before.get(key) != after[key] for key in ("size", "changed")):
                yield f"{after['name']}: has been changed since the machine was saved"


def written(node: Node) -> Iterator[tuple[int, bytes | None, int]]:
    """Yield what a throw-away overlay holds: offsets, bytes or None for zeros, and lengths."""
    for extent in node.extents():
        if extent.kind is Kind.UNALLOCATED:
            continue
        if extent.kind is Kind.ZERO:
            yield extent.offset, None, extent.length
            continue
        for offset in range(extent.offset, extent.offset + extent.length, MAX_PIECE):
            length = min(MAX_PIECE, extent.offset + extent.length - offset)
            yield offset, node.read(offset, length), length


def put_back(drives: Sequence[Drive], number: int, offset: int, data: bytes | None, length: int) -> None:
    """Write what :func:`written` gave; raises FormatError where it does not belong."""
    if number >= len(drives) or not drives[number].config.snapshot or offset + length > drives[number].node.size:
        raise FormatError(f"bytes {offset:#x} of disk {number} belong nowhere", where="saved machine")
    node = drives[number].node
    if data is None:
        node.zero(offset, length)
    else:
        node.write(offset, data)
