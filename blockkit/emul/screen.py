"""The screen of a machine as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockkit.emul.pc import Pc


def screen_text(pc: Pc) -> str:
    """Return the lines of the screen, without the spaces at their ends; nothing without a screen."""
    return "" if pc.vga is None else "\n".join(line.rstrip() for line in pc.vga.text())
