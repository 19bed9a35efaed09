"""Vectors as numbers of Python; see :mod:`blockkit.cpu.sem.packed`.

Most do not know how wide a vector is: of 64 bits, the upper half of a result means nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTHS: Final = {8: 16, 16: 8, 32: 4, 64: 2}


def _lanes(bits: int, value: int) -> list[int]:
    mask = (1 << bits) - 1
    return [value >> at & mask for at in range(0, 128, bits)]


def _join(bits: int, lanes: list[int]) -> int:
    return sum(lane << index * bits for index, lane in enumerate(lanes))


def _signed(bits: int, lane: int) -> int:
    return lane - (lane >> bits - 1 << bits)


def _clamp(value: int, low: int, high: int) -> int:
    return low if value < low else min(value, high)


def _lanewise(function: Callable[[int, int, int], int], *, signed: bool = False) -> Callable[[int, int, int], int]:
    """Return an operation that does the same in each lane."""

    def operate(bits: int, first: int, second: int) -> int:
        mask = (1 << bits) - 1
        pairs = zip(_lanes(bits, first), _lanes(bits, second), strict=True)
        if signed:
            results = [function(bits, _signed(bits, a), _signed(bits, b)) & mask for a, b in pairs]
        else:
            results = [function(bits, a, b) & mask for a, b in pairs]
        return _join(bits, results)

    return operate


def _saturate_s(bits: int, value: int) -> int:
    return _clamp(value, -1 << bits - 1, (1 << bits - 1) - 1)


def _saturate_u(bits: int, value: int) -> int:
    return _clamp(value, 0, (1 << bits) - 1)


def _shifted(function: Callable[[int, int, int], int], largest: Callable[[int], int]) -> Callable[[int, int, int], int]:
    def operate(bits: int, value: int, count: int) -> int:
        count = min(count, largest(bits))
        mask = (1 << bits) - 1
        return _join(bits, [function(bits, lane, count) & mask for lane in _lanes(bits, value)])

    return operate


def _absolute(bits: int, value: int) -> int:
    mask = (1 << bits) - 1
    return _join(bits, [abs(_signed(bits, lane)) & mask for lane in _lanes(bits, value)])


def _unpacked(start: int) -> Callable[[int, int, int, int], int]:
    def operate(total: int, bits: int, first: int, second: int) -> int:
        count = total // bits
        a, b = _lanes(bits, first)[:count], _lanes(bits, second)[:count]
        chosen = slice(start * count // 2, (start + 1) * count // 2)
        return _join(bits, [lane for pair in zip(a[chosen], b[chosen], strict=True) for lane in pair])

    return operate


def _packing(saturate: Callable[[int, int], int]) -> Callable[[int, int, int, int], int]:
    def operate(total: int, bits: int, first: int, second: int) -> int:
        count, half = total // bits, bits // 2
        lanes = _lanes(bits, first)[:count] + _lanes(bits, second)[:count]
        return _join(half, [saturate(half, _signed(bits, lane)) & (1 << half) - 1 for lane in lanes])

    return operate


def _widened(target: int, *, signed: bool) -> Callable[[int, int], int]:
    def operate(bits: int, value: int) -> int:
        lanes = _lanes(bits, value)[: _WIDTHS[target]]
        if signed:
            lanes = [_signed(bits, lane) & (1 << target) - 1 for lane in lanes]
        return _join(target, lanes)

    return operate


#: Those that must know how wide their operands are: they get that first.
WIDE: Final[dict[str, Callable[[int, int, int, int], int]]] = {
    "unpack_low": _unpacked(0),
    "unpack_high": _unpacked(1),
    "pack_s": _packing(_saturate_s),
    "pack_u": _packing(_saturate_u),
}

FUNCTIONS: Final[dict[str, Callable[..., int]]] = {
    "add": _lanewise(lambda _, a, b: a + b),
    "sub": _lanewise(lambda _, a, b: a - b),
    "mul": _lanewise(lambda _, a, b: a * b),
    "mul_high_s": _lanewise(lambda bits, a, b: a * b >> bits, signed=True),
    "mul_high_u": _lanewise(lambda bits, a, b: a * b >> bits),
    "add_sat_s": _lanewise(lambda bits, a, b: _saturate_s(bits, a + b), signed=True),
    "add_sat_u": _lanewise(lambda bits, a, b: _saturate_u(bits, a + b)),
    "sub_sat_s": _lanewise(lambda bits, a, b: _saturate_s(bits, a - b), signed=True),
    "sub_sat_u": _lanewise(lambda bits, a, b: _saturate_u(bits, a - b)),
    "eq": _lanewise(lambda _, a, b: -(a == b)),
    "gt_s": _lanewise(lambda _, a, b: -(a > b), signed=True),
    "min_s": _lanewise(lambda _, a, b: min(a, b), signed=True),
    "min_u": _lanewise(lambda _, a, b: min(a, b)),
    "max_s": _lanewise(lambda _, a, b: max(a, b), signed=True),
    "max_u": _lanewise(lambda _, a, b: max(a, b)),
    "avg": _lanewise(lambda _, a, b: a + b + 1 >> 1),
    "abs": _absolute,
    "shl": _shifted(lambda _, lane, count: lane << count, lambda bits: bits),
    "shr": _shifted(lambda _, lane, count: lane >> count, lambda bits: bits),
    "sar": _shifted(lambda bits, lane, count: _signed(bits, lane) >> count, lambda bits: bits - 1),
    **{f"widen_{sign}_{bits}": _widened(bits, signed=sign == "s") for sign in "su" for bits in (16, 32, 64)},
    **WIDE,
}
