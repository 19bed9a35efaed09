"""Zero bytes: making them and finding them at memory speed."""

from __future__ import annotations

from typing import Final

from blockkit.units import KiB, MiB

#: A shared run of zeros; slice a memoryview of it rather than allocating.
ZEROS: Final = bytes(2 * MiB)
_VIEW: Final = memoryview(ZEROS)
#: Bytes compared with zeros at once: the zeros stay in the processor's first caches, and what is copied in the second.
_AT_ONCE: Final = 32 * KiB


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
    if length <= _AT_ONCE:
        return ZEROS.startswith(buf)
    return all(ZEROS.startswith(buf[i : i + _AT_ONCE]) for i in range(0, length, _AT_ONCE))


def zero_grains(buf: memoryview, grain: int) -> int:
    """Return how many grains of ``grain`` bytes (the last may be short) ``buf`` begins with that are all zero.

    Zeros come in long runs, or not at all: while they go on, twice as many grains are looked at together.
    """
    length = len(buf)
    at, step = 0, grain
    most = max(_AT_ONCE // grain, 1) * grain
    while at < length:
        if is_zero(buf[at : at + step]):
            at += step
            step = min(2 * step, most)
        elif step > grain:
            step = max(step // 2 // grain, 1) * grain
        else:
            break
    return -(-min(at, length) // grain)
