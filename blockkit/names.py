"""Image names: a path, ``file:path``, a URI or ``json:{...}`` become an option tree."""

from __future__ import annotations

import os
import re
from typing import Final

from blockkit.errors import NameSyntaxError
from blockkit.options import Tree, parse_json
from blockkit.protocols import PROTOCOLS

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*):")

#: Protocols whose name alone, without a double slash, makes a name a URI. The others need ``://``.
_URI_PROTOCOLS: Final = frozenset({"nbd"})

_NBD_PORT: Final = 10809


def parse_name(name: str | os.PathLike[str]) -> Tree:
    """Return the option tree of the storage that ``name`` means; for ``json:`` the tree it spells out.

    A path object is always a path. A text with a colon is a path too unless a known protocol, or anything followed
    by ``//``, comes before the first colon; ``./a:b`` is always a path.

    Raises:
        NameSyntaxError: the name is empty, or cannot be read.
    """
    if not isinstance(name, str):
        return _file(os.fspath(name))
    if name.startswith("json:"):
        return parse_json(name[len("json:") :])
    scheme = uri_scheme(name)
    if scheme is None:
        return _file(name)
    if scheme in PROTOCOLS:
        return _file(name.partition(":")[2], scheme)
    if scheme.partition("+")[0] == "nbd":
        return _parse_nbd(name)
    return {"driver": scheme, "uri": name}


def uri_scheme(name: str) -> str | None:
    """Return what comes before the colon of a URI, in lower case; None for a path."""
    match = _SCHEME.match(name)
    if match is None:
        return None
    scheme = match[1].lower()
    if name.startswith("//", match.end()) or scheme in PROTOCOLS or scheme.partition("+")[0] in _URI_PROTOCOLS:
        return scheme
    return None


def implied_path(name: str) -> str | None:
    """Return the path that a name found inside an image means; None if it asks for more than a file.

    Stricter than :func:`parse_name`: every word before a colon is taken for a protocol, as QEMU takes it.
    """
    if name.startswith("file:"):
        return name[len("file:") :]
    first = name.partition("/")[0]
    return None if ":" in first else name


def _file(path: str, driver: str = "file") -> Tree:
    if not path:
        raise NameSyntaxError("an image name is empty, expected a path or a URI")
    if "\0" in path:
        raise NameSyntaxError(f"image name {path[:60]!r} has a zero byte in it")
    return {"driver": driver, "filename": path}


def _parse_nbd(uri: str) -> Tree:
    """Read ``nbd://host:port/export`` and ``nbd+unix:///export?socket=path``."""
    from urllib.parse import parse_qsl, unquote, urlsplit

    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError as error:
        raise NameSyntaxError(f"{uri[:60]!r}: {str(error).lower()}") from error
    transport = parts.scheme.lower().partition("+")[2]
    tree: Tree = {"driver": "nbd"}
    if transport == "unix":
        sockets = [value for key, value in query if key == "socket"]
        if not sockets or not sockets[0]:
            raise NameSyntaxError(f"{uri[:60]!r}: no socket, expected nbd+unix:///export?socket=path")
        tree["path"] = sockets[0]
    elif transport in ("", "tcp") and uri.lower().startswith(f"{parts.scheme}://"):
        if not host:
            raise NameSyntaxError(f"{uri[:60]!r}: no host, expected nbd://host:port/export")
        tree.update(host=host, port=port or _NBD_PORT)
    else:
        raise NameSyntaxError(f"{uri[:60]!r}: expected nbd://host:port/export or nbd+unix:///export?socket=path")
    tree["export"] = unquote(parts.path.removeprefix("/"))
    return tree
