"""Programs of our own move sectors by every way there is, under every accelerator, from images of several kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

import blockkit
from blockkit.emul.config import DriveConfig
from blockkit.emul.session import Outcome
from blockkit.testing.memory import MemoryNode
from tests.cpu.kernel import needs_kvm
from tests.guests import modes
from tests.guests.disks import STACKS, VAST, Case, make
from tests.guests.drivers import DRIVERS
from tests.guests.exerciser import (
    ABSENT,
    CHANGED,
    COUNT,
    DIFFERENT,
    FAILED,
    SECTOR,
    WELL,
    Task,
    program,
    says,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ACCELERATORS: Final = ["python", "jit", pytest.param("kvm", marks=needs_kvm)]


def start(rom: bytes, directory: Path, accelerator: str, drives: Iterable[Any]) -> blockkit.Machine:
    """Return a machine that runs a ROM."""
    path = directory / "rom"
    path.write_bytes(rom)
    return blockkit.Machine(
        drives, firmware=str(path), memory="16M", accelerator=accelerator, timeout=60, reboot=False, vga="none"
    )


def run(name: str, bits: int, case: Case, directory: Path, accelerator: str) -> None:
    rom = modes.build(program(DRIVERS[name], case.task), bits)
    with start(rom, directory, accelerator, [case.drive]) as vm:
        assert vm.wait() is Outcome.EXIT
        assert vm.serial_text == says(case.sectors, case.contents[case.task.source - 1][SECTOR:-SECTOR])
        assert vm.exit_code == WELL << 1 | 1
        written = {each.offset // SECTOR for each in vm.requests if each.operation == "write"}
        assert written <= set(range(case.task.target, case.task.target + COUNT))
        assert [each.operation for each in vm.requests].count("flush") == 1
    case.check()


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("name", DRIVERS)
def test_a_program_moves_sectors(name: str, kind: str, accelerator: str, tmp_path: Path) -> None:
    run(name, DRIVERS[name].modes[0], make(tmp_path, name, kind), tmp_path, accelerator)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize(("name", "bits"), [(name, bits) for name in DRIVERS for bits in DRIVERS[name].modes[1:]])
def test_it_does_so_in_other_modes(name: str, bits: int, accelerator: str, tmp_path: Path) -> None:
    run(name, bits, make(tmp_path, name, "qcow2"), tmp_path, accelerator)


@pytest.mark.parametrize("name", [name for name, driver in DRIVERS.items() if driver.most is None])
def test_it_does_so_at_the_end_of_a_vast_disk(name: str, tmp_path: Path) -> None:
    run(name, 32, make(tmp_path, name, VAST), tmp_path, "jit")


@pytest.mark.parametrize("accelerator", ACCELERATORS[1:])
@pytest.mark.parametrize(("name", "again"), [("legacy", 260), ("modern", 260), ("dma", 10)])
def test_rings_go_round(name: str, again: int, accelerator: str, tmp_path: Path) -> None:
    # The legacy ring has 256 entries, the modern one 8.
    run(name, 32, make(tmp_path, name, "raw", again), tmp_path, accelerator)


# -- what goes wrong is told by the program's code --------------------------------------------------------------


class Liar(MemoryNode):
    """A disk whose sector has another content from some access on."""

    reads = writes = 1 << 30

    def _readv(self, offset: int, buffers: list[memoryview]) -> None:
        super()._readv(offset, buffers)
        self.reads -= 1
        if self.reads < 0:
            buffers[0][0] ^= 1

    def _writev(self, offset: int, buffers: list[memoryview], fua: bool) -> None:
        super()._writev(offset + (SECTOR if self.writes == 0 else 0), buffers, fua)
        self.writes -= 1


def leaves_with(name: str, node: Liar | None, task: Task, directory: Path) -> int:
    rom = modes.build(program(DRIVERS[name], task), DRIVERS[name].modes[0])
    drives = [] if node is None else [DriveConfig(node, interface=DRIVERS[name].interface)]
    with start(rom, directory, "jit", drives) as vm:
        assert vm.wait() is Outcome.EXIT
        return vm.exit_code >> 1


@pytest.mark.parametrize("name", DRIVERS)
def test_a_program_tells_what_is_wrong(name: str, tmp_path: Path) -> None:
    task = Task(source=5, target=90)
    assert leaves_with(name, None, task, tmp_path) == ABSENT
    for place in (Task(source=99, target=5), Task(source=5, target=99)):
        # There are 100 sectors: the second one is behind the end.
        assert leaves_with(name, Liar(bytes(100 * SECTOR)), place, tmp_path) == FAILED
    node = Liar(bytes(100 * SECTOR))
    node.writes = 0
    assert leaves_with(name, node, task, tmp_path) == DIFFERENT
    # How many times it is read: the source, the target, and the source again, at once or by sectors.
    counted = Liar(bytes(100 * SECTOR))
    assert leaves_with(name, counted, task, tmp_path) == WELL
    node = Liar(bytes(100 * SECTOR))
    node.reads = (1 << 30) - counted.reads - 1
    assert leaves_with(name, node, task, tmp_path) == CHANGED
