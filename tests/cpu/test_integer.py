"""Integer instructions do what the processor of this machine does, and what Unicorn does where that cannot be asked."""

from __future__ import annotations

import random
from typing import ClassVar

import pytest
import unicorn
from unicorn import x86_const as uc

from blockkit.cpu import state
from blockkit.cpu.isa.decode import decode
from blockkit.cpu.portable import engine as portable
from blockkit.cpu.portable.engine import Engine, Fault, Stop
from tests.cpu.cases import CODE, PAGE_FAULT, Case, Memory, case, described, number, result_is_undefined, undefined
from tests.cpu.host import MEMORY, Host, available

FORMS = described()
#: Not for the host: what uses the stack, goes elsewhere, or does nothing.
ELSEWHERE = frozenset(("PUSH", "POP", "LEAVE", "STD", "NOP")) | {name for name in FORMS if name in portable.ENDS}
STACK = 0x8000
CASES = 120


def start(memory: Memory, registers: list[int], flags: int) -> Engine:
    engine = Engine(memory)
    engine.state[:16] = registers
    state.set_rflags(engine.state, flags)
    engine.state[state.RIP] = CODE
    return engine


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
        engine = start(Memory(host.address, data, made.code), made.registers, made.flags)
        assert state.rflags(engine.state) == made.flags
        if engine.run(1) is Stop.FAULT:
            assert engine.fault is not None
            assert engine.fault.vector == 0, made
            assert engine.state[:16] == made.registers
            continue
        if name in ("BSF", "BSR") and state.rflags(engine.state) & state.ZF:
            continue  # nothing was found, and the destination is undefined
        registers, flags, after = host.run(made.code, made.registers, made.flags, data)
        registers[state.RSP] = 0
        assert engine.state[:16] == registers, (made.code.hex(), made.registers)
        wrong = (state.rflags(engine.state) ^ flags) & state.ARITHMETIC & ~undefined(made)
        assert not wrong, (made.code.hex(), made.registers, hex(wrong))
        assert isinstance(engine.memory, Memory)
        assert engine.memory.data == after, made.code.hex()
        done += 1
        if done == CASES:
            break
    assert done > CASES // 3


class Theirs:
    """Unicorn with the same memory as ours."""

    REGISTERS: ClassVar = [getattr(uc, f"UC_X86_REG_{name.upper()}") for name in state.REGISTERS]

    def __init__(self, data: bytes, code: bytes) -> None:
        self.machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.machine.mem_map(CODE, 4096)
        self.machine.mem_write(CODE, code + b"\xf4" * 32)
        self.machine.mem_map(STACK, 4096)
        self.machine.mem_write(STACK, data)

    def run(self, registers: list[int], flags: int) -> tuple[list[int], int, int, bytes]:
        for register, value in zip(self.REGISTERS, registers, strict=True):
            self.machine.reg_write(register, value)
        self.machine.reg_write(uc.UC_X86_REG_RFLAGS, flags)
        try:
            self.machine.emu_start(CODE, 0, count=1)
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
        engine = start(Memory(STACK, data, code), registers, flags)
        assert engine.run(1) is Stop.BUDGET, engine.fault
        assert engine.state[:16] == expected
        assert engine.state[state.RIP] == rip
        assert (state.rflags(engine.state) ^ rflags) & (state.ARITHMETIC | state.DF) == 0
        assert isinstance(engine.memory, Memory)
        assert engine.memory.data == after


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


