"""Integer instructions do what the processor of this machine does, and what Unicorn does where that cannot be asked."""

from __future__ import annotations

import random
from functools import cache
from typing import ClassVar

import pytest
import unicorn
from unicorn import x86_const as uc

from blockkit.cpu import state
from blockkit.cpu.accelerator import Stop
from blockkit.cpu.isa.decode import decode
from blockkit.cpu.sem.table import ENDS
from tests.amount import TIMES
from tests.cpu.cases import Case, case, described, number, result_is_undefined, undefined
from tests.cpu.host import MEMORY, Host, available
from tests.cpu.machine import PAGE, LongBoard, Observed

FORMS = described()
#: Not for the host: what uses the stack, goes elsewhere, or does nothing.
ELSEWHERE = frozenset(("PUSH", "POP", "LEAVE", "ENTER", "STD", "NOP")) | {name for name in FORMS if name in ENDS}
STACK = 0x8000
CASES = 120 * TIMES


@cache
def board(data: int) -> LongBoard:
    return LongBoard(data)


def start(data: bytes, code: bytes, registers: list[int], flags: int = state.ALWAYS, at: int = STACK) -> Observed:
    return board(at).begin(data, code, registers, flags)


@pytest.fixture(scope="module")
def host() -> Host:
    if not available():
        pytest.skip("this machine executes no x86-64 code")
    return Host()


@pytest.mark.parametrize("name", sorted(FORMS.keys() - ELSEWHERE))
def test_it_does_what_this_processor_does(host: Host, name: str) -> None:
    rng = random.Random(name)
    done = 0
    for _ in range(CASES * 30):
        made = case(rng, rng.choice(FORMS[name]), host.address)
        if made is None or made.found.name != name or result_is_undefined(made):
            continue
        data = rng.randbytes(MEMORY)
        cpu = start(data, made.code, made.registers, made.flags, host.address)
        assert cpu.flags == made.flags
        cpu.run(1)
        if cpu.fault is not None:
            assert cpu.fault.vector == state.DIVIDE_ERROR, made
            assert cpu.registers == made.registers
            assert cpu.executed == 0
            continue
        if name in ("BSF", "BSR") and cpu.flags & state.ZF:
            continue  # nothing was found, and the destination is undefined
        registers, flags, after = host.run(made.code, made.registers, made.flags, data)
        registers[state.RSP] = 0
        assert cpu.registers == registers, (made.code.hex(), made.registers)
        wrong = (cpu.flags ^ flags) & state.ARITHMETIC & ~undefined(made)
        assert not wrong, (made.code.hex(), made.registers, hex(wrong))
        assert board(host.address).data == after, made.code.hex()
        done += 1
        if done == CASES:
            break
    assert done > CASES // 3


class Theirs:
    """Unicorn with the same memory as ours."""

    REGISTERS: ClassVar = [getattr(uc, f"UC_X86_REG_{name.upper()}") for name in state.REGISTERS]

    def __init__(self, data: bytes, code: bytes) -> None:
        self.machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.start = board(STACK).offset(code)
        # It looks at what comes after the instruction.
        self.machine.mem_map(LongBoard.PAGE_OF_CODE, 2 * PAGE)
        self.machine.mem_write(self.start, code + b"\xf4" * 32)
        self.machine.mem_map(STACK, 4096)
        self.machine.mem_write(STACK, data)

    def run(self, registers: list[int], flags: int) -> tuple[list[int], int, int, bytes]:
        for register, value in zip(self.REGISTERS, registers, strict=True):
            self.machine.reg_write(register, value)
        self.machine.reg_write(uc.UC_X86_REG_RFLAGS, flags)
        try:
            self.machine.emu_start(self.start, 0, count=1)
        except unicorn.UcError as error:
            # It looks at where the jump went, too.
            if error.errno != unicorn.UC_ERR_FETCH_UNMAPPED:
                raise
        after = [self.machine.reg_read(register) for register in self.REGISTERS]
        rip, rflags = (self.machine.reg_read(each) for each in (uc.UC_X86_REG_RIP, uc.UC_X86_REG_RFLAGS))
        return after, rip, rflags, bytes(self.machine.mem_read(STACK, 4096))


@pytest.mark.parametrize(
    "text",
    [
        *("50", "6650", "4154", "54", "6a80", "666a80", "68000000ff", "ff742408", "ff3424", "66ff7310", "ff7318"),
        *("58", "6658", "5c", "415f", "8f4318", "8f442408", "668f442410", "8f04dc", "c9", "66c9"),
        *("e810000000", "e8f0ffffff", "ffd0", "ff5308", "41ffd3", "ff542410", "c3", "c21000"),
        *("eb10", "ebf0", "e900010000", "ffe0", "ff6308", "ff642408"),
        *(f"{0x70 + code:02x}20" for code in range(16)),
        *(f"0f{0x80 + code:02x}00ffffff" for code in range(16)),
        *("e010", "e110", "e210", "e2fe", "e310", "67e310", "67e210"),
        *("488b442408", "48894c24f8", "480144240c", "488d642410", "488d0500010000", "678d04ff", "48a10080000000000000"),
        *("66a30880000000000000", "a01880000000000000", "fc", "fd", "f5", "f8", "f9", "90", "4889e5", "4883ec20"),
    ],
)
def test_stack_and_jumps_go_as_unicorn_goes(text: str) -> None:
    rng = random.Random(text)
    code = bytes.fromhex(text)
    for _ in range(12):
        data = rng.randbytes(4096)
        registers = [number(rng) for _ in range(16)]
        registers[state.RSP] = STACK + 512 + rng.randrange(256)
        registers[state.RBP] = STACK + 1024 + rng.randrange(256)
        registers[state.RBX] = STACK + 2048 + rng.randrange(256)
        if "e0" <= text[:2] <= "e3" or text.startswith("67e"):
            registers[state.RCX] = rng.choice((0, 1, 2, 1 << 32, (1 << 32) + 1, (1 << 64) - 1))
        if text == "8f04dc":
            registers[state.RBX] = rng.randrange(64)
        flags = rng.getrandbits(12) & state.ARITHMETIC | state.ALWAYS
        expected, rip, rflags, after = Theirs(data, code).run(registers, flags)
        cpu = start(data, code, registers, flags)
        assert cpu.run(1) is Stop.BUDGET, cpu.fault
        assert cpu.registers == expected
        assert cpu.slots[state.RIP] == rip
        assert (cpu.flags ^ rflags) & (state.ARITHMETIC | state.DF) == 0
        assert board(STACK).data == after


