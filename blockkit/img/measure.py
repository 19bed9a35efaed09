"""How large an image will be, before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.errors import OptionError, UnsupportedOperationError
from blockkit.frozen import Frozen
from blockkit.units import SECTOR, align_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from blockkit.block.node import Node


class ImageSize(Frozen):
    """Sizes of an image file, bytes.

    Attributes:
        required: When it holds what the source holds now.
        fully_allocated: When every byte of the disk has been written.
        bitmaps: What copies of the source's bitmaps take; None where the target or the source cannot have any.
    """

    required: int
    fully_allocated: int
    bitmaps: int | None = None

    def as_json(self) -> dict[str, int]:
        """Return it by qemu-img's names and in its order."""
        told = {"bitmaps": self.bitmaps} if self.bitmaps is not None else {}
        return told | {"required": self.required, "fully-allocated": self.fully_allocated}


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
    from blockkit.formats import format_driver
    from blockkit.options import build

    if "size" in options:
        raise OptionError(f"the size is that of the source, and cannot be -o size={options['size']}")
    chosen = build(format_driver(driver).CreateOptions, options, driver)
    size = align_up(source if isinstance(source, int) else source.size, SECTOR)
    if driver == "raw":
        return ImageSize(size, size)
    if driver == "qcow2":
        return _measure_qcow2(chosen, size, source)
    raise UnsupportedOperationError(f"images of format {driver} cannot be measured")


def _measure_qcow2(options: object, size: int, source: Node | int) -> ImageSize:
    from blockkit.block.node import Preallocation
    from blockkit.formats.qcow2.create import CreateOptions, judge
    from blockkit.formats.qcow2.measure import allocated, measure

    assert isinstance(options, CreateOptions), "the driver makes its own options"
    judge(options, size)
    cluster_size = options.cluster_size
    stored = 0
    if not isinstance(source, int):
        # What a new image shares with its backing file is not known: assume nothing.
        whole = options.backing_file is not None
        stored = size if whole else allocated(_data(source), cluster_size)
    found = measure(
        size,
        cluster_size=cluster_size,
        refcount_bits=options.refcount_bits,
        extended_l2=options.extended_l2,
        preallocation=Preallocation(options.preallocation),
        allocated_bytes=stored,
    )
    bitmaps = None
    if not isinstance(source, int) and options.compat not in ("0.10", "v2"):
        bitmaps = _bitmaps(source, cluster_size)
    return ImageSize(found.required, found.fully_allocated, bitmaps)


def _data(source: Node) -> Iterator[tuple[int, int]]:
    """Yield the ranges that do not read as zeros as far as the metadata tells."""
    from blockkit.img.map import map_image

    return ((run.start, run.length) for run in map_image(source) if run.data and not run.zero)


def _bitmaps(source: Node, cluster_size: int) -> int | None:
    from blockkit.block.bases import FilterNode
    from blockkit.formats.qcow2.bitmaps import read_bitmaps
    from blockkit.formats.qcow2.measure import bitmaps_size
    from blockkit.formats.qcow2.node import Qcow2Node

    image = source
    while isinstance(image, FilterNode) and image.unmoved is not None:
        image = image.unmoved
    if not isinstance(image, Qcow2Node) or image.header.fixed.version < 3:
        return None
    return bitmaps_size(read_bitmaps(image.file, image.header), image.size, cluster_size)
