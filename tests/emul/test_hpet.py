"""The high precision event timers, by the numbers and procedures of the IA-PC HPET specification 1.0a."""

from __future__ import annotations

import json
import re
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import blockkit
from blockkit.emul.acpi import tables
from blockkit.emul.hpet import PINS, Hpet
from blockkit.emul.lines import Line
from blockkit.errors import FormatError
from tests.conftest import run_program
from tests.emul.rom import Rom, sleeper
from tests.emul.test_chips import Time
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path

CAPABILITY, CONTROL, STATUS, COUNTER = 0x000, 0x010, 0x020, 0x0F0
ENABLE, LEGACY = 1, 2
LEVEL, INTERRUPT, PERIODIC, SET_VALUE, AS_32 = 1 << 1, 1 << 2, 1 << 3, 1 << 6, 1 << 8
TICK = 10


class Block:
    """Timers, and what their lines did: 0 and 8 are those of the old chips."""

    def __init__(self, time: Time | None = None) -> None:
        self.time = time or Time()
        self.levels = dict.fromkeys((0, 8, *PINS), False)
        self.edges = dict.fromkeys(self.levels, 0)
        legacy = [Line(lambda level, number=number: self.drive(number, level)) for number in (0, 8)]  # type: ignore[misc]
        pins = {pin: lambda level, pin=pin: self.drive(pin, level) for pin in PINS}
        self.hpet = Hpet(self.time.clock, legacy, pins)  # type: ignore[arg-type]

    def drive(self, number: int, level: bool) -> None:
        self.levels[number] = level
        self.edges[number] += level

    def read(self, offset: int, size: int = 8) -> int:
        number, rest = divmod(offset - 0x100, 0x20)
        device = self.hpet if number < 0 else self.hpet.timers[number]
        return device.read(offset if number < 0 else rest, size)

    def write(self, offset: int, value: int, size: int = 8) -> None:
        number, rest = divmod(offset - 0x100, 0x20)
        device = self.hpet if number < 0 else self.hpet.timers[number]
        device.write(offset if number < 0 else rest, size, value)

    def wait(self, counts: int) -> None:
        self.time.pass_to(self.time.at + counts * TICK)

    def start(self, number: int, value: int, flags: int = INTERRUPT, pin: int = 20) -> None:
        self.write(0x100 + number * 0x20, flags | pin << 9)
        self.write(0x108 + number * 0x20, value)


@pytest.fixture
def block() -> Block:
    return Block()


def test_it_says_what_it_can(block: Block) -> None:
    # 2.3.4: no slower than 10 MHz, a revision that is not zero, three timers, legacy replacement, 64 bits.
    value = block.read(CAPABILITY)
    assert value >> 32 <= 0x05F5E100
    assert value >> 32 == TICK * 10**6
    assert (value >> 16 & 0xFFFF, value >> 15 & 1, value >> 13 & 1, value >> 8 & 31, value & 0xFF) == (
        0x8086,
        1,
        1,
        2,
        1,
    )
    for number in range(3):
        # 2.3.8: periodic, 64 bits, no messages; the inputs that it may drive.
        control = block.read(0x100 + number * 0x20)
        assert control >> 32 == sum(1 << pin for pin in PINS)
        assert control & 0xFFFFFFFF == 1 << 4 | 1 << 5
        assert block.read(0x108 + number * 0x20) == (1 << 64) - 1


def test_the_counter_counts_while_it_is_enabled(block: Block) -> None:
    block.wait(100)
    assert block.read(COUNTER) == 0
    block.write(COUNTER, 0xFFFFFFFE)
    block.write(CONTROL, ENABLE)
    block.wait(3)
    assert block.read(COUNTER) == 0x100000001
    assert (block.read(COUNTER, 4), block.read(COUNTER + 4, 4)) == (1, 1)
    block.write(CONTROL, 0)
    block.wait(50)
    assert block.read(COUNTER) == 0x100000001
    block.write(CONTROL, ENABLE)
    block.wait(1)
    assert block.read(COUNTER) == 0x100000002
    block.write(CONTROL, 0)
    block.write(COUNTER, (1 << 64) - 1)
    block.write(CONTROL, ENABLE)
    block.wait(2)
    assert block.read(COUNTER) == 1


