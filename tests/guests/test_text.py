"""What INT 10h of the built-in firmware does to the screen is what SeaBIOS's does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.guests.debian import firmware_file
from tests.guests.services import Answer, Call, answers, boot_sector

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = range(24)
TEXT, TEXT_SIZE = 0xB8000, 0x8000
#: Bytes of a page, and how many of them are on the screen.
PAGE, VISIBLE = 0x1000, 4000


def show(path: Path, firmware: str, calls: list[Call]) -> tuple[list[Answer], bytes, str]:
    """Return the answers, the memory of the screen, and its lines."""
    path.write_bytes(boot_sector(*calls) + bytes(1 << 20))
    drive = {"file": str(path), "format": "raw", "if": "ide"}
    with blockkit.Machine([drive], firmware=firmware, memory="64M", accelerator="auto", timeout=60) as vm:
        assert vm.wait() is Outcome.EXIT
        memory = bytes(vm.session.pc.memory.ram[TEXT : TEXT + TEXT_SIZE])
        return answers(bytes(vm.session.built.serial.since(0))), memory, vm.screen()


def some_call(rng: random.Random) -> Call:
    """Return a call that writes, moves or scrolls."""
    row, column = rng.choice((0, 1, 12, 23, 24)), rng.choice((0, 1, 40, 78, 79))
    letter, attribute, page = rng.randrange(33, 127), rng.randrange(256), rng.choice((0, 0, 0, 1))
    kind = rng.randrange(8)
    if kind == 0:
        return Call(0x10, 0x0200, page << 8, edx=row << 8 | column)
    if kind == 1:
        return Call(0x10, 0x0E00 | rng.choice((letter, letter, 8, 10, 13)), page << 8)
    if kind == 2:
        return Call(0x10, 0x0900 | letter, page << 8 | attribute, rng.choice((1, 2, 100)))
    if kind == 3:
        return Call(0x10, 0x0A00 | letter, page << 8, rng.choice((1, 3, 90)))
    if kind in (4, 5):
        bottom, right = rng.choice((row, 24)), rng.choice((column, 79))
        lines = rng.choice((0, 1, 2, 30))
        return Call(0x10, 0x0600 + 0x100 * (kind - 4) | lines, attribute << 8, row << 8 | column, bottom << 8 | right)
    if kind == 6:
        return Call(0x10, 0x0800, page << 8)
    return Call(0x10, 0x0300, page << 8)


@pytest.mark.guest
@pytest.mark.parametrize("seed", SEEDS)
def test_screens_are_those_of_seabios(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    calls = [Call(0x10, 0x0003), *(some_call(rng) for _ in range(9)), Call(0x10, 0x0300)]
    ours, theirs = (show(tmp_path / "disk", each, calls) for each in ("builtin", firmware_file("seabios")))
    assert ours[2] == theirs[2], calls
    for start in range(0, TEXT_SIZE, PAGE):
        assert ours[1][start : start + VISIBLE] == theirs[1][start : start + VISIBLE], calls
    for call, our, their in zip(calls, ours[0], theirs[0], strict=True):
        if call.eax >> 8 == 0x08:
            assert our.ax == their.ax, calls
        if call.eax >> 8 == 0x03:
            assert our.dx == their.dx, calls


def test_pages_are_shown(tmp_path: Path) -> None:
    calls = [
        Call(0x10, 0x0003),
        Call(0x10, 0x0501),
        Call(0x10, 0x0200, 0x0100, edx=0x0203),
        Call(0x10, 0x0941, 0x0107, 1),
        Call(0x10, 0x0300, 0x0100),
        Call(0x10, 0x0F00),
    ]
    found, memory, screen = show(tmp_path / "disk", "builtin", calls)
    assert screen.split() == ["A"]
    assert memory[0x1000 + 2 * (2 * 80 + 3)] == ord("A")
    assert (found[4].dx, found[5].bx >> 8) == (0x0203, 1)
    assert show(tmp_path / "disk", "builtin", [*calls, Call(0x10, 0x0500)])[2].split() == []


@pytest.mark.guest
@pytest.mark.parametrize("kind", range(4))
def test_strings_are_those_of_seabios(kind: int, tmp_path: Path) -> None:
    text = b"A\x1fB\x2fC\x3fD\x4fE\x5fF\x6fG\x7fH\x0fI\x1fJ\x2fK\x3fL\x4f"
    code = bytes.fromhex(
        "fa 31c0 8ed8 8ec0 8ed0 bc007c fb b80300 cd10"  # ax, ds, es, ss = 0; sp = 7c00h; ax = 3; int 10h
        f"b8{kind:02x}13 bb1700 b90c00 ba4d17 bd407c cd10"  # bx = 17h; cx = 12; dx = 174dh; bp = 7c40h; int 10h
        "b82a0e cd10 b000 ba0105 ee fa f4"  # an asterisk where the cursor is; al = 0; dx = 501h; out %al, %dx; hlt
    )
    disk = tmp_path / "disk"
    disk.write_bytes((code.ljust(0x40, b"\0") + text).ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    found = []
    for firmware in ("builtin", firmware_file("seabios")):
        with blockkit.Machine(
            [{"file": str(disk), "format": "raw", "if": "ide"}], firmware=firmware, memory="64M", accelerator="jit"
        ) as vm:
            assert vm.wait() is Outcome.EXIT
            found.append((vm.screen(), bytes(vm.session.pc.memory.ram[TEXT : TEXT + VISIBLE])))
    assert found[0] == found[1]
    assert "*" in found[0][0]
