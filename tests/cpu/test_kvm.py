"""The processor of the host: where the kernel allows it, all that a machine asks of one."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from mmap import PAGESIZE, mmap
from typing import TYPE_CHECKING

import pytest

from blockkit.cpu import state
from blockkit.cpu.accelerator import Region, Stop
from blockkit.cpu.kvm import KvmAccelerator, cpuid, device, floating, interface, registers
from blockkit.cpu.kvm.alarm import SIGNAL
from blockkit.cpu.reset import reset
from blockkit.errors import EmulationError
from tests.cpu.kernel import needs_kvm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from blockkit.cpu.accelerator import Vcpu
    from blockkit.cpu.kvm.vcpu import KvmVcpu

MILLISECOND = 1_000_000
#: More than any test takes; a run that needs it has failed.
LONG = 2_000 * MILLISECOND

RAM = 0x40000
ROM = 0x80000
#: Where no memory is.
DEVICE = 0xD0000
CODE = 0x1000
STACK = 0x8000


class Board:
    """A bus with some memory, whose devices answer with ``answers`` and note what they are asked."""

    def __init__(self) -> None:
        self.ram, self.rom = mmap(-1, RAM), mmap(-1, PAGESIZE)
        self.regions = [Region(0, memoryview(self.ram)), Region(ROM, memoryview(self.rom), writable=False)]
        self.log: list[tuple[object, ...]] = []
        self.answers: Iterator[int] = iter(range(0x11, 0x10000, 0x11))
        self.on_access: Callable[[], None] = lambda: None
        self.on_acknowledge: Callable[[], int] = lambda: 0x20

    def memory_map(self) -> list[Region]:
        return self.regions

    def mmio_read(self, address: int, size: int) -> int:
        return self._asked(("read", address, size))

    def mmio_write(self, address: int, size: int, value: int) -> None:
        self._asked(("write", address, size, value))

    def port_read(self, port: int, size: int) -> int:
        return self._asked(("in", port, size))

    def port_write(self, port: int, size: int, value: int) -> None:
        self._asked(("out", port, size, value))

    def has_port(self, port: int) -> bool:
        return True

    def acknowledge_interrupt(self) -> int:
        return self.on_acknowledge()

    def _asked(self, what: tuple[object, ...]) -> int:
        self.log.append(what)
        self.on_access()
        return next(self.answers) if what[0] in ("read", "in") else 0

    def put(self, address: int, code: str) -> None:
        data = bytes.fromhex(code)
        self.ram[address : address + len(data)] = data

    def word(self, address: int) -> int:
        return int.from_bytes(self.ram[address : address + 2], "little")


class Machine:
    """A board and a processor in real mode, about to run ``code`` at CODE."""

    def __init__(self, code: str = "", **options: object) -> None:
        self.board = Board()
        self.board.put(CODE, code)
        self.cpu: KvmVcpu = KvmAccelerator(**options).create_vcpu(self.board)  # type: ignore[arg-type]
        self.change({state.SELECTORS + state.CS: 0, state.SEGMENT_BASES + state.CS: 0, state.RIP: CODE})
        self.change({state.RSP: STACK})

    def change(self, values: dict[int, int]) -> None:
        slots = self.cpu.get_state()
        for slot, value in values.items():
            slots[slot] = value
        self.cpu.set_state(slots)

    def slot(self, number: int) -> int:
        return self.cpu.get_state()[number]

    def flag(self, bits: int) -> bool:
        return bool(state.rflags(self.cpu.get_state()) & bits)


@pytest.fixture
def machine() -> Iterator[Callable[..., Machine]]:
    made: list[Machine] = []

    def make(code: str = "", **options: object) -> Machine:
        made.append(Machine(code, **options))
        return made[-1]

    yield make
    for one in made:
        one.cpu.close()


# -- the program's side of the interface ---------------------------------------------------------------------


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    assert interface.GET_SUPPORTED_CPUID == 0xC008AE05
    assert interface.SET_USER_MEMORY_REGION == 0x4020AE46
    assert interface.GET_DIRTY_LOG == 0x4010AE42
    assert interface.SET_IDENTITY_MAP_ADDR == 0x4008AE48
    assert interface.RUN == 0xAE80
    assert interface.GET_SREGS == 0x8138AE83
    assert interface.GET_MSRS == 0xC008AE88
    assert interface.SET_SIGNAL_MASK == 0x4004AE8B
    assert interface.SET_VCPU_EVENTS == 0x4040AEA0
    assert interface.SET_XSAVE == 0x5000AEA5
    assert interface.GET_SREGS2 == 0x8140AECC


def test_a_missing_device_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        EmulationError, match=r"^kvm: .*/none does not exist, expected the modules kvm_intel or kvm_amd$"
    ):
        device.open_device(str(tmp_path / "none"))


def test_something_else_than_the_device_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EmulationError, match="KVM_GET_API_VERSION failed: inappropriate ioctl for device"):
        device.open_device(str(tmp_path / "file"))


def test_a_device_without_permission_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(EmulationError, match=r"kvm: /dev/kvm may not be opened, expected .* as the group kvm has"):
        device.open_device()


def test_a_host_of_another_kind_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.platform, "machine", lambda: "riscv64")
    with pytest.raises(EmulationError, match="the host is Linux on riscv64, expected Linux on x86_64"):
        device.open_device()


@needs_kvm
def test_a_kernel_that_lacks_something_is_told_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(device.NEEDED, 9999, "a thing (KVM_CAP_THING)")
    with pytest.raises(EmulationError, match=r"^kvm: the kernel lacks a thing \(KVM_CAP_THING\)$"):
        device.open_device()


def random_state(seed: int) -> list[int]:
    """Return a state of protected mode in which all that may differ does."""
    chance = random.Random(seed)
    slots = state.new_state()
    reset(slots)
    for slot in (*range(16), state.RIP, *range(state.DEBUG, state.DEBUG + 4), *range(state.XMM, state.XMM + 32)):
        slots[slot] = chance.getrandbits(32) if slot < state.DEBUG + 4 else chance.getrandbits(64)
    for segment in range(6):
        slots[state.SELECTORS + segment] = chance.randrange(8, 0x10000, 8)
        slots[state.SEGMENT_BASES + segment] = chance.getrandbits(32)
        slots[state.SEGMENT_LIMITS + segment] = chance.getrandbits(20) << 12 | 0xFFF
        slots[state.SEGMENT_ATTRIBUTES + segment] = 0xC09B if segment == state.CS else 0xC093
    for slot in (state.GDT_BASE, state.IDT_BASE, state.CR2, state.SYSENTER_EIP, state.SYSENTER_ESP, state.LSTAR):
        slots[slot] = chance.getrandbits(32)
    for slot in (state.GDT_LIMIT, state.IDT_LIMIT, state.FOP):
        slots[slot] = chance.getrandbits(11)
    slots[state.CR0] = state.CR0_PE | state.CR0_ET | state.CR0_NE
    slots[state.CR3] = chance.getrandbits(20) << 12
    slots[state.CR4] = state.CR4_PSE | state.CR4_PGE | state.CR4_OSFXSR
    slots[state.CR8] = chance.randrange(16)
    slots[state.DEBUG + 6], slots[state.DEBUG + 7] = 0xFFFF4FF1, 0x00000455
    slots[state.STAR], slots[state.SFMASK] = chance.getrandbits(64), chance.getrandbits(22)
    slots[state.KERNEL_GS_BASE], slots[state.CSTAR] = chance.getrandbits(47), chance.getrandbits(40)
    slots[state.SYSENTER_CS], slots[state.TSC_AUX] = chance.randrange(8, 0x10000), chance.getrandbits(32)
    slots[state.PAT], slots[state.TSC_OFFSET] = 0x0007010600070106, chance.getrandbits(50)
    slots[state.EXECUTED] = chance.getrandbits(50)
    slots[state.NMI_BLOCKED], slots[state.SHADOW] = chance.randrange(2), chance.randrange(2)
    flags = chance.getrandbits(22) & (state.ARITHMETIC | state.DF | state.IOPL | state.AC | state.ID | state.IF)
    state.set_rflags(slots, flags)
    top = chance.randrange(8)
    slots[state.FCW], slots[state.FSW], slots[state.MXCSR] = 0x27F, top << 11 | 0x4100, 0x9FC0
    slots[state.FIP], slots[state.FDP] = chance.getrandbits(32), chance.getrandbits(32)
    slots[state.FCS], slots[state.FDS] = chance.getrandbits(16), chance.getrandbits(16)
    # Valid, zero, infinite, denormal, empty and not empty.
    kinds = [
        (1 << 63 | 5, 0x4001, 0),
        (0, 0x8000, 1),
        (1 << 63, 0x7FFF, 2),
        (77, 0, 2),
        (0, 0, 3),
        (1 << 63, 0xC000, 3),
    ]
    slots[state.FTW] = 0
    for register in range(8):
        mantissa, exponent, tag = chance.choice(kinds)
        slots[state.X87 + 2 * register], slots[state.X87 + 2 * register + 1] = mantissa, exponent
        slots[state.FTW] |= tag << 2 * register
    return slots


@pytest.mark.parametrize("seed", range(5))
def test_floating_registers_come_back_from_the_area_as_they_went(seed: int) -> None:
    slots, area, back = random_state(seed), interface.Xsave(), state.new_state()
    floating.store(slots, area)
    floating.load(back, area)
    kept = (state.FCS, state.FDS)
    for slot in (*range(state.X87, state.MXCSR + 1), *range(state.XMM, state.XMM + 32)):
        assert slot in kept or back[slot] == slots[slot], slot


def test_the_top_of_the_stack_is_first_in_the_area() -> None:
    slots, area = state.new_state(), interface.Xsave()
    slots[state.FSW], slots[state.FTW] = 6 << 11, 0xFFFF & ~(3 << 12)
    slots[state.X87 + 12], slots[state.X87 + 13] = 1 << 63, 0x3FFF
    floating.store(slots, area)
    assert bytes(area.region[32:42]) == bytes.fromhex("0000000000000080ff3f")
    assert area.region[4] == 1 << 6


def test_a_null_segment_is_unusable_and_the_stacks_still_tells_the_privilege() -> None:
    slots = random_state(1)
    slots[state.SEGMENT_ATTRIBUTES + state.SS] = slots[state.SELECTORS + state.SS] = 0
    slots[state.CPL] = 2
    sregs = registers.store_system(slots, interface.Sregs2)
    assert (sregs.ss.unusable, sregs.ss.dpl, sregs.ds.unusable, sregs.ds.g, sregs.ds.db) == (1, 2, 0, 1, 1)
    back = state.new_state()
    registers.load_system(back, sregs)
    assert (back[state.SEGMENT_ATTRIBUTES + state.SS], back[state.CPL]) == (0, 2)


def test_a_model_is_cut_to_what_the_host_can_do() -> None:
    can = {(1, 0): (0x800F12, 0, 0x5, 0x3), (7, 0): (0, 8, 0, 0), (0x80000008, 0): (0x3027, 0, 0, 0)}
    model = {
        (0, 0): (7, 1, 2, 3),
        (1, 0): (0x306A9, 0x800, 1 << 31 | 0x6, 0x7),
        (7, 0): (0, 0xC, 0, 0),
        (0x80000001, 0): (0, 0, 1, 1),
        (0x80000008, 0): (0x3028, 0, 0, 0),
    }
    assert cpuid.of_model(model, can) == {
        (0, 0): (7, 1, 2, 3),
        (1, 0): (0x306A9, 0x800, 1 << 31 | 0x4, 0x3),
        (7, 0): (0, 8, 0, 0),
        (0x80000001, 0): (0, 0, 0, 0),
        (0x80000008, 0): (0x3027, 0, 0, 0),
    }


def test_a_guest_of_the_hosts_kind_sees_no_hypervisor_leaves_and_no_nesting() -> None:
    can = {(1, 0): (1, 0x05020800, 0x01200029, 4), (0x40000000, 0): (1, 2, 3, 4), (0xB, 1): (1, 1, 1, 1)}
    assert cpuid.of_host(can) == {(1, 0): (1, 0x800, 0x1, 4)}


# -- memory and devices --------------------------------------------------------------------------------------


@needs_kvm
def test_ports_are_read_and_written_and_a_halt_ends_it(machine: Callable[..., Machine]) -> None:
    # MOV DX, 3F8; MOV AL, 41; OUT DX, AL; IN AX, DX; OUT 80, EAX; HLT
    one = machine("baf803 b041 ee ed 66e780 f4")
    assert one.cpu.run(LONG) is Stop.HALTED
    assert one.board.log == [("out", 0x3F8, 1, 0x41), ("in", 0x3F8, 2), ("out", 0x80, 4, 0x11)]
    assert (one.slot(state.HALT), one.slot(state.RIP), one.slot(state.RAX)) == (state.HALTED, CODE + 11, 0x11)
    assert one.cpu.run(LONG) is Stop.HALTED


@needs_kvm
def test_string_instructions_reach_a_port_once_for_each_element(machine: Callable[..., Machine]) -> None:
    # MOV DX, 1F0; MOV CX, 5; MOV DI, 2000; REP INSW; MOV CX, 3; MOV SI, 2000; REP OUTSB; HLT
    one = machine("baf001 b90500 bf0020 f36d b90300 be0020 f36e f4")
    assert one.cpu.run(LONG) is Stop.HALTED
    assert [one.board.word(0x2000 + 2 * n) for n in range(6)] == [0x11, 0x22, 0x33, 0x44, 0x55, 0]
    assert one.board.log == [("in", 0x1F0, 2)] * 5 + [("out", 0x1F0, 1, value) for value in (0x11, 0, 0x22)]


@needs_kvm
def test_what_is_no_memory_is_a_device(machine: Callable[..., Machine]) -> None:
    # MOV AX, D000; MOV DS, AX; MOV EAX, [10]; MOV [20], AL; MOV BX, [32]; ADD WORD [40], 1; HLT
    one = machine("b800d0 8ed8 66a11000 a22000 8b1e3200 8306400001 f4")
    one.board.answers = iter((0x12345678, 0xBEEF, 0xFFFF))
    assert one.cpu.run(LONG) is Stop.HALTED
    assert one.board.log == [
        ("read", DEVICE + 0x10, 4),
        ("write", DEVICE + 0x20, 1, 0x78),
        ("read", DEVICE + 0x32, 2),
        ("read", DEVICE + 0x40, 2),
        ("write", DEVICE + 0x40, 2, 0),
    ]
    assert (one.slot(state.RAX), one.slot(state.RBX), one.flag(state.CF)) == (0x12345678, 0xBEEF, True)


@needs_kvm
def test_an_access_from_memory_into_a_device_is_split(machine: Callable[..., Machine]) -> None:
    # MOV AX, 3FF0; MOV DS, AX; MOV DWORD [FD], 44332211; MOV EBX, [FF]; HLT
    one = machine("b8f03f 8ed8 66c706fd00 11223344 668b1eff00 f4")
    one.board.answers = iter((0x5544, 0x66))
    assert one.cpu.run(LONG) is Stop.HALTED
    assert one.board.ram[RAM - 3 :] == bytes.fromhex("112233")
    assert one.board.log == [("write", RAM, 1, 0x44), ("read", RAM, 2), ("read", RAM + 2, 1)]
    assert one.slot(state.RBX) == 0x66554433


@needs_kvm
def test_rom_is_read_and_what_is_written_to_it_is_told(machine: Callable[..., Machine]) -> None:
    # MOV AX, 8000; MOV DS, AX; MOV WORD [0], 1234; MOV BX, [0]; HLT
    one = machine("b80080 8ed8 c70600003412 8b1e0000 f4")
    one.board.rom[:2] = b"\xad\xde"
    assert one.cpu.run(LONG) is Stop.HALTED
    assert (one.slot(state.RBX), one.board.rom[:2]) == (0xDEAD, b"\xad\xde")
    assert one.board.log == [("write", ROM, 2, 0x1234)]


@needs_kvm
def test_memory_comes_and_goes(machine: Callable[..., Machine]) -> None:
    # MOV AX, 8000; MOV DS, AX; MOV BYTE [0], 77; MOV BL, [0]; HLT; JMP to the second
    one = machine("b80080 8ed8 c606000077 8a1e0000 f4 ebf4")
    one.cpu.run(LONG)
    assert (one.slot(state.RBX), one.board.log) == (0, [("write", ROM, 1, 0x77)])
    one.board.log.clear()
    one.board.regions = [one.board.regions[0], Region(ROM, one.board.regions[1].memory)]
    one.cpu.memory_map_changed()
    one.change({state.RIP: CODE + 5, state.HALT: 0})
    one.cpu.run(LONG)
    assert (one.slot(state.RBX), one.board.log, one.board.rom[0]) == (0x77, [], 0x77)
    del one.board.regions[1]
    one.cpu.memory_map_changed()
    one.change({state.RIP: CODE + 5, state.HALT: 0})
    one.cpu.run(LONG)
    assert one.board.log == [("write", ROM, 1, 0x77), ("read", ROM, 1)]
    assert one.slot(state.RBX) == 0x11


@needs_kvm
@pytest.mark.parametrize(("address", "skip", "size"), [(0x80, 0, PAGESIZE), (0, 0, 100), (0, 64, PAGESIZE)])
def test_memory_that_is_not_whole_pages_is_refused(address: int, skip: int, size: int) -> None:
    board = Board()
    board.regions = [Region(address, memoryview(board.ram)[skip : skip + size])]
    with pytest.raises(EmulationError, match=r"kvm: memory of .* is not aligned, expected whole pages"):
        KvmAccelerator().create_vcpu(board)


@needs_kvm
def test_pages_the_guest_writes_are_noted_where_that_is_asked(machine: Callable[..., Machine]) -> None:
    one = machine("c606053077 c606065077 f4 ebf3")  # MOV BYTE [3005], 77; MOV BYTE [5006], 77; HLT; JMP to the first
    with pytest.raises(EmulationError, match="writes to the memory at 0x0 are not logged"):
        one.cpu.written_pages(0)
    one.cpu.log_writes(0, True)
    assert one.cpu.run(LONG) is Stop.HALTED
    pages = one.cpu.written_pages(0)
    assert len(pages) == RAM // PAGESIZE // 8
    assert int.from_bytes(pages, "little") & 0xFE == 1 << 3 | 1 << 5
    assert not any(one.cpu.written_pages(0))
    one.cpu.log_writes(0, False)
    with pytest.raises(EmulationError, match="no memory begins at 0x1234"):
        one.cpu.log_writes(0x1234, True)


# -- interrupts ----------------------------------------------------------------------------------------------


def handle(board: Board, vector: int, code: str) -> None:
    """Put a handler into memory, and its address into the table of real mode."""
    place = 0x2000 + 0x40 * vector
    board.put(place, code)
    board.ram[4 * vector : 4 * vector + 4] = place.to_bytes(4, "little")


def lower(one: Machine, vector: int = 0x20) -> Callable[[], int]:
    def acknowledge() -> int:
        one.cpu.set_interrupt_line(False)
        one.board.log.append(("acknowledge",))
        return vector

    return acknowledge


@needs_kvm
def test_an_interrupt_waits_until_it_may_be_taken(machine: Callable[..., Machine]) -> None:
    # OUT 1, AL; STI; CMP BYTE [3000], 0; JE to it; OUT 2, AL; CLI; HLT
    one = machine("e601 fb 803e003000 74f9 e602 fa f4")
    handle(one.board, 0x20, "e603 ff060030 cf")  # OUT 3, AL; INC WORD [3000]; IRET
    one.board.on_acknowledge = lower(one)
    one.cpu.set_interrupt_line(True)
    assert one.cpu.run(LONG) is Stop.HALTED
    assert [entry[:2] for entry in one.board.log] == [("out", 1), ("acknowledge",), ("out", 3), ("out", 2)]


@needs_kvm
def test_an_interrupt_that_is_lowered_is_not_taken(machine: Callable[..., Machine]) -> None:
    one = machine("e601 fb 90 90 fa f4")  # OUT 1, AL; STI; NOP; NOP; CLI; HLT
    one.cpu.set_interrupt_line(True)
    one.board.on_access = lambda: one.cpu.set_interrupt_line(False)
    one.board.on_acknowledge = lower(one)
    assert one.cpu.run(LONG) is Stop.HALTED
    assert one.board.log == [("out", 1, 1, 0)]


@needs_kvm
def test_an_interrupt_ends_a_halt_unless_it_is_masked(machine: Callable[..., Machine]) -> None:
    one = machine("f4 fb f4 e602 fa f4")  # HLT; STI; HLT; OUT 2, AL; CLI; HLT
    handle(one.board, 0x20, "e603 cf")
    one.board.on_acknowledge = lower(one)
    assert one.cpu.run(LONG) is Stop.HALTED
    one.cpu.set_interrupt_line(True)
    assert one.cpu.run(LONG) is Stop.HALTED
    assert (one.slot(state.RIP), one.board.log) == (CODE + 1, [])
    one.cpu.set_interrupt_line(False)
    one.change({state.HALT: 0})
    assert one.cpu.run(LONG) is Stop.HALTED
    assert one.slot(state.RIP) == CODE + 3
    one.cpu.set_interrupt_line(True)
    assert one.cpu.run(LONG) is Stop.HALTED
    assert [entry[:2] for entry in one.board.log] == [("acknowledge",), ("out", 3), ("out", 2)]
    assert one.slot(state.RIP) == CODE + 7


@needs_kvm
def test_a_line_that_stays_up_interrupts_again(machine: Callable[..., Machine]) -> None:
    one = machine("fb 90 90 ebfc")  # STI; NOP; NOP; JMP to the first NOP
    handle(one.board, 0x20, "ff060030 cf")  # INC WORD [3000]; IRET
    left = [5]

    def acknowledge() -> int:
        left[0] -= 1
        one.cpu.set_interrupt_line(left[0] > 0)
        return 0x20

    one.board.on_acknowledge = acknowledge
    one.cpu.set_interrupt_line(True)
    assert one.cpu.run(10 * MILLISECOND) is Stop.BUDGET
    assert (left, one.board.word(0x3000)) == ([0], 5)


@needs_kvm
@pytest.mark.parametrize("saved", [False, True])
def test_no_interrupt_is_lost_however_often_the_processor_stops(machine: Callable[..., Machine], saved: bool) -> None:
    one = machine("fb 90 ebfd")  # STI; NOP; JMP to it
    handle(one.board, 0x20, "ff060030 cf")
    taken = [0]

    def acknowledge() -> int:
        taken[0] += 1
        one.cpu.set_interrupt_line(False)
        return 0x20

    one.board.on_acknowledge = acknowledge
    chance = random.Random(7)
    for _ in range(300):
        one.cpu.set_interrupt_line(True)
        one.cpu.run(chance.choice((1, 1_000, 20_000, 60_000)))
        if saved:
            one.cpu.set_state(one.cpu.get_state())
    one.cpu.set_interrupt_line(False)
    one.cpu.run(5 * MILLISECOND)
    assert taken[0] > 50
    assert one.board.word(0x3000) == taken[0]


@needs_kvm
def test_an_nmi_interrupts_whatever_is_masked_and_ends_a_halt(machine: Callable[..., Machine]) -> None:
    one = machine("fa f4 e602 f4")  # CLI; HLT; OUT 2, AL; HLT
    handle(one.board, 2, "e603 f4 cf")  # OUT 3, AL; HLT; IRET
    assert one.cpu.run(LONG) is Stop.HALTED
    one.cpu.inject_nmi()
    assert one.cpu.run(LONG) is Stop.HALTED
    assert (one.board.log, one.slot(state.NMI_BLOCKED)) == ([("out", 3, 1, 0)], 1)
    # A second one waits for the end of the first.
    one.cpu.inject_nmi()
    assert one.cpu.run(LONG) is Stop.HALTED
    assert len(one.board.log) == 1
    one.change({state.HALT: 0})
    assert one.cpu.run(LONG) is Stop.HALTED
    assert sum(entry[1] == 3 for entry in one.board.log) == 2


@needs_kvm
def test_the_kernel_can_have_the_interrupt_controllers(machine: Callable[..., Machine]) -> None:
    # The first 8259 with vectors from 30, all but IRQ 4 masked: OUT 20, 11; 21, 30; 21, 4; 21, 1; 21, EF.
    # STI; HLT; OUT 2, AL; CLI; HLT
    one = machine("b011e620 b030e621 b004e621 b001e621 b0efe621 fb f4 e602 fa f4", create_irqchip=True)
    handle(one.board, 0x34, "b020 e620 e603 cf")  # MOV AL, 20; OUT 20, AL; OUT 3, AL; IRET
    # A processor that halts waits in the kernel.
    assert one.cpu.run(20 * MILLISECOND) is Stop.BUDGET
    assert (one.board.log, one.slot(state.HALT)) == ([], state.HALTED)
    one.cpu.irq_line(4, True)
    one.cpu.irq_line(4, False)
    assert one.cpu.run(20 * MILLISECOND) is Stop.BUDGET
    assert [entry[1] for entry in one.board.log] == [3, 2]
    with pytest.raises(EmulationError, match="the kernel has the interrupt controllers, expected irq_line"):
        one.cpu.set_interrupt_line(True)


@needs_kvm
def test_without_the_kernels_controllers_there_are_no_inputs(machine: Callable[..., Machine]) -> None:
    with pytest.raises(EmulationError, match="no interrupt controllers, expected create_irqchip=True"):
        machine().cpu.irq_line(4, True)


# -- time and kicks ------------------------------------------------------------------------------------------


@needs_kvm
def test_a_budget_ends_what_does_not_end_by_itself(machine: Callable[..., Machine]) -> None:
    one = machine("40 ebfd")  # INC AX; JMP to it
    before = time.monotonic_ns()
    assert one.cpu.run(20 * MILLISECOND) is Stop.BUDGET
    took = time.monotonic_ns() - before
    assert 20 * MILLISECOND <= one.cpu.executed <= took < LONG
    assert one.cpu.run(0) is Stop.BUDGET
    assert one.cpu.executed <= took


@needs_kvm
def test_time_goes_on_in_a_callback_and_rests_between_runs(machine: Callable[..., Machine]) -> None:
    one = machine("e601 e601 f4")
    times: list[int] = []

    def access() -> None:
        times.append(one.cpu.executed)
        time.sleep(0.002)

    one.board.on_access = access
    one.cpu.run(LONG)
    assert times[1] - times[0] >= 2 * MILLISECOND
    rested = one.cpu.executed
    time.sleep(0.002)
    assert one.cpu.executed == rested


@needs_kvm
def test_a_kick_of_another_thread_ends_a_run(machine: Callable[..., Machine]) -> None:
    one = machine("40 ebfd")
    for _ in range(20):
        kicker = threading.Timer(0.002, one.cpu.kick)
        kicker.start()
        before = time.monotonic_ns()
        assert one.cpu.run(LONG) is Stop.KICKED
        assert time.monotonic_ns() - before < LONG // 2
        kicker.join()


@needs_kvm
def test_a_kick_before_a_run_counts_once(machine: Callable[..., Machine]) -> None:
    one = machine("40 ebfd")
    one.cpu.kick()
    assert one.cpu.run(LONG) is Stop.KICKED
    assert one.slot(state.RAX) == 0
    assert one.cpu.run(MILLISECOND) is Stop.BUDGET


@needs_kvm
def test_no_kick_is_lost_at_any_moment(machine: Callable[..., Machine]) -> None:
    one = machine("e601 ebfc")  # OUT 1, AL; JMP to it
    kicks = 300
    heard = threading.Semaphore(0)

    def kick() -> None:
        chance = random.Random(3)
        for _ in range(kicks):
            time.sleep(chance.choice((0, 0, 0.00005, 0.0002)))
            one.cpu.kick()
            assert heard.acquire(timeout=10)

    kicker = threading.Thread(target=kick)
    kicker.start()
    # A lost one would let a run use its whole budget.
    for _ in range(kicks):
        assert one.cpu.run(LONG) is Stop.KICKED
        heard.release()
    kicker.join()


@needs_kvm
def test_any_number_of_kicks_is_one(machine: Callable[..., Machine]) -> None:
    one = machine("e601 ebfc")

    def kick() -> None:
        for _ in range(20_000):
            one.cpu.kick()

    one.board.on_access = kick
    assert one.cpu.run(LONG) is Stop.KICKED
    one.board.on_access = lambda: None
    assert one.cpu.run(MILLISECOND) is Stop.BUDGET


@needs_kvm
def test_a_kick_in_a_callback_stops_after_the_instruction(machine: Callable[..., Machine]) -> None:
    one = machine("e501 e502 f4")  # IN AX, 1; IN AX, 2; HLT
    one.board.on_access = lambda: one.cpu.kick()
    assert one.cpu.run(LONG) is Stop.KICKED
    assert (one.slot(state.RAX), one.slot(state.RIP)) == (0x11, CODE + 2)
    assert one.cpu.run(LONG) is Stop.KICKED
    assert (one.slot(state.RAX), one.slot(state.RIP)) == (0x22, CODE + 4)


@needs_kvm
def test_any_thread_may_run_the_processor_in_turn(machine: Callable[..., Machine]) -> None:
    one = machine("40 ebfd")
    stops: list[Stop] = []
    for _ in range(3):
        runner = threading.Thread(target=lambda: stops.append(one.cpu.run(2 * MILLISECOND)))
        runner.start()
        runner.join(10)
    assert [*stops, one.cpu.run(MILLISECOND)] == [Stop.BUDGET] * 4


@needs_kvm
def test_the_signals_of_the_program_are_as_they_were(machine: Callable[..., Machine]) -> None:
    one = machine("e601 ebfc")
    masks: list[set[int]] = []
    one.board.on_access = lambda: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    one.board.answers = iter(())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    for _ in range(100):
        one.cpu.run(MILLISECOND)
        if masks:
            break
    assert masks[0] - before == {SIGNAL}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert SIGNAL not in signal.sigpending()


@needs_kvm
def test_a_signal_handler_of_the_program_runs_at_once_and_its_exception_comes_out(
    machine: Callable[..., Machine],
) -> None:
    class HeardError(Exception):
        pass

    def hear(*_arguments: object) -> None:
        raise HeardError

    one = machine("40 ebfd")
    before = signal.signal(signal.SIGUSR1, hear)
    main = threading.get_ident()
    sender = threading.Timer(0.005, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    try:
        sender.start()
        with pytest.raises(HeardError):
            one.cpu.run(LONG)
        assert one.cpu.executed < LONG // 2
        assert one.cpu.run(MILLISECOND) is Stop.BUDGET
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


# -- callbacks and ends --------------------------------------------------------------------------------------


@needs_kvm
@pytest.mark.parametrize("code", ["e501 f4", "a100d0 f4"])
def test_an_exception_of_a_callback_comes_out_and_the_processor_goes_on_after_the_instruction(
    machine: Callable[..., Machine], code: str
) -> None:
    one = machine(code)  # IN AX, 1, or MOV AX, [D000] where DS begins at C3000
    one.change({state.SEGMENT_BASES + state.DS: 0xC3000})

    def fail() -> None:
        raise ZeroDivisionError

    one.board.on_access = fail
    with pytest.raises(ZeroDivisionError):
        one.cpu.run(LONG)
    assert (one.slot(state.RIP), one.slot(state.RAX)) == (CODE + len(bytes.fromhex(code)) - 1, 0xFFFF)
    assert one.cpu.run(LONG) is Stop.HALTED


@needs_kvm
def test_a_callback_can_reset_the_processor(machine: Callable[..., Machine]) -> None:
    one = machine("e501 40 f4")  # IN AX, 1; INC AX; HLT
    one.board.rom[0xFF0:0xFF1] = b"\xf4"
    one.board.regions.append(Region(0xFFFFF000, memoryview(one.board.rom), writable=False))
    one.cpu.memory_map_changed()
    one.board.on_access = lambda: one.cpu.reset()
    assert one.cpu.run(LONG) is Stop.HALTED
    assert (one.slot(state.RIP), one.slot(state.SELECTORS + state.CS), one.slot(state.RAX)) == (0xFFF1, 0xF000, 0)


@needs_kvm
def test_a_state_is_set_even_if_the_callback_fails_after_it(machine: Callable[..., Machine]) -> None:
    one = machine("e501 f4")
    one.board.put(0x1800, "40 f4")  # INC AX; HLT

    def fail() -> None:
        one.change({state.RIP: 0x1800, state.RAX: 6})
        raise ZeroDivisionError

    one.board.on_access = fail
    with pytest.raises(ZeroDivisionError):
        one.cpu.run(LONG)
    assert one.slot(state.RIP) == 0x1800
    assert one.cpu.run(LONG) is Stop.HALTED
    assert one.slot(state.RAX) == 7


@needs_kvm
def test_a_reset_does_not_turn_time_back(machine: Callable[..., Machine]) -> None:
    one = machine("e601 e602 f4")
    times: list[int] = []

    def start_again() -> None:
        times.append(one.cpu.executed)
        one.cpu.reset()
        time.sleep(0.001)
        times.append(one.cpu.executed)

    one.board.on_access = start_again
    one.cpu.run(MILLISECOND)
    times += [one.cpu.executed, one.slot(state.EXECUTED)]
    assert times == sorted(times)
    before = one.cpu.executed
    one.cpu.reset()
    assert one.cpu.executed == before


@needs_kvm
def test_a_callback_sees_what_it_set(machine: Callable[..., Machine]) -> None:
    one = machine("e601 f4")
    one.board.put(0x1800, "e602 f4")
    seen: list[int] = []

    def move() -> None:
        if one.board.log[-1][1] == 1:
            slots = one.cpu.get_state()
            slots[state.RIP] = 0x1800
            one.cpu.set_state(slots)
            seen.append(one.cpu.get_state()[state.RIP])

    one.board.on_access = move
    assert one.cpu.run(LONG) is Stop.HALTED
    assert (seen, [entry[1] for entry in one.board.log]) == ([0x1800], [1, 2])


@needs_kvm
def test_a_triple_fault_is_a_shutdown_which_a_reset_ends(machine: Callable[..., Machine]) -> None:
    one = machine("0f0b")  # UD2
    one.change({state.IDT_LIMIT: 0, **FLAT})
    assert one.cpu.run(LONG) is Stop.SHUTDOWN
    one.cpu.inject_nmi()
    assert one.cpu.run(LONG) is Stop.SHUTDOWN
    assert one.slot(state.HALT) == state.SHUTDOWN
    one.cpu.reset()
    assert (one.slot(state.HALT), one.slot(state.RIP)) == (0, 0xFFF0)
    one.change({state.SELECTORS + state.CS: 0, state.SEGMENT_BASES + state.CS: 0, state.RIP: CODE})
    one.board.put(CODE, "f4")
    assert one.cpu.run(LONG) is Stop.HALTED


@needs_kvm
def test_code_where_no_memory_is_is_an_error_in_one_line(machine: Callable[..., Machine]) -> None:
    one = machine("ea000000d0")  # JMP D000:0000
    with pytest.raises(
        EmulationError, match=r"^kvm: internal error at d000:0: suberror 1, an instruction that .*$"
    ) as said:
        one.cpu.run(LONG)
    assert "\n" not in str(said.value)


@needs_kvm
def test_a_processor_that_runs_cannot_be_run(machine: Callable[..., Machine]) -> None:
    one = machine("e601 f4")
    one.board.on_access = lambda: one.cpu.run(LONG) and None
    with pytest.raises(EmulationError, match="runs already"):
        one.cpu.run(LONG)


@needs_kvm
def test_a_processor_gives_everything_back(machine: Callable[..., Machine]) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    machine().cpu.close()
    before = open_files()
    one = machine("40 ebfd")
    one.cpu.run(MILLISECOND)
    assert open_files() > before
    one.cpu.close()
    one.cpu.close()
    assert open_files() == before
    with pytest.raises(EmulationError, match="closed"):
        one.cpu.run(MILLISECOND)
    one.cpu.kick()
    KvmAccelerator().create_vcpu(Board())
    assert open_files() == before


# -- state ---------------------------------------------------------------------------------------------------


@needs_kvm
def test_a_new_processor_is_as_reset_leaves_it() -> None:
    expected = state.new_state()
    reset(expected)
    got = KvmAccelerator().create_vcpu(Board()).get_state()
    got[state.MODE] = expected[state.MODE]
    assert got == expected


@needs_kvm
def test_every_slot_comes_back_as_it_was_set(machine: Callable[..., Machine]) -> None:
    cpu: Vcpu = machine().cpu
    for seed in range(20):
        slots = random_state(seed)
        cpu.set_state(slots)
        got = cpu.get_state()
        slots[state.MODE] = got[state.MODE]
        assert {n: (slots[n], got[n]) for n in range(state.SLOTS) if slots[n] != got[n]} == {}, seed


#: Protected mode with segments of 4 GiB.
FLAT = {
    state.CR0: state.CR0_PE | state.CR0_ET | state.CR0_NE,
    **{state.SEGMENT_LIMITS + segment: 0xFFFFFFFF for segment in range(6)},
    **{state.SEGMENT_ATTRIBUTES + segment: 0xC09B if segment == state.CS else 0xC093 for segment in range(6)},
}


def long_mode(board: Board, privilege: int) -> dict[int, int]:
    """Map the first 2 MiB for everyone, by three tables from 10000; return what the processor needs for it."""
    for place, entry in ((0x10000, 0x11007), (0x11000, 0x12007), (0x12000, 0x87)):
        board.ram[place : place + 8] = entry.to_bytes(8, "little")
    values = FLAT | {
        state.CR0: FLAT[state.CR0] | state.CR0_PG | state.CR0_WP,
        state.CR3: 0x10000,
        state.CR4: state.CR4_PAE | state.CR4_OSFXSR,
        state.EFER: state.EFER_LME | state.EFER_LMA | state.EFER_SCE | state.EFER_NXE,
        state.CPL: privilege,
    }
    for segment in range(6):
        values[state.SELECTORS + segment] = (0x10 if segment == state.CS else 0x18) | privilege
        values[state.SEGMENT_ATTRIBUTES + segment] |= privilege << 5
    values[state.SEGMENT_ATTRIBUTES + state.CS] = 0xA09B | privilege << 5
    return values


@needs_kvm
def test_a_change_of_cr8_is_told(machine: Callable[..., Machine]) -> None:
    # MOV CR8, RAX; MOV CR8, RBX; MOV RCX, CR8; HLT
    one = machine("440f22c0 440f22c3 440f20c1 f4")
    one.change(long_mode(one.board, 0) | {state.RAX: 9, state.RBX: 2})
    told: list[int] = []
    one.cpu.task_priority_changed = told.append
    assert one.cpu.run(LONG) is Stop.HALTED
    # The kernel tells of the first one only if it looks at it: lowering is what lets interrupts in.
    assert told[-1] == 2
    assert one.slot(state.RCX) == one.slot(state.CR8) == 2


@needs_kvm
def test_long_mode_runs_from_a_state(machine: Callable[..., Machine]) -> None:
    # MOV RAX, 1122334455667788; MOV R9, RAX; ADD R9, R9; MOV [3000], R9; PUSH R9; HLT
    one = machine("48b88877665544332211 4989c1 4d01c9 4c890c2500300000 4151 f4")
    one.change(long_mode(one.board, 0))
    assert one.cpu.run(LONG) is Stop.HALTED
    slots = one.cpu.get_state()
    twice = 0x22446688AACCEF10
    assert (slots[state.RAX], slots[9], slots[state.RSP]) == (0x1122334455667788, twice, STACK - 8)
    assert int.from_bytes(one.board.ram[0x3000:0x3008], "little") == twice
    assert int.from_bytes(one.board.ram[STACK - 8 : STACK], "little") == twice
    # A state from the middle goes on in another machine.
    other = machine()
    other.board.ram[:] = one.board.ram[:]
    slots[state.HALT], slots[state.RIP] = 0, CODE + 10
    other.cpu.set_state(slots)
    assert other.cpu.run(LONG) is Stop.HALTED
    assert (other.slot(9), other.slot(state.RSP)) == (twice, STACK - 16)


@needs_kvm
def test_user_code_computes_with_all_registers(machine: Callable[..., Machine]) -> None:
    # FLD1; FLDPI; MOVQ XMM9, R9; PADDQ XMM9, XMM1; MOV [3000], R9; OUT 1, AL, which the zeros at 68 permit
    one = machine("d9e8 d9eb 664d0f6ec9 66440fd4c9 4c890c2500300000 e601")
    one.change(long_mode(one.board, 3) | {9: 5, state.XMM + 2: 7, state.FTW: 0xFFFF, state.FCW: 0x37F})
    one.board.on_access = lambda: one.cpu.kick()
    assert one.cpu.run(LONG) is Stop.KICKED
    slots = one.cpu.get_state()
    assert (slots[state.CPL], slots[state.RIP], one.board.word(0x3000)) == (3, CODE + 24, 5)
    assert slots[state.XMM + 18 : state.XMM + 20] == [12, 0]
    assert (slots[state.FSW] >> 11 & 7, slots[state.FTW]) == (6, 0x0FFF)
    assert slots[state.X87 + 14 : state.X87 + 16] == [1 << 63, 0x3FFF]
    assert slots[state.X87 + 12 : state.X87 + 14] == [0xC90FDAA22168C235, 0x4000]


@needs_kvm
def test_pae_paging_has_four_entries_of_its_own(machine: Callable[..., Machine]) -> None:
    one = machine("b834120000 a300302000 f4")  # MOV EAX, 1234; MOV [203000], EAX; HLT
    # The first entry maps the first 2 MiB twice.
    for place, entry in ((0x10000, 0x11001), (0x11000, 0x83), (0x11008, 0x83)):
        one.board.ram[place : place + 8] = entry.to_bytes(8, "little")
    paging = {state.CR0: FLAT[state.CR0] | state.CR0_PG, state.CR3: 0x10000, state.CR4: state.CR4_PAE}
    one.change(FLAT | paging | {state.PDPTES: 0x11001})
    if not one.slot(state.CR0) & state.CR0_PG:
        pytest.skip("this KVM has paging in long mode only")
    assert one.slot(state.PDPTES) == 0x11001
    assert one.cpu.run(LONG) is Stop.HALTED
    assert one.board.word(0x3000) == 0x1234


@needs_kvm
def test_cpuid_answers_as_the_model_does(machine: Callable[..., Machine]) -> None:
    model = {(0, 0): (1, 0x6C62, 0x6B63, 0x7469), (1, 0): (0x306A9, 0x800, 0xFFFFFFFF, 0xFFFFFFFF)}
    one = machine("6631c0 0fa2 f4", cpuid=model)  # XOR EAX, EAX; CPUID; HLT
    assert one.cpu.run(LONG) is Stop.HALTED
    assert [one.slot(n) for n in (state.RAX, state.RBX, state.RCX, state.RDX)] == [1, 0x6C62, 0x6B63, 0x7469]


@needs_kvm
def test_a_state_the_kernel_refuses_is_told_in_one_line(machine: Callable[..., Machine]) -> None:
    one = machine()
    with pytest.raises(EmulationError, match=r"^kvm: KVM_SET_SREGS failed: invalid argument$"):
        one.change({state.CR0: state.CR0_PG})
    with pytest.raises(EmulationError, match=r"^kvm: MSR 0xc0000082 cannot be set to 0x4000000000000000$"):
        one.change({state.LSTAR: 1 << 62})
