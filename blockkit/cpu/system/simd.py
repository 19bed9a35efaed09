"""Floats of SSE: exceptions, comparisons, and what is more than one operation (SDM volume 1, 11.5)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, raise_fault
from blockkit.cpu.state import CR4, CR4_OSXMMEXCPT, MXCSR, PROTECTION, SIMD_FAULT, UNDEFINED
from blockkit.cpu.system.softfloat_32 import f32_add, f32_compare, f32_mul, f32_round_int
from blockkit.cpu.system.softfloat_64 import f64_add, f64_compare, f64_mul, f64_round_int
from blockkit.cpu.system.softfloat_round import FLOAT_FLAGS

#: Exceptions that come before anything is computed: invalid, denormal, division by zero.
_BEFORE: Final = 7
_WRITABLE: Final = 0xFFFF
_QUIET: Final = 1 << 22
_SIGN: Final = 1 << 31
_INFINITY: Final = 0x7F800000


def finish_simd() -> None:
    """Note in MXCSR what exceptions there were; raises #XM, or #UD, for those that are not masked."""
    flags = S[FLOAT_FLAGS]
    if flags == 0:
        return
    S[FLOAT_FLAGS] = 0
    masks = S[MXCSR] >> 7 & 0x3F
    if flags & _BEFORE & ~masks:
        flags &= _BEFORE
    S[MXCSR] |= flags
    if flags & ~masks:
        raise_fault(SIMD_FAULT if S[CR4] & CR4_OSXMMEXCPT else UNDEFINED, 0)


def load_mxcsr(value: int) -> None:
    """LDMXCSR; raises #GP(0) for reserved bits."""
    if value & ~_WRITABLE:
        raise_fault(PROTECTION, 0)
    S[MXCSR] = value


def store_mxcsr() -> int:
    """STMXCSR."""
    return S[MXCSR]


def _holds(order: int, predicate: int) -> int:
    """Whether a comparison's result meets a predicate of CMPPS."""
    kind = predicate & 3
    if kind == 0:
        told = 1 if order == 1 else 0
    elif kind == 1:
        told = 1 if order == 0 else 0
    elif kind == 2:
        told = 1 if order < 2 else 0
    else:
        told = 1 if order == 3 else 0
    return told ^ 1 if predicate & 4 else told


def compare_32(first: int, second: int, predicate: int) -> int:
    """CMPPS, one lane: all ones or zero."""
    signaling = 1 if (predicate & 3) == 1 or (predicate & 3) == 2 else 0
    return 0xFFFFFFFF if _holds(f32_compare(first, second, signaling), predicate) else 0


def compare_64(first: int, second: int, predicate: int) -> int:
    """CMPPD, one lane."""
    signaling = 1 if (predicate & 3) == 1 or (predicate & 3) == 2 else 0
    return ~0 if _holds(f64_compare(first, second, signaling), predicate) else 0


def round_32(value: int, control: int) -> int:
    """ROUNDPS, one lane."""
    mode = S[MXCSR] >> 13 & 3 if control & 4 else control & 3
    return f32_round_int(value, mode, 0 if control & 8 else 1)


def round_64(value: int, control: int) -> int:
    """ROUNDPD, one lane."""
    mode = S[MXCSR] >> 13 & 3 if control & 4 else control & 3
    return f64_round_int(value, mode, 0 if control & 8 else 1)


def _product_32(first: int, second: int, wanted: int) -> int:
    return f32_mul(first & 0xFFFFFFFF, second & 0xFFFFFFFF) if wanted else 0


def dot_32(low: int, high: int, other_low: int, other_high: int, control: int) -> int:
    """DPPS: the sum of products."""
    first = f32_add(_product_32(low, other_low, control & 16), _product_32(low >> 32, other_low >> 32, control & 32))
    second = f32_add(
        _product_32(high, other_high, control & 64), _product_32(high >> 32, other_high >> 32, control & 128)
    )
    return f32_add(first, second)


def dot_64(low: int, high: int, other_low: int, other_high: int, control: int) -> int:
    """DPPD: the sum of products."""
    return f64_add(f64_mul(low, other_low) if control & 16 else 0, f64_mul(high, other_high) if control & 32 else 0)


def reciprocal(value: int) -> int:
    """RCPPS, one lane: the quotient, cut off after 24 bits, which is more exact than it must be."""
    sign = value & _SIGN
    magnitude = value ^ sign
    if magnitude > _INFINITY:
        return value | _QUIET
    exponent = magnitude >> 23
    if exponent == 0:
        return sign | _INFINITY
    if exponent == 255:
        return sign
    quotient = (1 << 47) // (magnitude & 0x7FFFFF | 0x800000)
    if exponent >= 253:
        # What would be denormal is zero.
        return sign if exponent > 253 or quotient >> 24 == 0 else sign | 0x800000
    if quotient >> 24:
        return sign | (254 - exponent) << 23
    return sign | (253 - exponent) << 23 | quotient & 0x7FFFFF


def reciprocal_root(value: int) -> int:
    """RSQRTPS, one lane, with 18 bits."""
    sign = value & _SIGN
    magnitude = value ^ sign
    if magnitude > _INFINITY:
        return value | _QUIET
    exponent = magnitude >> 23
    if exponent == 0:
        return sign | _INFINITY
    if sign:
        return 0xFFC00000
    if exponent == 255:
        return 0
    # The value is a number times two to an even power, counted from 150.
    number = magnitude & 0x7FFFFF | 0x800000
    power = exponent
    if power & 1:
        number <<= 1
        power -= 1
    square = (1 << 62) // number
    root = 0
    bit = 1 << 20
    while bit:
        tried = root | bit
        if tried * tried <= square:
            root = tried
        bit >>= 1
    biased = (406 - power) // 2 - 9
    while root < 1 << 23:
        root <<= 1
        biased -= 1
    return biased << 23 | root & 0x7FFFFF
