"""Nodes that stand in the way of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from blockkit.block.driver import FilterDriver

#: Every filter of this package: name -> where its driver is. Imported when first used.
FILTERS: Final[dict[str, str]] = {
    "copy_on_read": "blockkit.block.filters.copy_on_read:DRIVER",
    "faults": "blockkit.block.filters.faults:DRIVER",
    "readonly": "blockkit.block.filters.readonly:DRIVER",
    "throttle": "blockkit.block.filters.throttle:DRIVER",
    "trace": "blockkit.block.filters.trace:DRIVER",
    "window": "blockkit.block.filters.window:DRIVER",
}

#: Where other packages register filters.
ENTRY_POINTS: Final = "blockkit.filters"


def filter_driver(name: str) -> FilterDriver:
    """Return the driver of the filter called ``name``.

    Raises:
        UnknownDriverError: there is none.
    """
    from blockkit.block.registry import load_driver

    driver: FilterDriver = load_driver(FILTERS, ENTRY_POINTS, "filter", name)
    return driver
