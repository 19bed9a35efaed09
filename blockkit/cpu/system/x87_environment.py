"""The control, status and tag words of the x87, and its state in memory (SDM volume 1, 8.1.10, and 10.5.1)."""

from __future__ import annotations

from typing import Final

from blockkit.cpu.dialect import S, load, probe_store, raise_fault, store
from blockkit.cpu.state import (
    CR0,
    CR0_MP,
    CR0_TS,
    FCS,
    FCW,
    FDP,
    FDS,
    FIP,
    FOP,
    FSW,
    FTW,
    MODE,
    MODE_64,
    MODE_PROTECTED,
    MXCSR,
    NO_MATH,
    PROTECTION,
    X87,
    XMM,
)
from blockkit.cpu.system.x87_round import NORMAL, ZERO, x87_kind
from blockkit.cpu.system.x87_stack import X87_EXCEPTIONS, X87_PENDING, x87_register, x87_summarize, x87_wait

#: Bits of the control word that can be changed, and the one that is always set.
_CONTROL: Final = 0x1F3F
_CONTROL_ALWAYS: Final = 0x40
_OPCODE: Final = 0x7FF
_HIGH_ONES: Final = 0xFFFF << 16
_LOW_32: Final = 0xFFFFFFFF
_EMPTY: Final = 3
_ZERO_TAG, _SPECIAL_TAG = 1, 2
#: Bytes of a register in memory.
_REGISTER: Final = 10
#: Places in the area of FXSAVE, its size, and the bits of MXCSR that there are.
_FX_MXCSR, _FX_REGISTERS, _FX_XMM = 24, 32, 160
_FX_SIZE: Final = 512
_MXCSR_BITS: Final = 0xFFFF


def x87_initialize() -> None:
    """FNINIT."""
    S[FCW] = 0x37F
    S[FSW] = 0
    S[FTW] = 0xFFFF
    S[FOP] = 0
    S[FIP] = 0
    S[FCS] = 0
    S[FDP] = 0
    S[FDS] = 0


def x87_clear() -> None:
    """FNCLEX: forget exceptions."""
    S[FSW] &= 0x7F00


def x87_control() -> int:
    """FNSTCW."""
    return S[FCW]


def x87_status() -> int:
    """FNSTSW."""
    return S[FSW]


def x87_set_control(value: int) -> None:
    """Set the control word, without anything being raised yet."""
    S[FCW] = value & _CONTROL | _CONTROL_ALWAYS
    x87_summarize()


def x87_load_control(address: int) -> None:
    """FLDCW."""
    x87_wait()
    x87_set_control(load(address, 2))


def x87_wait_instruction() -> None:
    """WAIT, which after a task switch raises #NM if CR0.MP says so."""
    if S[CR0] & CR0_MP and S[CR0] & CR0_TS:
        raise_fault(NO_MATH, 0)
    x87_wait()


def x87_tags() -> int:
    """Return the tag word, found from what the registers hold."""
    tags = 0
    number = 0
    while number < 8:
        tag = S[FTW] >> number * 2 & 3
        if tag != _EMPTY:
            kind = x87_kind(S[X87 + number * 2 + 1], S[X87 + number * 2])
            tag = _ZERO_TAG if kind == ZERO else 0 if kind == NORMAL else _SPECIAL_TAG
        tags |= tag << number * 2
        number += 1
    return tags


def _set_tags(tags: int) -> None:
    """Set which registers are empty."""
    number = 0
    S[FTW] = 0
    while number < 16:
        if tags >> number & 3 == _EMPTY:
            S[FTW] |= _EMPTY << number
        number += 2


def _probe(address: int, size: int) -> None:
    """Fault if an area of less than a page cannot be written."""
    probe_store(address, 1)
    probe_store(address + size - 1, 1)


def _store_words(address: int, size: int) -> None:
    """Write the environment, with words of two or four bytes."""
    ones = _HIGH_ONES if size == 4 else 0
    store(address, size, S[FCW] | ones)
    store(address + size, size, S[FSW] | ones)
    store(address + size * 2, size, x87_tags() | ones)
    # In 64-bit mode, too, addresses have 32 bits.
    mask = _LOW_32 if size == 4 else 0xFFFF
    if S[MODE] & MODE_PROTECTED:
        store(address + size * 3, size, S[FIP] & mask)
        store(address + size * 4, size, S[FCS] | (S[FOP] << 16 if size == 4 else 0))
        store(address + size * 5, size, S[FDP] & mask)
        store(address + size * 6, size, S[FDS] | ones)
        return
    # Linear addresses, in two parts.
    code = S[FIP] + (S[FCS] << 4)
    data = S[FDP] + (S[FDS] << 4)
    store(address + size * 3, size, code & 0xFFFF)
    store(address + size * 4, size, code >> 16 << 12 & mask | S[FOP])
    store(address + size * 5, size, data & 0xFFFF)
    store(address + size * 6, size, data >> 16 << 12 & mask)


