"""The S-box of AES (FIPS 197, 5.1.1 and 5.3.2), made from what defines it."""

from __future__ import annotations

from typing import Final

_POLYNOMIAL: Final = 0x11B


def _times(a: int, b: int) -> int:
    """Multiply in the field of 256 elements."""
    total = 0
    while b:
        total ^= a if b & 1 else 0
        a = a << 1 ^ (_POLYNOMIAL if a & 0x80 else 0)
        b >>= 1
    return total


def _forward() -> tuple[int, ...]:
    """Return the inverse of each number after an affine transformation of its bits."""
    # 3 generates the field: powers of it and of its inverse, F6h, go through all numbers but zero.
    inverses, power, inverse = {0: 0}, 1, 1
    for _ in range(255):
        inverses[power] = inverse
        power, inverse = _times(power, 3), _times(inverse, 0xF6)
    found = []
    for number in range(256):
        inverse = inverses[number]
        value = inverse ^ inverse << 1 ^ inverse << 2 ^ inverse << 3 ^ inverse << 4
        found.append((value ^ value >> 8) & 0xFF ^ 0x63)
    return tuple(found)


FORWARD: Final = _forward()
BACKWARD: Final = tuple(FORWARD.index(number) for number in range(256))
