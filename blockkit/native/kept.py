"""Object files that are kept for the next time, where nobody else can have written them.

Each file begins with a digest of the rest: a power cut may leave a file whose name is right and whose contents are not,
and these contents are executed.
"""

from __future__ import annotations

import os
import stat
from importlib.util import source_hash

#: Bytes of the digest.
_DIGEST = 8
#: What the names of objects end with.
_END = ".o"
#: Seconds after which an object that was not written again goes; another version has taken its place.
_LONGEST = 30 * 86400


def cache_directory() -> str | None:
    """Return where objects are kept: below XDG_CACHE_HOME, or ~/.cache; None where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "blockkit") if os.path.isabs(base) else None


def kept_object(name: str) -> bytes | None:
    """Return an object that is kept and whole, if nobody else can have written it.

    Args:
        name: Of its file; one that ends with ``-`` is the beginning of the name.
    """
    directory = cache_directory()
    try:
        if directory is None or not _is_ours(os.stat(directory)):
            return None
        names = sorted(os.listdir(directory), reverse=True) if name.endswith("-") else [name]
        for each in names:
            if each.startswith(name) and each.endswith(_END):
                with open(os.path.join(directory, each), "rb") as file:
                    data = file.read() if _is_ours(os.fstat(file.fileno())) else b""
                if data[_DIGEST:] and source_hash(data[_DIGEST:]) == data[:_DIGEST]:
                    return data[_DIGEST:]
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
    if directory is None:
        return
    written = ""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if not _is_ours(os.stat(directory)):
            return
        for old in os.listdir(directory):
            path = os.path.join(directory, old)
            if old.startswith(f"{kind}-") and old.endswith(_END) and time.time() - os.stat(path).st_mtime > _LONGEST:
                os.unlink(path)
        with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
            written = file.name
            file.write(source_hash(data) + data)
        os.replace(written, os.path.join(directory, name))
    except OSError:
        if written:
            try:
                os.unlink(written)
            except OSError:
                pass
