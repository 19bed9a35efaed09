"""Memory, instructions and expressions in the monitor for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockkit.cpu import state
from blockkit.emul.guest import Machine
from blockkit.emul.monitor import human
from blockkit.emul.monitor.examine import shown
from blockkit.emul.monitor.expressions import evaluate
from blockkit.errors import UsageError
from tests.emul.rom import echo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_FORMAT = "is no format; it is /COUNT, then one of x d u o c i, then one of b h w g"


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[Machine]:
    with Machine(memory="2M", accelerator="python", firmware=echo().write(tmp_path / "guest.rom")) as machine:
        yield machine


def ask(vm: Machine, line: str) -> list[str]:
    return human.execute(vm.session, line).splitlines()


def registers(**values: int) -> list[int]:
    """Return a state with some slots set, by their names in upper case."""
    slots = state.new_state()
    for name, value in values.items():
        slots[getattr(state, name)] = value
    return slots


def test_numbers_in_every_format(vm: Machine) -> None:
    vm.session.pc.bus.memory_map()[0].memory[0x1000:0x1010] = b"hello\n'\x80" + bytes(range(0xF0, 0xF8))
    lines = {
        "x /4xw 0x1000": ["00001000: 0x6c6c6568 0x80270a6f 0xf3f2f1f0 0xf7f6f5f4"],
        "x 0x1000": ["00001000: 0x6c6c6568"],
        "x/10xb 0x1000": ["00001000: 0x68 0x65 0x6c 0x6c 0x6f 0x0a 0x27 0x80", "00001008: 0xf0 0xf1"],
        "x/3dh 0x1008": ["00001008: -3600 -3086 -2572"],
        "x /2u 0x1008": ["00001008: 4092785136 4160157172"],
        "x/8c 0x1000": [r"00001000: 'h' 'e' 'l' 'l' 'o' '\n' '\'' '\x80'"],
        "x/1o 0x1000": ["00001000: 015433062550"],
        "xp /2gx 4096": ["0000000000001000: 0x80270a6f6c6c6568 0xf7f6f5f4f3f2f1f0"],
        # The end of memory.
        "x /6xw 0x1ffff8": ["001ffff8: 0x00000000 0x00000000 Cannot access memory"],
        "xp /5xh 0x1ffffd": ["00000000001ffffd: 0x0000 Cannot access memory"],
        "x 0x50000000": ["50000000: Cannot access memory"],
        "x /2i 0x50000000": ["0x50000000:  Cannot access memory"],
    }
    for line, expected in lines.items():
        assert ask(vm, line) == expected, line


def test_instructions_of_the_firmware(vm: Machine) -> None:
    assert ask(vm, "x /i $pc") == ["0xfffffff0:  ea 00 00 00 ff           jmp 0xff00:0"]
    vm.expect("hello")
    # MOV DX, 3F8h; MOV AL, 'h'; OUT DX, AL.
    begin = [
        "0x000ff000:  ba f8 03                 mov dx, 0x3f8",
        "0x000ff003:  b0 68                    mov al, 0x68",
        "0x000ff005:  ee                       out dx, al",
    ]
    assert ask(vm, "x /3i 0xff000") == ask(vm, "xp/3i $cs.base") == begin
    assert ask(vm, "x/iw 0xff000") == ["0x000ff000:  ba f8 03 b0 68           mov edx, 0x68b003f8"]
    pc, offset = ask(vm, "p $pc")[0], ask(vm, "p $eip")[0]
    assert int(pc, 0) == int(offset, 0) + 0xFF000
    assert "help" in ask(vm, "dance")[0]


def test_the_target_of_a_jump_is_an_offset_in_its_segment(vm: Machine) -> None:
    vm.session.pc.bus.memory_map()[0].memory[0x1000:0x1004] = bytes.fromhex("ebfe 75fc")
    slots = list(vm.session.pc.cpu.get_state())
    slots[state.SEGMENT_BASES + state.CS], slots[state.SELECTORS + state.CS] = 0x800, 0x80
    vm.session.pc.cpu.set_state(slots)
    texts = [line.split(maxsplit=3)[3] for line in ask(vm, "x /2i 0x1000")]
    assert texts == ["jmp 0x800", "jne 0x800"]


def test_expressions() -> None:
    slots = registers(RAX=0x1122334455667788, RIP=0x10, MODE=state.MODE_16, CR3=0x5000)
    slots[state.SEGMENT_BASES + state.CS] = 0xFFFF0000
    slots[state.SELECTORS + state.DS], slots[state.SEGMENT_LIMITS + state.FS] = 0x28, 0xFFF
    values = {
        "1+2*3": 7,
        "(1 + 2) * 3": 9,
        # As in QEMU, bits bind more than sums.
        "1+2&1": 1,
        "0x10 - 020 | 1": 0x10 - 0o21 & (1 << 64) - 1,
        "-1": (1 << 64) - 1,
        "~-+1": 0,
        "7/2%2": 1,
        "6^3": 5,
        "'a'": 97,
        "$rax": 0x1122334455667788,
        "$eax": 0x1122334455667788,
        "$cr3+4": 0x5004,
        "$eip": 0x10,
        "$pc": 0xFFFF0010,
        "$cs.base": 0xFFFF0000,
        "$ds": 0x28,
        "$fs.limit": 0xFFF,
        "$eflags&2": 2,
        "(" * 32 + "1" + ")" * 32: 1,
        "-" * 1001 + "1": (1 << 64) - 1,
    }
    for text, value in values.items():
        assert evaluate(slots, text) == value, text
    slots[state.MODE] = state.MODE_64
    assert evaluate(slots, "$pc") == 0x10


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("p 1/0", "p: division by zero"),
        ("x 5%(1-1)", "x: division by zero"),
        ("p (1", "p: ')' is missing"),
        ("p 1 2", "p: '2' is too much in the expression"),
        ("p 1+", "p: a number or a register is missing"),
        ("p *1", "p: a number or a register is missing before '*'"),
        ("p 08", "p: '08' is no number"),
        ("p $foo", "p: there is no register $foo"),
        ("p #", "p: '#' is no expression"),
        ("x", "x: an expression is missing"),
        ("xp /4x", "xp: an expression is missing"),
        ("x /99999x 0", "x: that is more than 65536 bytes"),
        (
            "x /9999999999x 0",
            f"x: '/9999999999x' {NO_FORMAT}",
        ),
        ("x /k 0", f"x: '/k' {NO_FORMAT}"),
        ("p " + "(" * 100_000, "p: too many parentheses"),
    ],
)
def test_what_means_nothing(vm: Machine, line: str, message: str) -> None:
    assert ask(vm, line) == [message]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("print 10", "0xa"), ("p /d -1", "-1"), ("p/u -1", "18446744073709551615"), ("p /o 8", "010"), ("p /c 65", "'A'")],
)
def test_values(vm: Machine, line: str, expected: str) -> None:
    assert ask(vm, line) == [expected]


@given(text=st.text(st.sampled_from("0123456789abcdefx$()+-*/%&|^~' .rip")))
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    try:
        assert 0 <= evaluate(registers(MODE=state.MODE_32), text) < 1 << 64
    except UsageError:
        pass


@given(data=st.binary(min_size=1, max_size=8).filter(lambda data: len(data) in (1, 2, 4, 8)))
def test_words_of_one_size_are_equally_wide(data: bytes) -> None:
    for kind in "xou":
        assert len(shown(data, kind)) == len(shown(bytes(len(data)), kind))
