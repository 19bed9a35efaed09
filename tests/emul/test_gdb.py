"""The debugger's protocol: with gdb itself, and packet by packet."""

from __future__ import annotations

import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from blockkit.cpu import state
from blockkit.emul.gdb.memory import LinearMemory
from blockkit.emul.gdb.packets import INTERRUPT, Reader, frame
from blockkit.emul.gdb.registers import REGISTERS, description
from blockkit.emul.gdb.stub import Stub
from blockkit.emul.guest import Machine
from blockkit.errors import OptionError
from tests.emul.rom import Rom, echo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[Machine]:
    with Machine(memory="4M", accelerator="python", firmware=echo().write(tmp_path / "guest.rom")) as machine:
        yield machine


def test_packets_are_cut_out_of_a_stream() -> None:
    reader = Reader()
    assert list(reader.feed(b"+$g#6")) == []
    assert list(reader.feed(b"7\x03$m0,1#")) == [b"g", INTERRUPT]
    assert list(reader.feed(b"00")) == [None]
    assert list(reader.feed(b"-" + frame("OK"))) == [b"OK"]
    assert list(reader.feed(b"$" + bytes(100_000))) == [None]
    assert frame("OK") == b"$OK#9a"


class Debugger:
    """Asks a stub, and collects what it says."""

    def __init__(self, vm: Machine) -> None:
        self.said: list[str] = []
        self.stub = Stub(vm.session, self.said.append)
        self.stub.begin()

    def ask(self, packet: str) -> str:
        self.said.clear()
        self.stub.handle(packet)
        return "".join(self.said)


def test_registers_and_memory(vm: Machine) -> None:
    debugger = Debugger(vm)
    assert debugger.ask("?") == "S05"
    data = bytes.fromhex(debugger.ask("g"))
    assert len(data) == sum(each.bits for each in REGISTERS[False]) // 8
    assert debugger.ask("p8") == (0xFFF0).to_bytes(4, "little").hex()
    assert debugger.ask("P0=78563412") == "OK"
    assert debugger.ask("p0") == "78563412"
    assert vm.session.pc.cpu.get_state()[state.RAX] == 0x12345678
    assert debugger.ask("G" + data.hex()) == "OK"
    assert debugger.ask("p0") == "00000000"
    assert debugger.ask("mff000,4") == echo().build()[:4].hex()
    assert debugger.ask("M5000,3:010203") == "OK"
    assert debugger.ask("m5000,4") == "01020300"
    # ROM is not written, and where nothing is, nothing is read.
    assert debugger.ask("Mff000,1:00").startswith("E")
    assert debugger.ask("m7ffffff0,4").startswith("E")
    assert debugger.ask("m3ffffe,4") == "0000"
    for wrong in ("m", "mx,y", "p", "pffff", "P", "Pffff=0", "G0", "M0,2:00", "Z0", "qXfer:features:read:target.xml:"):
        assert debugger.ask(wrong).startswith("E"), wrong
    for unknown in ("vMustReplyEmpty", "Z2,0,1", "!", ""):
        assert debugger.ask(unknown) == "", unknown


def test_steps_breakpoints_and_detaching(vm: Machine) -> None:
    debugger = Debugger(vm)
    assert debugger.ask("s") == "S05"
    assert debugger.ask("p8") == "00000000"
    assert debugger.ask("s") == "S05"
    assert debugger.ask("p8") == "03000000"
    assert debugger.ask("Z0,ff00c,1") == "OK"
    assert debugger.ask("c") == ""
    with pytest.raises(Exception, match="paused"):
        vm.expect("hello")
    assert debugger.said == ["S05"]
    assert debugger.ask("p8") == "0c000000"
    assert vm.serial_text == "he"
    assert debugger.ask("z0,ff00c,1") == "OK"
    assert debugger.ask("D") == "OK"
    vm.expect("llo")
    assert not vm.session.breakpoints


