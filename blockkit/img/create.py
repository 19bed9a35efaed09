"""Making a new image: what is checked, filled in and told before anything is written."""

from __future__ import annotations

from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

from blockkit.errors import UsageError
from blockkit.frozen import Frozen
from blockkit.units import SECTOR, align_up, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Options in the order qemu-img tells them; others follow.
_ORDER: Final = (
    "cluster_size",
    "extended_l2",
    "preallocation",
    "compression_type",
    "size",
    "data_file",
    "compat",
    "backing_file",
    "backing_fmt",
    "lazy_refcounts",
    "refcount_bits",
)
#: Those told even when they were not asked for.
_ALWAYS: Final = frozenset(("cluster_size", "extended_l2", "compression_type", "lazy_refcounts", "refcount_bits"))


class CreateRequest(Frozen):
    """A new image.

    Attributes:
        filename: Where.
        format: Its format.
        size: Virtual size, bytes; None takes that of the backing file.
        options: Creation options by name, as text; among them may be size, backing_file and backing_fmt.
        backing_file: Its backing file, recorded as it is.
        backing_format: The format of that.
        check_backing: Open the backing file, to see that it is there.
    """

    filename: str
    format: str = "raw"
    size: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    backing_file: str | None = None
    backing_format: str | None = None
    check_backing: bool = True


class NewImage(Frozen):
    """A request with everything filled in.

    Attributes:
        filename: Where.
        format: Its format.
        size: Virtual size as asked for, bytes; what is made is a whole number of sectors.
        options: Creation options by name, as text.
    """

    filename: str
    format: str
    size: int
    options: Mapping[str, str]

    def told(self) -> Iterator[tuple[str, str]]:
        """Yield the options as qemu-img tells them."""
        shown = dict(self._defaults()) | {name: _plain(value) for name, value in self.options.items()}
        shown["size"] = str(self.size)
        for name in (*(_ORDER if "cluster_size" in shown else ("size",)), *shown):
            if name in shown:
                yield name, shown.pop(name)

    def _defaults(self) -> Iterator[tuple[str, str]]:
        for one in fields(creation_options(self.format)):
            if one.name in _ALWAYS:
                value = one.default
                yield one.name, ("on" if value else "off") if isinstance(value, bool) else str(value)

    def create(self) -> None:
        """Write it.

        Raises:
            UsageError: an option means nothing.
            NodeError: the storage failed.
        """
        from blockkit.block.graph import create_image

        size = align_up(self.size, SECTOR)
        create_image(self.filename, self.format, size, options=self.options, check_backing=False)


def _plain(value: str) -> str:
    """Return a size without its suffix, as qemu-img tells it; any other value as it is."""
    from blockkit.errors import OptionError

    if value[:1].isdigit() and value[-1:] in "kKmMgGtT":
        try:
            return str(parse_size(value))
        except OptionError:
            return value
    return value


def creation_options(driver: str) -> type[Any]:
    """Return the dataclass of a format's creation options.

    Raises:
        UnknownDriverError: there is no such format.
    """
    from blockkit.formats import format_driver

    options: type[Any] = format_driver(driver).CreateOptions
    return options


def plan(request: CreateRequest) -> NewImage:
    """Check a request and fill in what is missing; nothing is written.

    Raises:
        UsageError: something is missing, or contradicts something else.
        BlockkitError: the backing file cannot be opened.
    """
    cls = creation_options(request.format)
    known = {one.name for one in fields(cls)}
    options = dict(request.options)
    size = request.size
    if "size" in options:
        if size is not None:
            raise UsageError(f"the size is given twice, as {size} and as -o size={options['size']}")
        size = parse_size(options.pop("size"))
    if request.backing_file is not None:
        options["backing_file"] = request.backing_file
    if request.backing_format is not None:
        options["backing_fmt"] = request.backing_format
    backing, backing_format = options.get("backing_file") or None, options.get("backing_fmt") or None
    if backing is None and backing_format is not None:
        raise UsageError(f"backing format {backing_format!r} is given without a backing file")
    from blockkit.options import build

    if backing is not None:
        if "backing_file" not in known:
            raise UsageError(f"images of format {request.format} have no backing file, but {backing!r} is given")
        if backing_format is None:
            raise UsageError(f"backing file {backing!r} is given without its format; say which with -F")
    build(cls, options, request.format)
    if backing is not None and backing_format is not None and request.check_backing:
        size = _size_of_backing(request.filename, backing, backing_format, size)
    if size is None:
        raise UsageError(f"{request.filename}: a new image needs a size, or a backing file that has one")
    return NewImage(request.filename, request.format, size, options)


def _size_of_backing(filename: str, backing: str, backing_format: str, size: int | None) -> int:
    """See that the backing file can be opened and is not the new image; return the size of the image to be."""
    from blockkit.block.graph import backing_tree, open_image
    from blockkit.block.target import Target

    target = Target(filename)
    with open_image(backing_tree(backing, backing_format, target.path), backing=False, share=True) as node:
        target.keep_apart(node, "backing file")
        return node.size if size is None else size


def option_help(driver: str) -> list[tuple[str, str, str]]:
    """Return ``(name, kind of value, meaning)`` of a format's creation options, sorted; from its documentation."""
    cls = creation_options(driver)
    meanings = _attributes(cls.__doc__ or "")
    from typing import get_type_hints

    hints = get_type_hints(cls)
    rows = [(one.name, _kind(one.name, hints[one.name]), meanings.get(one.name, "")) for one in fields(cls)]
    rows.append(("size", "<size>", "Virtual size of the disk."))
    return sorted(rows)


def _kind(name: str, hint: object) -> str:
    members = [member for member in get_args(hint) if member is not type(None)]
    if get_origin(hint) is Literal:
        return "|".join(map(str, members))
    if len(members) == 1:
        return _kind(name, members[0])
    if hint is bool:
        return "<bool (on/off)>"
    if hint is int:
        return "<size>" if name.endswith("_size") else "<num>"
    return "<str>"


def _attributes(text: str) -> dict[str, str]:
    """Return what a Google style docstring says about each attribute."""
    found: dict[str, str] = {}
    name = ""
    for line in text.partition("Attributes:")[2].splitlines():
        indent = len(line) - len(line.lstrip())
        before, colon, after = line.strip().partition(": ")
        if indent == 8 and colon and before.isidentifier():
            name = before
            found[name] = after
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found
