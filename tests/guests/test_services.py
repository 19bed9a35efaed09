"""The built-in firmware answers as its specifications say, and as SeaBIOS does."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.guests.debian import firmware_file
from tests.guests.services import BUFFER, Answer, Call, answers, boot_sector

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECTORS, MEMORY = (64 << 20) // 512, 64 << 20
SMAP = 0x534D4150
DISK = 0x80


def ask(path: Path, firmware: str, calls: Sequence[Call], sectors: int = SECTORS, **options: Any) -> list[Answer]:
    """Return the answers to calls of a machine with one disk."""
    found: list[Answer] = []
    for first in range(0, len(calls), 11):
        with open(path, "wb") as file:
            file.write(boot_sector(*calls[first : first + 11]))
            file.writelines(bytes([number]) * 512 for number in range(1, 64))
            file.truncate(sectors * 512)
        drive = {"file": str(path), "format": "raw", "if": "ide"}
        with blockkit.Machine(
            [drive], firmware=firmware, memory=MEMORY, timeout=60, **{"accelerator": "python", **options}
        ) as vm:
            assert vm.wait() is Outcome.EXIT
            found += answers(bytes(vm.session.built.serial.since(0)))
    assert len(found) == len(calls)
    return found


def test_disks_answer_as_specified(tmp_path: Path) -> None:
    geometry, kind, signature, read, past, absent, diskette = ask(
        tmp_path / "disk",
        "builtin",
        [
            Call(0x13, 0x0800, edx=DISK),
            Call(0x13, 0x1500, edx=DISK),
            Call(0x13, 0x4100, 0x55AA, edx=DISK),
            Call(0x13, 0x0201, BUFFER, 3, DISK),
            # The first sector behind the last: the rest of the last cylinder is not there.
            Call(0x13, 0x0201, BUFFER, 130 << 8 | 33, DISK),
            Call(0x13, 0x0201, BUFFER, 1, 0x81),
            Call(0x13, 0x0201, BUFFER, 1, 0x00),
        ],
    )
    # 64 MiB are 130 cylinders of 16 heads of 63 sectors, and a rest; the last is kept for diagnostics.
    assert (geometry.ah, geometry.carry) == (0, False)
    assert (geometry.cx >> 8 | (geometry.cx & 0xC0) << 2, geometry.cx & 0x3F) == (129 - 1, 63)
    assert (geometry.dx >> 8, geometry.dx & 0xFF) == (15, 1)
    assert (kind.ah, kind.cx << 16 | kind.dx, kind.carry) == (3, 129 * 16 * 63, False)
    assert (signature.bx, signature.cx & 1, signature.carry) == (0xAA55, 1, False)
    assert (read.ax, read.carry, read.buffer) == (1, False, bytes([2]) * 32)
    assert (past.ah, past.carry) == (4, True)
    assert (absent.ah, absent.carry) == (1, True)
    assert diskette.carry


#: Sectors, and what is told of them: cylinders but one, heads, and all that can be told by the extension.
SIZES = [
    (1024 * 16 * 63, 1023, 16),
    (1024 * 16 * 63 + 1, 511, 32),
    (1024 * 128 * 63, 1023, 128),
    (1 << 33, 1023, 255),
]


@pytest.mark.parametrize(("sectors", "cylinders", "heads"), SIZES)
def test_large_disks_have_no_more_than_1024_cylinders(sectors: int, cylinders: int, heads: int, tmp_path: Path) -> None:
    room = 30
    told, parameters = ask(
        tmp_path / "disk",
        "builtin",
        [Call(0x13, 0x0800, edx=DISK), Call(0x13, 0x4800, edx=DISK)],
        sectors,
    )
    assert (told.cx >> 8 | (told.cx & 0xC0) << 2, told.cx & 0x3F, told.dx >> 8) == (cylinders - 1, 63, heads - 1)
    # The buffer is empty: it has no room for an answer.
    assert (parameters.ah, parameters.carry) == (1, True)
    with open(tmp_path / "disk", "r+b") as file:
        file.write(boot_sector(Call(0x13, 0x0201, BUFFER, 2, DISK), Call(0x13, 0x4800, edx=DISK)))
        file.seek(512)
        file.write(room.to_bytes(2, "little"))
    with blockkit.Machine(
        [{"file": str(tmp_path / "disk"), "format": "raw"}], firmware="builtin", memory=MEMORY, accelerator="python"
    ) as vm:
        assert vm.wait() is Outcome.EXIT
        data = answers(bytes(vm.session.built.serial.since(0)))[1].buffer
    assert struct.unpack_from("<HHIIIQH", data)[0] == room
    assert struct.unpack_from("<QH", data, 16) == (sectors, 512)


def test_memory_is_told_as_specified(tmp_path: Path) -> None:
    found = ask(
        tmp_path / "disk",
        "builtin",
        [
            Call(0x12, 0),
            Call(0x15, 0x8800),
            Call(0x15, 0xE801),
            *(Call(0x15, 0xE820, each, 20, SMAP) for each in range(4)),
            Call(0x15, 0xE820, 9, 20, SMAP),
            Call(0x15, 0xE820, 0, 20, 0),
        ],
    )
    low, above_1, both, *ranges, last, unasked = found
    assert low.ax == 639
    assert (above_1.ax, above_1.carry) == (63 << 10, False)
    assert (both.ax, both.bx, both.cx, both.dx) == (15 << 10, 48 << 4, 15 << 10, 48 << 4)
    told = [struct.unpack_from("<QQI", each.buffer) for each in ranges]
    assert [each.eax for each in ranges] == [SMAP] * 4
    assert [each.ebx for each in ranges] == [1, 2, 3, 0]
    assert told == [
        (0, 639 << 10, 1),
        (639 << 10, 1 << 10, 2),
        (0xE0000, 0x20000, 2),
        (1 << 20, 63 << 20, 1),
    ]
    assert last.carry
    assert unasked.carry


def test_time_and_keys_and_waiting(tmp_path: Path) -> None:
    ticks, time, date, no_key, pushed, key, shift, begin, waited, end = ask(
        tmp_path / "disk",
        "builtin",
        [
            Call(0x1A, 0x0000),
            Call(0x1A, 0x0200),
            Call(0x1A, 0x0400),
            Call(0x16, 0x0100),
            Call(0x16, 0x0500, ecx=0x1E61),
            Call(0x16, 0x0000),
            Call(0x16, 0x0200),
            Call(0x1A, 0x0000),
            Call(0x15, 0x8600, ecx=1, edx=0x86A0),
            Call(0x1A, 0x0000),
        ],
        start="2026-01-31T12:34:56+00:00",
        accelerator="auto",
    )
    day = (12 * 60 + 34) * 60 + 56
    assert (ticks.cx << 16 | ticks.dx) // 18.2065 == pytest.approx(day, abs=1)
    assert (time.cx, time.dx >> 8) == (0x1234, 0x56)
    assert (date.cx, date.dx) == (0x2026, 0x0131)
    assert (no_key.zero, pushed.al, key.ax, shift.al) == (True, 0, 0x1E61, 0)
    # A tenth of a second is one or two ticks.
    assert not waited.carry
    assert end.dx - begin.dx in (1, 2)


def test_the_machine_says_what_it_is(tmp_path: Path) -> None:
    equipment, mode, cursor, bridge, number, wrong, a20 = ask(
        tmp_path / "disk",
        "builtin",
        [
            Call(0x11, 0),
            Call(0x10, 0x0F00),
            Call(0x10, 0x0300),
            Call(0x1A, 0xB101),
            Call(0x1A, 0xB109, 0x0000, edi=0),
            Call(0x1A, 0xB10A, 0x0000, edi=2),
            Call(0x15, 0x2402),
        ],
    )
    assert equipment.ax & 0x0E32 == 0x0222
    assert (mode.ax, mode.ebx >> 8 & 0xFF) == (80 << 8 | 3, 0)
    assert cursor.dx == 0
    assert (bridge.edx.to_bytes(4, "little"), bridge.ah, bridge.carry) == (b"PCI ", 0, False)
    assert (number.cx, number.carry) == (0x8086, False)
    assert (wrong.ah, wrong.carry) == (0x87, True)
    assert not a20.carry


#: What both are asked, and which registers say the same.
ALIKE = [
    (Call(0x13, 0x0800, edx=DISK), "ah cx dx carry"),
    (Call(0x13, 0x1500, edx=DISK), "ah cx dx carry"),
    (Call(0x13, 0x4100, 0x55AA, edx=DISK), "bx carry"),
    (Call(0x13, 0x0205, BUFFER, 1, DISK), "ax carry buffer"),
    (Call(0x13, 0x0201, BUFFER, 0x0101, 0x0280), "ax carry buffer"),
    (Call(0x13, 0x0201, BUFFER, 1, 0x8A), "ah carry"),
    (Call(0x13, 0x0200, BUFFER, 1, DISK), "ah carry"),
    (Call(0x13, 0x0201, BUFFER, 0, DISK), "ah carry"),
    (Call(0x13, 0x0401, BUFFER, 1, DISK), "ah carry"),
    (Call(0x13, 0x0C00, BUFFER, 1, DISK), "ah carry"),
    (Call(0x13, 0x0100, edx=DISK), "ah carry"),
    (Call(0x13, 0x5500, edx=DISK), "ah carry"),
    (Call(0x12, 0), "ax"),
    (Call(0x15, 0x2403), "bx ah carry"),
    (Call(0x15, 0x4F1E), "al carry"),
    (Call(0x16, 0x0100), "zero"),
    (Call(0x16, 0x0200), "al"),
    (Call(0x10, 0x0F00), "ax bx"),
    (Call(0x10, 0x1A00), "ax bx"),
    (Call(0x1A, 0xB101), "ah bx edx carry"),
    (Call(0x1A, 0xB102, ecx=0x7000, edx=0x8086), "ah bx carry"),
    (Call(0x1A, 0xB102, ecx=0x1111, edx=0x8086), "ah carry"),
    (Call(0x1A, 0xB103, ecx=0x010180), "ah bx carry"),
    (Call(0x1A, 0xB10A, 0x0000, edi=0), "ah ecx carry"),
    (Call(0x1A, 0xB108, 0x0000, edi=0x0E), "ah carry"),
    (Call(0x1A, 0x0400), "cx dx carry"),
]


@pytest.mark.guest
def test_the_answers_are_those_of_seabios(tmp_path: Path) -> None:
    calls = [call for call, _ in ALIKE]
    ours, theirs = (
        ask(tmp_path / "disk", each, calls, accelerator="jit") for each in ("builtin", firmware_file("seabios"))
    )
    differences = [
        (f"int {call.number:02x}h ax={call.eax:04x}h", name, getattr(our, name), getattr(their, name))
        for (call, names), our, their in zip(ALIKE, ours, theirs, strict=True)
        for name in names.split()
        if getattr(our, name) != getattr(their, name)
    ]
    assert differences == []
