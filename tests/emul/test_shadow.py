"""Firmware copies itself to the RAM behind it, and goes on there, as the chip set lets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from tests.cpu.kernel import needs_kvm
from tests.emul.rom import Rom

if TYPE_CHECKING:
    from pathlib import Path

#: eax = 80000058h, PAM of the host bridge; dx = cf8h; out %eax, %dx; dx = cfdh; al = what follows; out %al, %dx
PAM = "66b858000080 baf80c 66ef bafd0c b0"
#: al = f000:1234h; dx = 3f8h; out %al, %dx
TELL = "a03412 baf803 ee"
WRITES_ONLY, READS_ONLY, BOTH = "20 ee", "10 ee", "30 ee"


@pytest.mark.parametrize("accelerator", ["python", "jit", pytest.param("kvm", marks=needs_kvm)])
def test_rom_is_copied_to_the_ram_behind_it(accelerator: str, tmp_path: Path) -> None:
    if accelerator == "jit":
        pytest.importorskip("llvmlite")
    rom = (
        Rom()
        .raw("b800f0 8ed8 8ec0 fc")  # ds, es = f000h; cld
        .raw("c6063412 11")  # movb $11h, 1234h: neither reads nor writes go to RAM
        .raw(TELL)
        .raw(PAM + WRITES_ONLY)
        .raw("c7063412 5a6b")  # movw $6b5ah, 1234h
        .raw(TELL)
        .raw("be00f0 bf00f0 b90010 f3a4")  # si, di = f000h; cx = 1000h; rep movsb
        .raw(PAM + READS_ONLY)
        .raw(TELL)
        .raw("c6063412 77")
        .raw(TELL)
        .raw(PAM + BOTH)
        .raw("c6063412 88")
        .raw(TELL)
        .exit(0)
    )
    with blockkit.Machine(
        firmware=rom.write(tmp_path / "rom"), memory="2M", accelerator=accelerator, vga="none", timeout=60
    ) as vm:
        assert vm.wait() is Outcome.EXIT
        assert bytes(vm.session.built.serial.since(0)) == bytes((0, 0, 0x5A, 0x5A, 0x88))
        assert vm.session.pc.memory.read(0xF1234, 2) == b"\x88\x6b"
