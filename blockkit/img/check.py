"""Checking an image, and what the counters are called."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blockkit.block.facets import Checkable
from blockkit.block.report import CheckReport, Repair
from blockkit.errors import UnsupportedOperationError
from blockkit.img.info import format_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.block.node import Node


def check_image(node: Node, repair: Repair, mended: Callable[[CheckReport], None]) -> CheckReport:
    """Check the image whose top is ``node``; after a repair, check again what is there now.

    Args:
        node: Open for writing if anything is to be repaired.
        repair: What may be mended.
        mended: Called with the first report if anything was.

    Returns:
        What is wrong still, with what was mended.

    Raises:
        UnsupportedOperationError: images of this format cannot be checked.
    """
    image = format_of(node)
    if not isinstance(image, Checkable):
        raise UnsupportedOperationError(f"{node}: images of format {image.driver} have nothing to check")
    report = image.check(repair)
    if report.leaks_fixed or report.corruptions_fixed:
        mended(report)
        again = image.check(Repair.NONE)
        return replace(again, leaks_fixed=report.leaks_fixed, corruptions_fixed=report.corruptions_fixed)
    return report


def as_json(report: CheckReport, filename: str, driver: str) -> dict[str, object]:
    """Return ``report`` by qemu-img's names and in its order; counters that are 0 are left out as there."""
    told: dict[str, object] = {}
    for key in ("image_end_offset", "compressed_clusters", "total_clusters"):
        _tell(told, report, key)
    for key in ("corruptions", "corruptions_fixed"):
        _tell(told, report, key)
    told["check-errors"] = report.check_errors
    for key in ("leaks", "leaks_fixed", "allocated_clusters"):
        _tell(told, report, key)
    told["filename"], told["format"] = filename, driver
    _tell(told, report, "fragmented_clusters")
    return told


def _tell(told: dict[str, object], report: CheckReport, key: str) -> None:
    if value := getattr(report, key):
        told[key.replace("_", "-")] = value
