"""Object files that are kept for the next time, where nobody else can have written them."""

from __future__ import annotations

import os
import stat

#: Seconds after which an object that was not written again goes; another version has taken its place.
_LONGEST = 30 * 86400


def cache_directory() -> str:
    """Return where objects are kept: below XDG_CACHE_HOME, or ~/.cache."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "blockkit")


def kept_object(name: str) -> bytes | None:
    """Return an object that is kept, if nobody else can have written it.

    Args:
        name: Of its file; one that ends with ``-`` is the beginning of the name.
    """
    directory = cache_directory()
    try:
        if not _is_ours(os.stat(directory)):
            return None
        names = sorted(os.listdir(directory), reverse=True) if name.endswith("-") else [name]
        for each in names:
            if each.startswith(name):
                with open(os.path.join(directory, each), "rb") as file:
                    if _is_ours(os.fstat(file.fileno())):
                        return file.read()
    except OSError:
        pass
    return None


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def keep_object(kind: str, name: str, data: bytes) -> None:
    """Keep an object, if that is possible; old ones of its kind go.

    Args:
        kind: What the names of such objects begin with.
        name: Of its file.
        data: It.
    """
    import tempfile
    import time

    directory = cache_directory()
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for old in os.listdir(directory):
            path = os.path.join(directory, old)
            if old.startswith(f"{kind}-") and time.time() - os.stat(path).st_mtime > _LONGEST:
                os.unlink(path)
        with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
            file.write(data)
        os.replace(file.name, os.path.join(directory, name))
    except OSError:
        pass
