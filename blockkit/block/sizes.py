"""How large a new image will be, and what has to be known of its source to tell."""

from __future__ import annotations

from typing import NamedTuple


class ImageSize(NamedTuple):
    """Sizes of an image file, bytes.

    Attributes:
        required: When it holds what the source holds now.
        fully_allocated: When every byte of the disk has been written.
        bitmaps: What copies of the source's bitmaps take; None where the target or the source cannot have any.
    """

    required: int
    fully_allocated: int
    bitmaps: int | None = None


class BitmapFacts(NamedTuple):
    """One bitmap that an image keeps.

    Attributes:
        name: Unique in the image.
        granularity: Bytes of the disk that one bit stands for; a power of two.
    """

    name: str
    granularity: int
