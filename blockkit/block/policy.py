"""Which files an image may have opened by naming them: backing files and data files.

An image is data from a stranger, and the names in it are too: one that names ``/etc/shadow`` as its backing file shows
that file to whoever reads the disk. The names are resolved, checked and pinned here before anything is opened.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from blockkit.errors import OptionError, PolicyError, translating
from blockkit.frozen import Frozen
from blockkit.names import implied_path

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Device and inode: what a file is, whatever it is called.
Identity: TypeAlias = tuple[int, int]

#: How a refusal says what to do about it.
_REMEDY: Final = "--backing-policy allow (policy=ImplicitPolicy.allow()) permits it"
_REMEDY_PROTOCOLS: Final = (
    "--backing-policy allow-protocols (policy=ImplicitPolicy.allow(protocols=True)) permits it,"
    " and ./ in front makes it a path"
)


class Found(NamedTuple):
    """A file that the policy lets be opened.

    Attributes:
        path: What to open.
        identity: What must have been opened.
    """

    path: str
    identity: Identity


class ImplicitPolicy(Frozen):
    """Decides on the files that images name; made by :meth:`deny`, :meth:`beneath` and :meth:`allow`.

    Attributes:
        mode: What is asked of the place of a file.
        directory: Where it must lie for ``beneath``; empty means the directory of the image that was opened first.
        probing: Guess the format of a backing file when the image does not record it. A guest that writes a raw disk
            chooses what that guess finds.
        devices: Block devices may be opened.
        protocols: Names may be URIs and ``json:``, so that images choose hosts to connect to.

    Example:
        >>> import blockkit
        >>> blockkit.create_image("a.qcow2", "qcow2", 512, backing_file="/etc/passwd", backing_format="raw")
        >>> blockkit.open_image("a.qcow2", policy=ImplicitPolicy.deny())
        Traceback (most recent call last):
        blockkit.errors.PolicyError: a.qcow2: backing file: '/etc/passwd' is not opened, ...
        >>> blockkit.open_image("a.qcow2", policy=ImplicitPolicy.allow()).close()
    """

    mode: Literal["deny", "beneath", "allow"] = "beneath"
    directory: str = ""
    probing: bool = False
    devices: bool = False
    protocols: bool = False

    @classmethod
    def deny(cls) -> ImplicitPolicy:
        """Open no file because an image names it."""
        return cls("deny")

    @classmethod
    def beneath(cls, directory: str | os.PathLike[str] = "", *, probing: bool = False) -> ImplicitPolicy:
        """Open regular files beneath ``directory``, after following every symbolic link.

        Args:
            directory: Empty means where the image lies.
            probing: Guess formats that are not recorded.
        """
        return cls("beneath", os.fspath(directory), probing=probing)

    @classmethod
    def allow(cls, *, protocols: bool = False, probing: bool = True, devices: bool = True) -> ImplicitPolicy:
        """Open regular files and block devices anywhere: for images whose origin is trusted."""
        return cls("allow", probing=probing, devices=devices, protocols=protocols)

    @classmethod
    def parse(cls, text: str) -> ImplicitPolicy:
        """Read ``deny``, ``beneath``, ``beneath:DIRECTORY``, ``allow`` or ``allow-protocols``."""
        word, colon, directory = text.partition(":")
        if word == "beneath" and bool(colon) == bool(directory):
            return cls.beneath(directory)
        if text == "deny":
            return cls.deny()
        if text in ("allow", "allow-protocols"):
            return cls.allow(protocols=text != "allow")
        raise OptionError(
            f"backing policy {text!r} is not one of deny, beneath, beneath:DIRECTORY, allow, allow-protocols"
        )

    def rooted(self, image: str) -> ImplicitPolicy:
        """Return this policy with an empty directory replaced by that of the file ``image``."""
        if self.mode != "beneath" or self.directory:
            return self
        return replace(self, directory=os.path.dirname(os.path.abspath(image)))

    @contextmanager
    def find(self, name: str, *, image: str, role: str) -> Iterator[Found]:
        """Resolve a plain file name that an image records, and pin the file while the body opens it.

        The body opens ``path`` and compares what it got with ``identity``: a file that is exchanged in between is
        noticed, and as the file found here is held open, its inode number cannot be given to another.

        Args:
            name: As recorded.
            image: The file name of the image that names it; relative names start in its directory.
            role: What the file is to the image.

        Raises:
            PolicyError: this policy does not let the file be opened.
            NodeIOError: the file cannot be found.
        """
        where = f"{image}: {role}"
        if self.mode == "deny":
            raise PolicyError(f"{name!r} is not opened, as no file an image names is; {_REMEDY}", where=where)
        path = implied_path(name)
        if path is None:
            raise PolicyError(f"{name!r} names a protocol, not a file; {_REMEDY_PROTOCOLS}", where=where)
        if not path or "\0" in path:
            raise PolicyError(f"{name!r} is not a file name", where=where)
        path = os.path.join(os.path.dirname(image), path)
        with translating(f"{where} {path!r}"):
            fd = self._pin_beneath(path, name, where) if self.mode == "beneath" else os.open(path, _PIN)
        try:
            status = os.fstat(fd)
            self._check_kind(status.st_mode, name, where)
            yield Found(path, (status.st_dev, status.st_ino))
        finally:
            os.close(fd)

    def _pin_beneath(self, path: str, name: str, where: str) -> int:
        """Open ``path`` for its identity only, if it lies beneath the directory; the caller closes it."""
        root = os.path.realpath(self.directory or ".")
        real = os.path.realpath(path)
        if os.path.commonpath((root, real)) != root:
            raise PolicyError(f"{name!r} leads out of {root!r} to {real!r}; {_REMEDY}", where=where)
        fd = os.open(root, _PIN | os.O_DIRECTORY)
        # All links are resolved: one that turns up now was put there to lead elsewhere, and is not followed.
        for part in os.path.relpath(real, root).split(os.sep):
            try:
                inner = os.open(part, _PIN | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _check_kind(self, mode: int, name: str, where: str) -> None:
        if stat.S_ISREG(mode) or (stat.S_ISBLK(mode) and self.devices):
            return
        if stat.S_ISBLK(mode):
            raise PolicyError(f"{name!r} is a block device; {_REMEDY}", where=where)
        kinds = {stat.S_IFDIR: "directory", stat.S_IFCHR: "character device", stat.S_IFIFO: "pipe"}
        kind = kinds.get(stat.S_IFMT(mode), "special file")
        raise PolicyError(f"{name!r} is a {kind}, expected a regular file", where=where)


#: Opens a name without opening the file: no pipe waits, no device wakes, no permission is needed.
_PIN: Final = os.O_PATH | os.O_CLOEXEC
