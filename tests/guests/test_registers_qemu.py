"""Devices here and in QEMU have the same registers, as far as the standards fix them; disks take the same commands."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.guests import qemu
from tests.guests.accesses import Script
from tests.guests.registers import (
    DIAGNOSTIC,
    IDENTIFY,
    NATIVE_MAX,
    NATIVE_MAX_48,
    POWER_MODE,
    READS_28,
    READS_48,
    SMART,
    WRITES_28,
    WRITES_48,
    Command,
    Line,
    read,
    rom,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.interop(qemu.PROGRAM)

#: Two cylinders of what both take for a disk's geometry.
HEADS, PER_TRACK = 16, 63
SECTORS = 2 * HEADS * PER_TRACK
#: All of the status but DSC, which has no meaning any more.
_STATUS = 0xA9
_ERROR = 1


def fixed(command: Command, line: Line) -> list[Any]:
    """Return what a line has that the standard fixes for a command."""
    status = line.status & _STATUS
    if status & _ERROR:
        # Which error it is, is told with more or less detail; and blocks in front of it may or may not be transferred.
        return [status]
    found: list[Any] = [status, line.blocks]
    if command.code in (*READS_28, *READS_48):
        found.append(line.sum)
    elif command.code in (*WRITES_28, *WRITES_48, IDENTIFY, SMART):
        pass
    elif command.code == DIAGNOSTIC:
        found.append(line.registers[:5])
    elif command.code in (NATIVE_MAX, NATIVE_MAX_48):
        found.append(line.registers[2:6])
    elif command.code == POWER_MODE:
        found.append(line.registers[1])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_disk_takes_commands_as_qemus_does(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    commands = some(rng, 800, SECTORS, HEADS, PER_TRACK)
    path, contents = tmp_path / "rom", rng.randbytes(SECTORS * 512)
    path.write_bytes(rom(commands))
    drives = [{"file": str(tmp_path / who), "format": "raw", "if": "ide"} for who in ("here", "there")]
    for drive in drives:
        with open(drive["file"], "wb") as file:
            file.write(contents)
    here = read(qemu.run_here(path, drives[0]).said)
    there = read(qemu.run(path, drives[1]).said)
    assert len(here) == len(there) == len(commands)
    for number, (command, one, other) in enumerate(zip(commands, here, there, strict=True)):
        assert fixed(command, one) == fixed(command, other), (number, command, one, other)
    assert {line.status & _STATUS for line in here} == {0, _ERROR}
    after = [(tmp_path / who).read_bytes() for who in ("here", "there")]
    assert after[0] == after[1] != contents


# -- registers ---------------------------------------------------------------------------------------------------

#: PCI functions: the bridge to ISA, the IDE controller, power management, and a virtio disk in the first free slot.
_ISA, _IDE, _POWER, _VIRTIO = 0x08, 0x09, 0x0B, 0x18
_MASTER, _LEGACY, _MODERN = 0xC000, 0xC100, 0x20000000
#: Features of a virtio disk that both have: not those that QEMU has for its old drivers.
_FEATURES = 0x30006E54
#: Of its configuration: up to the size of blocks; what follows tells of the image, which QEMU describes otherwise.
_CONFIG = 0x18


def configuration(rng: random.Random) -> Script:
    """Read what functions are, look how large their windows are, and let them answer."""
    script = Script()
    for function in (_ISA, _IDE, _POWER, _VIRTIO):
        script.config_read(function, 0x00)
        script.config_read(function, 0x08)
        # Only of function 0 it matters whether there are more.
        script.config_read(function, 0x0E, 1, 0xFF if function & 7 == 0 else 0x7F)
        script.config_read(function, 0x3D, 1)
    for function in (_IDE, _VIRTIO):
        for _ in range(8):
            register = rng.randrange(0x10, 0x28, 4)
            value = rng.choice((0xFFFFFFFF, 0, rng.getrandbits(32)))
            script.config_write(function, register, value)
            # Whether a window may be read ahead is the device's choice.
            script.config_read(function, register, mask=0xFFFFFFF7)
        script.config_write(function, 0x04, rng.getrandbits(3), 2)
        script.config_read(function, 0x04, 2, 5)
    return script


def bus_master(rng: random.Random) -> Script:
    """Write registers of the bus master that is not started."""
    script = Script()
    script.config_write(_IDE, 0x20, _MASTER)
    script.config_write(_IDE, 0x04, 5, 2)
    for register in (2, 10):
        script.port_write(_MASTER + register, 0)
    for _ in range(60):
        register = rng.choice((0, 2, 4, 8, 10, 12))
        size = 4 if register % 8 == 4 else 1
        value = rng.getrandbits(8 * size)
        script.port_write(_MASTER + register, value & ~1 if register % 8 == 0 else value, size)
        for each in (0, 2, 4, 8, 10, 12):
            script.port_read(_MASTER + each, 4 if each % 8 == 4 else 1)
    return script


def legacy(rng: random.Random) -> Script:
    """Begin as drivers of the legacy interface do, several times, and read what there is in between."""
    script = Script()
    script.config_write(_VIRTIO, 0x10, _LEGACY)
    script.config_write(_VIRTIO, 0x04, 5, 2)
    for _ in range(12):
        script.port_write(_LEGACY + 18, 0)
        for status in (1, 3):
            script.port_write(_LEGACY + 18, status)
            script.port_read(_LEGACY + 18)
        script.port_read(_LEGACY, 4, _FEATURES)
        script.port_write(_LEGACY + 4, _FEATURES & rng.getrandbits(32), 4)
        script.port_read(_LEGACY + 4, 4)
        for queue in (rng.randrange(1, 9), 0):
            script.port_write(_LEGACY + 14, queue, 2)
            script.port_read(_LEGACY + 14, 2)
            script.port_read(_LEGACY + 12, 2)
            script.port_read(_LEGACY + 8, 4)
        for page in (rng.randrange(0x100, 0x800), 0, rng.choice((0, rng.randrange(0x100, 0x800)))):
            script.port_write(_LEGACY + 8, page, 4)
            script.port_read(_LEGACY + 8, 4)
        script.port_write(_LEGACY + 18, 7)
        for offset in (8, 12, 18, 19):
            script.port_read(_LEGACY + offset, {8: 4, 12: 2}.get(offset, 1))
        for _ in range(8):
            size = rng.choice((1, 2, 4))
            script.port_read(_LEGACY + 20 + rng.randrange(0, _CONFIG, size), size)
    script.port_write(_LEGACY + 18, 0)
    for offset, size in ((4, 4), (8, 4), (12, 2), (18, 1), (19, 1)):
        script.port_read(_LEGACY + offset, size)
    return script


def modern(rng: random.Random) -> Script:
    """Begin as drivers of the modern interface do, several times, and read what there is in between."""
    common, isr, config = _MODERN, _MODERN + 0x1000, _MODERN + 0x2000
    script = Script()
    script.config_write(_VIRTIO, 0x20, _MODERN)
    script.config_write(_VIRTIO, 0x24, 0)
    script.config_write(_VIRTIO, 0x04, 6, 2)
    for _ in range(8):
        script.write(common + 0x14, 0, 1)
        for offset, size in ((0x12, 2), (0x14, 1), (0x18, 2), (0x1C, 2), (0x20, 4), (0x28, 4), (0x30, 4)):
            script.read(common + offset, size)
        for status in (1, 3):
            script.write(common + 0x14, status, 1)
            script.read(common + 0x14, 1)
        for select, mask in ((0, _FEATURES), (1, 1), (2, 0xFFFFFFFF)):
            script.write(common, select)
            script.read(common)
            script.read(common + 4, mask=mask)
        for select, value in ((0, _FEATURES & rng.getrandbits(32)), (1, 1)):
            script.write(common + 8, select)
            script.write(common + 12, value)
            script.read(common + 12)
        script.write(common + 0x14, 11, 1)
        script.read(common + 0x14, 1)
        script.write(common + 0x16, rng.randrange(1, 9), 2)
        script.read(common + 0x18, 2)
        script.write(common + 0x16, 0, 2)
        script.write(common + 0x18, 1 << rng.randrange(1, 9), 2)
        script.read(common + 0x18, 2)
        halves = list(range(0x20, 0x38, 4))
        rng.shuffle(halves)
        for offset in halves:
            script.write(common + offset, rng.getrandbits(32) & ~15)
        for offset in halves:
            script.read(common + offset)
        for offset in halves:
            # Of what is above 4 GiB there is no RAM.
            script.write(common + offset, rng.randrange(0x100000, 0xFFF000, 16) if offset % 8 == 0 else 0)
            script.read(common + offset)
        for offset in (0x10, 0x1A):
            script.write(common + offset, rng.choice((0, 1, 2, 0xFFFF)), 2)
            script.read(common + offset, 2)
        script.write(common + 0x1C, 1, 2)
        script.read(common + 0x1C, 2)
        script.read(common + 0x1E, 2)
        script.write(common + 0x14, 15, 1)
        for offset in (0x14, 0x15):
            script.read(common + offset, 1)
        script.read(isr, 1)
        for _ in range(6):
            size = rng.choice((1, 2, 4))
            script.read(config + rng.randrange(0, _CONFIG, size), size)
    return script


#: Where tables of areas are, and the memory that they are of.
_TABLE, _AREAS = 0x10000, 0x100000


def transfers(rng: random.Random) -> Script:
    """Transfer sectors by tables that fit, and by some that are too long or too short."""
    script = Script()
    script.config_write(_IDE, 0x20, _MASTER)
    script.config_write(_IDE, 0x04, 5, 2)
    for _ in range(12):
        count, place = rng.randrange(1, 9), rng.randrange(SECTORS - 8)
        more = rng.choice((0, 0, 2, 510, 4096, -2, -512))
        left = max(2, 512 * count + more)
        table, at = _TABLE + rng.randrange(0, 1024, 4), _AREAS
        script.port_write(_MASTER + 4, table, 4)
        areas = []
        while left:
            size = min(left, 2 * rng.randrange(1, 1024))
            left -= size
            script.write(table, at)
            script.write(table + 4, size | (0 if left else 1 << 31))
            areas.append((at, size))
            table, at = table + 8, at + size + rng.choice((0, 2, 512))
        code, direction = rng.choice(((0x25, 8), (0x35, 0)))
        script.port_write(_MASTER, direction)
        script.port_write(_MASTER + 2, 6)
        script.port_write(0x1F6, 0xE0)
        for register, value in ((2, 0), (3, 0), (4, 0), (5, 0), (2, count), (3, place), (4, place >> 8), (5, 0)):
            script.port_write(0x1F0 + register, value & 0xFF)
        script.port_write(0x1F7, code)
        script.port_write(_MASTER, direction | 1)
        # One that is longer leaves the bus master active; after one that is shorter, the drive waits for the rest.
        script.wait(*((0x3F6, 0x88) if more > 0 else (_MASTER + 2, 1)))
        script.port_read(_MASTER + 2)
        # When the table was too short, it is not fixed what the drive still wants.
        script.port_read(0x3F6, mask=_STATUS & ~0x08)
        script.port_read(0x1F7, mask=_STATUS & ~0x08)
        script.port_write(_MASTER, direction)
        script.port_read(_MASTER + 2)
        for address, size in areas:
            script.read(address, 2)
            script.read(address + size - 2, 2)
        for control in (4, 0):
            script.port_write(0x3F6, control)
        script.wait(0x3F6, 0x80)
    return script


def serial(rng: random.Random) -> Script:
    """Write registers of the serial port (which sends what is read meanwhile), and read them back."""
    port = 0x3F8
    script = Script()
    # In QEMU, OUT2 is set at first.
    script.port_write(port + 4, 0)
    for _ in range(80):
        register = rng.choice((1, 2, 3, 4, 7))
        # Bits that stop it from sending, or that there are not, are left alone: divisors, loops, FIFOs of 64 bytes.
        value = rng.getrandbits(8) & {1: 0x0F, 2: 0xC9, 3: 0x7F, 4: 0x0F, 7: 0xFF}[register]
        script.port_write(port + register, value)
        for each in (2, 3, 4, 5, 6, 7):
            script.port_read(port + each)
        script.port_write(port + 1, 0)
        script.port_read(port + 1)
        script.port_read(port + 2)
        for offset, byte in ((3, 0x83), (0, rng.randrange(1, 256)), (1, 0), (3, 3)):
            script.port_write(port + offset, byte)
        script.port_read(port + 3)
    return script


def interrupt_controllers(rng: random.Random) -> Script:
    """Begin with the 8259s as firmware does, mask and end interrupts, and read what they tell."""
    script = Script()
    for _ in range(150):
        base = rng.choice((0x20, 0xA0))
        kind = rng.randrange(6)
        if kind == 0:
            words = (0x11 | rng.choice((0, 8)), rng.getrandbits(8) & 0xF8, 4 if base == 0x20 else 2)
            script.port_write(base, words[0])
            for word in (*words[1:], rng.choice((0x01, 0x03, 0x11))):
                script.port_write(base + 1, word)
        elif kind == 1:
            script.port_write(base + 1, rng.getrandbits(8))
            script.port_read(base + 1)
        elif kind == 2:
            for word in (0x0A, 0x0B):
                script.port_write(base, word)
                script.port_read(base)
        elif kind == 3:
            script.port_write(base, rng.choice((0x20, 0x60, 0x61, 0xA0, 0xC0, 0xC5, 0x80, 0x00)))
        elif kind == 4:
            script.port_write(base, 0x0C)
            script.port_read(base)
        else:
            edge_or_level = 0x4D0 if base == 0x20 else 0x4D1
            script.port_write(edge_or_level, rng.getrandbits(8) & (0xF8 if base == 0x20 else 0xDE))
            script.port_read(edge_or_level)
    return script


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [configuration, bus_master, legacy, modern, transfers, serial, interrupt_controllers])
def test_registers_are_as_qemus(make: Callable[[random.Random], Script], seed: int, tmp_path: Path) -> None:
    script = make(random.Random(seed))
    path = tmp_path / "rom"
    path.write_bytes(script.rom())
    contents = random.Random(seed).randbytes(SECTORS * 512)
    drive = {"if": "virtio" if make in (configuration, legacy, modern) else "ide"}
    here, there = qemu.both(path, drive, contents, script.found)
    assert here == there