def _load_words(address: int, size: int) -> None:
    """Read the environment."""
    control = load(address, size)
    status = load(address + size, size)
    tags = load(address + size * 2, size)
    code = load(address + size * 3, size)
    selector = load(address + size * 4, size)
    data = load(address + size * 5, size)
    data_selector = load(address + size * 6, size)
    if S[MODE] & MODE_PROTECTED:
        S[FIP] = code
        S[FCS] = selector & 0xFFFF
        if size == 4:
            S[FOP] = selector >> 16 & _OPCODE
        S[FDP] = data
        S[FDS] = data_selector & 0xFFFF
    else:
        S[FIP] = code & 0xFFFF | (selector >> 12) << 16 & _LOW_32
        S[FCS] = 0
        S[FOP] = selector & _OPCODE
        S[FDP] = data & 0xFFFF | (data_selector >> 12) << 16 & _LOW_32
        S[FDS] = 0
    S[FSW] = status & 0xFFFF
    _set_tags(tags)
    x87_set_control(control)


def x87_store_environment(address: int, size: int) -> None:
    """FNSTENV; afterwards all exceptions are masked."""
    _probe(address, size * 7)
    _store_words(address, size)
    S[FCW] |= X87_EXCEPTIONS
    S[FSW] &= ~X87_PENDING


def x87_load_environment(address: int, size: int) -> None:
    """FLDENV."""
    x87_wait()
    _load_words(address, size)


def x87_save(address: int, size: int) -> None:
    """FNSAVE, which initializes afterwards."""
    _probe(address, size * 7 + 8 * _REGISTER)
    _store_words(address, size)
    address += size * 7
    index = 0
    while index < 8:
        place = x87_register(index)
        store(address, 8, S[place])
        store(address + 8, 2, S[place + 1])
        address += _REGISTER
        index += 1
    x87_initialize()


def x87_restore(address: int, size: int) -> None:
    """FRSTOR."""
    x87_wait()
    # If the end can be read, all of it can.
    load(address + size * 7 + 8 * _REGISTER - 1, 1)
    _load_words(address, size)
    address += size * 7
    index = 0
    while index < 8:
        place = x87_register(index)
        S[place] = load(address, 8)
        S[place + 1] = load(address + 8, 2)
        address += _REGISTER
        index += 1


def _check_fx(address: int) -> None:
    """Raise #GP for an area that is not aligned."""
    if address & 15:
        raise_fault(PROTECTION, 0)


def fx_save(address: int, wide: int) -> None:
    """FXSAVE; ``wide``: FXSAVE64, with addresses of 64 bits instead of selectors."""
    _check_fx(address)
    _probe(address, _FX_SIZE)
    full = 0
    index = 0
    while index < 8:
        if S[FTW] >> index * 2 & 3 != _EMPTY:
            full |= 1 << index
        place = x87_register(index)
        store(address + _FX_REGISTERS + index * 16, 8, S[place])
        store(address + _FX_REGISTERS + index * 16 + 8, 8, S[place + 1])
        index += 1
    store(address, 8, S[FCW] | S[FSW] << 16 | full << 32 | S[FOP] << 48)
    if wide:
        store(address + 8, 8, S[FIP])
        store(address + 16, 8, S[FDP])
    else:
        store(address + 8, 8, S[FIP] & _LOW_32 | S[FCS] << 32)
        store(address + 16, 8, S[FDP] & _LOW_32 | S[FDS] << 32)
    store(address + _FX_MXCSR, 8, S[MXCSR] | _MXCSR_BITS << 32)
    count = 32 if S[MODE] & MODE_64 else 16
    index = 0
    while index < count:
        store(address + _FX_XMM + index * 8, 8, S[XMM + index])
        index += 1


def fx_restore(address: int, wide: int) -> None:
    """FXRSTOR and FXRSTOR64; raises #GP for bits of MXCSR that there are not."""
    _check_fx(address)
    load(address, 1)
    load(address + _FX_SIZE - 1, 1)
    control = load(address + _FX_MXCSR, 4)
    if control & ~_MXCSR_BITS:
        raise_fault(PROTECTION, 0)
    S[MXCSR] = control
    words = load(address, 8)
    S[FSW] = words >> 16 & 0xFFFF
    S[FOP] = words >> 48 & _OPCODE
    code = load(address + 8, 8)
    data = load(address + 16, 8)
    if wide:
        S[FIP] = code
        S[FDP] = data
    else:
        S[FIP] = code & _LOW_32
        S[FCS] = code >> 32 & 0xFFFF
        S[FDP] = data & _LOW_32
        S[FDS] = data >> 32 & 0xFFFF
    S[FTW] = 0
    index = 0
    while index < 8:
        if words >> (32 + index) & 1 == 0:
            S[FTW] |= _EMPTY << index * 2
        place = x87_register(index)
        S[place] = load(address + _FX_REGISTERS + index * 16, 8)
        S[place + 1] = load(address + _FX_REGISTERS + index * 16 + 8, 2)
        index += 1
    x87_set_control(words & 0xFFFF)
    count = 32 if S[MODE] & MODE_64 else 16
    index = 0
    while index < count:
        S[XMM + index] = load(address + _FX_XMM + index * 8, 8)
        index += 1
