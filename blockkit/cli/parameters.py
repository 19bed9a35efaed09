"""Types of parameters, and the parameters that image commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.cli.declare import Choice, Kind, WrongWordsError, argument, option
from blockkit.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

#: Cache modes, as qemu-img spells them.
CACHE_MODES: Final = ("none", "writeback", "writethrough", "directsync", "unsafe")


class _Size(Kind):
    """A number of bytes with a suffix."""

    name = "size"

    def parse(self, text: str) -> int:
        return parse_size(text)


class _Format(Kind):
    """The name of a format; the graph checks it, as other packages may have formats too."""

    name, completes = "format", "format"


class _Image(Kind):
    """The name of an image; shells complete it as a path."""

    name, completes = "image", "file"


SIZE: Final = _Size()
FORMAT: Final = _Format()
IMAGE: Final = _Image()


def image_argument(name: str = "image", **extra: Any) -> Callable[[F], F]:
    """Return the decorator of an argument that names an image."""
    return argument(name, type=IMAGE, **extra)


def format_option(flag: str = "-f", name: str = "fmt", what: str = "the image") -> Callable[[F], F]:
    """Return the decorator of an option that names a format; probed when it is not given."""
    return option(flag, name, type=FORMAT, help=f"Format of {what}; looked for in its first bytes if not given.")


def cache_option(flag: str, name: str, default: str, what: str = "the image") -> Callable[[F], F]:
    """Return the decorator of an option that names a cache mode."""
    return option(
        flag, name, type=Choice(*CACHE_MODES), default=default, help=f"Cache mode of {what}.", show_default=True
    )


def _refuse_object(_context: object, _parameter: object, value: tuple[str, ...]) -> None:
    if value:
        raise WrongWordsError(f"--object {value[0]!r}: objects (secrets, throttle groups) are not supported")


object_option = option(
    "--object", multiple=True, expose_value=False, callback=_refuse_object, metavar="DEFINITION", help="Not supported."
)
_share_option = option("-U", "--force-share", "share", is_flag=True, help="Open it even if others are writing to it.")
_image_opts_option = option(
    "--image-opts", is_flag=True, help="The image is an option string such as driver=qcow2,file.filename=a.img."
)
_policy_option = option(
    "--backing-policy",
    "policy",
    metavar="POLICY",
    default="beneath",
    show_default=True,
    help="Which files named inside an image may be opened: deny, beneath, beneath:DIRECTORY, allow, allow-protocols.",
)
output_option = option(
    "--output",
    type=Choice("human", "json"),
    default="human",
    show_default=True,
    help="How to print the result.",
)
quiet_option = option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")


def opening(function: F) -> F:
    """Add the options that say how images are opened."""
    for decorate in (_policy_option, object_option, _image_opts_option, _share_option):
        function = decorate(function)
    return function
