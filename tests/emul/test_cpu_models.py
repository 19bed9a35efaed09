"""What a processor is asked to have is there, and what it is not asked to have is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.session import Outcome
from blockkit.errors import OptionError
from tests.emul.rom import Rom
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("accelerator", ["python", "jit"])
def test_a_guest_finds_what_was_asked_for(tmp_path: Path, accelerator: str) -> None:
    if accelerator == "jit":
        pytest.importorskip("llvmlite")
    # EAX = 1; CPUID; ECX >> 25 & 1 to the serial port.
    rom = Rom().raw("66b801000000 0fa2 66c1e919 88c8 2401 baf803 ee").exit(0).write(tmp_path / "guest.rom")
    found = {}
    for model in (None, "base", "base,+aes", "max", "max,-aes"):
        with blockkit.Machine(firmware=rom, memory="2M", accelerator=accelerator, cpu=model) as vm:
            assert vm.wait() is Outcome.EXIT
            found[model] = vm.session.built.serial.data[0]
    assert found == {None: 0, "base": 0, "base,+aes": 1, "max": 1, "max,-aes": 0}


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(OptionError, match="there is no model 'haswell'; known are base, max"):
        blockkit.Machine(memory="2M", accelerator="python", cpu="haswell")


@pytest.mark.guest
@pytest.mark.parametrize("model", ["base,-rdrand", "max"])
def test_linux_finds_what_was_asked_for(tmp_path: Path, model: str) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(initrd("amd64", ("virtio",), "echo FLAGS $(grep -m 1 flags /proc/cpuinfo) END"))
    with blockkit.Machine(
        kernel=Debian("amd64").kernel(),
        initrd=path,
        append="console=ttyS0 quiet panic=-1",
        accelerator="jit",
        cpu=model,
    ) as vm:
        vm.expect("FLAGS ")
        flags = set(vm.expect(" END").string[: -len(" END")].split("FLAGS ")[-1].split())
    asked = {"aes", "adx", "pclmulqdq", "rdseed", "abm"}
    assert flags & asked == (asked if model == "max" else set())
    assert ("rdrand" in flags) == (model == "max")
