"""What a person at a terminal gets, and programs do not: colours and aligned columns."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BOLD: Final = "1"
RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
CYAN: Final = "36"


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a person reads ``stream``."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:
        return False  # closed


def paint(text: str, code: str, stream: TextIO | None = None) -> str:
    """Return ``text`` in a colour if ``stream`` (standard output) is a terminal and NO_COLOR is not set or empty."""
    if os.environ.get("NO_COLOR") or not is_terminal(stream or sys.stdout):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> Iterable[str]:
    """Yield the lines of a table; all of it is kept to know the widths.

    Args:
        header: The titles.
        rows: Cells, as many as there are titles.
        right: Columns that are aligned to the right.
    """
    lines = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    yield paint(_line(header, widths, right), BOLD)
    for row in lines:
        yield _line(row, widths, right)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    return "  ".join(
        cell.rjust(width) if index in right else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()
