"""Strings do what the processor of this machine and Unicorn do, and can be left and gone on with at every element."""

from __future__ import annotations

import random
from functools import cache
from typing import Final, NamedTuple

import pytest

from blockkit.cpu import state
from blockkit.cpu.accelerator import Stop
from blockkit.cpu.isa.decode import decode
from blockkit.cpu.system.strings import SLICE
from tests.amount import TIMES
from tests.cpu.cases import DATA, Case
from tests.cpu.host import MEMORY, Host, available
from tests.cpu.machine import DATA_32, MMIO, PAGE, Board, LongBoard, Observed, long_mode, protected_mode, real_mode
from tests.cpu.worlds import WORLDS, both

#: Opcodes of elements of a byte; the next one is that of wider ones.
OPCODES: Final = {"MOVS": 0xA4, "CMPS": 0xA6, "STOS": 0xAA, "LODS": 0xAC, "SCAS": 0xAE}
REPEATS: Final = (b"", b"\xf3", b"\xf2")
CASES: Final = 25 * TIMES
CODE: Final = 0x1000


@pytest.fixture(scope="module")
def host() -> Host:
    if not available():
        pytest.skip("this machine executes no x86-64 code")
    return Host()


@cache
def long_board(data: int) -> LongBoard:
    return LongBoard(data)


class Made(NamedTuple):
    """An instruction.

    Attributes:
        code: Its bytes.
        repeated: It has a prefix.
    """

    code: bytes
    repeated: bool


def make(rng: random.Random, name: str, mode: int, others: tuple[bytes, ...] = (b"",)) -> Made:
    repeat = rng.choice(REPEATS)
    size = rng.choice((1, 2, 4, 8) if mode == 64 else (1, 2, 4))
    prefix = b""
    if size != 1 and (size == 2) != (mode == 16) and size != 8:
        prefix = b"\x66"
    rex = b"\x48" if size == 8 else b""
    code = rng.choice(others) + prefix + repeat + rex + bytes([OPCODES[name] + (size > 1)])
    return Made(code, bool(repeat))


def alike(rng: random.Random, size: int) -> bytes:
    """Return data in which elements are often the same."""
    return bytes(rng.choices((0, 1), (9, 1), k=size)) if rng.random() < 0.6 else rng.randbytes(size)


@pytest.mark.parametrize("name", OPCODES)
def test_they_do_what_this_processor_does(host: Host, name: str) -> None:
    rng = random.Random(name)
    for _ in range(CASES * 4):
        code, repeated = make(rng, name, 64)
        data = alike(rng, MEMORY)
        registers = [rng.getrandbits(64) for _ in range(16)]
        registers[state.RSP] = 0
        source = host.address + 1500 + rng.randrange(1000)
        registers[state.RSI] = source
        registers[state.RDI] = source + rng.randrange(-20, 20) if rng.random() < 0.5 else host.address + 2000
        registers[state.RAX] = rng.choice((0, 0x0101010101010101, registers[state.RAX]))
        if repeated:
            registers[state.RCX] = rng.choice((0, 1, rng.randrange(120)))
        flags = state.ALWAYS | (rng.getrandbits(12) & state.ARITHMETIC) | (state.DF if rng.random() < 0.3 else 0)
        board = long_board(host.address)
        cpu = board.begin(data, code, registers, flags)
        cpu.run(1)
        what = code.hex(), [hex(value) for value in registers], hex(flags)
        assert cpu.fault is None, what
        after, flags_after, data_after = host.run(code, registers, flags, data)
        after[state.RSP] = 0
        assert cpu.registers == after, what
        assert (cpu.flags ^ flags_after) & (state.ARITHMETIC | state.DF) == 0, what
        assert board.data == data_after, what
        assert cpu.slots[state.RIP] == CODE + PAGE


