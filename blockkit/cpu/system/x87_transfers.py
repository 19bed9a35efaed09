"""Loads and stores of the x87 (SDM volume 2, FLD and following)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load, probe_store, store
from blockkit.cpu.system.x87_convert import (
    x87_give_decimal,
    x87_to_decimal,
    x87_to_float,
    x87_to_integer,
)
from blockkit.cpu.system.x87_operations import (
    FLOAT_32,
    FLOAT_64,
    INTEGER_16,
    INTEGER_32,
    x87_give_operand,
    x87_load_operand,
)
from blockkit.cpu.system.x87_round import (
    NOTED,
    RESULT_MANTISSA,
    RESULT_WORD,
    SIGNALING,
    X87_DENORMAL,
    X87_INVALID,
    X87_STACK_FAULT,
    x87_give,
    x87_give_nan,
    x87_kind,
    x87_mode,
)
from blockkit.cpu.system.x87_stack import (
    BEFORE_RESULT,
    BEFORE_STORE,
    x87_begin,
    x87_begin_memory,
    x87_finish_push,
    x87_is_empty,
    x87_pop,
    x87_register,
    x87_set,
    x87_settle,
    x87_underflow,
    x87_wait,
)

#: FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: words, mantissas cut off, and what is added to them when rounding
#: to nearest, down, up and toward zero, two bits each from the lowest on.
_CONSTANT_WORDS: Final = (0x3FFF, 0x4000, 0x3FFF, 0x4000, 0x3FFD, 0x3FFE, 0)
_CONSTANTS: Final = (
    1 << 63,
    0xD49A784BCD1B8AFE,
    0xB8AA3B295C17F0BB,
    0xC90FDAA22168C234,
    0x9A209A84FBCFF798,
    0xB17217F7D1CF79AB,
    0,
)
_CONSTANT_ROUNDING: Final = (0, 0b010000, 0b010001, 0b010001, 0b010001, 0b010001, 0)
_INDEFINITE_LOW: Final = 0xC0 << 56


def x87_push_operand(kind: int, address: int, offset: int, segment: int) -> None:
    """FLD and FILD from memory, except of ten bytes."""
    x87_wait()
    value = x87_load_operand(kind, address)
    x87_begin_memory(offset, segment)
    x87_give_operand(kind, value)
    word = S[RESULT_WORD]
    mantissa = S[RESULT_MANTISSA]
    if x87_kind(word, mantissa) == SIGNALING:
        x87_give_nan(word, mantissa, word, mantissa)
    x87_finish_push()


def x87_push_whole(address: int, offset: int, segment: int) -> None:
    """FLD of ten bytes, which looks at nothing."""
    x87_wait()
    mantissa = load(address, 8)
    word = load(address + 8, 2)
    x87_begin_memory(offset, segment)
    x87_give(word, mantissa)
    x87_finish_push()


def x87_push_decimal(address: int, offset: int, segment: int) -> None:
    """FBLD."""
    x87_wait()
    digits = load(address, 8)
    word = load(address + 8, 2)
    x87_begin_memory(offset, segment)
    x87_give_decimal(word, digits)
    x87_finish_push()


def x87_push_register(index: int) -> None:
    """FLD ST(i)."""
    x87_begin()
    if x87_is_empty(index):
        x87_underflow()
    else:
        place = x87_register(index)
        x87_give(S[place + 1], S[place])
    x87_finish_push()


def x87_push_constant(number: int) -> None:
    """FLD1 and so on."""
    x87_begin()
    rounding = _CONSTANT_ROUNDING[number] >> x87_mode() * 2 & 3
    x87_give(_CONSTANT_WORDS[number], _CONSTANTS[number] + rounding)
    x87_finish_push()


def x87_store_register(index: int, pop: int) -> None:
    """FST and FSTP to ST(i)."""
    x87_begin()
    if x87_is_empty(0):
        x87_underflow()
    else:
        place = x87_register(0)
        x87_give(S[place + 1], S[place])
    if x87_settle(BEFORE_RESULT):
        x87_set(index)
        if pop:
            x87_pop()


def x87_store_register_quietly(index: int) -> None:
    """FSTPNCE: FSTP that only pops an empty register."""
    x87_begin()
    place = x87_register(0)
    x87_give(S[place + 1], S[place])
    x87_settle(BEFORE_RESULT)
    if x87_is_empty(0) == 0:
        x87_set(index)
    x87_pop()


def _size(kind: int) -> int:
    """Return the bytes of an operand."""
    if kind == FLOAT_32 or kind == INTEGER_32:
        return 4
    return 2 if kind == INTEGER_16 else 8


def x87_store_operand(kind: int, pop: int, truncate: int, address: int, offset: int, segment: int) -> None:
    """FST, FIST and FISTTP to memory, except of ten bytes."""
    x87_wait()
    size = _size(kind)
    probe_store(address, size)
    x87_begin_memory(offset, segment)
    place = x87_register(0)
    word = S[place + 1]
    mantissa = S[place]
    is_float = 1 if kind == FLOAT_32 or kind == FLOAT_64 else 0
    if x87_is_empty(0):
        # What a NaN becomes.
        word = 0xFFFF
        mantissa = 3 << 62
    value = 0
    if is_float:
        value = x87_to_float(word, mantissa, 23 if kind == FLOAT_32 else 52)
    else:
        value = x87_to_integer(word, mantissa, size * 8, truncate)
    if x87_is_empty(0):
        S[NOTED] = X87_STACK_FAULT | X87_INVALID
    if x87_settle(BEFORE_STORE):
        store(address, size, value)
        if pop:
            x87_pop()


def x87_store_whole(address: int, offset: int, segment: int) -> None:
    """FSTP of ten bytes, which looks at nothing."""
    x87_wait()
    probe_store(address, 8)
    probe_store(address + 8, 2)
    x87_begin_memory(offset, segment)
    if x87_is_empty(0):
        x87_underflow()
    else:
        place = x87_register(0)
        x87_give(S[place + 1], S[place])
    if x87_settle(BEFORE_STORE):
        store(address, 8, S[RESULT_MANTISSA])
        store(address + 8, 2, S[RESULT_WORD])
        x87_pop()


def x87_store_decimal(address: int, offset: int, segment: int) -> None:
    """FBSTP."""
    x87_wait()
    probe_store(address, 8)
    probe_store(address + 8, 2)
    x87_begin_memory(offset, segment)
    digits = _INDEFINITE_LOW
    if x87_is_empty(0):
        x87_underflow()
        x87_give(0xFFFF, 0)
    else:
        place = x87_register(0)
        digits = x87_to_decimal(S[place + 1], S[place])
    S[NOTED] &= ~X87_DENORMAL
    if x87_settle(BEFORE_STORE):
        store(address, 8, digits)
        store(address + 8, 2, S[RESULT_WORD])
        x87_pop()
