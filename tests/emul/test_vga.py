"""The screen as text: where it begins, how wide and high it is, and what its characters look like."""

from __future__ import annotations

import pytest

from blockkit.emul.memory import GuestMemory
from blockkit.emul.vga import Vga

TEXT = 0xB8000


@pytest.fixture
def memory() -> GuestMemory:
    return GuestMemory(1 << 20)


@pytest.fixture
def vga(memory: GuestMemory) -> Vga:
    return Vga(memory)


def write(memory: GuestMemory, cell: int, text: bytes) -> None:
    memory.write(TEXT + 2 * cell, b"".join(bytes([each, 0x07]) for each in text))


def crtc(vga: Vga, index: int, value: int) -> None:
    """Write a register as OUT DX, AX does: index and data at once."""
    vga.write(0x14, 2, value << 8 | index)


def test_mode_3_has_25_lines_of_80(vga: Vga, memory: GuestMemory) -> None:
    write(memory, 0, b"first")
    write(memory, 24 * 80 + 75, b"last!")
    lines = vga.text()
    assert len(lines) == 25
    assert {len(line) for line in lines} == {80}
    assert (lines[0].rstrip(), lines[24].lstrip()) == ("first", "last!")


def test_characters_are_those_of_code_page_437(vga: Vga, memory: GuestMemory) -> None:
    write(memory, 0, bytes([0x00, 0x01, 0x10, 0x1F, 0x41, 0x7F, 0x80, 0xB3, 0xC4, 0xDB, 0xE1, 0xFE, 0xFF]))
    assert vga.text()[0].startswith(" \u263a\u25ba\u25bcA\u2302\u00c7\u2502\u2500\u2588\u00df\u25a0\u00a0 ")


def test_the_screen_scrolls_and_wraps(vga: Vga, memory: GuestMemory) -> None:
    crtc(vga, 0x0C, 0x3F)
    crtc(vga, 0x0D, 0xB0)
    write(memory, 0x3FB0, b"above")
    write(memory, 0, b"below")
    lines = vga.text()
    assert (lines[0].rstrip(), lines[1].rstrip()) == ("above", "below")


def test_modes_have_other_sizes(vga: Vga, memory: GuestMemory) -> None:
    crtc(vga, 0x09, 0x47)
    write(memory, 49 * 80, b"of fifty")
    assert vga.text()[49].rstrip() == "of fifty"
    crtc(vga, 0x01, 39)
    crtc(vga, 0x13, 20)
    write(memory, 40, b"of forty")
    assert vga.text()[1] == "of forty".ljust(40)


def test_graphics_are_no_text_and_text_may_be_elsewhere(vga: Vga, memory: GuestMemory) -> None:
    memory.write(0xB0000, b"M\x07")
    vga.write(0x0E, 2, 0x0A << 8 | 6)
    assert vga.text()[0].rstrip() == "M"
    vga.write(0x0E, 2, 0x05 << 8 | 6)
    assert vga.text() == []


def test_registers_are_read_back(vga: Vga) -> None:
    for port, index in ((0x04, 2), (0x0E, 8), (0x14, 0x0F)):
        vga.write(port, 1, index)
        vga.write(port + 1, 1, 0xA5)
        assert vga.read(port, 2) == 0xA5 << 8 | index
    vga.write(0x14, 1, 0xFF)
    vga.write(0x15, 1, 1)
    vga.read(0x1A, 1)
    for value in (0x31, 0x0C, 0x32, 0x0D, 0x31):
        vga.write(0x00, 1, value)
    assert vga.read(0x01, 1) == 0x0C
    vga.write(0x08, 1, 255)
    for value in (1, 2, 3, 4):
        vga.write(0x09, 1, value)
    vga.write(0x07, 1, 255)
    assert [vga.read(0x09, 1) for _ in range(4)] == [1, 2, 3, 4]


def test_no_wait_for_a_retrace_is_long(vga: Vga) -> None:
    assert {vga.read(0x1A, 1) & 8 for _ in range(2)} == {0, 8}


def test_registers_are_saved(vga: Vga, memory: GuestMemory) -> None:
    crtc(vga, 0x09, 0x47)
    vga.write(0x00, 1, 5)
    other = Vga(memory)
    other.load(vga.save())
    assert other.save() == vga.save()
    assert len(other.text()) == 50
    with pytest.raises(ValueError, match="expected 768"):
        other.load(vga.save() | {"palette": "00"})
