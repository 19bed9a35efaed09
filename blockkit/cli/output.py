"""Printing JSON the way qemu-img does."""

from __future__ import annotations

import re
import sys
from typing import Final

#: A line that ends in an empty list or object.
_EMPTY: Final = re.compile(r"^( *)(.*)(\[\]|\{\})(,?)$", re.MULTILINE)


def valid(text: str) -> str:
    """Return ``text`` with U+FFFD for the bytes of file names that are no UTF-8: JSON has no others."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line on standard output, or on standard error, at once."""
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


def print_json(value: object) -> None:
    """Print ``value`` with four spaces of indentation; what is empty takes two lines, as in qemu-img."""
    import json

    text = valid(json.dumps(value, indent=4, ensure_ascii=False))
    echo(_EMPTY.sub(lambda m: f"{m[1]}{m[2]}{m[3][0]}\n{m[1]}{m[3][1]}{m[4]}", text))