def test_one_shot(block: Block) -> None:
    # 2.3.9.2.1
    block.start(0, 100)
    block.wait(1000)
    assert block.edges[20] == 0, "nothing happens while the counter stands still"
    block.write(CONTROL, ENABLE)
    block.wait(99)
    assert block.edges[20] == 0
    block.wait(1)
    assert block.edges[20] == 1
    block.wait(1 << 33)
    assert block.edges[20] == 1
    assert block.read(0x108) == 100
    assert block.time.clock.deadline() is None, "a machine that waits for it would wait for ever"
    block.write(0x108, block.read(COUNTER) + 5)
    block.wait(5)
    assert block.edges[20] == 2


def test_one_shot_of_32_bits_comes_again_when_the_counter_wraps(block: Block) -> None:
    block.start(0, 100, INTERRUPT | AS_32)
    block.write(CONTROL, ENABLE)
    block.wait(100)
    assert block.edges[20] == 1
    block.wait((1 << 32) - 1)
    assert block.edges[20] == 1
    block.wait(1)
    assert block.edges[20] == 2


def test_periodic_by_the_procedure_of_the_specification(block: Block) -> None:
    # 2.3.9.2.2, as for a counter of 64 bits and accesses of 32.
    block.write(CONTROL, 0)
    block.write(COUNTER, 0)
    for at, value in ((0x108, 1000), (0x10C, 0)):
        block.write(0x100, PERIODIC | INTERRUPT | SET_VALUE | 20 << 9, 4)
        block.write(at, value, 4)
    assert not block.read(0x100) & SET_VALUE
    block.write(CONTROL, ENABLE)
    for number in range(1, 5):
        block.wait(999)
        assert block.edges[20] == number - 1
        assert block.read(0x108) == number * 1000
        block.wait(1)
        assert block.edges[20] == number
        assert block.read(0x108) == (number + 1) * 1000


def test_the_first_time_may_be_another_than_the_period(block: Block) -> None:
    # The value that sets the comparator, and one more that sets the period only.
    block.start(0, 500, PERIODIC | INTERRUPT | SET_VALUE)
    block.write(0x108, 2000)
    block.write(CONTROL, ENABLE)
    block.wait(500)
    assert block.edges[20] == 1
    block.wait(1999)
    assert block.edges[20] == 1
    block.wait(1)
    assert block.edges[20] == 2
    assert block.read(0x108) == 4500


def test_a_periodic_timer_that_nobody_hears_goes_on(block: Block) -> None:
    block.start(0, 1000, PERIODIC | SET_VALUE)
    block.write(CONTROL, ENABLE)
    assert block.time.clock.deadline() is None
    block.wait(12_345)
    assert block.read(0x108) == 13_000
    block.write(0x100, PERIODIC | INTERRUPT | 20 << 9)
    assert block.edges[20] == 0
    block.wait(655)
    assert block.edges[20] == 1


def test_what_nobody_waited_for_does_not_come_later(block: Block) -> None:
    block.start(0, 10, 0)
    block.write(CONTROL, ENABLE)
    block.wait(20)
    block.write(CONTROL, 0)
    block.write(0x100, INTERRUPT | 20 << 9)
    block.write(CONTROL, ENABLE)
    block.wait(1000)
    assert block.edges[20] == 0


def test_a_comparator_may_become_narrow(block: Block) -> None:
    block.write(COUNTER, 1 << 32)
    block.write(CONTROL, ENABLE)
    block.start(0, (5 << 32) + 100)
    block.write(0x100, INTERRUPT | AS_32 | 20 << 9)
    assert block.read(0x108) == 100
    block.wait(100)
    assert block.edges[20] == 1


def test_a_period_of_nothing_is_none(block: Block) -> None:
    block.start(0, 0, PERIODIC | INTERRUPT | SET_VALUE | AS_32)
    block.write(CONTROL, ENABLE)
    block.wait(1000)
    assert block.edges[20] == 1


