"""The disks of a machine: opened, perhaps under a throw-away overlay, and closed in the end."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from blockkit.block.graph import create_image, open_image
from blockkit.block.node import Node
from blockkit.emul.disk import LATENCIES, Disk, OnError
from blockkit.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.policy import ImplicitPolicy
    from blockkit.emul.clock import Clock
    from blockkit.emul.config import DriveConfig


class Drive(NamedTuple):
    """A disk that is open.

    Attributes:
        name: ``drive0`` and so on.
        config: What was asked for.
        node: Its contents.
        disk: The same, as a device uses it.
        warning: What the user should know; empty for nothing.
    """

    name: str
    config: DriveConfig
    node: Node
    disk: Disk
    warning: str


def open_drive(
    name: str, config: DriveConfig, clock: Clock, policy: ImplicitPolicy | None, stop: Callable[[], None]
) -> Drive:
    """Open a disk; a node is taken over.

    Raises:
        BlockkitError: it cannot be opened; the message names it.
    """
    read_only = config.read_only or config.interface == "cdrom"
    below = _open(config, read_only or config.snapshot, policy)
    warning = ""
    guessed = not isinstance(config.image, Node) and config.format is None
    if guessed and below.driver == "raw" and config.interface != "cdrom":
        warning = (
            f"{config.name}: the format was guessed to be raw, so writes to the first block are restricted;"
            " format=raw lifts that"
        )
    node = below
    if config.snapshot and not read_only:
        try:
            node = _overlay(below)
        except BaseException:
            below.close()
            raise
    disk = Disk(
        node,
        clock,
        latency=LATENCIES[config.latency],
        on_error=OnError(config.on_error),
        read_only=read_only,
        serial=config.serial,
        write_through=config.write_through,
        stop=stop,
    )
    return Drive(name, config, node, disk, warning)


def _open(config: DriveConfig, read_only: bool, policy: ImplicitPolicy | None) -> Node:
    if isinstance(config.image, Node):
        if config.image.read_only and not read_only:
            raise OptionError(f"drive: {config.image} is open for reading only, and the drive is not")
        return config.image
    return open_image(
        config.image,
        format=config.format,
        read_only=read_only,
        options=config.options or None,
        policy=policy,
        cache=config.cache,
    )


def _overlay(below: Node) -> Node:
    """Return a qcow2 image over ``below`` whose file nobody else sees, and which is gone when it is closed."""
    descriptor, path = tempfile.mkstemp(prefix="blockkit-", suffix=".qcow2")
    os.close(descriptor)
    try:
        create_image(
            path, "qcow2", below.size, backing_file="below", backing_format="raw", check_backing=False, cache="unsafe"
        )
        tree = {"driver": "qcow2", "file": {"driver": "file", "filename": path, "cache": "unsafe"}, "backing": below}
        return open_image(tree, read_only=False, cache="unsafe")
    finally:
        os.unlink(path)
