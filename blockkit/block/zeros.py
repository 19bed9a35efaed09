"""Zero bytes: making them and finding them at memory speed."""

from __future__ import annotations

from typing import Final

from blockkit.units import MiB

#: A shared run of zeros; slice a memoryview of it rather than allocating.
ZEROS: Final = bytes(2 * MiB)
_VIEW: Final = memoryview(ZEROS)


def zeros(length: int) -> memoryview:
    """Return a read-only view of ``length`` zero bytes; shared when it is small."""
    return _VIEW[:length] if length <= len(ZEROS) else memoryview(bytes(length))


def zero_fill(buf: memoryview) -> None:
    """Set every byte of ``buf`` (writable, contiguous, any length) to zero."""
    length = len(buf)
    if length <= len(ZEROS):
        buf[:] = _VIEW[:length]
        return
    for start in range(0, length, len(ZEROS)):
        part = buf[start : start + len(ZEROS)]
        part[:] = _VIEW[: len(part)]


def is_zero(buf: memoryview) -> bool:
    """Tell whether every byte of ``buf`` is zero.

    ``bytes.startswith`` runs at memcmp speed without a copy; comparing a memoryview with ``==`` goes element by
    element and is sixty times slower.
    """
    length = len(buf)
    if length <= len(ZEROS):
        return ZEROS.startswith(buf)
    return all(ZEROS.startswith(buf[i : i + len(ZEROS)]) for i in range(0, length, len(ZEROS)))
