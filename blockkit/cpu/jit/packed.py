"""Vectors as LLVM's; see :mod:`blockkit.cpu.sem.packed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Emit = Callable[[str], str]

_PLAIN: Final = {"add": "add", "sub": "sub", "mul": "mul"}
_INTRINSICS: Final = {
    "add_sat_s": "sadd.sat", "add_sat_u": "uadd.sat", "sub_sat_s": "ssub.sat", "sub_sat_u": "usub.sat",
    "min_s": "smin", "min_u": "umin", "max_s": "smax", "max_u": "umax",
}  # fmt: skip
_SHIFTS: Final = {"shl": "shl", "shr": "lshr", "sar": "ashr"}


def declarations() -> list[str]:
    """Return the declarations that the code needs."""
    several = []
    for name in sorted(_INTRINSICS.values()):
        for total in (64, 128):
            for bits in (8, 16, 32):
                kind = f"<{total // bits} x i{bits}>"
                several.append(f"declare {kind} @llvm.{name}.v{total // bits}i{bits}({kind}, {kind})")
    return several


def _constant(count: int, bits: int, value: int) -> str:
    return "<" + ", ".join(f"i{bits} {value}" for _ in range(count)) + ">"


def _mask(numbers: list[int]) -> str:
    return f"<{len(numbers)} x i32> <" + ", ".join(f"i32 {number}" for number in numbers) + ">"


def emit(line: Emit, name: str, bits: int, total: int, values: list[str]) -> str:
    """Emit an operation.

    Args:
        line: Adds ``%x = ...`` and returns ``%x``.
        name: The operation.
        bits: Of a lane.
        total: Of the first operand.
        values: The operands, as numbers.

    Returns:
        The result, as a number of ``total`` bits.
    """
    count = total // bits
    kind = f"<{count} x i{bits}>"

    def vector(value: str) -> str:
        return line(f"bitcast i{total} {value} to {kind}")

    first = vector(values[0])
    if name in _SHIFTS:
        return _number(line, _shift(line, name, count, bits, first, values[1]), kind, total)
    if name.startswith("widen"):
        return _widen(line, name, count, bits, total, first)
    if name == "abs":
        negative = line(f"sub {kind} zeroinitializer, {first}")
        less = line(f"icmp slt {kind} {first}, zeroinitializer")
        result = line(f"select <{count} x i1> {less}, {kind} {negative}, {kind} {first}")
        return _number(line, result, kind, total)
    second = vector(values[1])
    if name in _PLAIN:
        result = line(f"{_PLAIN[name]} {kind} {first}, {second}")
    elif name in _INTRINSICS:
        function = f"llvm.{_INTRINSICS[name]}.v{count}i{bits}"
        result = line(f"call {kind} @{function}({kind} {first}, {kind} {second})")
    elif name in ("eq", "gt_s"):
        truth = line(f"icmp {'eq' if name == 'eq' else 'sgt'} {kind} {first}, {second}")
        result = line(f"sext <{count} x i1> {truth} to {kind}")
    elif name.startswith("unpack"):
        start = count // 2 if name == "unpack_high" else 0
        order = [number for index in range(count // 2) for number in (start + index, count + start + index)]
        result = line(f"shufflevector {kind} {first}, {kind} {second}, {_mask(order)}")
    elif name.startswith("pack"):
        return _pack(line, name, count, bits, total, first, second)
    else:
        result = _wide(line, name, count, bits, first, second)
    return _number(line, result, kind, total)


def _number(line: Emit, value: str, kind: str, total: int) -> str:
    return line(f"bitcast {kind} {value} to i{total}")


def _shift(line: Emit, name: str, count: int, bits: int, value: str, by: str) -> str:
    kind = f"<{count} x i{bits}>"
    largest = bits - 1
    beyond = line(f"icmp ugt i64 {by}, {largest}")
    bounded = line(f"select i1 {beyond}, i64 {largest}, i64 {by}")
    narrow = line(f"trunc i64 {bounded} to i{bits}") if bits < 64 else bounded
    single = line(f"insertelement {kind} undef, i{bits} {narrow}, i32 0")
    counts = line(f"shufflevector {kind} {single}, {kind} undef, {_mask([0] * count)}")
    result = line(f"{_SHIFTS[name]} {kind} {value}, {counts}")
    if name == "sar":
        return result
    return line(f"select i1 {beyond}, {kind} zeroinitializer, {kind} {result}")


def _widen(line: Emit, name: str, count: int, bits: int, total: int, value: str) -> str:
    target = int(name.rpartition("_")[2])
    kept = total // target
    low = line(f"shufflevector <{count} x i{bits}> {value}, <{count} x i{bits}> undef, {_mask(list(range(kept)))}")
    how = "sext" if name.startswith("widen_s") else "zext"
    wide = line(f"{how} <{kept} x i{bits}> {low} to <{kept} x i{target}>")
    return _number(line, wide, f"<{kept} x i{target}>", total)


def _pack(line: Emit, name: str, count: int, bits: int, total: int, first: str, second: str) -> str:
    half = bits // 2
    kind, narrow = f"<{count} x i{bits}>", f"<{count} x i{half}>"
    low, high = (-1 << half - 1, (1 << half - 1) - 1) if name == "pack_s" else (0, (1 << half) - 1)
    parts = []
    for value in (first, second):
        up = line(f"call {kind} @llvm.smax.v{count}i{bits}({kind} {value}, {kind} {_constant(count, bits, low)})")
        down = line(f"call {kind} @llvm.smin.v{count}i{bits}({kind} {up}, {kind} {_constant(count, bits, high)})")
        parts.append(line(f"trunc {kind} {down} to {narrow}"))
    result = line(f"shufflevector {narrow} {parts[0]}, {narrow} {parts[1]}, {_mask(list(range(2 * count)))}")
    return _number(line, result, f"<{2 * count} x i{half}>", total)


def _wide(line: Emit, name: str, count: int, bits: int, first: str, second: str) -> str:
    """Multiply or average with twice the bits."""
    kind, wide = f"<{count} x i{bits}>", f"<{count} x i{2 * bits}>"
    how = "sext" if name == "mul_high_s" else "zext"
    a, b = (line(f"{how} {kind} {value} to {wide}") for value in (first, second))
    if name == "avg":
        total = line(f"add {wide} {a}, {b}")
        more = line(f"add {wide} {total}, {_constant(count, 2 * bits, 1)}")
        result = line(f"lshr {wide} {more}, {_constant(count, 2 * bits, 1)}")
    else:
        product = line(f"mul {wide} {a}, {b}")
        result = line(f"lshr {wide} {product}, {_constant(count, 2 * bits, bits)}")
    return line(f"trunc {wide} {result} to {kind}")
