"""Opening and creating images by name: where drivers, options and policy come together."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from blockkit.block.driver import Judges
from blockkit.block.opener import GraphOpener, OpenSettings, abandon, with_cache
from blockkit.block.policy import ImplicitPolicy
from blockkit.block.target import Target
from blockkit.errors import OptionError, UnsupportedOperationError, UsageError
from blockkit.names import implied_path, parse_name, uri_scheme
from blockkit.options import Tree, build, nest, option_names, parse_dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blockkit.block.driver import FormatDriver
    from blockkit.block.node import Node

__all__ = ["ImageName", "add_backing", "backing_tree", "create_image", "open_image"]

#: What names an image: a text (path, URI, ``json:{...}``), a path object, or an option tree, which may hold nodes.
ImageName: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any]"


def open_image(
    name: ImageName,
    *,
    format: str | None = None,  # noqa: A002
    read_only: bool = True,
    options: Mapping[str, Any] | str | None = None,
    policy: ImplicitPolicy | None = None,
    share: bool = False,
    cache: str = "writeback",
    backing: bool = True,
) -> Node:
    """Open an image, with everything it stands on.

    Args:
        name: What to open. A tree whose ``driver`` is a protocol or a filter is opened as it says, with no format
            added. Nodes in a tree are taken over.
        format: The image format. None probes, which is safe only for images whose first bytes no stranger chose; an
            image found to be raw so refuses writes that would make it look like anything else.
        read_only: Refuse writes. Backing files are opened read-only in any case.
        options: Options of the format's driver, as a tree or as ``key=value,...``.
        policy: Which files the image may have opened by naming them; None means regular files beneath its own
            directory.
        share: Read although somebody else may be writing.
        cache: ``writeback``, ``none``, ``writethrough``, ``directsync`` or ``unsafe``, for every host file.
        backing: Open backing files. Without, what they hold reads as zeros: for looking at metadata only.

    Returns:
        The top of the graph; closing it closes all of it.

    Raises:
        UsageError: the name, the format or an option means nothing.
        ImageError: the image is not valid, or the policy forbids what it asks for.
        NodeError: the storage below failed, or is locked.

    Example:
        >>> create_image("disk.qcow2", "qcow2", 1 << 20)
        >>> with open_image("disk.qcow2", format="qcow2", read_only=False) as disk:
        ...     disk.write(4096, b"hello")
        >>> with open_image({"driver": "qcow2", "file.filename": "disk.qcow2", "file.cache": "none"}) as disk:
        ...     disk.read(4096, 5)
        b'hello'
    """
    settings = OpenSettings(policy or ImplicitPolicy.beneath(), cache, share, backing)
    return GraphOpener(settings).open_image(_image_tree(name, format, options), read_only=read_only)


def _image_tree(name: ImageName, format_: str | None, options: Mapping[str, Any] | str | None) -> Tree:
    """Return the tree of an image from all that was said about it."""
    if isinstance(name, str | os.PathLike):
        tree = parse_name(name)
        if not (isinstance(name, str) and name.startswith("json:")):
            tree = {"file": tree}
    else:
        tree = nest(name)
    if format_ is not None:
        tree = _with_format(tree, format_)
    if options:
        tree.update(parse_dotted(options) if isinstance(options, str) else nest(options))
    return tree


def _with_format(tree: Tree, format_: str) -> Tree:
    from blockkit.formats import format_driver
    from blockkit.protocols import PROTOCOLS

    format_driver(format_)
    driver = tree.get("driver")
    if driver in PROTOCOLS:
        return {"driver": format_, "file": tree}
    if driver not in (None, format_):
        raise OptionError(f"format {format_!r} is given, but the options say driver {driver!r}")
    if "file" not in tree and "filename" in tree:
        tree["file"] = parse_name(tree.pop("filename"))
    return {**tree, "driver": format_}


def create_image(
    name: str | os.PathLike[str] | Mapping[str, Any],
    format: str,  # noqa: A002
    size: int | None = None,
    *,
    options: Mapping[str, Any] | str | None = None,
    backing_file: str | None = None,
    backing_format: str | None = None,
    check_backing: bool = True,
    cache: str = "writeback",
) -> None:
    """Create an image, and close it.

    Options and the backing file are checked before anything is written. A file that did not exist is removed again if
    creating fails; one that did is lost, which a note on the exception tells.

    Args:
        name: Where; a path, a URI, or the tree of a protocol.
        format: The image format.
        size: Virtual size in bytes; None takes that of the backing file.
        options: The format's creation options, as a mapping or as ``key=value,...``.
        backing_file: What unallocated ranges show; recorded as given, relative to the new image's directory.
        backing_format: The format of ``backing_file``, which is recorded too.
        check_backing: Open the backing file, to see that it is there and how large it is.
        cache: As for :func:`open_image`.

    Raises:
        UsageError: an option means nothing, the size is missing, or the backing file is the image itself.
        UnsupportedOperationError: the driver of the format, or of the protocol, only opens what there is.
        NodeError: the storage below failed, or is locked.

    Example:
        >>> create_image("base.qcow2", "qcow2", 1 << 30, options="cluster_size=2M")
        >>> create_image("overlay.qcow2", "qcow2", backing_file="base.qcow2", backing_format="qcow2")
        >>> with open_image("overlay.qcow2") as disk:
        ...     disk.size, disk.backing
        (1073741824, <Qcow2Node 'base.qcow2' ro>)
    """
    from blockkit.formats import format_driver
    from blockkit.protocols import protocol_driver

    driver = format_driver(format)
    tree = parse_name(name) if isinstance(name, str | os.PathLike) else nest(name)
    protocol = protocol_driver(str(tree.pop("driver", "file")))
    storage = build(protocol.Options, with_cache(protocol, tree, cache), protocol.name)
    wanted = parse_dotted(options) if isinstance(options, str) else nest(options or {})
    add_backing(driver, wanted, backing_file, backing_format)
    create_options = build(driver.CreateOptions, wanted, driver.name)
    with Target({"driver": protocol.name, **tree}) as target:
        size = _size_of_new(size, wanted, target, check=check_backing)
        if isinstance(driver, Judges):
            with _if_possible(f"format {driver.name}: images"):
                driver.judge(size, create_options)
        with _if_possible(f"protocol {protocol.name}: what holds images"):
            file = protocol.create(storage)
        target.overwritten = True
        try:
            with _if_possible(f"format {driver.name}: images"):
                driver.create(file, size, create_options)
        except BaseException:
            abandon(file)
            raise
        file.close()


@contextmanager
def _if_possible(what: str) -> Iterator[None]:
    """Let the body create ``what``, in the plural, unless the driver has not implemented that."""
    try:
        yield
    except NotImplementedError as error:
        raise UnsupportedOperationError(f"{what} cannot be created") from error


def add_backing(driver: FormatDriver, wanted: Tree, backing_file: str | None, backing_format: str | None) -> None:
    """Put a backing file among the creation options, which may name it too.

    Raises:
        UsageError: images of this format have none, its format is missing, or there is a format without a file.
    """
    if backing_file is not None:
        if "backing_file" not in option_names(driver.CreateOptions):
            raise UsageError(f"{driver.name}: images of this format have no backing file")
        wanted["backing_file"] = backing_file
    if backing_format is not None:
        wanted["backing_fmt"] = backing_format
    if wanted.get("backing_file") and not wanted.get("backing_fmt"):
        raise UsageError(f"backing file {wanted['backing_file']!r} is given without its format (-F, backing_format=)")
    if wanted.get("backing_fmt"):
        if not wanted.get("backing_file"):
            raise UsageError(f"backing format {wanted['backing_fmt']!r} is given without a backing file")
        from blockkit.formats import format_driver

        format_driver(str(wanted["backing_fmt"]))


def backing_tree(name: str, format_: str, image: str) -> Tree:
    """Return the tree of the backing file ``name`` as a new image ``image`` would record it.

    Raises:
        UsageError: no image that records this name could be opened.
    """
    path = implied_path(name)
    if path is not None:
        return {"driver": format_, "file": {"driver": "file", "filename": os.path.join(os.path.dirname(image), path)}}
    if not name.startswith("json:") and uri_scheme(name) is None:
        raise UsageError(f"backing file {name!r} names an unknown protocol; ./ in front makes it a path")
    return _image_tree(name, format_, None)


def _size_of_new(size: int | None, wanted: Tree, target: Target, *, check: bool) -> int:
    backing_file = str(wanted.get("backing_file") or "")
    if backing_file and (check or size is None):
        # Named by the caller, not by an image: no policy has a say in it.
        tree = backing_tree(backing_file, str(wanted["backing_fmt"]), target.path)
        with open_image(tree, backing=False) as backing:
            target.keep_apart(backing, "backing file")
            size = backing.size if size is None else size
    if size is None:
        raise UsageError("a new image needs a size, or a backing file that has one")
    if size < 0:
        raise UsageError(f"size {size} is negative")
    return size
