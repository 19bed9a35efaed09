"""What CPUID tells, and what there is only if it does."""

from __future__ import annotations

import struct

import pytest

from blockkit.cpu import cpuid, state
from blockkit.cpu.reset import SIGNATURE
from blockkit.errors import OptionError
from tests.cpu.machine import CODE_16, protected_mode
from tests.cpu.test_control import raised, run


def identify(leaf: int, subleaf: int = 0, *, apic: int = 0xFEE00900, model: str = "base") -> tuple[int, int, int, int]:
    slots = protected_mode(CODE_16)
    slots[state.CPUID_CHANGES : state.CPUID_CHANGES + 3] = cpuid.changes(model)
    slots[state.APIC_BASE] = apic
    ones = 0xFFFFFFFF00000000
    cpu = run(slots, "0fa2", rax=leaf | ones, rbx=ones, rcx=subleaf | ones, rdx=ones)
    assert raised(cpu) is None
    found = cpu.registers
    return found[state.RAX], found[state.RBX], found[state.RCX], found[state.RDX]


def test_cpuid_names_itself() -> None:
    last, b, c, d = identify(0)
    assert (last, struct.pack("<3I", b, d, c)) == (0xB, b"GenuineIntel")
    words = [word for leaf in range(0x80000002, 0x80000005) for word in identify(leaf)]
    assert struct.pack("<12I", *words).rstrip(b"\0") == b"blockkit virtual CPU"
    last, b, c, d = identify(0x40000000)
    assert last == 0x40000000
    assert struct.pack("<3I", b, c, d) == cpuid.HYPERVISOR
    assert len(cpuid.HYPERVISOR) == 12
    assert identify(0x80000000)[0] == 0x80000008


def test_cpuid_tells_of_features() -> None:
    signature, b, c, d = identify(1)
    assert signature == SIGNATURE
    assert b == 0x00010800
    assert c == 1 << 31 | 1 << 30 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 19 | 1 << 13 | 1 << 9 | 1
    assert d == 0x078BEBFD & ~(1 << 1 | 1 << 12) | 1 << 17
    assert identify(1, apic=0xFEE00100)[3] == d & ~(1 << 9)
    assert identify(7) == (0, 1 | 1 << 7 | 1 << 9 | 1 << 20, 1 << 2, 0)
    assert identify(7, 1) == (0, 0, 0, 0)
    assert identify(0x80000001)[3] == 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29
    assert identify(0x80000008)[0] == 0x3028


def test_cpuid_tells_of_features_that_are_asked_for() -> None:
    assert identify(1, model="base,+aes,-rdrand")[2] == identify(1)[2] ^ (1 << 25 | 1 << 30)
    assert identify(1, model="base,-mmx")[3] == identify(1)[3] ^ 1 << 23
    assert identify(7, model="base,+adx,+rdseed,-umip")[1:3] == (1 | 1 << 7 | 1 << 9 | 3 << 18 | 1 << 20, 0)
    assert identify(0x80000001, model="base,+lzcnt,-nx")[2:] == (1 | 1 << 5, identify(0x80000001)[3] ^ 1 << 20)
    assert identify(1, model="max,-aes")[2] == identify(1)[2] | 1 << 1
    assert identify(1, model="max,-aes,+aes")[2] == identify(1)[2] | 1 << 1 | 1 << 25
    assert cpuid.changed("base") == cpuid.MODEL
    assert cpuid.changed("max")[7, 0] == identify(7, model="max")


@pytest.mark.parametrize("text", ["", "haswell", "base,lzcnt", "base,+avx", "base,", "+lzcnt"])
def test_there_are_no_other_features(text: str) -> None:
    with pytest.raises(OptionError, match="known are"):
        cpuid.changes(text)


@pytest.mark.parametrize(
    "code", ["660f3a44c100", "660f38dcc1", "660f38dbc1", "660f3adfc101", "660f38f6c1", "f30f38f6c1", "0fc7f8"]
)
def test_what_was_not_asked_for_is_undefined(code: str) -> None:
    slots = protected_mode()
    assert raised(run(slots, code)) is None
    slots[state.CPUID_CHANGES : state.CPUID_CHANGES + 3] = cpuid.changes("base")
    assert raised(run(slots, code)) == (state.UNDEFINED, 0)


def test_lzcnt_was_bsr() -> None:
    slots = protected_mode()
    assert run(slots, "f30fbdc1", rax=7, rcx=0x40).registers[state.RAX] == 25
    assert run(slots, "f30fbdc1", rax=7, rcx=0).registers[state.RAX] == 32
    slots[state.CPUID_CHANGES : state.CPUID_CHANGES + 3] = cpuid.changes("base")
    assert run(slots, "f30fbdc1", rax=7, rcx=0x40).registers[state.RAX] == 6
    assert run(slots, "f30fbdc1", rax=7, rcx=0).registers[state.RAX] == 7


def test_cpuid_answers_for_leaves_there_are_not() -> None:
    # That of the last basic leaf.
    assert identify(0x1000, 1) == identify(0xB, 1) == (0, 1, 0x201, 0)
    assert identify(0x80000009, 7) == identify(0xB, 7) == (0, 0, 7, 0)
    assert identify(0x40000001) == (0, 0, 0, 0)
    assert identify(3) == identify(0xA) == (0, 0, 0, 0)
    # Most look at no subleaf.
    assert identify(1, 55) == identify(1)
    assert identify(4, 3) == (0, 0, 0, 0)
    assert identify(4, 2)[0] & 0xFF == 3 | 2 << 5
