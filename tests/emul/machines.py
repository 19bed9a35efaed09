"""Machines for tests: a disk controller of three registers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blockkit.emul import build
from blockkit.emul.disk import Disk, Operation
from blockkit.emul.registers import Register, RegisterBank

if TYPE_CHECKING:
    import pytest

    from blockkit.emul.machine import Machine

CONTROLLER = 0x600
_OPERATIONS = {1: Operation.READ, 2: Operation.WRITE, 3: Operation.FLUSH, 4: Operation.DISCARD}
#: Where in RAM sectors come from and go to.
BUFFER = 0x6000


class Controller(RegisterBank):
    """Moves a sector between the disk and RAM at 6000h when its command register is written."""

    sector = Register(0)
    command = Register(1, "w")
    status = Register(1, "r")

    name = "toy"

    def __init__(self, machine: Machine, ram: memoryview, disk: Disk) -> None:
        super().__init__()
        self._machine, self._ram, self._disk = machine, ram, disk

    @command.on_write
    def _command(self, value: int) -> None:
        operation = _OPERATIONS.get(value)
        if operation is None:
            return
        self.status = 1
        length = 0 if operation is Operation.FLUSH else 512
        buffer = self._ram[BUFFER : BUFFER + length]
        self._disk.submit(operation, self.sector * 512, length, [buffer], self._done)

    def _done(self, well: bool) -> None:
        self.status = 0 if well else 2

    def save(self) -> dict[str, Any]:
        return dict(self.values)

    def load(self, saved: dict[str, Any]) -> None:
        self.values = {name: int(saved[name]) for name in self.values}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every machine a controller for its first disk, and devices that can be saved."""

    def attach(built: build.Built) -> None:
        pc = built.pc
        if built.drives:
            controller = Controller(pc, pc.ram, built.drives[0].disk)
            pc.bus.ports.map(CONTROLLER, 2, controller)
            devices = {"toy": controller, **pc.devices()}
            monkeypatch.setattr(pc, "devices", lambda: devices, raising=False)

    monkeypatch.setattr(build.Built, "_attach", attach)
