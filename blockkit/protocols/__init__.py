"""Where bytes leave the graph: host files, block devices, connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from blockkit.block.driver import ProtocolDriver

#: Every protocol of this package: name -> where its driver is. Imported when first used.
PROTOCOLS: Final[dict[str, str]] = {
    "file": "blockkit.protocols.host:FILE",
    "host_device": "blockkit.protocols.host:DEVICE",
}

#: Where other packages register protocols.
ENTRY_POINTS: Final = "blockkit.protocols"


def protocol_driver(name: str) -> ProtocolDriver:
    """Return the driver of the protocol called ``name``.

    Raises:
        UnknownDriverError: there is none.
    """
    from blockkit.block.registry import load_driver

    driver: ProtocolDriver = load_driver(PROTOCOLS, ENTRY_POINTS, "protocol", name)
    return driver