@pytest.mark.parametrize("name", OPCODES)
@pytest.mark.parametrize("world", WORLDS)
def test_they_do_what_unicorn_does_in_every_mode(world: str, name: str) -> None:
    rng = random.Random(world + name)
    here = WORLDS[world]
    ours, theirs = both(world)
    width = 64 if here.mode == 64 else 32
    done = 0
    while done < CASES:
        code, repeated = make(rng, name, here.mode, (b"", b"\x67", b"\x26", b"\x36", b"\x64", b"\x67\x65"))
        found = decode(code, here.mode)
        data = alike(rng, DATA)
        registers = [rng.getrandbits(width) for _ in range(16 if width == 64 else 8)]
        segment = state.DS if found.segment is None else found.segment
        fits = True
        mask = (1 << found.address_size * 8) - 1
        for register, used in ((state.RSI, segment), (state.RDI, state.ES)):
            base = here.bases[used] if here.mode != 64 or used >= state.FS else 0
            where = here.data + DATA // 2 + rng.randrange(-300, 300) - base
            if here.mode != 64:
                where &= 0xFFFFFFFF
            fits = fits and 0 <= where <= mask and (found.address_size != 2 or where < 0xF000)
            registers[register] = registers[register] & ~mask | where & mask
        if not fits:
            continue
        registers[state.RAX] = rng.choice((0, 0x0101010101010101 & (1 << width) - 1, registers[state.RAX]))
        if repeated:
            registers[state.RCX] = registers[state.RCX] & ~mask | rng.randrange(1, 60)
            if width == 64 and found.address_size == 4:
                registers[state.RCX] &= mask
        flags = state.ALWAYS | (rng.getrandbits(12) & state.ARITHMETIC) | (state.DF if rng.random() < 0.3 else 0)
        made = Case(found, code, registers, flags)
        cpu = ours.run(made, data)
        what = code.hex(), [hex(value) for value in registers], hex(flags)
        assert cpu.fault is None, (what, cpu.fault)
        expected = theirs.run(made, data, repeated=repeated)
        assert expected is not None, what
        after, rip, flags_after, data_after = expected
        assert [hex(value) for value in cpu.registers[: len(after)]] == [hex(value) for value in after], what
        assert (cpu.flags ^ flags_after) & (state.ARITHMETIC | state.DF) == 0, what
        assert ours.data() == data_after, what
        assert cpu.slots[state.RIP] == rip, what
        done += 1


def start(board: Board, slots: list[int], code: str, flags: int = state.ALWAYS, **registers: int) -> Observed:
    """Begin with code at CODE of the code segment."""
    data = bytes.fromhex(code)
    board.write(slots[state.SEGMENT_BASES + state.CS] + CODE, data)
    numbers = [registers.get(name, 0) for name in state.REGISTERS]
    board.start(slots, numbers, CODE, flags)
    assert isinstance(board.cpu, Observed)
    return board.cpu


@pytest.mark.parametrize(("code", "size"), [("f3a4", 1), ("f3a5", 4), ("f348a5", 8), ("f366a5", 2)])
def test_a_fault_leaves_it_where_it_can_go_on(code: str, size: int) -> None:
    board = Board()
    slots = long_mode(board.tables({CODE: CODE, 0x8000: 0x8000, 0x20000: 0x20000, 0x21000: 0x21000}))
    data = random.Random(code).randbytes(PAGE)
    board.write(0x20800, data)
    cpu = start(board, slots, code, rsi=0x20800, rdi=0x9000 - 20 * size, rcx=100)
    cpu.run(1)
    assert cpu.fault is not None
    assert (cpu.fault.vector, cpu.fault.error) == (state.PAGE_FAULT, 2)
    assert cpu.slots[state.CR2] == 0x9000
    assert cpu.slots[state.RCX] == 80
    assert cpu.slots[state.RSI] == 0x20800 + 20 * size
    assert cpu.slots[state.RDI] == 0x9000
    assert cpu.slots[state.RIP] == CODE
    assert cpu.executed == 0
    assert board.read(0x9000 - 20 * size, 20 * size) == data[: 20 * size]


