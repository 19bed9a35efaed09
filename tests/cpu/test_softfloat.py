"""binary32 and binary64 are, bit for bit, what the processor of this machine computes."""

from __future__ import annotations

import ctypes
import itertools
import random
from importlib import import_module
from typing import TYPE_CHECKING, Final

import pytest

from blockkit.cpu import state
from blockkit.cpu.dialect import plain
from blockkit.cpu.system.softfloat_round import FLOAT_FLAGS
from blockkit.native.llvm import Library
from tests.cpu.floats import HostFloats
from tests.cpu.host import available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not available(), reason="the oracle is an x86-64 processor")

_MODULES: Final = [
    import_module(f"blockkit.cpu.system.softfloat_{name}")
    for name in ("round", "arithmetic", "compare", "convert", "32", "64")
]
_STATE: Final = state.new_state()
_FUNCTIONS: Final = plain.functions(_MODULES, _STATE, {})
#: Every rounding mode, with and without DAZ and FZ.
_CONTROLS: Final = [
    0x1F80 | mode << 13 | daz | fz for mode in range(4) for daz, fz in ((0, 0), (64, 0), (0, 0x8000), (64, 0x8000))
]
_PREFIX: Final = {32: "f3", 64: "f2"}
_ARITHMETIC: Final = {"add": "58", "mul": "59", "sub": "5c", "min": "5d", "div": "5e", "max": "5f"}
_COMPARISONS: Final = {0: "2e", 1: "2f"}
#: CF, PF and ZF by result.
_FLAGS: Final = (state.CF, state.ZF, 0, state.CF | state.PF | state.ZF)
_COMPARED: Final = state.CF | state.PF | state.ZF


def _compose(bits: int, sign: int, exponent: int, rest: int) -> int:
    fraction = 23 if bits == 32 else 52
    return sign << bits - 1 | exponent << fraction | rest & (1 << fraction) - 1


def _edges(bits: int) -> list[int]:
    fraction, top, bias = (23, 255, 127) if bits == 32 else (52, 2047, 1023)
    ones, quiet = (1 << fraction) - 1, 1 << fraction - 1
    found = []
    for exponent in (0, 1, 2, fraction, bias - fraction - 1, bias - 1, bias, bias + 1, top - 2, top - 1, top):
        for rest in (0, 1, quiet, ones):
            found += [_compose(bits, sign, exponent, rest) for sign in (0, 1)]
    found += [_compose(bits, 0, bias + n, ones) for n in (30, 31, 32, 62, 63, 64) if bias + n < top]
    found += [_compose(bits, 1, bias + n, 0) for n in (30, 31, 32, 62, 63, 64)]
    return found


