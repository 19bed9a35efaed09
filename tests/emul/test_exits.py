"""What a read of 4 KiB costs in accesses to registers, with Linux's own drivers: virtio, IDE by DMA, IDE by PIO.

QEMU with the same guest was measured: 1 access and the end of the interrupt, 27 and the end, and 1024 and 19.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

import blockkit
from blockkit.emul.guest import Machine
from tests.guests.debian import Debian, initrd

if TYPE_CHECKING:
    from pathlib import Path

READS = 100
SCRIPT = 'echo 0 > /sys/block/{0}/queue/read_ahead_kb; echo READY; while read line; do eval "$line"; done'
#: The driver once more, told to leave the bus master alone.
PIO = (
    "rmmod sd_mod; rmmod ata_piix; rmmod libata; insmod /modules/libata.ko dma=0;"
    " insmod /modules/ata_piix.ko; insmod /modules/sd_mod.ko; while ! [ -b /dev/sda ]; do sleep 1; done; "
)


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.parametrize(
    ("interface", "device", "prepare", "least", "most"),
    [
        ("virtio", "vda", "", 2, 2.2),
        ("ide", "sda", "", 26, 29),
        ("ide", "sda", PIO, 1024 + 15, 1024 + 25),
    ],
)
def test_a_read_costs_what_it_does_elsewhere(
    tmp_path: Path, interface: str, device: str, prepare: str, least: float, most: float
) -> None:
    pytest.importorskip("llvmlite")
    blockkit.create_image(tmp_path / "disk.qcow2", "qcow2", 16 << 20)
    (tmp_path / "initrd").write_bytes(initrd("amd64", (interface,), prepare + SCRIPT.format(device)))
    with Machine(
        [{"file": str(tmp_path / "disk.qcow2"), "if": interface}],
        kernel=Debian("amd64").kernel(),
        initrd=tmp_path / "initrd",
        append="console=ttyS0 quiet panic=-1",
        accelerator="jit",
        memory="256M",
        timeout=200,
        count_accesses=True,
    ) as vm:
        vm.expect("READY")
        assert vm.accesses is not None
        command = f"dd if=/dev/{device} of=/dev/null bs=4k count={READS}"
        vm.send(f"{command}; echo wa$((1))rm\n")
        vm.expect("wa1rm")
        before, requests = Counter(vm.accesses.counts), len(vm.requests)
        vm.send(f"{command} skip={2 * READS}; echo do$((1))ne\n")
        vm.expect("do1ne")
        made = list(vm.requests)[requests:]
        assert [(each.operation, each.length) for each in made] == [("read", 4096)] * READS
        spent: Counter[str] = Counter()
        for (name, _, _, register, is_write), count in (vm.accesses.counts - before).items():
            spent[f"{name} {register} {'write' if is_write else 'read'}"] += count
    # The serial port and the timer have their own.
    ours = {name: count / READS for name, count in spent.items() if name.startswith(("drive", "ide", "localapic end"))}
    assert least <= sum(ours.values()) <= most, ours
    if interface == "virtio":
        assert ours["drive0.bar4 notify +0 write"] == 1
    elif not prepare:
        assert ours["ide.bar4 command 0 write"] == 3
        assert ours["ide.bar4 prd table 0 write"] == 1
        assert ours["ide.0 status/command write"] == 1
    else:
        assert ours["ide.0 data read"] == 1024
