"""Comparison of strings in vectors: PCMPESTRI and the like (SDM volume 2, 4.1)."""

from __future__ import annotations

from blockkit.cpu.dialect import leading_zeros, sign_extend, signed_below


def _element(low: int, high: int, index: int, control: int) -> int:
    """Return an element, extended as the control says."""
    if control & 1:
        part = (high if index > 3 else low) >> (index & 3) * 16 & 0xFFFF
        return sign_extend(part, 16) if control & 2 else part
    part = (high if index > 7 else low) >> (index & 7) * 8 & 0xFF
    return sign_extend(part, 8) if control & 2 else part


def text_length(low: int, high: int, control: int) -> int:
    """Return how many elements come before the first zero."""
    count = 8 if control & 1 else 16
    index = 0
    while index < count and _element(low, high, index, control):
        index += 1
    return index


def text_bounded(length: int, bits: int, control: int) -> int:
    """Return a length that a register holds, without its sign and not above the number of elements."""
    count = 8 if control & 1 else 16
    value = length if bits == 64 else sign_extend(length, 32)
    if value >> 63:
        value = 0 - value
    return count if value > count else value


def _is_between(low: int, high: int, text_low: int, text_high: int, pairs: int, place: int, control: int) -> int:
    """Whether an element is in one of the ranges."""
    value = _element(text_low, text_high, place, control)
    index = 0
    while index + 1 < pairs:
        below = _element(low, high, index, control)
        above = _element(low, high, index + 1, control)
        if control & 2:
            if signed_below(value, below) == 0 and signed_below(above, value) == 0:
                return 1
        elif value >= below and value <= above:
            return 1
        index += 2
    return 0


def _is_among(low: int, high: int, text_low: int, text_high: int, length: int, place: int, control: int) -> int:
    """Whether an element is one of a set."""
    value = _element(text_low, text_high, place, control)
    index = 0
    while index < length:
        if _element(low, high, index, control) == value:
            return 1
        index += 1
    return 0


def _begins(
    low: int, high: int, text_low: int, text_high: int, length: int, text: int, place: int, control: int
) -> int:
    """Whether a text goes on as another one begins."""
    count = 8 if control & 1 else 16
    index = 0
    while index < length and place + index < count:
        if place + index >= text:
            return 0
        if _element(low, high, index, control) != _element(text_low, text_high, place + index, control):
            return 0
        index += 1
    return 1


def compare_texts(low: int, high: int, text_low: int, text_high: int, length: int, text: int, control: int) -> int:
    """Return IntRes2: a bit for each element of the second operand.

    Args:
        low: The first operand's lower half.
        high: Its upper half.
        text_low: The second operand's lower half.
        text_high: Its upper half.
        length: How many elements the first one has.
        text: How many the second one has.
        control: The immediate.
    """
    count = 8 if control & 1 else 16
    how = control >> 2 & 3
    result = 0
    place = 0
    while place < count:
        told = 0
        if how == 2:
            if place < length and place < text:
                if _element(low, high, place, control) == _element(text_low, text_high, place, control):
                    told = 1
            elif place >= length and place >= text:
                told = 1
        elif how == 3:
            told = _begins(low, high, text_low, text_high, length, text, place, control)
        elif place < text:
            if how == 0:
                told = _is_among(low, high, text_low, text_high, length, place, control)
            else:
                told = _is_between(low, high, text_low, text_high, length, place, control)
        result |= told << place
        place += 1
    if control & 16:
        result ^= (1 << text) - 1 if control & 32 else (1 << count) - 1
    return result


def text_index(result: int, control: int) -> int:
    """Return the lowest or the highest element found, or how many there are."""
    if result == 0:
        return 8 if control & 1 else 16
    if control & 64:
        return 63 - leading_zeros(result)
    return 63 - leading_zeros(result & (0 - result))


def text_mask(result: int, control: int, upper: int) -> int:
    """Return half the mask that PCMPESTRM and PCMPISTRM give."""
    if (control & 64) == 0:
        return 0 if upper else result
    size = 16 if control & 1 else 8
    per_half = 64 // size
    mask = 0
    index = 0
    while index < per_half:
        if result >> (index + upper * per_half) & 1:
            mask |= (0xFFFF if control & 1 else 0xFF) << index * size
        index += 1
    return mask


def text_flags(result: int, length: int, text: int, control: int) -> int:
    """Return CF, ZF, SF and OF as in RFLAGS."""
    count = 8 if control & 1 else 16
    flags = 1 if result else 0
    if text < count:
        flags |= 64
    if length < count:
        flags |= 128
    if result & 1:
        flags |= 0x800
    return flags
