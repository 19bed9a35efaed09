"""What is random in a machine: drawn from its seed, so that a run can be repeated."""

from __future__ import annotations

import hashlib


class Randomness:
    """Numbers that follow from a seed.

    Args:
        seed: Any number. Whoever knows it knows all that is drawn: it is nothing to make keys of.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def draw(self, purpose: str, size: int) -> bytes:
        """Return ``size`` bytes, the same ones each time; for each purpose others."""
        return hashlib.shake_256(f"blockkit {purpose} {self._seed:x}".encode()).digest(size)

    def number(self, purpose: str) -> int:
        """Return a number of 64 bits, drawn likewise."""
        return int.from_bytes(self.draw(purpose, 8), "little")