def test_the_end_of_the_guest_is_told(vm: Machine) -> None:
    debugger = Debugger(vm)
    debugger.ask("c")
    vm.send("q")
    vm.wait()
    assert debugger.said == ["W0b"]


def test_descriptions_name_the_architecture_and_every_register() -> None:
    from xml.etree import ElementTree

    for is_64, name in ((False, "i386"), (True, "i386:x86-64")):
        root = ElementTree.fromstring(description(is_64))
        assert root.findtext("architecture") == name
        names = [each.get("name") for each in root.iter("reg")]
        assert names == [each.name for each in REGISTERS[is_64]]
        assert len(set(names)) == len(names)


def test_addresses_go_through_page_tables(vm: Machine) -> None:
    pc = vm.session.pc
    slots = pc.cpu.get_state()
    memory = pc.ram

    def entry(at: int, value: int, size: int) -> None:
        memory[at : at + size] = value.to_bytes(size, "little")

    # Two levels: 4 KiB pages, and one of 4 MiB.
    slots[state.CR0] |= state.CR0_PG | state.CR0_PE
    slots[state.CR3], slots[state.CR4] = 0x100000, state.CR4_PSE
    entry(0x100000 + 4 * 1, 0x101000 | 1, 4)
    entry(0x101000 + 4 * 2, 0x3000 | 1, 4)
    entry(0x100000 + 4 * 2, 0x80 | 1, 4)
    pc.cpu.set_state(slots)
    linear = LinearMemory(pc)
    assert [linear.translate(at) for at in (0x402123, 0x403000, 0x801234, 0)] == [0x3123, None, 0x1234, None]
    memory[0x3FFE:0x4000] = b"ab"
    assert linear.read(0x402FFE, 4) == b"ab"
    assert linear.write(0x402FFE, b"xy")
    assert bytes(memory[0x3FFE:0x4000]) == b"xy"
    assert not linear.write(0x402FFF, b"xy")
    # Three levels: PAE.
    slots[state.CR4] = state.CR4_PAE
    entry(0x100000 + 8 * 3, 0x102000 | 1, 8)
    entry(0x102000 + 8 * 5, 0x200000 | 0x81, 8)
    pc.cpu.set_state(slots)
    assert LinearMemory(pc).translate(0xC0A12345) == 0x212345
    # Four levels.
    slots[state.EFER] = state.EFER_LMA | state.EFER_LME
    for table in (0x110000, 0x111000, 0x112000):
        entry(table + 8 * 0x1FF, table + 0x1000 | 1, 8)
    entry(0x113000 + 8 * 7, 0x4000 | 1 | 1 << 63, 8)
    slots[state.CR3] = 0x110000
    pc.cpu.set_state(slots)
    assert LinearMemory(pc).translate(0xFFFF_FFFF_FFE0_7ABC) == 0x4ABC
    assert LinearMemory(pc).translate(0x7ABC) is None


@pytest.mark.parametrize("where", ["x", "1:2:", "99999", "host:port"])
def test_places_that_mean_nothing(vm: Machine, where: str) -> None:
    with pytest.raises(OptionError, match="is not"):
        vm.serve_gdb(where)


@pytest.mark.interop("gdb")
@pytest.mark.parametrize("accelerator", ["python", "jit"])
def test_gdb_itself(tmp_path: Path, accelerator: str) -> None:
    if accelerator == "jit":
        pytest.importorskip("llvmlite")
    rom = Rom().say("hi").label("wait").raw("bafd03eca801").jump("74", "wait").exit(3)
    with Machine(memory="4M", accelerator=accelerator, firmware=rom.write(tmp_path / "guest.rom")) as vm:
        place = vm.serve_gdb("0")
        thread = threading.Thread(target=vm.wait, daemon=True)
        thread.start()
        commands = [
            "set confirm off",
            f"target remote {place}",
            "stepi",
            "stepi",
            'printf "eip %x edx %x\\n", $eip, $edx',
            "break *0xff00c",
            "continue",
            'printf "eip %x al %x\\n", $eip, $al',
            "x/2bx 0xff000",
            "set {char}0x5000=0x33",
            "x/1bx 0x5000",
            "set var $ebx=0x1234",
            "delete",
            "stepi",
            'printf "eip %x ebx %x\\n", $eip, $ebx',
            "monitor info status",
            "detach",
        ]
        words = [word for command in commands for word in ("-ex", command)]
        done = subprocess.run(
            ["gdb", "-q", "-nx", "-batch", *words], capture_output=True, text=True, timeout=60, check=False
        )
        for expected in (
            "eip 3 edx 303f8",
            "eip c al 69",
            "0xff000:\t0xba\t0xf8",
            "0x5000:\t0x33",
            "eip f ebx 1234",
            "VM status: paused",
            "detached",
        ):
            assert expected in done.stdout + done.stderr
        vm.session.call_soon(lambda: vm.send("x"))
        thread.join(20)
        assert vm.exit_code == 7


