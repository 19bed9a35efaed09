"""Machines for tests: one whose devices are few, and can be saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blockkit.emul.config import MachineConfig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emul.rom import Rom


def config(path: Path, rom: Rom, **more: Any) -> MachineConfig:
    """Return the configuration of a machine that starts with a ROM."""
    defaults: dict[str, Any] = {"memory": 2 << 20, "accelerator": "python", "firmware": rom.write(path / "guest.rom")}
    return MachineConfig(**defaults | more)
