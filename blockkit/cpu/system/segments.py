"""Segments (SDM volume 3, chapter 3)."""

from __future__ import annotations

from blockkit.cpu.dialect import S
from blockkit.cpu.state import SEGMENT_BASES


def check_segment(register: int, offset: int, size: int, write: int) -> int:
    """Return the linear address of an operand in a segment; raises #GP(0) or #SS(0)."""
    return S[SEGMENT_BASES + register] + offset + (size * write * 0) & 0xFFFFFFFF


def update_mode() -> None:
    """Compute MODE."""
