"""A whole machine saved and brought back, and files that are no saved machines."""

from __future__ import annotations

import json
import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.guest import Machine
from blockkit.emul.saved.file import Writer, sections
from blockkit.emul.saved.schema import HEADER_SIZE, SECTION_SIZE, Section
from blockkit.emul.session import Outcome
from blockkit.errors import BlockkitError, EmulationError, FormatError
from tests.emul.machines import CONTROLLER, install
from tests.emul.rom import Rom

if TYPE_CHECKING:
    from pathlib import Path


def worker() -> Rom:
    """Say something, copy sector after sector to the next one with changes, say more, and end with a checksum."""
    rom = Rom().raw("31c08ed88ed0bc007c").say("begin\n").raw("bb0000b90c00").label("next")  # BX = 0, CX = 12
    rom.raw("ba000688d8ee42b001ee").label("busy").raw("eca801").jump("75", "busy")  # read sector BL
    rom.raw("a10060 01c3 fe060060".replace(" ", ""))  # MOV AX, [6000h]; ADD BX, AX; INC BYTE [6000h]
    rom.raw("4a88c8ee42b002ee").label("busy2").raw("eca801").jump("75", "busy2")  # write it as sector CL
    rom.raw("baf803b02eee").jump("e2", "next")
    return rom.say("\n").raw("88d8ba0105eef4")  # exit with BL


