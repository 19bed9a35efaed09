"""Drivers for the program of tests/guests/exerciser.py, which wait by looking.

Each has four routines, which may change all registers, and jump to ``absent`` or ``failed`` if something is wrong:
``setup`` leaves the number of sectors in LBA; ``read`` and ``write`` transfer COUNT sectors from LBA, to or from PLACE;
``flush`` makes what was written durable.
"""

from __future__ import annotations

from typing import Final

from tests.guests.drivers import ide, modern, virtio

DRIVERS: Final = {
    "pio28": ide.PIO_28,
    "pio48": ide.PIO_48,
    "dma": ide.DMA,
    "legacy": virtio.LEGACY,
    "modern": modern.MODERN,
    "window": modern.WINDOW,
}
