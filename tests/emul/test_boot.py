"""Kernels of a few bytes are started without firmware, whatever file they come in; damaged ones are refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from blockkit.cpu import state
from blockkit.emul.boot import layout, lz4, payload
from blockkit.emul.boot.bzimage import read_bzimage
from blockkit.emul.boot.elf import read_elf
from blockkit.emul.boot.kernel import Entry, load, read_kernel
from blockkit.emul.guest import Machine
from blockkit.emul.session import Outcome
from blockkit.errors import EmulationError, OptionError
from tests.cpu.kernel import needs_kvm
from tests.emul import kernels
from tests.emul.kernels import BASE, Part, bzimage, code_elf, elf, lz4_frame, lz4_sequence, pvh_note

if TYPE_CHECKING:
    from pathlib import Path

RSDP = 0xF0000
SEED = bytes(range(32))
USABLE = [(0, 0x9FC00), (0x100000, 0x100000)]
#: Exit codes of the kernels' code: 2 * AL + 1.
FOUND = 3

INSIDE = code_elf(kernels.LINUX_CODE)
FORMATS = {
    "gzip": gzip.compress(INSIDE),
    "bzip2": bz2.compress(INSIDE) + struct.pack("<I", len(INSIDE)),
    "lzma": lzma.compress(INSIDE, lzma.FORMAT_ALONE) + struct.pack("<I", len(INSIDE)),
    "xz": lzma.compress(INSIDE) + struct.pack("<I", len(INSIDE)),
    "zstd": zstandard.compress(INSIDE) + struct.pack("<I", len(INSIDE)),
    "lz4": lz4_frame(lz4_sequence(INSIDE), length=len(INSIDE)),
    "none": INSIDE,
}


def start(tmp_path: Path, kernel: bytes, accelerator: str = "python", **more: Any) -> Machine:
    (tmp_path / "kernel").write_bytes(kernel)
    given = {"memory": "2M", "timeout": 20, "vga": "none"} | more
    return Machine(kernel=tmp_path / "kernel", accelerator=accelerator, **given)


@pytest.mark.parametrize("accelerator", ["python", "jit", pytest.param("kvm", marks=needs_kvm)])
@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(code_elf(kernels.PVH_CODE, pvh_note(BASE)), id="PVH"),
        pytest.param(code_elf(kernels.PVH_CODE, pvh_note(BASE, 8), bits=64), id="PVH, ELF of 64 bits"),
        pytest.param(code_elf(kernels.LINUX_CODE), id="Linux, 32 bits"),
        pytest.param(code_elf(kernels.LONG_CODE, bits=64), id="Linux, 64 bits"),
        pytest.param(bzimage(b"", code=kernels.LINUX_CODE), id="bzImage"),
        pytest.param(bzimage(gzip.compress(INSIDE)), id="bzImage, decompressed"),
        pytest.param(bzimage(gzip.compress(code_elf(kernels.LONG_CODE, bits=64))), id="bzImage of 64 bits"),
    ],
)
def test_it_is_entered(tmp_path: Path, kernel: bytes, accelerator: str) -> None:
    if accelerator == "jit":
        pytest.importorskip("llvmlite")
    with start(tmp_path, kernel, accelerator) as vm:
        assert vm.wait() is Outcome.EXIT
        assert vm.exit_code == FOUND


@pytest.mark.parametrize("bits", [32, 64])
def test_every_processor_begins_in_the_same_state(tmp_path: Path, bits: int) -> None:
    pytest.importorskip("llvmlite")
    hashes = set()
    for accelerator in ("python", "jit"):
        with start(tmp_path, code_elf(kernels.LINUX_CODE, bits=bits), accelerator) as vm:
            hashes.add(vm.state_hash())
    assert len(hashes) == 1


def test_it_is_put_into_memory_again_after_a_reset(tmp_path: Path) -> None:
    with start(tmp_path, code_elf(kernels.LINUX_CODE)) as vm:
        vm.session.pc.ram[BASE : BASE + 16] = bytes(16)
        vm.reset()
        assert vm.wait() is Outcome.EXIT


# -- what it is told ---------------------------------------------------------------------------------------


def placed(kernel: bytes, line: str = "quiet", initrd: bytes = b"", size: int = 2 << 20) -> tuple[bytes, list[int]]:
    memory = memoryview(bytearray(b"\xee" * size))
    slots = load(memory, read_kernel(kernel, "host"), line, initrd, USABLE, RSDP, SEED)
    return bytes(memory), slots


def test_pvh_is_told_of_everything() -> None:
    memory, slots = placed(code_elf(b"\xf4", pvh_note(BASE)), initrd=b"archive")
    assert slots[state.RIP] == BASE
    assert slots[state.CR0] == state.CR0_PE | state.CR0_ET
    info = struct.unpack_from("<IIIIQQQQII", memory, slots[state.RBX])
    magic, version, flags, modules, modules_at, line_at, rsdp, map_at, regions, _ = info
    assert (magic, version, flags, modules, rsdp, regions) == (0x336EC578, 1, 0, 1, RSDP, 2)
    assert memory[line_at : line_at + 6] == b"quiet\0"
    address, length, more, _ = struct.unpack_from("<4Q", memory, modules_at)
    assert (memory[address : address + length], address % 4096, more) == (b"archive", 0, 0)
    found = [struct.unpack_from("<QQII", memory, map_at + 24 * number) for number in range(2)]
    assert found == [(*each, 1, 0) for each in USABLE]


def test_pvh_is_told_of_no_initrd_where_there_is_none() -> None:
    memory, slots = placed(code_elf(b"\xf4", pvh_note(BASE)))
    assert struct.unpack_from("<IQ", memory, slots[state.RBX] + 12) == (0, 0)


@pytest.mark.parametrize("kernel", [code_elf(b"\xf4"), bzimage(b"", code=b"\xf4")])
def test_linux_is_told_of_everything(kernel: bytes) -> None:
    memory, slots = placed(kernel, initrd=b"archive")
    page = slots[state.RSI]
    assert memory[page + 0x202 : page + 0x206] == b"HdrS"
    assert memory[page + 0x210] == 0xFF
    (line_at,) = struct.unpack_from("<I", memory, page + 0x228)
    assert memory[line_at : line_at + 6] == b"quiet\0"
    address, length = struct.unpack_from("<II", memory, page + 0x218)
    assert memory[address : address + length] == b"archive"
    assert struct.unpack_from("<Q", memory, page + 0x70) == (RSDP,)
    (data,) = struct.unpack_from("<Q", memory, page + 0x250)
    assert struct.unpack_from("<QII", memory, data) == (0, 9, len(SEED))
    assert memory[data + 16 : data + 16 + len(SEED)] == SEED
    found = [struct.unpack_from("<QQI", memory, page + 0x2D0 + 20 * number) for number in range(memory[page + 0x1E8])]
    assert found == [(*each, 1) for each in USABLE]


def test_long_mode_has_four_gigabytes_where_they_are() -> None:
    memory, slots = placed(code_elf(b"\xf4", bits=64))
    assert slots[state.EFER] == state.EFER_LME | state.EFER_LMA
    for address in (0, 0x1FFFFF, 0x200000, 0x3FFFFFFF, 0x40000000, 0xFEE00000, 0xFFFFFFFF):
        table = slots[state.CR3]
        for shift in (39, 30, 21):
            (entry,) = struct.unpack_from("<Q", memory, table + 8 * (address >> shift & 511))
            assert entry & 1
            table = entry & 0xFFFFFF000
        assert entry & 0x80
        assert table + (address & 0x1FFFFF) == address


def test_what_is_not_in_the_file_is_zero() -> None:
    memory, _ = placed(elf(Part(1, BASE, b"\xf4" * 8, 32), Part(1, BASE + 64, b"", 8)))
    assert memory[BASE : BASE + 80] == b"\xf4" * 8 + bytes(24) + b"\xee" * 32 + bytes(8) + b"\xee" * 8


# -- what is compressed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_payload_is_decompressed(name: str) -> None:
    kernel = read_kernel(bzimage(FORMATS[name]), "host")
    assert (kernel.how, kernel.at) == (Entry.LINUX_32, BASE)
    assert bytes(kernel.segments[0].data) == kernels.LINUX_CODE
    assert kernel.setup[0x202:0x206] == b"HdrS"


@pytest.mark.parametrize(
    ("name", "decompress"), [("gzip", "guest"), ("xz", "guest"), ("lz4", "auto"), ("lz4", "guest")]
)
def test_a_payload_is_left_to_the_guest(name: str, decompress: Any) -> None:
    image = bzimage(FORMATS[name])
    kernel = read_kernel(image, decompress)
    assert (kernel.how, kernel.at) == (Entry.LINUX_32, BASE)
    assert bytes(kernel.segments[0].data) == image[1024:]


# gzip notes the time, and a name that follows it differs from worker to worker.
@pytest.mark.parametrize("payload", [b"", b"\x89LZO...", gzip.compress(b"no ELF", mtime=0)])
def test_what_is_not_known_is_left_to_the_guest(payload: bytes) -> None:
    assert bytes(read_kernel(bzimage(payload), "host").segments[0].data) == b"\xf4" * 16 + payload


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"none"}))
def test_a_damaged_payload_is_refused(name: str) -> None:
    # Random bytes within, so that no decompressor finds an end of its own.
    damaged = FORMATS[name][:20] + b"\xa7\x19\xff" * 40
    with pytest.raises(EmulationError, match=r"^kernel: [^\n]*$"):
        read_kernel(bzimage(damaged), "host")


@pytest.mark.parametrize("name", ["gzip", "bzip2", "lzma", "xz", "zstd", "lz4"])
def test_a_payload_that_gets_too_long_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MOST", len(INSIDE) - 1)
    with pytest.raises(EmulationError, match=r"more than"):
        read_kernel(bzimage(FORMATS[name]), "host")


sequences = st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 600), st.integers(4, 600)), max_size=20)


@given(sequences, st.binary(max_size=300))
def test_lz4_repeats_what_it_had(given: list[tuple[bytes, int, int]], end: bytes) -> None:
    block, plain = b"", bytearray()
    for literals, offset, length in given:
        plain += literals
        if not plain:
            continue
        offset = min(offset, len(plain))
        block += lz4_sequence(literals, offset, length)
        for _ in range(length):
            plain.append(plain[-offset])
    block += lz4_sequence(end)
    plain += end
    assert lz4.decompress(lz4_frame(block, block), 1 << 20) == bytes(plain) * 2


@given(st.binary(max_size=200))
def test_lz4_is_refused_or_decompressed(data: bytes) -> None:
    for frame in (lz4_frame(data), lz4.MAGIC + data):
        try:
            assert len(lz4.decompress(frame, 1 << 20)) <= 1 << 20
        except ValueError:
            pass


@pytest.mark.parametrize(
    "block",
    [
        lz4_sequence(b"abc", 4, 8) + lz4_sequence(b""),
        lz4_sequence(b"abc", 1, (8 << 20) + 1) + lz4_sequence(b""),
        b"\x50abc",
        lz4_sequence(b"abc", 3, 8),
        b"\xf0\xff\xff",
    ],
)
def test_a_damaged_block_of_lz4_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"block"):
        lz4.decompress(lz4_frame(block), 1 << 30)


# -- what is refused ---------------------------------------------------------------------------------------

LOADED = Part(1, BASE, b"\xf4" * 16)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (b"", "neither a bzImage"),
        (b"MZ" * 600, "neither a bzImage"),
        (bzimage(b"")[:0x240], "neither a bzImage"),
        (bzimage(b"", version=0x205), "boot protocol 0x205"),
        (bzimage(b"")[:1024], "ends too early"),
        (bzimage(FORMATS["xz"])[:-1], "ends too early"),
        (b"\x7fELF", "no little-endian ELF"),
        (b"\x7fELF\x01\x02" + bytes(60), "no little-endian ELF"),
        (elf(LOADED)[:40], "ends within its header"),
        (elf(LOADED)[:18] + b"\x28\0" + elf(LOADED)[20:], "machine 40"),
        (elf(LOADED)[:16] + b"\4\0" + elf(LOADED)[18:], "type 4"),
        (elf(LOADED)[:42] + b"\x1f\0" + elf(LOADED)[44:], "of 31 bytes"),
        (elf(LOADED)[:44] + b"\xff\xff" + elf(LOADED)[46:], "65535 program headers"),
        (elf(LOADED)[:44] + b"\x09\0" + elf(LOADED)[46:], "9 program headers"),
        (elf(LOADED)[:-1], "ends behind the file"),
        (elf(), "nothing to load"),
        (elf(pvh_note(BASE)), "nothing to load"),
        (elf(Part(1, BASE, b"\xf4" * 16, 15)), "but 15 in memory"),
        (elf(LOADED, Part(1, BASE + 15, b"x")), "overlap"),
        (elf(LOADED, Part(1, BASE - 4096, b"x", 4097)), "overlap"),
        (elf(Part(1, BASE - 4096, b"x"), entry=BASE - 4096), "1 MiB or above"),
        (elf(LOADED, entry=BASE + 16), "entered at 0x100010"),
        (elf(LOADED, pvh_note(BASE - 1)), "entered at 0xfffff"),
        (elf(LOADED, pvh_note((1 << 64) - 1, 8)), "entered at 0xffffffffffffffff"),
        (elf(Part(1, BASE, b"x", 2 << 20)), "up to 0x300000"),
        (elf(Part(1, (1 << 64) - 1, b"x", (1 << 64) - 1), entry=(1 << 64) - 1, bits=64), "needs memory up to"),
    ],
)
def test_a_damaged_kernel_is_refused_in_one_line(tmp_path: Path, kernel: bytes, words: str) -> None:
    with pytest.raises(EmulationError, match=rf"^kernel: [^\n]*{words}[^\n]*$"):
        start(tmp_path, kernel, kernel_decompress="host")


def test_who_decompresses_is_a_word_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is none of auto, host, guest"):
        start(tmp_path, INSIDE, kernel_decompress="somebody")
    with pytest.raises(OptionError, match="none is given"):
        Machine(kernel_decompress="guest")


def test_a_note_of_pvh_that_is_no_address_is_none() -> None:
    assert read_kernel(code_elf(b"\xf4", pvh_note(BASE, 5))).how is Entry.LINUX_32


def test_notes_are_not_read_by_every_header_that_tells_of_them() -> None:
    note = kernels.note(b"", 0, b"")
    found = read_elf(elf(LOADED, Part(4, 0, note * 60_000), Part(4, 0, note * 60_000), pvh_note(BASE)))
    assert len(found.notes) == (1 << 20) // len(note)


def test_an_initrd_lies_above_the_kernel() -> None:
    kernel = bzimage(b"", code=b"\xf4")
    image = read_bzimage(kernel)
    room = (2 << 20) - image.top
    memory, slots = placed(kernel, initrd=b"i" * room)
    (at,) = struct.unpack_from("<I", memory, slots[state.RSI] + 0x218)
    assert at == image.top == BASE + 0x10000
    with pytest.raises(EmulationError, match=r"initrd: \d+ bytes do not fit"):
        placed(kernel, initrd=b"i" * (room + 1))


def test_a_command_line_is_as_long_as_the_kernel_takes_it() -> None:
    kernel = bzimage(b"", characters=300)
    memory, _ = placed(kernel, "x" * 300)
    assert memory[layout.COMMAND_LINE : layout.COMMAND_LINE + 302] == b"x" * 300 + b"\0\xee"
    with pytest.raises(EmulationError, match=r"command line: 301 bytes, expected 300 at most"):
        placed(kernel, "x" * 301)
    with pytest.raises(EmulationError, match=r"command line: "):
        placed(bzimage(b"", characters=0xFFFFFFFF), "x" * layout.COMMAND_LINE_SIZE)
    with pytest.raises(EmulationError, match="command line: character 1: surrogates not allowed"):
        placed(bzimage(b""), "a\ud800")


def refusal(kernel: bytes) -> str:
    """Return why a kernel is refused, or nothing."""
    try:
        placed(kernel, initrd=b"i", size=BASE + 0x2000)
    except EmulationError as error:
        return str(error)
    return ""


words = (
    st.integers(0, 1 << 32) | st.sampled_from([0, 1, 52, BASE, BASE + 1, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1)
)
headers = st.lists(st.tuples(st.sampled_from([1, 1, 1, 4]), words, words, words, words), max_size=4)


@given(headers, words, st.booleans(), st.binary(max_size=64))
def test_any_elf_is_loaded_or_refused(
    given: list[tuple[int, int, int, int, int]], entry: int, wide: bool, rest: bytes
) -> None:
    bits, size = (64, 56) if wide else (32, 32)
    cut = (1 << bits) - 1
    data = bytearray(elf(*(Part(kind, 0, b"") for kind, *_ in given), entry=entry & cut, bits=bits)) + rest
    first = len(data) - len(rest) - size * len(given)
    for number, (_, offset, address, in_file, in_memory) in enumerate(given):
        at = first + number * size
        if wide:
            struct.pack_into("<QQQQQ", data, at + 8, offset, 0, address, in_file, in_memory)
        else:
            struct.pack_into("<IIIII", data, at + 4, *(each & cut for each in (offset, 0, address, in_file, in_memory)))
    assert len(refusal(bytes(data)).splitlines()) <= 1


@given(st.data())
def test_any_damage_to_a_kernel_is_refused_or_does_no_harm(data: st.DataObject) -> None:
    kernel = data.draw(
        st.sampled_from([bzimage(FORMATS[name]) for name in FORMATS] + [code_elf(b"\xf4", pvh_note(BASE), bits=64)])
    )
    damaged = bytearray(kernel)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(kernel) - 1))] = data.draw(st.integers(0, 255))
    assert len(refusal(bytes(damaged[: data.draw(st.integers(0, len(kernel)))])).splitlines()) <= 1
