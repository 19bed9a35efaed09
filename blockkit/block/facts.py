"""What an image says about itself beyond its size: the same shape for every format.

Tuples, not dataclasses: making a dataclass takes over a millisecond, and every ``info`` makes these.
"""

from __future__ import annotations

from typing import NamedTuple


class SnapshotFacts(NamedTuple):
    """One internal snapshot.

    Attributes:
        id: Unique in the image.
        name: What people call it.
        vm_state_size: Bytes of VM state; 0 means none.
        date_sec: When it was taken, seconds since 1970.
        date_nsec: Nanoseconds of that second.
        vm_clock_nsec: How long the guest had run, nanoseconds.
        icount: Instructions the guest had executed; None where that is not stored.
    """

    id: str
    name: str
    vm_state_size: int
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    icount: int | None = None


class ImageFacts(NamedTuple):
    """What a format's metadata says; what only one format has is in :meth:`Node.describe`.

    Attributes:
        cluster_size: Bytes of its allocation unit; None where it has none.
        dirty: It was not closed properly.
        encrypted: Guest data is encrypted.
        backing_file: The name of the backing file as stored, or None.
        backing_format: The format of it as stored, or None.
        snapshots: Internal snapshots, in order.
    """

    cluster_size: int | None = None
    dirty: bool = False
    encrypted: bool = False
    backing_file: str | None = None
    backing_format: str | None = None
    snapshots: tuple[SnapshotFacts, ...] = ()
