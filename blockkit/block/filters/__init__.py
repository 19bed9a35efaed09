"""Nodes that stand in the way of requests."""

from __future__ import annotations

from typing import Final

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