def test_level_triggered_until_software_has_seen_it(block: Block) -> None:
    # 2.3.6
    block.start(1, 100, LEVEL | INTERRUPT, pin=21)
    block.write(CONTROL, ENABLE)
    block.wait(100)
    assert block.levels[21]
    assert block.read(STATUS) == 1 << 1
    block.write(STATUS, 1 << 0)
    assert block.levels[21]
    block.write(STATUS, 1 << 1)
    assert not block.levels[21]
    assert block.read(STATUS) == 0


def test_level_triggered_but_not_enabled_is_seen_in_the_status_only(block: Block) -> None:
    block.start(1, 100, LEVEL)
    block.write(CONTROL, ENABLE)
    block.wait(100)
    assert block.read(STATUS) == 1 << 1
    assert not any(block.edges.values())
    block.write(0x120, LEVEL | INTERRUPT | 20 << 9)
    assert block.levels[20]
    block.write(0x120, INTERRUPT | 20 << 9)
    assert block.read(STATUS) == 0


def test_an_edge_leaves_no_status(block: Block) -> None:
    block.start(2, 10)
    block.write(CONTROL, ENABLE)
    block.wait(10)
    assert block.edges[20] == 1
    assert block.read(STATUS) == 0


def test_two_timers_share_an_input(block: Block) -> None:
    for number in (0, 1):
        block.start(number, 10, LEVEL | INTERRUPT)
    block.write(CONTROL, ENABLE)
    block.wait(10)
    block.write(STATUS, 1)
    assert block.levels[20]
    block.write(STATUS, 2)
    assert not block.levels[20]


def test_a_route_that_is_not_possible_is_not_taken(block: Block) -> None:
    block.write(0x100, INTERRUPT | 22 << 9)
    block.write(0x100, INTERRUPT | 3 << 9)
    assert block.read(0x100) >> 9 & 31 == 22


def test_it_takes_the_place_of_the_old_timers(block: Block) -> None:
    # 2.4.1: timer 0 at line 0, timer 1 at line 8, whatever their routes; the 8254 and the clock have no line.
    pit, clock = block.hpet.displaced
    pit.set(True)
    assert block.levels[0]
    block.write(CONTROL, ENABLE | LEGACY)
    assert not block.levels[0]
    clock.set(True)
    assert not block.levels[8]
    for number in range(3):
        block.start(number, 100 * (number + 1), pin=23)
    edges = dict(block.edges)
    for line in (0, 8, 23):
        block.wait(100)
        edges[line] += 1
        assert block.edges == edges
    block.write(CONTROL, ENABLE)
    assert (block.levels[0], block.levels[8]) == (True, True)
    pit.set(False)
    assert not block.levels[0]


def test_what_is_disabled_drives_nothing(block: Block) -> None:
    block.start(0, 10, LEVEL | INTERRUPT)
    block.write(CONTROL, ENABLE)
    block.wait(10)
    assert block.levels[20]
    block.write(CONTROL, 0)
    assert not block.levels[20]
    block.write(CONTROL, ENABLE)
    assert block.levels[20]
    block.hpet.reset()
    assert not block.levels[20]
    assert block.read(COUNTER) == 0
    assert block.time.clock.deadline() is None


# -- against a model that counts one by one -----------------------------------------------------------------


class Naive:
    """One timer, whose interrupts are edges, counted tick by tick."""

    def __init__(self) -> None:
        self.counter = self.period = self.comparator = self.flags = self.edges = 0
        self.running = False

    def look(self) -> None:
        mask = (1 << 32) - 1 if self.flags & AS_32 else (1 << 64) - 1
        if self.running and self.comparator & mask == self.counter & mask:
            self.edges += bool(self.flags & INTERRUPT)
            if self.flags & PERIODIC:
                self.comparator = self.comparator + self.period & (1 << 64) - 1

    def wait(self, counts: int) -> None:
        for _ in range(counts if self.running else 0):
            self.counter += 1
            self.look()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 60)),
        st.tuples(st.just("ahead"), st.integers(1, 50)),
        st.tuples(st.just("interrupt"), st.booleans()),
        st.tuples(st.just("run"), st.booleans()),
    ),
    max_size=12,
)