@pytest.mark.parametrize("code", ["f3a6", "f2a6", "f3ae", "f2ae"])
def test_a_fault_of_a_comparison_leaves_the_flags(code: str) -> None:
    board = Board()
    slots = long_mode(board.tables({CODE: CODE, 0x8000: 0x8000, 0x20000: 0x20000}))
    board.write(0x8FF0, bytes(16) if code[1] == "3" else b"\1" * 16)
    flags = state.ALWAYS | state.CF | state.OF | state.PF
    cpu = start(board, slots, code, flags, rsi=0x20000, rdi=0x8FF0, rcx=100)
    cpu.run(1)
    assert cpu.fault is not None
    assert cpu.slots[state.RCX] == 84
    assert cpu.flags == flags


def test_an_element_over_two_pages_is_written_whole_or_not_at_all() -> None:
    board = Board()
    slots = long_mode(board.tables({CODE: CODE, 0x8000: 0x8000}))
    cpu = start(board, slots, "f348ab", rax=~0 & (1 << 64) - 1, rdi=0x9000 - 20, rcx=3)
    cpu.run(1)
    assert cpu.fault is not None
    assert cpu.slots[state.RCX] == 1
    assert board.read(0x9000 - 20, 20) == b"\xff" * 16 + bytes(4)


@pytest.mark.parametrize("code", ["f3a4", "f3aa", "f3ac", "f3a6", "f2ae"])
def test_a_slice_counts_as_one_instruction(code: str) -> None:
    board = Board()
    board.write(0x20000, b"\1" * 3 * SLICE)
    cpu = start(board, protected_mode(), code + "90", rsi=0x30000, rdi=0x20000 if code[1] == "2" else 0x30000, rcx=2500)
    for executed, left in enumerate((2 * SLICE, SLICE, 0), 1):
        assert cpu.slots[state.RIP] == CODE
        cpu.run(1)
        assert cpu.slots[state.RCX] == left
        assert cpu.executed == executed
    assert cpu.slots[state.RIP] == CODE + 2
    assert cpu.slots[state.SYSTEM_FLAGS] == state.ALWAYS


def test_an_interrupt_is_taken_between_slices() -> None:
    board = Board()
    board.bus.vectors = [0x40]
    cpu = start(board, protected_mode(), "f3aa", state.ALWAYS | state.IF, rdi=0x20000, rcx=5000)
    cpu.run(1)
    cpu.set_interrupt_line(True)
    cpu.run(10)
    assert cpu.fault is not None
    assert cpu.fault.vector == 0x40
    assert cpu.slots[state.RCX] == 4096
    assert cpu.slots[state.RIP] == CODE


def test_single_steps_are_those_of_elements() -> None:
    board = Board()
    cpu = start(board, protected_mode(), "f3a4", state.ALWAYS, rsi=0x8000, rdi=0x9000, rcx=3)
    cpu.slots[state.SYSTEM_FLAGS] |= state.TF
    cpu.slots[state.MODE] |= state.MODE_TRAP
    for left, rip in ((2, CODE), (1, CODE), (0, CODE + 2)):
        cpu.run(1)
        assert cpu.fault is not None
        assert cpu.fault.vector == state.DEBUG_EXCEPTION
        assert (cpu.slots[state.RCX], cpu.slots[state.RIP]) == (left, rip)


def test_nothing_to_do_touches_nothing() -> None:
    board = Board()
    slots = protected_mode()
    slots[state.SEGMENT_LIMITS + state.ES] = 0
    slots[state.MODE] &= ~state.MODE_FLAT
    cpu = start(board, slots, "f3a6", state.ALWAYS | state.CF, rdi=0x9000)
    cpu.run(1)
    assert cpu.fault is None
    assert cpu.flags == state.ALWAYS | state.CF
    assert cpu.slots[state.RIP] == CODE + 2


