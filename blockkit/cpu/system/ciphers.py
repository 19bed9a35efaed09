"""AES (FIPS 197) as AESENC and the like have it, and multiplication without carries (SDM volume 2, PCLMULQDQ)."""

from __future__ import annotations

from blockkit.cpu.substitution import BACKWARD, FORWARD


def _moved(low: int, high: int, row: int, column: int, inverse: int) -> int:
    """Return a byte after ShiftRows and SubBytes, or their inverses."""
    from_column = (column + 4 - row if inverse else column + row) & 3
    part = high if from_column > 1 else low
    byte = part >> ((from_column & 1) * 4 + row) * 8 & 0xFF
    return BACKWARD[byte] if inverse else FORWARD[byte]


def _product(byte: int, factor: int) -> int:
    """Multiply in the field of 256 elements."""
    total = 0
    while factor:
        if factor & 1:
            total ^= byte
        byte = byte << 1 ^ (0x11B if byte & 0x80 else 0)
        factor >>= 1
    return total


def _mixed(column: int, inverse: int) -> int:
    """Return a column after MixColumns, or its inverse."""
    result = 0
    row = 0
    while row < 4:
        turned = (column >> row * 8 | column << (4 - row & 3) * 8) & 0xFFFFFFFF if row else column
        first = turned & 0xFF
        second = turned >> 8 & 0xFF
        third = turned >> 16 & 0xFF
        fourth = turned >> 24
        if inverse:
            byte = _product(first, 14) ^ _product(second, 11) ^ _product(third, 13) ^ _product(fourth, 9)
        else:
            byte = _product(first, 2) ^ _product(second, 3) ^ third ^ fourth
        result |= byte << row * 8
        row += 1
    return result


def aes_round(low: int, high: int, half: int, inverse: int, last: int) -> int:
    """Return half of a state after a round without its key; the last one does not mix columns."""
    result = 0
    place = 0
    while place < 2:
        column = 0
        row = 0
        while row < 4:
            column |= _moved(low, high, row, half * 2 + place, inverse) << row * 8
            row += 1
        result |= (column if last else _mixed(column, inverse)) << place * 32
        place += 1
    return result


def aes_unmix(half: int) -> int:
    """AESIMC: return half of a round key for the equivalent inverse cipher."""
    return _mixed(half & 0xFFFFFFFF, 1) | _mixed(half >> 32, 1) << 32


def aes_key(half: int, constant: int) -> int:
    """AESKEYGENASSIST: return what becomes of the upper word of a half."""
    word = 0
    place = 32
    while place < 64:
        word |= FORWARD[half >> place & 0xFF] << (place - 32)
        place += 8
    return word | ((word >> 8 | word << 24 & 0xFFFFFFFF) ^ constant) << 32


def carryless_product(a: int, b: int, upper: int) -> int:
    """Return one half of the product of two polynomials over two elements."""
    low = 0
    high = 0
    place = 0
    while place < 64:
        if b >> place & 1:
            low ^= a << place
            if place:
                high ^= a >> (64 - place)
        place += 1
    return high if upper else low