def test_a_block_does_what_its_instructions_do_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults in the middle too: the state is that before the instruction that faulted."""
    rng = random.Random(5)
    faults = loops = 0
    for _ in range(400):
        code, first, count = program(rng)
        data = rng.randbytes(4096)
        registers = [STACK + rng.randrange(4096) if rng.random() < 0.5 else value for value in first.registers]
        registers[state.RCX] = rng.randrange(1, 6)
        ends = []
        for longest in (1, 32):
            with monkeypatch.context() as patch:
                patch.setattr(portable, "_MAX_BLOCK", longest)
                engine = start(Memory(STACK, data, code), registers, first.flags)
                # The end of the code is no page at all, so that every run ends in a fault.
                assert engine.run(300) is Stop.FAULT or engine.executed >= 300
            if engine.fault is None:
                break
            fault = engine.fault
            assert isinstance(engine.memory, Memory)
            slots = engine.state
            ends.append((slots[:17], state.rflags(slots), engine.executed, fault.args, bytes(engine.memory.data)))
            loops += longest > 1 and engine.executed > count
        else:
            assert ends[0] == ends[1], (code.hex(), registers)
            faults += ends[0][0][state.RIP] != CODE + len(code)
    assert faults > 50
    assert loops > 10


def test_a_fault_leaves_everything_as_it_was() -> None:
    memory = Memory(STACK, bytes(4096), bytes.fromhex("50"))
    engine = start(memory, [7] * 16, state.ALWAYS | state.CF)
    assert engine.run(1) is Stop.FAULT
    assert engine.fault is not None
    assert engine.fault.args == (PAGE_FAULT, 2)
    assert engine.state[:16] == [7] * 16
    assert engine.state[state.RIP] == CODE
    assert state.rflags(engine.state) == state.ALWAYS | state.CF
    assert engine.executed == 0


@pytest.mark.parametrize("text", ["0f0b", "f0 90", "0f ff 00", "06"])
def test_what_is_no_instruction_is_undefined(text: str) -> None:
    engine = start(Memory(STACK, b"", bytes.fromhex(text) + bytes(15)), [0] * 16, state.ALWAYS)
    assert engine.run(1) is Stop.FAULT
    assert engine.fault is not None
    assert engine.fault.vector == portable.UNDEFINED


@pytest.mark.parametrize("flags", range(64))
def test_every_combination_of_flags_can_be_kept(flags: int) -> None:
    places = (state.CF, state.PF, state.AF, state.ZF, state.SF, state.OF)
    wanted = sum(place for index, place in enumerate(places) if flags >> index & 1) | state.ALWAYS | state.DF
    slots = state.new_state()
    state.set_rflags(slots, wanted)
    assert state.rflags(slots) == wanted


def test_code_that_ends_inside_an_instruction_faults_when_it_gets_there() -> None:
    class Short(Memory):
        def fetch(self, address: int, size: int) -> bytes:
            if address >= CODE + 3:
                raise Fault(PAGE_FAULT, 16)
            return super().fetch(address, size)

    code = bytes.fromhex("4801c8")
    assert decode(code, 64).length == 3
    engine = start(Short(STACK, b"", code), [1] * 16, state.ALWAYS)
    assert engine.run(2) is Stop.FAULT
    assert engine.executed == 1
    assert engine.state[state.RAX] == 2
    assert engine.state[state.RIP] == CODE + 3


class Paged(Memory):
    """Code on pages of four bytes, of which only the first ``pages`` are there."""

    pages = 2

    def fetch(self, address: int, size: int) -> bytes:
        page = (address - CODE) // 4
        if page >= self.pages:
            raise Fault(PAGE_FAULT, 16)
        return super().fetch(address, min(size, 4 - address % 4))


def test_an_instruction_on_two_pages_is_fetched_whole() -> None:
    engine = start(Paged(STACK, b"", bytes.fromhex("4801c8 48ffc3 90 90")), [1] * 16, state.ALWAYS)
    assert engine.run(4) is Stop.BUDGET
    assert engine.state[state.RAX] == engine.state[state.RBX] == 2


def test_an_instruction_whose_second_page_is_missing_faults_there() -> None:
    memory = Paged(STACK, b"", bytes.fromhex("4801c8 48ffc3"))
    memory.pages = 1
    engine = start(memory, [1] * 16, state.ALWAYS)
    assert engine.run(2) is Stop.FAULT
    assert engine.executed == 1
    assert engine.run(1) is Stop.FAULT
    assert engine.fault is not None
    assert engine.fault.args == (PAGE_FAULT, 16)
    assert engine.state[state.RIP] == CODE + 3
    assert engine.state[state.RBX] == 1


def test_an_instruction_that_is_too_long_is_a_protection_fault() -> None:
    engine = start(Memory(STACK, b"", b"\x66" * 20), [0] * 16, state.ALWAYS)
    assert engine.run(1) is Stop.FAULT
    assert engine.fault is not None
    assert engine.fault.args == (portable.PROTECTION, 0)
