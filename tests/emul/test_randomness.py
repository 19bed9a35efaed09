"""What is random in a machine is the same with the same seed, and something else with another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.randomness import Randomness
from blockkit.emul.session import Outcome
from blockkit.errors import OptionError
from tests.emul import kernels
from tests.emul.rom import Rom
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path


def test_numbers_follow_from_seed_and_purpose() -> None:
    assert Randomness(1).draw("a", 40) == Randomness(1).draw("a", 40)
    assert len({Randomness(seed).draw(purpose, 40) for seed in range(10) for purpose in "ab"}) == 20
    assert 0 < Randomness(1).number("a") < 1 << 64


@pytest.mark.parametrize("accelerator", ["python", "jit"])
def test_rdrand_gives_what_the_seed_says(tmp_path: Path, accelerator: str) -> None:
    if accelerator == "jit":
        pytest.importorskip("llvmlite")
    rom = Rom().raw("b91000").label("next").raw("0fc7f0baf803ee").jump("e2", "next").exit(0)  # RDRAND AX; OUT DX, AL
    found = {}
    for seed in (0, 1, 2**64 - 1):
        with blockkit.Machine(
            firmware=rom.write(tmp_path / "guest.rom"), memory="2M", accelerator=accelerator, seed=seed
        ) as vm:
            assert vm.wait() is Outcome.EXIT
            found[seed] = bytes(vm.session.built.serial.data)
            assert len(set(found[seed])) > 8
    assert len(set(found.values())) == 3
    with blockkit.Machine(firmware=str(tmp_path / "guest.rom"), memory="2M", accelerator="python", seed=1) as again:
        # After a reset it begins anew.
        again.run_until(0.000_000_010)
        again.reset()
        assert again.wait() is Outcome.EXIT
        assert bytes(again.session.built.serial.data).endswith(found[1])


def test_linux_is_given_another_seed_by_another_seed(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(kernels.code_elf(b"\xf4"))
    found = set()
    for seed in (0, 0, 1):
        with blockkit.Machine(kernel=tmp_path / "kernel", memory="2M", accelerator="python", seed=seed) as vm:
            found.add(bytes(vm.session.pc.ram[0x19010:0x19030]))
    assert len(found) == 2


@pytest.mark.parametrize("seed", [-1, 1 << 64, 1 << 20_000], ids=["negative", "large", "huge"])
def test_a_seed_of_more_bits_is_refused(seed: int) -> None:
    with pytest.raises(OptionError, match=r"^seed: [^\n]*$"):
        blockkit.Machine(seed=seed)


@pytest.mark.guest
@pytest.mark.slow
def test_linux_uses_it(tmp_path: Path) -> None:
    pytest.importorskip("llvmlite")
    script = (
        "echo TYPE $(cat /sys/kernel/boot_params/setup_data/0/type); echo ID $(cat /proc/sys/kernel/random/boot_id)."
    )
    (tmp_path / "initrd").write_bytes(initrd("amd64", (), script))
    found = []
    for seed in (5, 5, 6):
        with blockkit.Machine(
            kernel=Debian("amd64").kernel(),
            initrd=tmp_path / "initrd",
            append="console=ttyS0 panic=-1 quiet",
            accelerator="jit",
            reboot=False,
            seed=seed,
        ) as vm:
            vm.expect("TYPE 0x9")
            found.append(vm.expect(re.compile(r"ID ([0-9a-f-]{36})\.")).group(1))
    assert found[0] == found[1] != found[2]
