"""What is about to become a new image: what must not be overwritten, and what is left if making it fails."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from blockkit.block.opener import identities
from blockkit.errors import LockedError, UsageError
from blockkit.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Self

    from blockkit.block.node import Node
    from blockkit.block.policy import Identity


class Target:
    """The place of a new image; a context manager that removes it again unless the body ends well.

    What existed before is kept, whatever it is. If it is lost by then, a note on the exception tells.

    Args:
        name: A name, or the tree of a protocol.

    Attributes:
        path: The host file or device it is; empty if it is neither.
        existed: There was something before, which is never removed.
        overwritten: What was there is lost by now; set by whoever overwrites it.
    """

    def __init__(self, name: str | os.PathLike[str] | Mapping[str, Any]) -> None:
        tree = parse_name(name) if isinstance(name, str | os.PathLike) else name
        self.path = str(tree.get("filename", "")) if tree.get("driver", "file") in ("file", "host_device") else ""
        self.existed = bool(self.path) and os.path.lexists(self.path)
        self.overwritten = False

    def keep_apart(self, node: Node, role: str) -> None:
        """Refuse to overwrite a file that ``node`` stands on.

        Raises:
            UsageError: the target is that file, by whatever name.
        """
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return
        if (status.st_dev, status.st_ino) in files_of(node):
            raise UsageError(f"{self.path}: the target is the {role}, or an image it stands on, and would destroy it")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self.path:
            return
        if self.existed:
            if self.overwritten:
                error.add_note(f"{self.path} was overwritten and is unfinished")
            return
        try:
            # A file that somebody holds came into being meanwhile, and is theirs.
            if stat.S_ISREG(os.lstat(self.path).st_mode) and not isinstance(error, LockedError):
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError:
            if not os.path.lexists(self.path):
                return  # it never came into being, under no such name
            error.add_note(f"{self.path} is unfinished and could not be removed")


def files_of(node: Node, *, backing: bool = True) -> frozenset[Identity]:
    """Return what all host files of a graph are; without ``backing``, only those that hold its topmost image."""
    found: set[Identity] = set()
    left = [node]
    while left:
        one = left.pop()
        below = [child for role, child in one.children.items() if backing or role != "backing"]
        left += below
        if not below:
            found |= identities(one)
    return frozenset(found)