def _numbers(bits: int, seed: str) -> Iterator[int]:
    """Yield numbers in which there is often something to see."""
    chance = random.Random(seed)
    edges = _edges(bits)
    fraction, top, bias = (23, 255, 127) if bits == 32 else (52, 2047, 1023)
    while True:
        kind = chance.randrange(6)
        if kind == 0:
            yield chance.choice(edges)
            continue
        rest = chance.getrandbits(fraction)
        if chance.randrange(2):
            rest &= -1 << chance.randrange(fraction)
        near = chance.choice((0, fraction // 2, bias // 2, bias, bias * 3 // 2, top - fraction))
        exponent = chance.randrange(top + 1) if kind == 1 else min(max(0, near + chance.randint(-3, 30)), top)
        yield _compose(bits, chance.randrange(2), exponent, rest)


def _ours(name: str, control: int, *operands: int) -> tuple[int, int]:
    _STATE[state.MXCSR], _STATE[FLOAT_FLAGS] = control, 0
    return int(_FUNCTIONS[name](*operands)), _STATE[FLOAT_FLAGS] | control


@pytest.fixture(scope="module")
def host() -> HostFloats:
    return HostFloats()


def _agree(
    host: HostFloats,
    code: str,
    numbers: tuple[Iterator[int], Iterator[int]],
    compute: Callable[[int, int, int], tuple[int, int]],
    result: str = "xmm",
    mask: int = (1 << 64) - 1,
    count: int = 150,
) -> None:
    for control in _CONTROLS:
        pairs = [(next(numbers[0]), next(numbers[1])) for _ in range(count)]
        for (first, second), (value, after) in zip(
            pairs, host.run(bytes.fromhex(code), pairs, control, result), strict=True
        ):
            mine = compute(control, first, second)
            theirs = value & mask, after
            assert mine == theirs, (
                f"{first:#x} {second:#x} {control:#x}: {mine[0]:#x} {mine[1]:#x} is not {value:#x} {after:#x}"
            )


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", sorted(_ARITHMETIC))
def test_arithmetic_is_that_of_the_processor(host: HostFloats, name: str, bits: int) -> None:
    numbers = _numbers(bits, name), _numbers(bits, name + "2")
    code = f"{_PREFIX[bits]}0f{_ARITHMETIC[name]}c1"
    _agree(host, code, numbers, lambda c, a, b: _ours(f"f{bits}_{name}", c, a, b), mask=(1 << bits) - 1, count=400)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", ["add", "div", "max", "min", "mul", "sub"])
def test_arithmetic_of_special_numbers_is_that_of_the_processor(host: HostFloats, name: str, bits: int) -> None:
    edges = _edges(bits)
    chance = random.Random(bits)
    several = [(a, b) for a in edges for b in edges]
    for control in _CONTROLS[::5]:
        pairs = chance.sample(several, 1000)
        code = bytes.fromhex(f"{_PREFIX[bits]}0f{_ARITHMETIC[name]}c1")
        for (a, b), (value, after) in zip(pairs, host.run(code, pairs, control), strict=True):
            mine = _ours(f"f{bits}_{name}", control, a, b)
            assert mine == (value & (1 << bits) - 1, after), f"{a:#x} {b:#x} {control:#x}: {mine} {value:#x} {after:#x}"


@pytest.mark.parametrize("bits", [32, 64])
def test_sums_and_products_near_a_half_are_rounded_as_the_processor_does(host: HostFloats, bits: int) -> None:
    fraction, bias = (23, 127) if bits == 32 else (52, 1023)
    chance = random.Random(bits)

    def near(shift: int) -> Iterator[int]:
        while True:
            rest = chance.choice((0, 1, 2, 3, (1 << fraction) - 1, (1 << fraction) - 2, 1 << fraction - 1))
            exponent = bias + (chance.choice((0, 0, 1, fraction, fraction + 1, fraction + 2)) if shift else 0)
            yield _compose(bits, chance.randrange(2), exponent, rest)

    for name in ("add", "sub", "mul", "div"):
        code = f"{_PREFIX[bits]}0f{_ARITHMETIC[name]}c1"
        _agree(host, code, (near(0), near(1)), lambda c, a, b, n=name: _ours(f"f{bits}_{n}", c, a, b),  # type: ignore[misc]
               mask=(1 << bits) - 1)  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64])
def test_square_roots_are_those_of_the_processor(host: HostFloats, bits: int) -> None:
    numbers = _numbers(bits, "sqrt"), _numbers(bits, "root")
    _agree(host, f"{_PREFIX[bits]}0f51c0", numbers, lambda c, a, b: _ours(f"f{bits}_sqrt", c, a), mask=(1 << bits) - 1)
    squares = [_ours(f"f{bits}_mul", 0x1F80, a, a)[0] for a in (next(numbers[0]) for _ in range(400))]
    _agree(host, f"{_PREFIX[bits]}0f51c0", (iter(squares * 6), numbers[1]),
           lambda c, a, b: _ours(f"f{bits}_sqrt", c, a), mask=(1 << bits) - 1)  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("signaling", [0, 1])
def test_comparisons_are_those_of_the_processor(host: HostFloats, signaling: int, bits: int) -> None:
    def compute(control: int, first: int, second: int) -> tuple[int, int]:
        result, flags = _ours(f"f{bits}_compare", control, first, second, signaling)
        return _FLAGS[result], flags

    code = ("66" if bits == 64 else "") + f"0f{_COMPARISONS[signaling]}c1"
    numbers = _numbers(bits, "compare"), _numbers(bits, "to")
    _agree(host, code, numbers, compute, "flags", _COMPARED)
    edges = random.Random(1).choices(_edges(bits), k=5000)
    _agree(host, code, (iter(edges), iter(edges[::-1])), compute, "flags", _COMPARED)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("mode", range(8))
