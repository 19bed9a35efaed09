"""The disassembler writes what iced-x86's MASM formatter writes, but for a few habits of each."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Final

import iced_x86 as iced
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockkit.cpu.isa.disassembly import disassemble, listing
from blockkit.cpu.isa.forms import BASELINE, forms
from tests.cpu.test_decode import MODES, prefixed
from tests.cpu.theirs import FEATURES, HAVE, MNEMONICS

_PLAIN: Final = iced.DecoderOptions.NO_MPFX_0FBC | iced.DecoderOptions.NO_WBNOINVD
#: Instructions of later processors are the NOPs that they were.
_OLD: Final = _PLAIN | iced.DecoderOptions.FORCE_RESERVED_NOP
_IMPLIED: Final = ("MONITOR", "MWAIT")


def _formatter() -> iced.Formatter:
    made = iced.Formatter(iced.FormatterSyntax.MASM)
    made.hex_prefix, made.hex_suffix, made.uppercase_hex = "0x", "", False
    made.add_leading_zero_to_hex_numbers = made.branch_leading_zeros = False
    made.space_after_operand_separator = True
    made.show_branch_size = made.use_pseudo_ops = made.masm_add_ds_prefix32 = False
    made.memory_size_options = iced.MemorySizeOptions.ALWAYS
    return made


FORMATTER: Final = _formatter()


def _as_ours(text: str, theirs: iced.Instruction, ours: str) -> str:
    """Put their text in our words."""
    name = MNEMONICS[theirs.mnemonic]
    # Prefixes that only other processors heed.
    text = re.sub(r"^((hnt|ht|bnd|xacquire|xrelease|notrack) |rep(ne)? (?=ret))+", "", text)
    # They have names for the sizes of MMX registers and of what FNSTENV stores, and a table register is six bytes long.
    text = re.sub(r"\bmmword ptr", "qword ptr", text)
    text = re.sub(r"fpu(env|state)\d+ ptr ", "", text)
    if name in ("LGDT", "LIDT", "SGDT", "SIDT") and theirs.code_size == iced.CodeSize.CODE64:
        text = text.replace("fword", "tbyte")
    # ES of a string instruction they show only if there is some prefix.
    if re.match(r"(rep\w* )?(ins|stos|scas|movs|cmps) ", text):
        text = re.sub(r" ptr (\[\w?di\])", r" ptr es:\1", text)
    if name in ("PUSHA", "PUSHAD", "POPA", "POPAD", "INT3", *_IMPLIED):
        text = name.lower()
    text = re.sub(r"^retn", "ret", text)
    if ours == "nop":
        text = re.sub(r"^xchg ([er]?ax), \1$", "nop", text)
    if ours in ("aam 0xa", "aad 0xa"):
        text = ours if text == ours[:3] else text
    if name == "FSTPNCE":
        text = text.replace("fstp ", "fstpnce ")
    # Our map has one line for all of 0F 0D.
    if ours.startswith("prefetchw"):
        text = re.sub(r"^(prefetch|prefetchwt1|nop) \w+ ptr (.*?)(, \w+)?$", r"prefetchw byte ptr \2", text)
    # Either order does the same.
    swapped = re.fullmatch(r"((?:lock )?(?:xchg|test)) (.*), (.*)", text)
    if swapped and text != ours:
        text = f"{swapped[1]} {swapped[3]}, {swapped[2]}"
    if name == "EXTRACTPS":
        # The register has 64 bits with REX.W, as that of PEXTRW does there too.
        text = text.replace("extractps e", "extractps r") if ours.startswith("extractps r") else text
        text = re.sub(r"(r\d+)d,", r"\1,", text) if "d," not in ours else text
    return text


def difference(data: bytes, mode: int, address: int) -> str:
    """Say how our text differs from theirs; empty if not at all."""
    ours = disassemble(data[:15], mode, address)
    theirs = iced.Decoder(mode, data[:15], _PLAIN, ip=address).decode()
    if {FEATURES[each] for each in theirs.cpuid_features()} - HAVE:
        theirs = iced.Decoder(mode, data[:15], _OLD, ip=address).decode()
    if theirs.code == iced.Code.INVALID:
        expected, length = f"db {data[0]:#x}", 1
    else:
        if {FEATURES[each] for each in theirs.cpuid_features()} - HAVE:
            return ""
        if MNEMONICS[theirs.mnemonic][:4] in ("SCAS", "STOS", "INSB", "INSW", "INSD"):
            # What they write is always at ES.
            theirs.segment_prefix = iced.Register.NONE
        expected, length = _as_ours(FORMATTER.format(theirs), theirs, ours.text), theirs.len
        if expected == "pause" and ours.text.startswith("xchg r8"):
            return ""  # see test_decode
    same = ours.text == expected and len(ours.data) == length
    return "" if same else f"{ours.text!r} for {expected!r}"


def opcode(number: int) -> bytes:
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


@pytest.mark.parametrize("mode", MODES)
def test_every_form_is_written_alike(mode: int) -> None:
    rng = random.Random(mode)
    for form in forms():
        if form.feature and form.feature not in BASELINE:
            continue
        for _ in range(24):
            data = prefixed(rng, opcode(form.opcode))
            if form.prefix:
                data = bytes([form.prefix]) + data
            if form.modrm and rng.random() < 0.5:
                # The form itself, and not another one of its opcode.
                modrm = rng.getrandbits(8) | (0xC0 if form.memory is False else 0)
                modrm = modrm & 0x3F if form.memory else modrm
                modrm = modrm & 0xC7 | form.reg << 3 if form.reg is not None else modrm
                modrm = 0xC0 | modrm & 0x38 | form.rm if form.rm is not None else modrm
                data = bytes([form.prefix] if form.prefix else []) + opcode(form.opcode) + bytes([modrm])
                data += rng.randbytes(12)
            address = rng.choice((0, 0x1000, 0xFFFE, 0x7FFF1234, 0xFFFFFFFF81000000))
            address &= {16: 0xFFFF, 32: 0xFFFFFFFF}.get(mode, address)
            assert not difference(data, mode, address), (data.hex(), hex(address))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lead", [b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a"])
def test_every_opcode_is_written_alike(mode: int, lead: bytes) -> None:
    rng = random.Random(mode * 8 + len(lead))
    for byte in range(256):
        for _ in range(16):
            data = prefixed(rng, lead + bytes([byte]))
            assert not difference(data, mode, 0x1000), data.hex()


def test_a_real_program_is_written_alike() -> None:
    """The machine code of this interpreter, or whatever its file holds."""
    with Path(sys.executable).resolve().open("rb") as file:
        file.seek(0x2000)
        code = file.read(60_000)
    for line in listing(code, 64, 0x402000):
        at = line.address - 0x402000
        assert not difference(code[at : at + 15], 64, line.address), code[at : at + 15].hex()


@pytest.mark.parametrize(
    ("mode", "code", "text"),
    [
        (64, "48 01 43 08", "add qword ptr [rbx+8], rax"),
        (64, "48 8d 05 00 00 00 00", "lea rax, [0x1007]"),
        (32, "8b 44 f0 f0", "mov eax, dword ptr [eax+esi*8-0x10]"),
        (16, "8b 47 fe", "mov ax, word ptr [bx-2]"),
        (16, "eb fe", "jmp 0x1000"),
        (64, "eb fe", "jmp 0x1000"),
        (16, "ea 5b e0 00 f0", "jmp 0xf000:0xe05b"),
        (32, "f3 a5", "rep movsd"),
        (32, "64 f2 a6", "repne cmps byte ptr fs:[esi], byte ptr es:[edi]"),
        (64, "67 aa", "stos byte ptr es:[edi]"),
        (32, "f0 0f b1 0b", "lock cmpxchg dword ptr [ebx], ecx"),
        (32, "66 c3", "retw"),
        (64, "0f ff", "db 0xf"),
        (64, "06", "db 0x6"),
        (32, "62 f1", "db 0x62"),
        (64, "d8 c1", "fadd st, st(1)"),
        (64, "66 0f 38 10 ca", "pblendvb xmm1, xmm2, xmm0"),
        (64, "40 88 f8", "mov al, dil"),
        (64, "88 f8", "mov al, bh"),
    ],
)
def test_some_are_as_they_should_be(mode: int, code: str, text: str) -> None:
    assert disassemble(bytes.fromhex(code), mode, 0x1000).text == text


def test_features_are_written_when_they_are_asked_for() -> None:
    code = bytes.fromhex("f3 0f bc c1")
    assert disassemble(code, 64).text == "bsf eax, ecx"
    assert disassemble(code, 64, features=BASELINE | {"bmi1"}).text == "tzcnt eax, ecx"


def test_what_has_no_end_is_bytes() -> None:
    lines = [(line.address, line.text) for line in listing(bytes.fromhex("90 e8 00"), 32, 0xFFFFFFFE)]
    assert lines == [(0xFFFFFFFE, "nop"), (0xFFFFFFFF, "db 0xe8"), (0, "db 0x0")]


@given(data=st.binary(max_size=60), mode=st.sampled_from(MODES))
def test_a_listing_has_every_byte(data: bytes, mode: int) -> None:
    lines = list(listing(data, mode, 0x1000))
    assert b"".join(line.data for line in lines) == data
    at = 0x1000
    for line in lines:
        assert line.address == at
        assert line.text
        at += len(line.data)
