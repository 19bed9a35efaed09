"""The semantics as native code: each instruction a record, and a handler that all instructions of its form share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.accelerator import GuestBus
    from blockkit.cpu.jit.vcpu import JitVcpu
    from blockkit.native.elf import Loaded


def _say(text: str) -> None:
    import sys

    print(f"blockkit: {text}", file=sys.stderr)  # noqa: T201 - compiling takes long, and whoever waits wants to know


class JitAccelerator:
    """Runs on x86-64, at hundreds of millions of instructions a second.

    Args:
        say: Told what takes long; by default it goes to standard error.
    """

    name = "jit"

    def __init__(self, say: Callable[[str], None] = _say) -> None:
        self._say = say
        self._loaded: Loaded | None = None
        self._stencils = b""

    def create_vcpu(self, bus: GuestBus) -> JitVcpu:
        """Return a processor after RESET; raises EmulationError where it cannot be compiled."""
        from blockkit.cpu.jit.build import native_object
        from blockkit.cpu.jit.vcpu import JitVcpu
        from blockkit.native.elf import load_objects, split_objects

        if self._loaded is None:
            *handlers, self._stencils = split_objects(native_object(self._say))
            self._loaded = load_objects(handlers)
        return JitVcpu(bus, self._loaded, self._stencils)
