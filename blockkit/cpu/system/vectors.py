"""Halves of vectors, 64 bits each: what is more than one operation on lanes."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import arithmetic_shift, sign_extend, signed_below, store

_TOP_BITS: Final = 0x8080808080808080


def byte_signs(value: int) -> int:
    """Return the top bits of the eight bytes."""
    return (value & _TOP_BITS) * 0x0002040810204081 >> 56


def masked_store(place: int, value: int, mask: int) -> None:
    """Store those bytes whose mask has its top bit set."""
    index = 0
    while index < 8:
        if mask >> index * 8 & 0x80:
            store(place + index, 1, value >> index * 8 & 0xFF)
        index += 1


def shuffle_bytes(low: int, high: int, control: int, largest: int) -> int:
    """PSHUFB: return eight bytes, each the one of 16 (or 8) that its control says, or 0."""
    result = 0
    index = 0
    while index < 8:
        chosen = control >> index * 8 & 0xFF
        if chosen < 128:
            number = chosen & largest
            part = high if number > 7 else low
            result |= (part >> (number & 7) * 8 & 0xFF) << index * 8
        index += 1
    return result


def align_bytes(first: int, second: int, third: int, fourth: int, count: int) -> int:
    """Return eight bytes, ``count`` bytes into four numbers in a row; zeros beyond."""
    if count >= 32:
        return 0
    low = first
    high = second
    if count >= 24:
        low = fourth
        high = 0
    elif count >= 16:
        low = third
        high = fourth
    elif count >= 8:
        low = second
        high = third
    shift = (count & 7) * 8
    return low >> shift | high << (64 - shift) if shift else low


def blend_lanes(first: int, second: int, mask: int, bits: int) -> int:
    """Return the lanes of the second where the mask's have their top bits set, else of the first."""
    result = 0
    at = 0
    lane = ~0 >> (64 - bits)
    while at < 64:
        chosen = second if mask >> (at + bits - 1) & 1 else first
        result |= chosen & lane << at
        at += bits
    return result


def _extended(value: int, bits: int) -> int:
    """Extend the low 8, 16 or 32 bits by their sign."""
    if bits == 8:
        return sign_extend(value, 8)
    if bits == 16:
        return sign_extend(value, 16)
    return sign_extend(value, 32)


def _saturated_word(value: int) -> int:
    """Return a signed number as one of 16 bits, with saturation."""
    if signed_below(0x7FFF, value):
        return 0x7FFF
    if signed_below(value, ~0x7FFF):
        return 0x8000
    return value & 0xFFFF


def multiply_add(first: int, second: int) -> int:
    """PMADDWD."""
    result = 0
    at = 0
    while at < 64:
        total = _extended(first >> at, 16) * _extended(second >> at, 16)
        total += _extended(first >> (at + 16), 16) * _extended(second >> (at + 16), 16)
        result |= (total & 0xFFFFFFFF) << at
        at += 32
    return result


def multiply_add_bytes(first: int, second: int) -> int:
    """PMADDUBSW: the first ones have no sign."""
    result = 0
    at = 0
    while at < 64:
        total = (first >> at & 0xFF) * _extended(second >> at, 8)
        total += (first >> (at + 8) & 0xFF) * _extended(second >> (at + 8), 8)
        result |= _saturated_word(total) << at
        at += 16
    return result


def sum_differences(first: int, second: int) -> int:
    """PSADBW."""
    total = 0
    at = 0
    while at < 64:
        a = first >> at & 0xFF
        b = second >> at & 0xFF
        total += a - b if a > b else b - a
        at += 8
    return total


def multiply_round(first: int, second: int) -> int:
    """PMULHRSW."""
    result = 0
    at = 0
    while at < 64:
        product = _extended(first >> at, 16) * _extended(second >> at, 16)
        result |= ((arithmetic_shift(product, 14) + 1) >> 1 & 0xFFFF) << at
        at += 16
    return result


def with_signs(value: int, signs: int, bits: int) -> int:
    """PSIGNB and the like: lanes are negated, or zero, as others are."""
    result = 0
    at = 0
    mask = ~0 >> (64 - bits)
    while at < 64:
        sign = signs >> at & mask
        if sign:
            each = value >> at & mask
            if sign >> (bits - 1):
                each = 0 - each & mask
            result |= each << at
        at += bits
    return result


def horizontal(value: int, bits: int, negate: int, saturate: int) -> int:
    """Return the sums (or differences) of pairs of lanes of 16 or 32 bits, in the lower half."""
    result = 0
    at = 0
    to = 0
    mask = ~0 >> (64 - bits)
    while at < 64:
        a = _extended(value >> at, bits)
        b = _extended(value >> (at + bits), bits)
        total = a - b if negate else a + b
        result |= (_saturated_word(total) if saturate else total & mask) << to
        at += 2 * bits
        to += bits
    return result


def smallest_word(low: int, high: int) -> int:
    """PHMINPOSUW: the smallest of eight words, and above it where it is."""
    best = 0x10000
    place = 0
    index = 0
    while index < 8:
        part = high if index > 3 else low
        word = part >> (index & 3) * 16 & 0xFFFF
        if word < best:
            best = word
            place = index
        index += 1
    return place << 16 | best


def sums_of_differences(low: int, high: int, other_low: int, other_high: int, control: int, from_word: int) -> int:
    """MPSADBW: four of its eight sums, those from the word ``from_word``."""
    result = 0
    index = 0
    start = (control >> 2 & 1) * 4 + from_word
    block = (control & 3) * 4
    while index < 4:
        total = 0
        step = 0
        while step < 4:
            at = start + index + step
            a = (high if at > 7 else low) >> (at & 7) * 8 & 0xFF
            to = block + step
            b = (other_high if to > 7 else other_low) >> (to & 7) * 8 & 0xFF
            total += a - b if a > b else b - a
            step += 1
        result |= total << index * 16
        index += 1
    return result