def program(rng: random.Random) -> tuple[bytes, Case, int]:
    """Return some instructions on one stretch of memory, perhaps in a loop, what they start with, and how many."""
    code, first, count = b"", None, 0
    longest = rng.choice((8, 30, 60))
    names = sorted(FORMS.keys() - ELSEWHERE)
    while len(code) < longest:
        made = case(rng, rng.choice(FORMS[rng.choice(names)]), STACK)
        if made is None:
            continue
        first = first or made
        code += made.code
        count += 1
    assert first is not None
    if rng.random() < 0.6:
        code += bytes.fromhex("ffc975") + (-len(code) - 4 & 0xFF).to_bytes(1, "little")  # DEC ECX; JNZ
    return code, first, count + 2


def test_a_block_does_what_its_instructions_do_one_by_one() -> None:
    """Faults in the middle too: the state is that before the instruction that faulted."""
    rng = random.Random(5)
    faults = loops = 0
    for _ in range(400):
        code, first, count = program(rng)
        data = rng.randbytes(4096)
        registers = [STACK + rng.randrange(4096) if rng.random() < 0.5 else value for value in first.registers]
        registers[state.RCX] = rng.randrange(1, 6)
        ends = []
        for budgets in ((1,) * 300, (300,)):
            cpu = start(data, code, registers, first.flags)
            for budget in budgets:
                # The end of the code is no page at all, so that every run ends in a fault.
                if cpu.run(budget) is Stop.SHUTDOWN:
                    break
            else:
                assert cpu.executed == 300
            fault = cpu.fault.args if cpu.fault else None
            ends.append((cpu.slots[:17], cpu.flags, cpu.executed, fault, board(STACK).data))
        assert ends[0] == ends[1], (code.hex(), registers)
        loops += ends[0][2] > count
        faults += ends[0][3] is not None and ends[0][0][state.RIP] != LongBoard.PAGE_OF_CODE + PAGE
    assert faults > 50
    assert loops > 10


def test_a_fault_leaves_everything_as_it_was() -> None:
    code = bytes.fromhex("50")
    cpu = start(bytes(4096), code, [7] * 16, state.ALWAYS | state.CF)
    assert cpu.run(1) is Stop.SHUTDOWN
    assert cpu.fault is not None
    assert cpu.fault.args == (state.PAGE_FAULT, 2)
    assert cpu.registers == [7] * 16
    assert cpu.slots[state.RIP] == board(STACK).offset(code)
    assert cpu.flags == state.ALWAYS | state.CF
    assert cpu.executed == 0


@pytest.mark.parametrize("text", ["0f0b", "f0 90", "0f ff 00", "06"])
def test_what_is_no_instruction_is_undefined(text: str) -> None:
    cpu = start(bytes(4096), bytes.fromhex(text) + bytes(15), [0] * 16)
    assert cpu.run(1) is Stop.SHUTDOWN
    assert cpu.fault is not None
    assert cpu.fault.vector == state.UNDEFINED


@pytest.mark.parametrize("flags", range(64))
def test_every_combination_of_flags_can_be_kept(flags: int) -> None:
    places = (state.CF, state.PF, state.AF, state.ZF, state.SF, state.OF)
    wanted = sum(place for index, place in enumerate(places) if flags >> index & 1) | state.ALWAYS | state.DF
    slots = state.new_state()
    state.set_rflags(slots, wanted)
    assert state.rflags(slots) == wanted


def test_code_that_ends_before_a_missing_page_faults_when_it_gets_there() -> None:
    code = bytes.fromhex("4801c8")
    assert decode(code, 64).length == 3
    cpu = start(bytes(4096), code, [1] * 16)
    assert cpu.run(2) is Stop.SHUTDOWN
    assert cpu.fault is not None
    assert cpu.fault.args == (state.PAGE_FAULT, 16)
    assert cpu.executed == 1
    assert cpu.slots[state.RAX] == 2
    assert cpu.slots[state.RIP] == cpu.slots[state.CR2] == LongBoard.PAGE_OF_CODE + PAGE


def test_an_instruction_whose_second_page_is_missing_faults_there() -> None:
    code = bytes.fromhex("4801c8 48ff")
    cpu = start(bytes(4096), code, [1] * 16)
    assert cpu.run(2) is Stop.SHUTDOWN
    assert cpu.fault is not None
    assert cpu.fault.args == (state.PAGE_FAULT, 16)
    assert cpu.executed == 1
    assert cpu.slots[state.RIP] == board(STACK).offset(code) + 3
    assert cpu.slots[state.CR2] == LongBoard.PAGE_OF_CODE + PAGE
    assert cpu.slots[state.RBX] == 1


def test_an_instruction_that_is_too_long_is_a_protection_fault() -> None:
    cpu = start(bytes(4096), b"\x66" * 20, [0] * 16)
    assert cpu.run(1) is Stop.SHUTDOWN
    assert cpu.fault is not None
    assert cpu.fault.args == (state.PROTECTION, 0)
