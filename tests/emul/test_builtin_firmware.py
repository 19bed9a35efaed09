"""The built-in firmware where there is no screen, nothing to start, or a guest that asks for nonsense."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

import pytest

import blockkit
from blockkit.emul.firmware import rom
from blockkit.emul.firmware.frame import SIZE
from blockkit.emul.session import Outcome

if TYPE_CHECKING:
    from pathlib import Path

#: What programs begin with: cli; ax, ds, es, ss = 0; sp = 7c00h; sti.
BEGIN = "fa 31c0 8ed8 8ec0 8ed0 bc007c fb"
#: al = 0; dx = 501h; out %al, %dx; cli; hlt
END = "b000 ba0105 ee fa f4"


def machine(directory: Path, code: str | bytes, **options: Any) -> blockkit.Machine:
    """Return a machine with a disk whose boot sector is a program."""
    path = directory / "disk"
    program = bytes.fromhex(BEGIN + code + END) if isinstance(code, str) else code
    path.write_bytes(program.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    words = {"firmware": "builtin", "memory": "2M", "accelerator": "python", "timeout": 60, "vga": "none", **options}
    return blockkit.Machine([{"file": str(path), "format": "raw"}], **words)


def test_without_a_screen_text_goes_to_the_serial_port(tmp_path: Path) -> None:
    code = (
        "b8480e cd10 b8690e cd10"  # AH=0eh: H, i
        "b402 b700 ba0503 cd10"  # AH=02h: row 3, column 5
        "b82a09 bb0700 b90300 cd10"  # AH=09h: three asterisks
        "b80006 b700 31c9 ba4f18 cd10"  # AH=06h: clear everything
    )
    with machine(tmp_path, code) as vm:
        assert vm.wait() is Outcome.EXIT
        assert vm.serial_text == "Hi\x1b[4;6H***\x1b[4;6H\x1b[2J\x1b[H"
        assert vm.screen() == ""


def test_without_a_screen_keys_come_from_the_serial_port(tmp_path: Path) -> None:
    # Four times AH=00h of INT 16h, and both bytes of each answer to port 402h.
    code = "ba0204" + "b400 cd16 ba0204 ee 88e0 ee" * 4
    with machine(tmp_path, code) as vm:
        vm.run_until(0.01)
        assert vm.outcome is None
        vm.send("a\n\x7f!")
        assert vm.wait() is Outcome.EXIT
        assert bytes(vm.session.pc.debug_log) == b"a\x1e\r\x1c\x08\x0e!\x02"


def test_there_may_be_nothing_to_start(tmp_path: Path) -> None:
    with blockkit.Machine(firmware="builtin", memory="2M", accelerator="python", vga="text") as vm:
        vm.expect("No bootable device.", screen=True, within=1)
    for each in ("ide", "virtio", "cdrom"):
        (tmp_path / each).write_bytes(bytes(1 << 20))
    with blockkit.Machine(
        [{"file": str(tmp_path / each), "format": "raw", "if": each} for each in ("ide", "virtio")],
        cdrom=tmp_path / "cdrom",
        firmware="builtin",
        memory="2M",
        accelerator="python",
        vga="none",
    ) as vm:
        vm.expect("No bootable device.", within=1)
        # All were looked at, and nothing else of them: of the CD-ROM the sector that would tell of a catalog.
        assert [(each.drive, each.offset, each.length) for each in vm.requests] == [
            ("drive0", 0, 512),
            ("drive1", 0, 512),
            ("drive2", 17 * 2048, 2048),
        ]


def test_a_program_may_take_what_comes_after_the_last_disk(tmp_path: Path) -> None:
    code = (
        "be387c bf0080 b90800 f3a4"  # what is at 7c38h to 8000h: the vector of INT 18h leads there
        "c70660000080 c70662000000"
        "bb0090 b80103 b90100 ba8000 cd13 cd19"  # zeros over the boot sector of the disk; INT 19h
    )
    program = bytes.fromhex(BEGIN + code)
    assert len(program) <= 0x38
    with machine(tmp_path, program.ljust(0x38, b"\0") + bytes.fromhex(END)) as vm:
        assert vm.wait() is Outcome.EXIT
        assert [each.operation for each in vm.requests] == ["read", "write", "read"]


def test_keys_of_the_keypad_are_like_others_to_programs_that_know_84_keys(tmp_path: Path) -> None:
    # AH=01h until there is a key, and 00h, then 11h and 10h, of INT 16h, for three keys each; answers go to port 402h.
    tell = "ba0204 ee 88e0 ee"
    code = "".join(
        f"b4{look} cd16 74fa {tell} b4{take} cd16 {tell}" for look, take in [("01", "00")] * 3 + [("11", "10")] * 3
    )
    with machine(tmp_path, code, vga="text") as vm:
        vm.run_until(0.00001)
        for _ in range(2):
            vm.press("kp_enter", "ctrl-kp_enter", "kp_divide")
        assert vm.wait() is Outcome.EXIT
        old, new = bytes.fromhex("0d1c 0a1c 2f35"), bytes.fromhex("0de0 0ae0 2fe0")
        twice = b"".join(keys[at : at + 2] * 2 for keys in (old, new) for at in range(0, 6, 2))
        assert bytes(vm.session.pc.debug_log) == twice


def test_pause_is_no_other_key() -> None:
    with blockkit.Machine(firmware="builtin", memory="2M", accelerator="python", vga="text") as vm:
        vm.run_until(0.01)
        memory = vm.session.pc.memory
        before = memory.read(0x417, 2), memory.read(0x496, 1), memory.read(0x41A, 4)
        for part in ("e11d45", "e19dc5"):
            vm.session.pc.keyboard.press(bytes.fromhex(part))
            vm.run_until(vm.now + 0.01)
            assert (memory.read(0x417, 2), memory.read(0x496, 1), memory.read(0x41A, 4)) == before
        vm.press("num_lock")
        vm.run_until(vm.now + 0.01)
        assert memory.read(0x417, 1) == b"\x20"


def ask(vm: blockkit.Machine, vector: int, *, again: bool = False, **registers: int) -> int:
    """Ask for a service as a program does that makes up the frame itself; return what the stub would do."""
    pc, frame = vm.session.pc, bytearray(SIZE)
    for name, value in registers.items():
        at = {"bx": 20, "dx": 24, "cx": 28, "ax": 32}[name]
        frame[at : at + 2] = value.to_bytes(2, "little")
    frame[36:38] = bytes((vector, again))
    pc.memory.write(0x10000, bytes(frame))
    pc.bus.port_write(rom.PORT, 2, 0x1000)
    pc.bus.port_write(rom.PORT + 2, 2, 0)
    return pc.bus.port_read(rom.PORT, 1)


def test_who_says_that_a_start_was_begun_is_not_believed() -> None:
    with blockkit.Machine(firmware="builtin", memory="2M", accelerator="python", vga="text") as vm:
        vm.run_until(0.001)
        assert ask(vm, 0x19, again=True) == 0
        # It goes on with INT 18h.
        assert vm.session.pc.memory.read(0x10000 + 38, 4) == vm.session.pc.memory.read(0x18 * 4, 4)


@pytest.mark.parametrize(("left", "right"), [(0, 79), (0, 78), (1, 79), (40, 40)])
@pytest.mark.parametrize(
    ("function", "lines", "after"),
    [(6, 1, "0234 5"), (6, 3, "04   5"), (7, 1, "0 1235"), (7, 4, "0    5"), (6, 0, "0    5"), (7, 200, "0    5")],
)
def test_windows_are_scrolled(function: int, lines: int, after: str, left: int, right: int) -> None:
    with blockkit.Machine(firmware="builtin", memory="2M", accelerator="python", vga="text") as vm:
        vm.run_until(0.001)
        memory = vm.session.pc.memory
        before = [bytes((ord("0") + row, 7)) * 80 for row in range(6)]
        memory.write(0xB8000, b"".join(before))
        ask(vm, 0x10, ax=function << 8 | lines, bx=0x1F00, cx=0x0100 | left, dx=0x0400 | right)
        for row, digit in enumerate(after):
            cell = bytes((ord(digit), 0x1F if digit == " " else 7))
            line = before[row][: 2 * left] + cell * (right - left + 1) + before[row][2 * right + 2 :]
            assert memory.read(0xB8000 + 160 * row, 160) == line


#: CS and IP, to port 402h.
TELL_PLACE = "ba0204 8cc8 ee 88e0 ee e80000 58 ee 88e0 ee"


def disc(path: Path, *, platform: int = 0, segment: int = 0, count: int = 4, total: int = 0, flag: int = 0x88) -> Path:
    """Make a CD-ROM with a boot catalog and an image at sector 20."""
    record = b"\x00CD001\x01EL TORITO SPECIFICATION".ljust(0x47, b"\0") + (19).to_bytes(4, "little")
    check = bytearray(bytes((1, platform)).ljust(30, b"\0") + b"\x55\xaa")
    words = sum(int.from_bytes(check[at : at + 2], "little") for at in range(0, 32, 2))
    check[28:30] = (total - words & 0xFFFF).to_bytes(2, "little")
    entry = struct.pack("<BBHBBHI", flag, 0, segment, 0, 0, count, 20)
    image = bytes.fromhex(TELL_PLACE + END).ljust(2048, b"\0")
    sectors = {17: record, 19: bytes(check) + entry, 20: image}
    path.write_bytes(b"".join(sectors.get(number, b"").ljust(2048, b"\0") for number in range(200)))
    return path


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({}, (0, 0x7C00)),
        ({"count": 1}, (0, 0x7C00)),
        ({"segment": 0x7C0}, (0, 0x7C00)),
        ({"segment": 0x2000}, (0x2000, 0)),
        ({"segment": 0x50}, (0x50, 0)),
        ({"segment": 0x9F40}, (0x9F40, 0)),
        ({"segment": 0x730}, (0x730, 0)),
        # Those that are not started.
        ({"flag": 0}, None),
        ({"total": 1}, None),
        ({"platform": 0xEF}, None),
        ({"count": 0}, None),
        ({"count": 0xFFFF}, None),
        ({"segment": 0x4F}, None),
        ({"segment": 0x9F41, "count": 1}, None),
        ({"segment": 0x731}, None),
        ({"segment": 0x7BF}, None),
        ({"segment": 0xFFFF}, None),
        ({"segment": 0x1000, "count": 4 * 181}, None),
    ],
)
def test_a_cdrom_is_started_if_its_image_fits(
    fields: dict[str, int], place: tuple[int, int] | None, tmp_path: Path
) -> None:
    path = disc(tmp_path / "disc", **fields)
    with blockkit.Machine(cdrom=path, firmware="builtin", memory="2M", accelerator="python", vga="none") as vm:
        if place is None:
            vm.expect("No bootable device.", within=1)
            return
        assert vm.wait() is Outcome.EXIT
        segment, offset = struct.unpack("<HH", bytes(vm.session.pc.debug_log))
        assert (segment, offset) == (place[0], place[1] + 0xC)


def test_a_medium_that_was_taken_out_is_not_there(tmp_path: Path) -> None:
    path = disc(tmp_path / "disc")
    with blockkit.Machine(cdrom=path, firmware="builtin", memory="2M", accelerator="python", vga="none") as vm:
        vm.run_until(0.0001)
        assert drive_answers(vm) == {0x15: 3, 0x42: 0x100, 0x43: 0x100, 0x44: 4, 0x48: 0}
        ports = vm.session.pc.bus.ports
        # The second channel's master: PACKET with REQUEST SENSE, by which it learns of the medium, and with LoEj.
        for packet, words in ((0x03, 9), (0x1B, 0)):
            for at, value in ((6, 0xA0), (1, 0), (4, 18), (5, 0), (7, 0xA0)):
                ports.write(0x170 + at, 1, value)
            for word in (packet, 0, 18 if words else 2, 0, 0, 0):
                ports.write(0x170, 2, word)
            for _ in range(words):
                ports.read(0x170, 2)
        assert drive_answers(vm) == {0x15: 3, 0x42: 0x31, 0x43: 0x31, 0x44: 0x31, 0x48: 0x31}
        vm.reset()
        vm.expect("No bootable device.", within=1)


def drive_answers(vm: blockkit.Machine) -> dict[int, int]:
    """Return what functions of INT 13h answer in AH for the CD-ROM; 100h where they were begun."""
    memory, found = vm.session.pc.memory, {}
    # A packet that asks for a sector behind the end; it is long enough for what AH=48h tells.
    packet = struct.pack("<HHHHQ", 30, 1, 0, 0x3000, 1000)
    for function in (0x15, 0x42, 0x43, 0x44, 0x48):
        memory.write(0, packet)
        again = ask(vm, 0x13, ax=function << 8, dx=0xE0)
        found[function] = 0x100 if again else memory.read(0x10000 + 33, 1)[0]
    return found


def test_it_is_saved_with_the_machine(tmp_path: Path) -> None:
    code = "b400 cd16 ba0204 ee"
    with machine(tmp_path, code) as vm:
        vm.run_until(0.01)
        vm.save(tmp_path / "saved")
        before = vm.state_hash()
    disks, words = [{"file": str(tmp_path / "disk"), "format": "raw"}], {"memory": "2M", "vga": "none"}
    path = tmp_path / "saved"
    with blockkit.Machine.load(path, disks, firmware="builtin", accelerator="python", **words) as vm:
        assert vm.state_hash() == before
        vm.send("x")
        assert vm.wait() is Outcome.EXIT
        assert bytes(vm.session.pc.debug_log) == b"x"


def test_a_reset_begins_anew(tmp_path: Path) -> None:
    # Writes R, and resets the machine by port 92h when it finds 0 at 600h, which is then 1.
    code = "b8520e cd10 803e0006 01 740b c606000601 b001 e692 ebfe 90"
    with machine(tmp_path, code) as vm:
        assert vm.wait() is Outcome.EXIT
        assert vm.serial_text == "RR"


@pytest.mark.parametrize("seed", range(8))
def test_nonsense_is_answered(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    with machine(tmp_path, "", vga="text") as vm:
        vm.run_until(0.00001)
        pc = vm.session.pc
        for _ in range(400):
            segment, pointer = rng.choice((0, 0x9000, 0xFFFF, rng.getrandbits(16))), rng.getrandbits(16)
            vector = rng.choice(rom.SERVICES)
            frame = bytearray(rng.choice((bytes(SIZE), rng.randbytes(SIZE))))
            frame[32:36] = rng.getrandbits(16).to_bytes(4, "little")
            frame[24] = rng.choice((0, 0x80, 0x81, 0xE0, rng.getrandbits(8)))
            frame[36:38] = bytes((vector, rng.choice((0, 0, 1, 255))))
            address = (segment << 4) + pointer
            if address + SIZE <= len(pc.memory.ram):
                pc.memory.write(address, bytes(frame))
            pc.bus.port_write(rom.PORT, 2, segment)
            pc.bus.port_write(rom.PORT + 2, 2, pointer)
            assert pc.bus.port_read(rom.PORT, 1) in (0, 1, 2)
            pc.cpu.skip(1_000_000)
            pc.clock.fire()
