"""How large an image will be, before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.errors import OptionError, UnsupportedOperationError
from blockkit.units import SECTOR, align_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blockkit.block.facets import HasBitmaps
    from blockkit.block.node import Node
    from blockkit.block.sizes import ImageSize


def measure(driver: str, options: Mapping[str, str], source: Node | int) -> ImageSize:
    """Tell how large an image of format ``driver`` will be.

    Args:
        driver: The format.
        options: Its creation options, as text.
        source: What will be copied, or the size of an empty disk in bytes.

    Raises:
        UsageError: an option means nothing.
        UnsupportedOperationError: images of this format cannot be measured.
    """
    from blockkit.block.driver import Measures
    from blockkit.formats import format_driver
    from blockkit.options import build

    if "size" in options:
        raise OptionError(f"the size is that of the source, and cannot be -o size={options['size']}")
    target = format_driver(driver)
    chosen = build(target.CreateOptions, options, driver)
    if not isinstance(target, Measures):
        raise UnsupportedOperationError(f"images of format {driver} cannot be measured")
    if isinstance(source, int):
        return target.measure(align_up(source, SECTOR), chosen, data=None, bitmaps=None)
    size = align_up(source.size, SECTOR)
    return target.measure(size, chosen, data=_data(source), bitmaps=_keeper_of_bitmaps(source))


def _data(source: Node) -> Iterator[tuple[int, int]]:
    """Yield the ranges that do not read as zeros as far as the metadata tells."""
    from blockkit.img.map import map_image

    return ((run.start, run.length) for run in map_image(source) if run.data and not run.zero)


def _keeper_of_bitmaps(source: Node) -> HasBitmaps | None:
    """Return the image whose bitmaps are about the disk ``source``; None below what moves its bytes."""
    from blockkit.block.bases import FilterNode
    from blockkit.block.facets import HasBitmaps

    image = source
    while isinstance(image, FilterNode) and image.unmoved is not None:
        image = image.unmoved
    return image if isinstance(image, HasBitmaps) else None


def as_json(size: ImageSize) -> dict[str, int]:
    """Return ``size`` by qemu-img's names and in its order."""
    told = {"bitmaps": size.bitmaps} if size.bitmaps is not None else {}
    return told | {"required": size.required, "fully-allocated": size.fully_allocated}
