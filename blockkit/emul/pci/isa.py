"""The PIIX3's bridge to ISA: which interrupt lines PCI's pins drive, and resets (82371SB data sheet, 2.2 and 2.5)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.lines import SharedLine
from blockkit.emul.pci.function import PciFunction
from blockkit.emul.registers import Register, RegisterBank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blockkit.emul.lines import Line

#: PIRQRC[A:D]#: bit 7 for none, else the number of the line.
_ROUTES, _COUNT = 0x60, 4
_DISABLED: Final = 0x80
#: The lines that a pin may drive.
_ALLOWED: Final = frozenset((3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15))


class IsaBridge(PciFunction):
    """Function 0 of the PIIX3.

    Args:
        lines: The sixteen lines of the interrupt controllers, by number.
    """

    def __init__(self, lines: Sequence[Callable[[bool], None]]) -> None:
        super().__init__(vendor=0x8086, device=0x7000, class_code=0x060100)
        self._shared = [SharedLine(line) for line in lines]
        self._sources = [[shared.source() for _ in range(_COUNT)] for shared in self._shared]
        self._levels = [False] * _COUNT
        for pin in range(_COUNT):
            self.declare(_ROUTES + pin, 1, _DISABLED, writable=0x8F)
        # The bus-master bit is always set, and I/O and memory are always decoded.
        self.declare(0x04, 2, 0x0007)
        #: What PIRQA# to PIRQD# are to be connected to.
        self.pirqs: list[Callable[[bool], None]] = [partial(self._set, pin) for pin in range(_COUNT)]

    def line(self, number: int) -> Line:
        """Return a new source of a line, for a device that is not on PCI."""
        return self._shared[number].source()

    def route(self, pin: int) -> int | None:
        """Return the line that a pin drives; None for none."""
        value = self.config[_ROUTES + pin]
        return None if value & _DISABLED or value & 15 not in _ALLOWED else value & 15

    def _set(self, pin: int, level: bool) -> None:
        self._levels[pin] = level
        self._drive()

    def _drive(self) -> None:
        routes = [self.route(pin) for pin in range(_COUNT)]
        for number, sources in enumerate(self._sources):
            for pin, source in enumerate(sources):
                source.set(self._levels[pin] and routes[pin] == number)

    def config_written(self, offset: int, size: int) -> None:
        self._drive()

    def reset(self) -> None:
        super().reset()
        self._drive()

    def load(self, saved: dict[str, Any]) -> None:
        super().load(saved)
        self._drive()


class ResetControl(RegisterBank):
    """The reset control register at CF9h: bit 2 resets as it rises.

    Args:
        reset: Called when it does.
    """

    # fmt: off
    control = Register(0, writable=0x0E)     # 2.5.3.1
    # fmt: on

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset
        super().__init__()

    @control.on_write
    def _control(self, value: int) -> None:
        if value & 4:
            self.control = value & ~4
            self._reset()


class Port92(RegisterBank):
    """System control port A: bit 0 resets the processor as it rises, bit 1 is A20, which is open always.

    Args:
        reset: Called for a reset.
    """

    # fmt: off
    control = Register(0, reset=0x02, writable=0x03)
    # fmt: on

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset
        super().__init__()

    @control.on_write
    def _control(self, value: int) -> None:
        if value & 1:
            self.control = value & ~1
            self._reset()
