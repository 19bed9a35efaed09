"""Our decoder and iced-x86 read the same bytes as the same instructions."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import iced_x86 as iced
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockkit.cpu.isa.decode import DecodeError, TooLongError, TruncatedError, UndefinedError, decode
from blockkit.cpu.isa.forms import BASELINE, by_opcode, forms
from tests.cpu.theirs import FEATURES, HAVE, MNEMONICS, SAME, operands_like, operands_of

MODES = (16, 32, 64)
#: Operands that are implied, which they list and the SDM's notation does not.
IMPLIED = ("XLATB", "MASKMOVQ", "MASKMOVDQU", "ARPL")


def difference(data: bytes, mode: int) -> str:
    """Say how we differ from them on the instruction at the start of ``data``; empty if not at all."""
    theirs = iced.Decoder(mode, data[:15]).decode()
    valid = theirs.code != iced.Code.INVALID
    lacking = {FEATURES[each] for each in theirs.cpuid_features()} - HAVE if valid else set()
    try:
        ours = decode(data, mode)
    except DecodeError as error:
        return f"{type(error).__name__} for {theirs}" if valid and not lacking else ""
    name = MNEMONICS[theirs.mnemonic] if valid else "nothing"
    if name == "PAUSE" and ours.name == "XCHG":
        return ""  # F3 before an exchange with R8: processors exchange
    if name not in (ours.name, *(key for key, same in SAME.items() if same == ours.name)):
        return f"{ours.name} for {theirs}"
    if ours.length != theirs.len:
        return f"{ours.length} bytes for {theirs}, which has {theirs.len}"
    expected, found = operands_like(ours, theirs), operands_of(ours)
    if 0xD8 <= ours.form.opcode <= 0xDF:
        # Whether the top of the stack is named is a matter of taste.
        expected, found = ([each for each in several if each != "ST0"] for several in (expected, found))
    if ours.name in IMPLIED or (ours.name == "NOP" and name != "NOP"):
        return ""
    return f"{found} for {theirs}: {expected}" if found != expected else ""


def prefixed(rng: random.Random, opcode: bytes) -> bytes:
    """Return ``opcode`` with some prefixes in front and some bytes behind."""
    several = (
        b"\x66",
        b"\xf2",
        b"\xf3",
        b"\xf0",
        b"\x67",
        b"\x64",
        b"\x2e",
        b"\x48",
        bytes([rng.randrange(0x40, 0x50)]),
    )
    count = rng.choice((0, 0, 0, 1, 1, 2, 3))
    return b"".join(rng.choice(several) for _ in range(count)) + opcode + rng.randbytes(18)


@pytest.mark.parametrize("mode", MODES)
def test_every_form_is_read_alike(mode: int) -> None:
    rng = random.Random(mode)
    for form in forms():
        if form.feature and form.feature not in BASELINE:
            continue
        size = max(1, (form.opcode.bit_length() + 7) // 8)
        for _ in range(12):
            data = prefixed(rng, form.opcode.to_bytes(size, "big"))
            if form.prefix:
                data = bytes([form.prefix]) + data
            assert not difference(data, mode), data.hex()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lead", [b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a"])
def test_every_opcode_is_read_alike(mode: int, lead: bytes) -> None:
    rng = random.Random(mode * 8 + len(lead))
    for opcode in range(256):
        for _ in range(16):
            data = prefixed(rng, lead + bytes([opcode]))
            assert not difference(data, mode), data.hex()


def test_a_real_program_is_read_alike() -> None:
    """The machine code of this interpreter, or whatever its file holds."""
    with Path(sys.executable).resolve().open("rb") as file:
        file.seek(0x2000)
        code = file.read(60_000)
    at = 0
    for theirs in iced.Decoder(64, code):
        at = theirs.ip
        if at + 15 > len(code):
            break
        assert not difference(code[at : at + 15], 64), code[at : at + 15].hex()


@pytest.mark.parametrize("mode", MODES)
def test_an_instruction_is_nothing_without_its_last_byte(mode: int) -> None:
    rng = random.Random(mode)
    for form in forms():
        data = prefixed(rng, form.opcode.to_bytes(max(1, (form.opcode.bit_length() + 7) // 8), "big"))
        try:
            length = decode(data, mode).length
        except DecodeError:
            continue
        assert decode(data[:length], mode).length == length
        for end in range(length):
            with pytest.raises(TruncatedError):
                decode(data[:end], mode)


def test_no_instruction_has_more_than_fifteen_bytes() -> None:
    assert decode(b"\x66" * 14 + b"\x90", 64).length == 15
    with pytest.raises(TooLongError):
        decode(b"\x66" * 15 + b"\x90", 64)
    with pytest.raises(TooLongError):
        decode(b"\x2e" * 8 + b"\x81\x04\x25" + bytes(8), 64)


@pytest.mark.parametrize("text", ["f0 90", "f0 8b 00", "f0 01 c0", "f0 39 08", "f0 0f ba 20 01", "f0 80 38 00"])
def test_lock_stands_only_where_memory_is_changed(text: str) -> None:
    with pytest.raises(UndefinedError):
        decode(bytes.fromhex(text), 64)


def test_features_are_there_when_they_are_asked_for() -> None:
    code = bytes.fromhex("f3 0f bc c1")
    assert decode(code, 64).name == "BSF"
    assert decode(code, 64, BASELINE | {"bmi1"}).name == "TZCNT"
    with pytest.raises(UndefinedError):
        decode(bytes.fromhex("f3 0f ae c0"), 64, frozenset())
    assert decode(bytes.fromhex("f3 0f ae c0"), 64, frozenset({"fsgsbase"})).name == "RDFSBASE"


def test_forms_of_one_opcode_agree_on_modrm() -> None:
    features = frozenset(form.feature for form in forms())
    for opcode, several in by_opcode(features).items():
        assert len({form.modrm for form in several}) == 1, hex(opcode)


@given(data=st.binary(max_size=20), mode=st.sampled_from(MODES))
def test_arbitrary_bytes_raise_nothing_else(data: bytes, mode: int) -> None:
    try:
        found = decode(data, mode)
    except DecodeError:
        return
    assert 1 <= found.length <= min(15, len(data))