@given(steps, st.booleans(), st.booleans(), st.integers(0, 40))
def test_it_does_what_counting_one_by_one_does(
    given: list[tuple[str, int]], periodic: bool, narrow: bool, before_wrap: int
) -> None:
    block, naive = Block(), Naive()
    flags = (PERIODIC if periodic else 0) | (AS_32 if narrow else 0) | INTERRUPT
    naive.counter = (1 << 32) - before_wrap
    block.write(COUNTER, naive.counter)
    block.write(CONTROL, ENABLE)
    naive.running, naive.flags = True, flags
    block.start(0, 0, flags & ~PERIODIC)
    naive.comparator = 0
    naive.look()
    block.wait(0)
    block.write(0x100, flags | 20 << 9)
    for what, number in given:
        if what == "wait":
            block.wait(number)
            naive.wait(number)
        elif what == "ahead":
            value = naive.counter + number
            block.write(0x100, flags | SET_VALUE | 20 << 9)
            block.write(0x108, value)
            block.write(0x108, number) if periodic else None
            naive.comparator, naive.period = value, number
        elif what == "run":
            naive.running = bool(number)
            block.write(CONTROL, number)
        else:
            flags = flags | INTERRUPT if number else flags & ~INTERRUPT
            naive.flags = flags
            block.write(0x100, flags | 20 << 9)
        assert block.edges[20] == naive.edges
        assert block.read(COUNTER) == naive.counter


# -- saved and brought back --------------------------------------------------------------------------------


@given(st.integers(0, 3000), st.integers(1, 500), st.sampled_from([0, LEGACY]), st.sampled_from([0, LEVEL]))
def test_what_is_saved_goes_on(before: int, period: int, legacy: int, level: int) -> None:
    block = Block()
    block.wait(17)
    block.write(CONTROL, ENABLE | legacy)
    block.start(0, period, PERIODIC | INTERRUPT | SET_VALUE)
    block.start(1, 900, INTERRUPT | level, pin=21)
    block.start(2, 1500, INTERRUPT | AS_32, pin=22)
    block.wait(before)
    again = Block(block.time)
    again.hpet.load(json.loads(json.dumps(block.hpet.save())))
    assert again.levels == block.levels
    before_it, before_again = dict(block.edges), dict(again.edges)
    block.wait(2000)
    assert again.levels == block.levels
    assert again.read(STATUS) == block.read(STATUS)
    assert {line: again.edges[line] - before_again[line] for line in again.edges} == {
        line: block.edges[line] - before_it[line] for line in block.edges
    }
    assert again.hpet.save() == block.hpet.save()


@pytest.mark.parametrize(
    "damage",
    [
        {"values": {}},
        {"timers": []},
        {"timers": [{}, {}, {}]},
        {"count": "many"},
        {"count": None},
    ],
)
def test_damaged_state_is_refused(damage: dict[str, Any], block: Block) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        block.hpet.load({**block.hpet.save(), **damage})


def test_any_count_that_was_saved_can_be_lived_with(block: Block) -> None:
    saved = block.hpet.save()
    saved["count"] = 1 << 90
    saved["values"]["control"] = ENABLE
    saved["timers"][0] = {
        "values": {"control": INTERRUPT | PERIODIC, "comparator": 0, "message": 0},
        "next": -5,
        "high": 1,
    }
    block.hpet.load(saved)
    block.wait(10)


# -- in a machine ------------------------------------------------------------------------------------------


def test_acpi_tells_of_it() -> None:
    # 3.2.4
    table = tables.hpet_table()
    assert len(table) == 56
    assert sum(table) & 0xFF == 0
    identity, space, width, offset, _, address, number, ticks, page = struct.unpack_from("<IBBBBQBHB", table, 36)
    assert identity == Block().read(CAPABILITY) & 0xFFFFFFFF
    assert (space, width, offset, address, number, page) == (0, 64, 0, 0xFED00000, 0, 0)
    assert ticks * TICK == 100_000
    assert b"HPET" not in tables.build(0).data
    assert tables.build(0, has_hpet=True).data.count(b"HPET") == 2


