"""Everything blockkit raises on purpose, as one tree.

A message reads *where: what is wrong, the value, and what was expected*. Front ends never look at the
type: they send :attr:`BlockkitError.errno` to a client or a guest, and exit with
:attr:`BlockkitError.exit_code`.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


class BlockkitError(Exception):
    """Root of all deliberate errors.

    Attributes:
        errno: What an NBD client, a FUSE caller or a guest is told.
        exit_code: What the command line exits with.

    Example:
        >>> import blockkit
        >>> try:
        ...     blockkit.open_image("gone.qcow2")
        ... except BlockkitError as error:
        ...     print(error, error.errno == errno.ENOENT, error.exit_code, sep="; ")
        gone.qcow2: no such file or directory; True; 1
    """

    errno: int = errno.EIO
    exit_code: int = 1


# -- the caller asked for something that means nothing -------------------------------------------------


class UsageError(BlockkitError):
    """The request itself is wrong: an option, a name, a combination."""

    errno = errno.EINVAL
    exit_code = 2


class OptionError(UsageError):
    """An option's name or value means nothing."""


class UnknownDriverError(UsageError):
    """No format, protocol or filter has this name."""


class NameSyntaxError(UsageError):
    """An image name cannot be read."""


# -- the image is at fault -----------------------------------------------------------------------------


class ImageError(BlockkitError):
    """Something is wrong with an image, at a known place.

    Args:
        problem: What is wrong, with the value and what was expected.
        where: The structure, named as in the specification.
        offset: Where the structure lies, in bytes of the file that holds it.

    Attributes:
        image: The name of the image, filled in by the layer that knows it; in a backing chain there are several.
    """

    exit_code = 3

    def __init__(self, problem: str, *, where: str = "", offset: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.where, self.offset = problem, where, offset
        self.image = ""

    def in_image(self, name: str) -> Self:
        """Say which image it is, unless that is known; returns itself."""
        self.image = self.image or name
        return self

    def __str__(self) -> str:
        place = self.where + (f" at {self.offset:#x}" if self.offset is not None else "")
        return ": ".join(part for part in (self.image, place, self.problem) if part)


class FormatError(ImageError):
    """The bytes are not a valid image of this format."""


class CorruptImageError(ImageError):
    """The image was valid once; its metadata now contradicts itself."""


class UnsupportedFeatureError(ImageError):
    """A valid image that needs something this version does not implement."""

    errno = errno.EOPNOTSUPP


class PolicyError(ImageError):
    """An image names a file that the policy does not let it open."""

    errno = errno.EACCES


# -- an operation on a node failed ---------------------------------------------------------------------


class NodeError(BlockkitError):
    """An operation on an open node failed."""


class OutOfRangeError(NodeError):
    """A request reaches outside the node."""

    errno = errno.EINVAL


class ReadOnlyError(NodeError):
    """A write reached a node that is open read-only."""

    errno = errno.EROFS


class NoSpaceError(NodeError):
    """The storage below is full, or cannot grow."""

    errno = errno.ENOSPC


class LockedError(NodeError):
    """Another process holds the image."""

    errno = errno.EAGAIN


class ClosedError(NodeError):
    """The node has been closed."""

    errno = errno.EBADF


class UnsupportedOperationError(NodeError):
    """This node cannot do that, or not as fast as was asked."""

    errno = errno.EOPNOTSUPP


class NodeIOError(NodeError):
    """The operating system refused; :attr:`errno` is its number."""

    def __init__(self, problem: str, number: int = errno.EIO) -> None:
        super().__init__(problem)
        self.errno = number


# -- a peer is at fault --------------------------------------------------------------------------------


class ProtocolError(BlockkitError):
    """A conversation with a server or client broke down."""


class LocalProtocolError(ProtocolError):
    """Our side asked for something the protocol does not allow now."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol does not allow."""


class EmulationError(BlockkitError):
    """The machine cannot be built or run as configured."""

    exit_code = 4


class GuestTimeoutError(EmulationError):
    """What was waited for did not come in time."""


class GuestEndedError(EmulationError):
    """What was waited for can no longer come: the machine does not run any more."""


def from_os_error(error: OSError, where: str) -> NodeError:
    """Translate ``error`` from the operating system into the tree above."""
    number = error.errno or errno.EIO
    text = f"{where}: {os.strerror(number).lower()}"
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoSpaceError(text)
    if number == errno.EROFS:
        return ReadOnlyError(text)
    return NodeIOError(text, number)


@contextmanager
def translating(where: str) -> Iterator[None]:
    """Turn any OSError of the body into a :class:`NodeError` that says ``where``."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, where) from error