def test_addresses_of_16_bits_wrap_round() -> None:
    board = Board()
    slots = real_mode([0x2000, 0, 0, 0x1000, 0, 0])
    board.write(0x1FFF0, bytes(range(16)))
    board.write(0x10000, bytes(range(16, 32)))
    cpu = start(board, slots, "f3a4", rsi=0xABCDFFF0, rdi=0x1234FFF8, rcx=0x77770020)
    cpu.run(1)
    assert cpu.fault is None
    assert cpu.slots[state.RSI] == 0xABCD0010
    assert cpu.slots[state.RDI] == 0x12340018
    assert cpu.slots[state.RCX] == 0x77770000
    assert board.read(0x2FFF8, 8) + board.read(0x20000, 24) == bytes(range(32))


def test_a_word_at_the_end_of_a_segment_faults() -> None:
    board = Board()
    slots = real_mode([0x2000, 0, 0, 0x1000, 0, 0])
    cpu = start(board, slots, "f3ab", rax=0x1234, rdi=0xFFFB, rcx=5)
    cpu.run(1)
    assert cpu.fault is not None
    assert (cpu.fault.vector, cpu.fault.error) == (state.PROTECTION, 0)
    assert (cpu.slots[state.RDI], cpu.slots[state.RCX]) == (0xFFFF, 3)


def test_a_limit_ends_it_at_an_element() -> None:
    board = Board()
    slots = protected_mode()
    slots[state.SEGMENT_LIMITS + state.ES] = 0x902F
    slots[state.MODE] &= ~state.MODE_FLAT
    cpu = start(board, slots, "f3a5", rsi=0x8000, rdi=0x9000, rcx=100)
    cpu.run(1)
    assert cpu.fault is not None
    assert (cpu.fault.vector, cpu.slots[state.RCX]) == (state.PROTECTION, 88)


def test_a_segment_that_grows_down_ends_where_it_begins() -> None:
    board = Board()
    slots = protected_mode()
    slots[state.SEGMENT_LIMITS + state.DS] = 0x8FFF
    slots[state.SEGMENT_ATTRIBUTES + state.DS] = DATA_32 | 4
    slots[state.MODE] &= ~state.MODE_FLAT
    cpu = start(board, slots, "fdf3a4", rsi=0x9010, rdi=0x20000, rcx=100)
    cpu.run(2)
    assert cpu.fault is not None
    assert (cpu.fault.vector, cpu.slots[state.RSI]) == (state.PROTECTION, 0x8FFF)


def test_devices_see_every_element() -> None:
    board = Board()
    board.bus.answer = lambda access: access[1] & 0xFF
    cpu = start(board, protected_mode(), "f3a4 66f3ab", rsi=MMIO + 5, rdi=0x9000, rcx=40)
    cpu.run(1)
    assert board.bus.accesses == [("read", MMIO + 5 + n, 1, 0) for n in range(40)]
    assert board.read(0x9000, 40) == bytes(range(5, 45))
    board.bus.accesses.clear()
    cpu.slots[state.RDI], cpu.slots[state.RCX], cpu.slots[state.RAX] = MMIO, 5, 0x12345678
    cpu.run(1)
    assert board.bus.accesses == [("write", MMIO + 2 * n, 2, 0x5678) for n in range(5)]
    assert cpu.executed == 2


def test_it_may_write_over_code_that_ran() -> None:
    board = Board()
    # INC EAX, which becomes DEC EAX; STOSB; JMP back, until the budget is over.
    cpu = start(board, protected_mode(), "40 f3aa ebfb", rax=0x47, rdi=CODE, rcx=1)
    cpu.run(4)
    assert cpu.slots[state.RAX] == 0x47
    assert board.read(CODE, 1) == b"\x48"
    assert cpu.executed == 4