def test_ctrl_c_stops_a_guest_that_runs(tmp_path: Path) -> None:
    rom = Rom().label("on").jump("eb", "on")
    with Machine(memory="2M", accelerator="python", firmware=rom.write(tmp_path / "guest.rom")) as vm:
        vm.serve_gdb(f"unix:{tmp_path / 'gdb'}")
        thread = threading.Thread(target=vm.wait, daemon=True)
        thread.start()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(tmp_path / "gdb"))
            peer.sendall(frame("c"))
            assert peer.recv(1) == b"+"
            peer.sendall(INTERRUPT)
            answer = b""
            while not answer.endswith(b"#b5"):
                answer += peer.recv(100)
            assert answer == frame("S02")
            peer.sendall(frame("k"))
            thread.join(10)
        assert not thread.is_alive()


@pytest.mark.interop("gdb")
def test_gdb_itself_in_64_bit_mode(vm: Machine) -> None:
    pc = vm.session.pc
    for at, value in ((0x1000, 0x2003), (0x2000, 0x83)):  # one page of 1 GiB
        pc.ram[at : at + 8] = value.to_bytes(8, "little")
    pc.ram[0x8000:0x8008] = bytes.fromhex("48ffc048ffc3ebf8")  # INC RAX; INC RBX; JMP 8000h
    slots = pc.cpu.get_state()
    slots[state.CR0] = state.CR0_PE | state.CR0_PG | state.CR0_ET
    slots[state.CR3], slots[state.CR4] = 0x1000, state.CR4_PAE
    slots[state.EFER] = state.EFER_LME | state.EFER_LMA
    slots[state.SEGMENT_BASES + state.CS], slots[state.RIP] = 0, 0x8000
    slots[state.SEGMENT_ATTRIBUTES + state.CS] = 0xA09B
    slots[state.SEGMENT_BASES + state.FS] = 0xFFFF_8880_0000_1000
    slots[state.RAX], slots[state.REGISTERS.index("r12")] = 0xFFFF_FFFF_8100_0000, 12
    slots[state.XMM + 2 * 15] = 15
    pc.cpu.set_state(slots)
    place = vm.serve_gdb("0")
    thread = threading.Thread(target=vm.wait, daemon=True)
    thread.start()
    commands = [
        "set confirm off",
        f"target remote {place}",
        "show architecture",
        "break *0x8003",
        "continue",
        'printf "rip %lx rax %lx r12 %ld\\n", $rip, $rax, $r12',
        'printf "fs %lx xmm %d\\n", $fs_base, $xmm15.v4_int32[0]',
        "x/2i $pc",
        "kill",
    ]
    words = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-q", "-nx", "-batch", *words], capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    for expected in (
        "i386:x86-64",
        "Breakpoint 1, 0x0000000000008003",
        "rip 8003 rax ffffffff81000001 r12 12",
        "fs ffff888000001000 xmm 15",
        "inc    %rbx",
        "jmp    0x8000",
    ):
        assert expected in said, said
    assert "warning: while parsing" not in said
    thread.join(10)
    assert not thread.is_alive()