@pytest.mark.interop("iasl")
def test_the_compiler_reads_the_tables(tmp_path: Path) -> None:
    for name, data in (("hpet", tables.hpet_table()), ("dsdt", tables.dsdt(has_hpet=True))):
        (tmp_path / f"{name}.aml").write_bytes(data)
        run_program("iasl", "-d", tmp_path / f"{name}.aml")
    text = (tmp_path / "hpet.dsl").read_text()
    assert "Incorrect checksum" not in text
    assert re.search(r"Hardware Block ID : 8086A201", text)
    assert "0 Errors, 0 Warnings" in run_program("iasl", "-p", tmp_path / "again", tmp_path / "dsdt.dsl")


def test_a_machine_has_it_if_it_is_asked_for(tmp_path: Path) -> None:
    rom = Rom().exit(0).write(tmp_path / "guest.rom")
    for has in (False, True):
        with blockkit.Machine(firmware=rom, memory="2M", accelerator="python", hpet=has) as vm:
            assert ("hpet" in vm.session.pc.devices()) is has
            memory = vm.session.pc.bus.memory
            assert (memory.read(0xFED00000, 4), memory.read(0xFED00104, 4)) == (
                (0x8086A201, 0x00F00000) if has else (0xFFFFFFFF, 0xFFFFFFFF)
            )


def test_a_saved_machine_has_it_as_it_was(tmp_path: Path) -> None:
    rom = sleeper().write(tmp_path / "guest.rom")
    given: dict[str, Any] = {"firmware": rom, "memory": "2M", "accelerator": "python", "hpet": True}
    with blockkit.Machine(**given) as vm:
        memory = vm.session.pc.bus.memory
        memory.write(0xFED00140, 4, PERIODIC | INTERRUPT | SET_VALUE | 20 << 9)
        memory.write(0xFED00148, 8, 1000)
        memory.write(0xFED00010, 4, ENABLE)
        vm.run_until(0.00005)
        assert memory.read(0xFED00148, 8) == 6000
        vm.save(tmp_path / "saved")
        before = vm.state_hash()
    with blockkit.Machine.load(tmp_path / "saved", **given) as again:
        assert again.state_hash() == before
        again.run_until(0.0001)
        assert again.session.pc.bus.memory.read(0xFED00148, 8) == 11000
    with pytest.raises(FormatError, match="other devices: hpet"):
        blockkit.Machine.load(tmp_path / "saved", **(given | {"hpet": False}))


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "more"), [("amd64", ""), ("i386", "nolapic noapic")])
def test_linux_tells_time_by_it(tmp_path: Path, architecture: str, more: str) -> None:
    pytest.importorskip("llvmlite")
    script = """
cd /sys/devices/system/clocksource/clocksource0
echo SOURCE $(cat current_clocksource)
before=$(cut -d. -f1 /proc/uptime); sleep 3; echo SLEPT $(($(cut -d. -f1 /proc/uptime) - before))
grep timer /proc/interrupts
"""
    (tmp_path / "initrd").write_bytes(initrd(architecture, (), script))
    with blockkit.Machine(
        kernel=Debian(architecture).kernel(),
        initrd=tmp_path / "initrd",
        append=f"console=ttyS0 quiet panic=-1 clocksource=hpet {more}",
        accelerator="jit",
        hpet=True,
        reboot=False,
        timeout=200,
    ) as vm:
        vm.expect("SOURCE hpet")
        began = vm.now
        vm.expect(re.compile(r"SLEPT [34]\b"))
        assert 3 <= vm.now - began < 4
        # The 8254 has lost its line to it, so these are its interrupts.
        assert int(vm.expect(re.compile(r"0: +(\d+) ")).group(1)) > 10
        assert vm.session.pc.hpet is not None
        assert vm.session.pc.hpet.control == ENABLE | LEGACY
