"""Power management of the PIIX4: ACPI's registers, the timer, and the way off (82371AB data sheet, 7.1 and 7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from blockkit.emul.pci.function import PciFunction
from blockkit.emul.registers import Register, RegisterBank

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.emul.clock import Clock, Timer
    from blockkit.emul.machine import Bus

#: Hertz of the timer, which has 24 bits.
_FREQUENCY: Final = 3_579_545
_TIMER_MASK: Final = 0xFFFFFF
_SECOND: Final = 1_000_000_000
#: PM1 status and enable: the timer's top bit changed, the power button.
TIMER_STATUS, POWER_BUTTON = 1 << 0, 1 << 8
_SCI_ENABLE, _SLEEP_ENABLE, _SLEEP_TYPE = 1 << 0, 1 << 13, 7 << 10
#: The sleep type of S5 in this machine's ACPI tables.
SLEEP_OFF: Final = 0
_PMBA, _PMREGMISC = 0x40, 0x80
_WINDOW: Final = 64
#: Where firmware puts the window, and what the tables say.
BASE: Final = 0x600
#: APM's command port: what switches ACPI on and off.
ACPI_ENABLE, ACPI_DISABLE = 0xF1, 0xF0


class PowerRegisters(RegisterBank):
    """The ports from PMBA on."""

    # fmt: off
    status  = Register(0x00, width=2, writable=0, clear_by_one=0xFFFF)   # PMSTS, 7.2.1
    enable  = Register(0x02, width=2, writable=0x0521)                   # PMEN, 7.2.2
    control = Register(0x04, width=2, writable=0x3C03)                   # PMCNTRL, 7.2.3
    timer   = Register(0x08, "r", width=4)                               # PMTMR, 7.2.4
    # fmt: on

    def __init__(self, clock: Clock, sci: Callable[[bool], None], off: Callable[[], None]) -> None:
        self._clock, self._sci, self._off = clock, sci, off
        self._alarm: Timer | None = None
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self.update()

    def _ticks(self) -> int:
        return self._clock.now() * _FREQUENCY // _SECOND

    @timer.on_read
    def _timer(self) -> int:
        return self._ticks() & _TIMER_MASK

    @status.on_write
    def _status(self, value: int) -> None:
        self.update()

    @enable.on_write
    def _enable(self, value: int) -> None:
        self.update()

    @control.on_write
    def _control(self, value: int) -> None:
        if value & _SLEEP_ENABLE:
            self.control = value & ~_SLEEP_ENABLE
            if (value & _SLEEP_TYPE) >> 10 == SLEEP_OFF:
                self._off()
        self.update()

    def press_power_button(self) -> None:
        """Tell the operating system that it should stop."""
        self.status |= POWER_BUTTON
        self.update()

    def set_acpi(self, on: bool) -> None:
        """Switch between ACPI and what was before it."""
        self.control = self.control & ~_SCI_ENABLE | (_SCI_ENABLE if on else 0)
        self.update()

    def update(self) -> None:
        """Drive SCI, and come back when the timer's top bit changes, if anybody wants to know."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.enable & TIMER_STATUS and not self.status & TIMER_STATUS:
            half = _TIMER_MASK + 1 >> 1
            after = (self._ticks() // half + 1) * half
            self._alarm = self._clock.call_at(-(-after * _SECOND // _FREQUENCY), self._rolled)
        self._sci(bool(self.control & _SCI_ENABLE and self.status & self.enable))

    def _rolled(self) -> None:
        self.status |= TIMER_STATUS
        self.update()


class PowerManagement(PciFunction):
    """Function 3 of the PIIX4.

    Args:
        bus: Where its ports are.
        clock: The time.
        sci: Drives the interrupt of ACPI.
        off: Switches the machine off.
    """

    def __init__(self, bus: Bus, clock: Clock, sci: Callable[[bool], None], off: Callable[[], None]) -> None:
        super().__init__(vendor=0x8086, device=0x7113, class_code=0x068000, revision=3, pin=1)
        self.declare(_PMBA, 4, 1, writable=0xFFC0)
        self.declare(_PMREGMISC, 1, 0, writable=1)
        self._bus, self._base = bus, 0
        self.registers = PowerRegisters(clock, sci, off)
        self.apm = ApmPorts(self.registers)

    def config_written(self, offset: int, size: int) -> None:
        self._place()

    def reset(self) -> None:
        super().reset()
        self.registers.reset()
        self.apm.reset()
        self._place()

    def _place(self) -> None:
        base = self.number(_PMBA, 2) & 0xFFC0 if self.config[_PMREGMISC] & 1 else 0
        if base == self._base:
            return
        if self._base:
            self._bus.ports.unmap(self._base)
            self._base = 0
        if base and self._bus.ports.is_free(base, _WINDOW):
            self._bus.ports.map(base, _WINDOW, self.registers)
            self._base = base

    def enable_at(self, base: int) -> None:
        """Do what firmware does: put the ports where the tables say they are."""
        self.config[_PMBA : _PMBA + 2] = (base | 1).to_bytes(2, "little")
        self.config[_PMREGMISC] |= 1
        self._place()

    def save(self) -> dict[str, Any]:
        """Return configuration space and registers."""
        return super().save() | {"values": dict(self.registers.values), "apm": dict(self.apm.values)}

    def load(self, saved: dict[str, Any]) -> None:
        """Take them back."""
        super().load(saved)
        self._place()
        self.registers.values.update(saved["values"])
        self.apm.values.update(saved["apm"])
        self.registers.update()


class ApmPorts(RegisterBank):
    """Ports B2h and B3h (7.1.1): a command that firmware would see, and a status for nobody in particular."""

    # fmt: off
    command = Register(0)
    status  = Register(1)
    # fmt: on

    def __init__(self, power: PowerRegisters) -> None:
        self._power = power
        super().__init__()

    @command.on_write
    def _command(self, value: int) -> None:
        # There is no SMM: what firmware's handler would do is done at once.
        if value in (ACPI_ENABLE, ACPI_DISABLE):
            self._power.set_acpi(value == ACPI_ENABLE)
        self.status = 0