def test_rounding_to_integers_is_that_of_the_processor(host: HostFloats, mode: int, bits: int) -> None:
    def compute(control: int, first: int, second: int) -> tuple[int, int]:
        return _ours(f"f{bits}_round_int", control, first, mode & 3, 0 if mode & 4 else 1)

    code = f"660f3a{'0a' if bits == 32 else '0b'}c0{mode & 3 | (8 if mode & 4 else 0):02x}"
    _agree(host, code, (_numbers(bits, "int"), _numbers(bits, "")), compute, mask=(1 << bits) - 1, count=120)


@pytest.mark.parametrize("bits", [32, 64])
def test_widths_are_converted_as_the_processor_does(host: HostFloats, bits: int) -> None:
    numbers = _numbers(bits, "convert"), _numbers(bits, "")
    name = "f32_to_f64" if bits == 32 else "f64_to_f32"
    mask = (1 << 96 - bits) - 1
    _agree(host, f"{_PREFIX[bits]}0f5ac0", numbers, lambda c, a, b: _ours(name, c, a), mask=mask, count=400)

    def halves() -> Iterator[int]:
        """Yield numbers of 64 bits that lie between two of 32, or near the smallest of them."""
        chance = random.Random(2)
        while True:
            rest = chance.getrandbits(23) << 29 | chance.choice((0, 1, 1 << 28, (1 << 28) + 1, (1 << 28) - 1))
            yield _compose(64, chance.randrange(2), 1023 + chance.choice((0, -126, -127, -140, -149, -150, 127)), rest)

    if bits == 64:
        _agree(host, "f20f5ac0", (halves(), numbers[1]), lambda c, a, b: _ours(name, c, a), mask=mask)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("width", [32, 64])
def test_integers_are_converted_as_the_processor_does(host: HostFloats, width: int, bits: int) -> None:
    wide = "48" if width == 64 else ""
    for truncate in (0, 1):

        def compute(control: int, first: int, second: int, truncate: int = truncate) -> tuple[int, int]:
            return _ours(f"f{bits}_to_i{width}", control, first, truncate)

        code = f"{_PREFIX[bits]}{wide}0f{'2c' if truncate else '2d'}c0"
        _agree(host, code, (_numbers(bits, "to"), _numbers(bits, "")), compute, "rax")
        edges = iter(random.Random(1).choices(_edges(bits), k=5000))
        _agree(host, code, (edges, _numbers(bits, "")), compute, "rax")

    def integers() -> Iterator[int]:
        chance = random.Random(width)
        while True:
            number = chance.getrandbits(chance.randint(1, width)) & -1 << chance.randrange(width)
            yield (number + chance.randint(-1, 1)) * chance.choice((1, -1)) & (1 << width) - 1

    code = f"{_PREFIX[bits]}{wide}0f2ac0"
    _agree(host, code, (integers(), integers()), lambda c, a, b: _ours(f"i{width}_to_f{bits}", c, a),
           mask=(1 << bits) - 1)  # fmt: skip


@pytest.mark.guest
def test_the_native_form_computes_the_same() -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    module = llvm.parse_assembly(
        Library(_MODULES, (state.FAULT_VECTOR, state.FAULT_ERROR)).lower().replace("define internal", "define")
    )
    module.verify()
    engine = llvm.create_mcjit_compiler(module, llvm.Target.from_default_triple().create_target_machine(opt=1))
    slots = (ctypes.c_uint64 * state.SLOTS)()
    chance = random.Random(3)
    for bits, name in itertools.product((32, 64), ("add", "sub", "mul", "div", "sqrt")):
        words = [ctypes.c_uint64] * (1 if name == "sqrt" else 2)
        place = engine.get_function_address(f"f{bits}_{name}")
        call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, *words)(place)
        numbers = _numbers(bits, name)
        for _ in range(300):
            # With PE set and all else as at reset, the host's own operations are used.
            control = chance.choice((0x1FA0, 0x1FA0, 0x1F80, 0x3FA0))
            operands = [next(numbers) for _ in words]
            slots[state.MXCSR], slots[FLOAT_FLAGS] = control, 0
            theirs = call(ctypes.addressof(slots), *operands), slots[FLOAT_FLAGS] | control
            assert theirs == _ours(f"f{bits}_{name}", control, *operands), [hex(each) for each in operands]