@pytest.fixture(autouse=True)
def devices(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return make_disk(tmp_path)


def make_disk(place: Path) -> Path:
    path = place / "disk.qcow2"
    blockkit.create_image(path, "qcow2", 1 << 20)
    with blockkit.open_image(path, read_only=False) as node:
        node.write(0, random.Random(7).randbytes(1 << 16))
    return path


def options(tmp_path: Path, **more: Any) -> dict[str, Any]:
    rom = worker().write(tmp_path / "guest.rom")
    return {"memory": "2M", "accelerator": "python", "firmware": rom, "snapshot": True} | more


def test_it_goes_on_as_if_nothing_had_been(tmp_path: Path, disk: Path) -> None:
    given = options(tmp_path)
    with Machine([disk], **given) as vm:
        vm.expect("begin\n.......")
        vm.save(tmp_path / "saved")
        at, text = vm.now, vm.serial_text
        assert at > 0.0003
        assert vm.wait() is Outcome.EXIT
        found = (vm.exit_code, vm.now, vm.state_hash(), vm.serial_text[len(text) :])
        changed = vm.session.built.drives[0].node.read(0, 1 << 16)
    with Machine.load(tmp_path / "saved", [disk], **given) as again:
        assert again.now == at
        assert again.serial_text == ""
        assert again.wait() is Outcome.EXIT
        assert (again.exit_code, again.now, again.state_hash(), again.serial_text) == found
        assert again.session.built.drives[0].node.read(0, 1 << 16) == changed
    # Nothing was written to the image itself.
    with blockkit.open_image(disk) as node:
        assert node.read(0, 1 << 16) == random.Random(7).randbytes(1 << 16)


def test_a_fresh_process_goes_on_with_another_accelerator(tmp_path: Path, disk: Path) -> None:
    import subprocess
    import sys

    pytest.importorskip("llvmlite")
    given = options(tmp_path)
    with Machine([disk], **given) as vm:
        vm.expect("begin\n.......")
        vm.save(tmp_path / "saved")
        vm.wait()
        found = vm.state_hash(), vm.exit_code
    script = (
        "import pytest, sys; from tests.emul.machines import install; from blockkit import Machine\n"
        "install(pytest.MonkeyPatch())\n"
        f"vm = Machine.load({str(tmp_path / 'saved')!r}, [{str(disk)!r}], **{given | {'accelerator': 'jit'}!r})\n"
        "vm.wait(); print(vm.state_hash(), vm.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == [found[0], str(found[1])], done.stderr


def test_a_disk_that_was_changed_meanwhile_is_refused(tmp_path: Path, disk: Path) -> None:
    given = options(tmp_path, snapshot=False)
    with Machine([disk], **given) as vm:
        vm.expect("begin\n....")
        vm.save(tmp_path / "saved")
    # Closing the image is no change.
    with Machine.load(tmp_path / "saved", [disk], **given) as vm:
        assert vm.now > 0
    before = os.stat(disk)
    os.utime(disk, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    with pytest.raises(EmulationError, match=r"disk\.qcow2: has been changed since .* --force-load"):
        Machine.load(tmp_path / "saved", [disk], **given)
    with Machine.load(tmp_path / "saved", [disk], force=True, **given) as vm:
        assert vm.wait() is Outcome.EXIT
    with pytest.raises(EmulationError, match="has been changed"):
        Machine.load(tmp_path / "saved", [disk], **given)


def test_a_machine_made_of_other_parts_is_refused(tmp_path: Path, disk: Path) -> None:
    given = options(tmp_path)
    other = tmp_path / "other.qcow2"
    blockkit.create_image(other, "qcow2", 2 << 20)
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(1 << 20))
    with Machine([disk], **given) as vm:
        vm.save(tmp_path / "saved")
    for disks, more, message in (
        ([disk], {"memory": "4M"}, r"had 2097152 bytes of memory, not 4194304"),
        ([], {}, "had 1 disks, not 0"),
        ([other], {}, r"size is 2097152, and was 1048576"),
        ([{"file": str(disk), "if": "ide"}], {}, "interface is 'ide', and was 'virtio'"),
        ([{"file": str(disk), "serial": "x"}], {}, "serial is 'x', and was ''"),
        ([{"file": str(raw), "format": "raw"}], {}, "made of other nodes"),
        ([disk], {"snapshot": False}, "snapshot is False, and was True"),
    ):
        with pytest.raises(FormatError, match=f"saved: .*{message}"):
            Machine.load(tmp_path / "saved", disks, **given | more)


def test_requests_end_before_a_machine_is_saved(tmp_path: Path, disk: Path) -> None:
    rom = Rom().out(CONTROLLER + 1, 1).say("x").label("on").jump("eb", "on")
    given = options(tmp_path, firmware=rom.write(tmp_path / "other.rom"))
    with Machine([disk], **given) as vm:
        vm.expect("x")
        assert vm.session.built.drives[0].disk.pending == 1
        at = vm.now
        vm.save(tmp_path / "saved")
        assert vm.session.built.drives[0].disk.pending == 0
        assert at < vm.now < at + 0.001


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved machine and its disk, which no test changes."""
    place = tmp_path_factory.mktemp("sample")
    make_disk(place)
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        with Machine([place / "disk.qcow2"], **options(place)) as vm:
            vm.expect("begin\n...")
            vm.save(place / "saved")
    return place


@pytest.fixture
def saved(tmp_path: Path, sample: Path) -> Path:
    """A copy of it."""
    for name in ("disk.qcow2", "saved"):
        shutil.copy2(sample / name, tmp_path / name)
    return tmp_path / "saved"


def load(tmp_path: Path) -> None:
    Machine.load(tmp_path / "saved", [tmp_path / "disk.qcow2"], **options(tmp_path)).close()


def test_the_layout_is_what_the_schema_says(saved: Path) -> None:
    with saved.open("rb") as file:
        found = list(sections(file))
    kinds = [piece.kind for piece in found]
    assert kinds[0] is Section.STATE
    assert kinds[-2:] == [Section.FILES, Section.END]
    assert Section.RAM in kinds
    assert Section.DISK in kinds
    state = found[0].tree()
    assert (state["memory"], state["drives"][0]["size"]) == (2 << 20, 1 << 20)
    assert saved.stat().st_size < 200_000


def test_every_damaged_byte_is_seen(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    rng = random.Random(3)
    places = [*range(HEADER_SIZE + SECTION_SIZE), *(rng.randrange(len(data)) for _ in range(60)), len(data) - 1]
    for at in places:
        broken = bytearray(data)
        broken[at] ^= 1 << rng.randrange(8)
        if HEADER_SIZE - 4 <= at < HEADER_SIZE:
            continue  # reserved
        saved.write_bytes(broken)
        with pytest.raises(BlockkitError, match="saved"):
            load(tmp_path)
    for length in (0, 1, HEADER_SIZE, HEADER_SIZE + SECTION_SIZE, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:length])
        with pytest.raises(FormatError, match="saved"):
            load(tmp_path)
    saved.write_bytes(data + b"x")
    with pytest.raises(FormatError, match="something comes after the end"):
        load(tmp_path)


def rewrite(saved: Path, change: Any) -> None:
    """Write a saved machine anew, with its sections changed and their checksums right."""
    with saved.open("rb") as file:
        found = [[piece.kind, piece.number, piece.offset, piece.data, piece.plain] for piece in sections(file)]
    change(found)
    with saved.open("wb") as file:
        writer = Writer(file)
        for kind, number, offset, data, plain in found:
            if kind is Section.ZERO:
                writer.add_zeros(number, offset, plain)
            else:
                writer.add(kind, data, number=number, offset=offset)


def change_state(path: tuple[Any, ...], value: Any) -> Any:
    def change(found: list[Any]) -> None:
        state = place = json.loads(found[0][3])
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        found[0][3] = json.dumps(state).encode()

    return change


@pytest.mark.parametrize(
    "change",
    [
        change_state(("memory",), "x"),
        change_state(("cpu",), []),
        change_state(("cpu",), None),
        change_state(("cpu", 3), "-1"),
        change_state(("cpu", 3), "1" * 100),
        change_state(("cpu", 3), {}),
        change_state(("executed",), "1e400"),
        change_state(("executed",), -1),
        change_state(("devices",), []),
        change_state(("devices", "serial"), {}),
        change_state(("devices", "serial"), 7),
        change_state(("devices", "more"), {}),
        change_state(("drives",), [1]),
        change_state(("drives", 0, "graph"), {"driver": "raw"}),
        lambda found: found[0].__setitem__(3, b"[" * 100_000),
        lambda found: found[0].__setitem__(3, b"1"),
        lambda found: found.insert(1, [Section.RAM, 0, (2 << 20) - 1, b"xx", 2]),
        lambda found: found.insert(1, [Section.RAM, 0, 1 << 63, b"xx", 2]),
        lambda found: found.insert(1, [Section.DISK, 9, 0, b"xx", 2]),
        lambda found: found.insert(1, [Section.DISK, 0, (1 << 20) - 1, b"xx", 2]),
        lambda found: found.insert(1, [Section.ZERO, 0, 0, b"", 1 << 60]),
        lambda found: found.insert(1, [Section.RAM, 0, 0, bytes((1 << 20) + 1), 0]),
        lambda found: found.insert(1, found[0]),
        lambda found: found.reverse(),
        lambda found: found.pop(),
        lambda found: found.pop(-2),
        lambda found: found.insert(1, [Section.END, 0, 0, b"", 0]),
        lambda found: found[-2].__setitem__(3, b'{"drive0": 7}'),
        lambda found: found[-2].__setitem__(3, b'{"drive0": [7]}'),
    ],
)
def test_a_hostile_file_ends_in_one_line(saved: Path, tmp_path: Path, change: Any) -> None:
    rewrite(saved, lambda found: None)
    load(tmp_path)
    rewrite(saved, change)
    with pytest.raises(BlockkitError) as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value)


def test_saving_fails_as_a_whole(tmp_path: Path, disk: Path) -> None:
    with Machine([disk], **options(tmp_path)) as vm, pytest.raises(BlockkitError, match="no such file"):
        vm.save(tmp_path / "gone" / "saved")
    assert not list(tmp_path.glob("*.part"))


def ticker() -> Rom:
    """Count ticks of the timer and of the real-time clock, each by its own interrupt, and print them as letters."""
    from tests.emul.rom import SEGMENT

    segment = SEGMENT.to_bytes(2, "little").hex()
    rom = Rom().raw("31c08ed88ed0bc007cbb4161")  # BL = 'A', BH = 'a'
    places = []
    for vector in (0x08, 0x70):
        rom.raw(f"c706{(4 * vector).to_bytes(2, 'little').hex()}")
        places.append(len(rom.code))
        rom.raw(f"0000c706{(4 * vector + 2).to_bytes(2, 'little').hex()}{segment}")
    for port, value in (
        *((0x20, 0x11), (0x21, 0x08), (0x21, 0x04), (0x21, 0x01), (0x21, 0xFA)),
        *((0xA0, 0x11), (0xA1, 0x70), (0xA1, 0x02), (0xA1, 0x01), (0xA1, 0xFE)),
        *((0x43, 0x34), (0x40, 0x00), (0x40, 0x10), (0x70, 0x0A), (0x71, 0x28), (0x70, 0x0B), (0x71, 0x42)),
    ):
        rom.out(port, value)
    rom.raw("fb").label("sleep").raw("f480fb5a").jump("75", "sleep").exit(0)
    rom.code[places[0] : places[0] + 2] = len(rom.code).to_bytes(2, "little")
    rom.raw("baf80388d8ee43").out(0x20, 0x20).raw("cf")
    rom.code[places[1] : places[1] + 2] = len(rom.code).to_bytes(2, "little")
    rom.raw("baf80388f8eefec7").out(0x70, 0x0C).raw("42ec").out(0xA0, 0x20).out(0x20, 0x20).raw("cf")
    return rom


def test_timers_and_interrupts_go_on(tmp_path: Path) -> None:
    given = options(tmp_path, firmware=ticker().write(tmp_path / "ticker.rom"))
    with Machine(**given) as vm:
        assert vm.wait(within=1) is Outcome.EXIT
        whole, end = vm.serial_text, (vm.now, vm.state_hash())
    # The timer at once and every 3.43 ms, the clock every 3.91 ms.
    assert whole.startswith("ABaCbDcEd")
    for at in (0.0001, 0.0123, 0.0400001, 0.07):
        with Machine(**given) as vm:
            vm.run_until(at)
            vm.save(tmp_path / "saved")
            begun = vm.serial_text
        with Machine.load(tmp_path / "saved", **given) as vm:
            assert vm.wait(within=1) is Outcome.EXIT
            assert (begun + vm.serial_text, (vm.now, vm.state_hash())) == (whole, end)


def test_memory_that_was_zero_is_zero_again(tmp_path: Path) -> None:
    from blockkit.emul.saved.machine import load as bring_back

    given = options(tmp_path)
    with Machine(**given) as vm:
        vm.save(tmp_path / "saved")
        before = vm.state_hash()
        vm.session.pc.ram[0x100000:0x100004] = b"junk"
        assert vm.state_hash() != before
        bring_back(vm.session.built, str(tmp_path / "saved"))
        assert vm.state_hash() == before