@pytest.mark.parametrize("flags", [0, state.DF])
def test_the_fast_way_and_the_slow_one_do_the_same(flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(flags)
    fast, slow = Board(), Board()
    monkeypatch.setattr(slow.cpu.memory, "copy", lambda *_: 0)
    monkeypatch.setattr(slow.cpu.memory, "fill", lambda *_: 0)
    # Two linear pages are the same physical one, and one is missing.
    pages = {CODE: CODE, 0x8000: 0x8000, 0x9000: 0x8000, 0xA000: 0xB000, 0xC000: 0x9000}
    tables = [board.tables(pages) for board in (fast, slow)]
    for _ in range(40):
        code = rng.choice(("f3a4", "f366a5", "f3a5", "f348a5", "f3aa", "f366ab", "f3ab", "f348ab", "67f3a4"))
        data = rng.randbytes(4 * PAGE)
        source = 0x8000 + rng.randrange(0x4000)
        target = rng.choice((source + rng.randrange(-40, 40), source ^ PAGE, 0x8000 + rng.randrange(0x3000)))
        count = rng.choice((rng.randrange(20), rng.randrange(3000)))
        accumulator = rng.getrandbits(64)
        after = []
        for board, table in zip((fast, slow), tables, strict=True):
            board.write(0x8000, data)
            cpu = start(
                board, long_mode(table), code, state.ALWAYS | flags, rsi=source, rdi=target, rcx=count, rax=accumulator
            )
            cpu.run(3)
            fault = cpu.fault and (cpu.fault.vector, cpu.fault.error, cpu.slots[state.CR2])
            after.append((cpu.registers, cpu.slots[state.RIP], fault, board.read(0x8000, 4 * PAGE)))
        assert after[0] == after[1], (code, hex(source), hex(target), count)


# -- input and output ----------------------------------------------------------------------------------------------


def test_ports_are_read_and_written_in_all_sizes() -> None:
    board = Board()
    board.bus.answer = lambda access: 0x89ABCDEF
    cpu = start(board, protected_mode(), "e460 66ed ed e7ff ee 66ef", rax=0, rdx=0x1234)
    for expected in (0xEF, 0xCDEF, 0x89ABCDEF):
        cpu.run(1)
        assert cpu.slots[state.RAX] == expected
    cpu.run(3)
    assert board.bus.accesses == [
        *(("in", 0x60, 1, 0), ("in", 0x1234, 2, 0), ("in", 0x1234, 4, 0)),
        *(("out", 0xFF, 4, 0x89ABCDEF), ("out", 0x1234, 1, 0xEF), ("out", 0x1234, 2, 0xCDEF)),
    ]


def test_ports_go_to_memory_and_back() -> None:
    board = Board()
    numbers = iter(range(1, 100))
    board.bus.answer = lambda access: next(numbers) if access[0] == "in" else 0
    cpu = start(board, protected_mode(), "f36c 6c 66f36d 6e f36f", rdx=0x170, rdi=0x9000, rsi=0x9000, rcx=3)
    cpu.run(2)
    assert board.read(0x9000, 4) == b"\1\2\3\4"
    cpu.slots[state.RCX] = 2
    cpu.run(1)
    assert board.read(0x9004, 4) == b"\5\0\6\0"
    board.bus.accesses.clear()
    cpu.slots[state.RCX] = 1
    cpu.run(2)
    assert board.bus.accesses == [("out", 0x170, 1, 1), ("out", 0x170, 4, 0x05040302)]
    assert cpu.slots[state.RSI] == 0x9005


@pytest.mark.parametrize("target", [MMIO, CODE + 0x20])
def test_a_port_is_read_once_wherever_it_goes(target: int) -> None:
    board = Board()
    # The code that is going to be written has run.
    cpu = start(board, protected_mode(), "eb1e" + "90" * 30 + "eb1e" + "90" * 30 + "f36c", rdx=1, rdi=target, rcx=3)
    cpu.run(3)
    reads = [access for access in board.bus.accesses if access[0] == "in"]
    assert len(reads) == 3
    assert cpu.slots[state.RDI] == target + 3


def test_a_port_is_not_read_if_memory_faults() -> None:
    board = Board()
    slots = long_mode(board.tables({CODE: CODE, 0x8000: 0x8000}))
    cpu = start(board, slots, "f36c", rdx=1, rdi=0x8FFE, rcx=5)
    cpu.run(1)
    assert cpu.fault is not None
    assert cpu.slots[state.RCX] == 3
    assert len(board.bus.accesses) == 2


def user(board: Board, bits: bytes, *, limit: int | None = None, virtual: bool = False, kind: int = 0x8B) -> list[int]:
    """Return a state at level 3 whose task has a map of ports."""
    slots = protected_mode(0xC0FB, 0xC0F3)
    slots[state.CPL] = 3
    if virtual:
        slots[state.SYSTEM_FLAGS] |= state.VM
        slots[state.MODE] = state.MODE_VIRTUAL
        for segment in range(6):
            slots[state.SEGMENT_ATTRIBUTES + segment] = 0xF3
            slots[state.SEGMENT_LIMITS + segment] = 0xFFFF
    board.write(0x20000 + 102, (0x68).to_bytes(2, "little") + bits)
    slots[state.SEGMENT_BASES + state.TR] = 0x20000
    slots[state.SEGMENT_LIMITS + state.TR] = 0x67 + len(bits) if limit is None else limit
    slots[state.SEGMENT_ATTRIBUTES + state.TR] = kind
    return slots


_MAP: Final = bytes(8) + b"\x80" + bytes(7) + b"\xff"


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize(
    ("port", "code", "allowed"),
    [
        *((0x46, "ec", True), (0x47, "ec", False), (0x46, "66ed", False), (0x45, "66ed", True), (0x44, "ed", False)),
        *((0x48, "ed", True), (0x47, "ee", False), (0x46, "6e", True), (0x47, "6e", False), (0x47, "6c", False)),
        *((0x7F, "ec", True), (0x7F, "66ed", False), (0x80, "ec", False), (0xFFFF, "ec", False), (0x47, "f36c", False)),
    ],
)
def test_the_map_says_which_ports_may_be_used(port: int, code: str, allowed: bool, virtual: bool) -> None:
    board = Board()
    if virtual and "ed" in code:
        code = code.removeprefix("66") if code.startswith("66") else "66" + code
    slots = user(board, _MAP, virtual=virtual)
    flags = state.ALWAYS | ((state.VM | state.IOPL) if virtual else 0)
    cpu = start(board, slots, code, flags, rdx=port, rcx=1, rsi=0x8000, rdi=0x8000)
    cpu.run(1)
    assert (cpu.fault is None) == allowed
    assert bool(board.bus.accesses) == allowed
    if cpu.fault is not None:
        assert (cpu.fault.vector, cpu.fault.error) == (state.PROTECTION, 0)


@pytest.mark.parametrize(
    ("slots", "allowed"),
    [({"limit": 0x68}, False), ({"limit": 0x69}, True), ({"limit": 0x66}, False), ({"kind": 0x83}, False)],
)
def test_there_must_be_a_map(slots: dict[str, int], allowed: bool) -> None:
    board = Board()
    kind, limit = slots.get("kind", 0x8B), slots.get("limit")
    cpu = start(board, user(board, bytes(2), kind=kind, limit=limit), "ec", rdx=3)
    cpu.run(1)
    assert (cpu.fault is None) == allowed


def test_who_has_the_level_needs_no_map() -> None:
    board = Board()
    cpu = start(board, user(board, b""), "ec", state.ALWAYS | state.IOPL, rdx=3)
    assert cpu.run(1) is Stop.BUDGET
    assert cpu.fault is None
