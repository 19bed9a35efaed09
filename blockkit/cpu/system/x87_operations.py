"""Instructions of the x87 that compute with the registers of its stack (SDM volume 2, FADD and following)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load, sign_extend
from blockkit.cpu.state import CF, FSW, PF, ZF
from blockkit.cpu.system.flags import read_flags, write_arithmetic_flags
from blockkit.cpu.system.softfloat_compare import UNORDERED
from blockkit.cpu.system.x87_arithmetic import x87_add, x87_compare, x87_divide, x87_multiply, x87_root
from blockkit.cpu.system.x87_convert import x87_give_float, x87_give_integer
from blockkit.cpu.system.x87_round import (
    NOTED,
    RESULT_MANTISSA,
    RESULT_WORD,
    X87_C1,
    X87_INVALID,
    X87_SIGN,
    X87_STACK_FAULT,
    x87_give,
    x87_kind,
    x87_precision,
)
from blockkit.cpu.system.x87_scale import (
    X87_C0,
    X87_C2,
    X87_C3,
    x87_give_exponent,
    x87_give_significand,
    x87_remainder,
    x87_round_integer,
    x87_scale,
)
from blockkit.cpu.system.x87_stack import (
    BEFORE_RESULT,
    X87_CONDITIONS,
    x87_begin,
    x87_begin_memory,
    x87_finish,
    x87_is_empty,
    x87_move_top,
    x87_pop,
    x87_register,
    x87_set,
    x87_settle,
    x87_tag,
    x87_underflow,
    x87_wait,
)

#: What is done with two operands, in the order of the opcodes.
ADD, MULTIPLY, COMPARE, COMPARE_POP, SUBTRACT, SUBTRACT_FROM, DIVIDE, DIVIDE_INTO = range(8)
#: What an operand in memory is.
FLOAT_32, FLOAT_64, INTEGER_16, INTEGER_32, INTEGER_64 = range(5)

#: Condition codes and flags of RFLAGS by the result of a comparison.
_CONDITIONS: Final = (X87_C0, X87_C3, 0, X87_C0 | X87_C2 | X87_C3)
_FLAGS: Final = (CF, ZF, 0, CF | PF | ZF)
_COMPARED: Final = CF | PF | ZF
#: C3, C2 and C0 of FXAM by kind: zero, normal, denormal, infinite, two of NaNs, unsupported.
_EXAMINED: Final = (X87_C3, X87_C2, X87_C3 | X87_C2, X87_C2 | X87_C0, X87_C0, X87_C0, 0)


def x87_load_operand(kind: int, address: int) -> int:
    """Read an operand of any kind."""
    if kind == FLOAT_32 or kind == INTEGER_32:
        return load(address, 4)
    return load(address, 2 if kind == INTEGER_16 else 8)


def x87_give_operand(kind: int, value: int) -> None:
    """Give it as a number of 80 bits."""
    if kind == FLOAT_32:
        x87_give_float(value, 23)
    elif kind == FLOAT_64:
        x87_give_float(value, 52)
    elif kind == INTEGER_16:
        x87_give_integer(sign_extend(value, 16))
    elif kind == INTEGER_32:
        x87_give_integer(sign_extend(value, 32))
    else:
        x87_give_integer(value)


def _compute(operation: int, first_word: int, first: int, second_word: int, second: int) -> None:
    """Give the result of an operation."""
    dropped = x87_precision()
    if operation == ADD:
        x87_add(first_word, first, second_word, second, dropped)
    elif operation == MULTIPLY:
        x87_multiply(first_word, first, second_word, second, dropped)
    elif operation == DIVIDE:
        x87_divide(first_word, first, second_word, second, dropped)
    elif operation == DIVIDE_INTO:
        x87_divide(second_word, second, first_word, first, dropped)
    else:
        _subtract(operation, first_word, first, second_word, second, dropped)


def _subtract(operation: int, first_word: int, first: int, second_word: int, second: int, dropped: int) -> None:
    """Give a difference: a sum, unless there is nothing to turn the sign of."""
    if x87_kind(first_word, first) < 4 and x87_kind(second_word, second) < 4:
        if operation == SUBTRACT:
            second_word ^= X87_SIGN
        else:
            first_word ^= X87_SIGN
    x87_add(first_word, first, second_word, second, dropped)


def x87_operate(operation: int, target: int, source: int, pop: int) -> None:
    """FADD and so on: ST(target) becomes what the operation makes of it and ST(source)."""
    x87_begin()
    if x87_is_empty(target) or x87_is_empty(source):
        x87_underflow()
    else:
        first = x87_register(target)
        second = x87_register(source)
        _compute(operation, S[first + 1], S[first], S[second + 1], S[second])
    if x87_finish(target) and pop:
        x87_pop()


def x87_operate_memory(operation: int, kind: int, address: int, offset: int, segment: int) -> None:
    """FADD and so on, also FCOM, of ST(0) and an operand in memory."""
    x87_wait()
    value = x87_load_operand(kind, address)
    x87_begin_memory(offset, segment)
    empty = x87_is_empty(0)
    if empty == 0:
        x87_give_operand(kind, value)
    word = S[RESULT_WORD]
    mantissa = S[RESULT_MANTISSA]
    place = x87_register(0)
    if operation == COMPARE or operation == COMPARE_POP:
        _compare(empty, S[place + 1], S[place], word, mantissa, 1, 1 if operation == COMPARE_POP else 0)
        return
    if empty:
        x87_underflow()
    else:
        _compute(operation, S[place + 1], S[place], word, mantissa)
    x87_finish(0)


def _compare(empty: int, first_word: int, first: int, second_word: int, second: int, signaling: int, pops: int) -> None:
    """Compare, say so in the status word, and pop, if the result counts."""
    if empty:
        S[NOTED] = X87_STACK_FAULT | X87_INVALID
        result = UNORDERED
    else:
        result = x87_compare(first_word, first, second_word, second, signaling)
    counts = x87_settle(BEFORE_RESULT)
    # A denormal operand keeps it from popping, but not from saying what it found.
    if counts or (S[NOTED] & X87_INVALID) == 0:
        S[FSW] = S[FSW] & ~X87_CONDITIONS | _CONDITIONS[result]
    if counts:
        while pops:
            x87_pop()
            pops -= 1


def x87_compare_register(source: int, signaling: int, pops: int) -> None:
    """FCOM and FUCOM of ST(0) and ST(source); ``signaling``: FCOM."""
    x87_begin()
    first = x87_register(0)
    second = x87_register(source)
    empty = x87_is_empty(0) | x87_is_empty(source)
    _compare(empty, S[first + 1], S[first], S[second + 1], S[second], signaling, pops)


def x87_compare_zero() -> None:
    """FTST."""
    x87_begin()
    first = x87_register(0)
    _compare(x87_is_empty(0), S[first + 1], S[first], 0, 0, 1, 0)


def x87_compare_flags(source: int, signaling: int, pop: int) -> None:
    """FCOMI and FUCOMI: the result is in RFLAGS; OF, SF and AF are cleared."""
    x87_begin()
    result = UNORDERED
    if x87_is_empty(0) or x87_is_empty(source):
        S[NOTED] = X87_STACK_FAULT | X87_INVALID
    else:
        first = x87_register(0)
        second = x87_register(source)
        result = x87_compare(S[first + 1], S[first], S[second + 1], S[second], signaling)
    counts = x87_settle(BEFORE_RESULT)
    if counts or (S[NOTED] & X87_INVALID) == 0:
        write_arithmetic_flags(_FLAGS[result])
    if counts and pop:
        x87_pop()


def x87_examine() -> None:
    """FXAM."""
    x87_begin()
    place = x87_register(0)
    codes = _EXAMINED[x87_kind(S[place + 1], S[place])]
    if x87_is_empty(0):
        codes = X87_C3 | X87_C0
    S[FSW] = S[FSW] & ~X87_CONDITIONS | codes | (S[place + 1] & X87_SIGN) >> 6


def x87_change_sign(kept: int, turned: int) -> None:
    """FCHS and FABS: keep some bits of the word, and turn others."""
    x87_begin()
    if x87_is_empty(0):
        x87_underflow()
    else:
        place = x87_register(0)
        x87_give(S[place + 1] & kept ^ turned, S[place])
    x87_finish(0)


def x87_square_root() -> None:
    """FSQRT."""
    x87_begin()
    if x87_is_empty(0):
        x87_underflow()
    else:
        place = x87_register(0)
        x87_root(S[place + 1], S[place], x87_precision())
    x87_finish(0)


def x87_to_nearest() -> None:
    """FRNDINT."""
    x87_begin()
    if x87_is_empty(0):
        x87_underflow()
    else:
        place = x87_register(0)
        x87_round_integer(S[place + 1], S[place])
    x87_finish(0)


def x87_scale_top() -> None:
    """FSCALE."""
    x87_begin()
    if x87_is_empty(0) or x87_is_empty(1):
        x87_underflow()
    else:
        place = x87_register(0)
        other = x87_register(1)
        x87_scale(S[place + 1], S[place], S[other + 1], S[other])
    x87_finish(0)


def x87_take_remainder(nearest: int) -> None:
    """FPREM and FPREM1."""
    x87_begin()
    # Without a quotient, C3 and C0 stay what they are.
    codes = S[FSW] & (X87_C3 | X87_C0)
    if x87_is_empty(0) or x87_is_empty(1):
        x87_underflow()
    else:
        place = x87_register(0)
        other = x87_register(1)
        codes = x87_remainder(S[place + 1], S[place], S[other + 1], S[other], nearest)
    if x87_finish(0) == 0:
        codes = S[FSW] & (X87_C3 | X87_C0)
    S[FSW] = S[FSW] & ~X87_CONDITIONS | codes


def x87_extract() -> None:
    """FXTRACT: the exponent replaces the top, then the significand is pushed."""
    x87_begin()
    place = x87_register(0)
    word = S[place + 1]
    mantissa = S[place]
    if x87_is_empty(0):
        x87_underflow()
    elif x87_is_empty(7) == 0:
        x87_underflow()
        S[NOTED] |= X87_C1
    else:
        x87_give_exponent(word, mantissa)
    if x87_settle(BEFORE_RESULT):
        x87_set(0)
        if (S[NOTED] & X87_STACK_FAULT) == 0:
            x87_give_significand(word, mantissa)
        x87_move_top(7)
        x87_set(0)


def x87_exchange(index: int) -> None:
    """FXCH; an empty register counts as a NaN."""
    x87_begin()
    first = x87_register(0)
    second = x87_register(index)
    if x87_is_empty(0) or x87_is_empty(index):
        x87_underflow()
    if x87_settle(BEFORE_RESULT):
        if x87_is_empty(0):
            x87_set(0)
        if x87_is_empty(index):
            x87_set(index)
        word = S[first + 1]
        mantissa = S[first]
        S[first + 1] = S[second + 1]
        S[first] = S[second]
        S[second + 1] = word
        S[second] = mantissa


def x87_move_if(index: int, mask: int, inverted: int) -> None:
    """FCMOVcc: ST(index) to ST(0) if one of the flags in ``mask`` is set, or none with ``inverted``."""
    x87_begin()
    place = x87_register(index)
    holds = 1 if read_flags() & mask else 0
    if x87_is_empty(0) or x87_is_empty(index):
        x87_underflow()
        holds = 1 - inverted
    else:
        x87_give(S[place + 1], S[place])
    # C1 is cleared by stack faults alone.
    S[NOTED] |= 0 if S[NOTED] else S[FSW] & X87_C1
    if x87_settle(BEFORE_RESULT) and holds != inverted:
        x87_set(0)


def x87_free(index: int, pop: int) -> None:
    """FFREE, and FFREEP, which pops."""
    x87_begin()
    x87_tag(index, 3)
    if pop:
        x87_pop()


def x87_turn(distance: int) -> None:
    """FINCSTP and FDECSTP; 0 for FNOP."""
    x87_begin()
    if distance:
        x87_move_top(distance)
        S[FSW] &= ~X87_C1
