"""Image formats; each is given the node that holds the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from blockkit.block.driver import FormatDriver

#: Every format of this package: name -> where its driver is. Imported when first used.
FORMATS: Final[dict[str, str]] = {
    "qcow2": "blockkit.formats.qcow2.driver:DRIVER",
    "raw": "blockkit.formats.raw:DRIVER",
}

#: Where other packages register formats.
ENTRY_POINTS: Final = "blockkit.formats"


def format_driver(name: str) -> FormatDriver:
    """Return the driver of the format called ``name``.

    Raises:
        UnknownDriverError: there is none.
    """
    from blockkit.block.registry import load_driver

    driver: FormatDriver = load_driver(FORMATS, ENTRY_POINTS, "format", name)
    return driver
