"""MMX and SSE: moves, insertions, shuffles and logic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blockkit.cpu import state
from blockkit.cpu.isa.operands import Where
from blockkit.cpu.sem import operands
from blockkit.cpu.sem.operands import is_memory, linear, place, size_of
from blockkit.cpu.sem.vectors import get, half, join, lane, put, whole, width
from blockkit.cpu.system import vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine, Value


def move_unaligned(m: Machine) -> None:
    """MOVUPS, MOVUPD, MOVDQU and LDDQU."""
    put(m, 0, get(m, 1, aligned=False), aligned=False)


def move_aligned(m: Machine) -> None:
    """MOVAPS, MOVAPD, MOVDQA and those that bypass caches."""
    put(m, 0, get(m, 1))


def move_scalar(m: Machine) -> None:
    """MOVSS and MOVSD: between registers what is above stays, from memory it becomes zero."""
    bits = min(size_of(m, 0), size_of(m, 1))
    put(m, 0, get(m, 1, bits), keep=not is_memory(m, 1))


def move_low(m: Machine) -> None:
    """MOVLPS and MOVLPD."""
    put(m, 0, get(m, 1, 64), keep=True)


def move_high(m: Machine) -> None:
    """MOVHPS and MOVHPD."""
    if is_memory(m, 0):
        m.store(place(m, 64, write=True), m.xmm_half(m.instruction.reg, 1))
    else:
        m.set_xmm_half(m.instruction.reg, 1, get(m, 1, 64))


def move_high_to_low(m: Machine) -> None:
    """MOVHLPS."""
    m.set_xmm_half(m.instruction.reg, 0, m.xmm_half(m.instruction.rm, 1))


def move_low_to_high(m: Machine) -> None:
    """MOVLHPS."""
    m.set_xmm_half(m.instruction.reg, 1, m.xmm_half(m.instruction.rm, 0))


def duplicate(bits: int, first: int) -> Callable[[Machine], None]:
    """MOVSLDUP, MOVSHDUP and MOVDDUP: every lane is one of each pair."""

    def copy(m: Machine) -> None:
        value = get(m, 1)
        if bits == 64:
            put(m, 0, whole(m, half(m, value, 0), half(m, value, 0)))
        else:
            put(m, 0, join(m, [lane(m, value, 32, index & 2 | first) for index in range(4)], 32))

    return copy


def move_number(m: Machine) -> None:
    """MOVD and MOVQ between general and other registers, and memory."""
    first = m.instruction.form.operands[0].where
    if first is Where.RM:
        bits = size_of(m, 0)
        operands.put(m, 0, get(m, 1, bits))
    else:
        value = operands.get(m, 1) if m.instruction.form.operands[1].where is Where.RM else get(m, 1, 64)
        put(m, 0, value.zero_extended(64))


def move_quad(m: Machine) -> None:
    """MOVQ, MOVQ2DQ and MOVDQ2Q: 64 bits, with zeros above."""
    put(m, 0, get(m, 1, 64))


def move_general(m: Machine) -> None:
    """MOVNTI."""
    operands.put(m, 0, operands.get(m, 1))


def signs(bits: int) -> Callable[[Machine], None]:
    """MOVMSKPS, MOVMSKPD and PMOVMSKB."""

    def gather(m: Machine) -> None:
        total = width(m, 1)
        value = get(m, 1, total)
        if bits == 8:
            found = m.compute(vectors.byte_signs, half(m, value, 0))
            if total == 128:
                found = found | m.compute(vectors.byte_signs, half(m, value, 1)) << 8
        else:
            found = m.constant(0, 64)
            for index in range(total // bits):
                found = found | (lane(m, value, bits, index) >> bits - 1) << index
        m.set_register(m.instruction.reg, found.truncated(32))

    return gather


def masked_store(m: Machine) -> None:
    """MASKMOVQ and MASKMOVDQU: bytes whose mask has bit 7 set, at DS:rDI."""
    total = width(m, 0)
    value, mask = get(m, 0, total), get(m, 1, total)
    bits = m.instruction.address_size * 8
    offset = m.name(m.register(state.RDI, bits).zero_extended(64))
    segment = state.DS if m.instruction.segment is None else m.instruction.segment
    at = m.name(linear(m, segment, offset, total // 8, write=True))
    m.compute(vectors.masked_store, at, half(m, value, 0), half(m, mask, 0))
    if total == 128:
        m.compute(vectors.masked_store, at + 8, half(m, value, 1), half(m, mask, 1))


def logic(name: str) -> Callable[[Machine], None]:
    """PAND and the like: ``and``, ``andn``, ``or``, ``xor``."""

    def combine(m: Machine) -> None:
        a, b = get(m, 0), get(m, 1)
        if name == "andn":
            a = ~a
        put(m, 0, a | b if name == "or" else a ^ b if name == "xor" else a & b)

    return combine


# -- shuffles ---------------------------------------------------------------------------------------------------


def _pick(m: Machine, values: tuple[Value, Value], bits: int, which: Value) -> Value:
    """Return the lane of 128 bits whose number is ``which``, 64 bits; ``values`` are the halves."""
    per_half = 64 // bits
    part = m.select((which & per_half).equals(0), *values)
    return m.name((part >> (which & per_half - 1) * bits) & (1 << bits) - 1)


def _halves(m: Machine, value: Value) -> tuple[Value, Value]:
    return half(m, value, 0), half(m, value, 1)


def _order(m: Machine, index: int, bits: int = 2) -> Value:
    """Return one field of the immediate."""
    immediate = m.immediate(8).zero_extended(64)
    return (immediate >> index * bits if index else immediate) & (1 << bits) - 1


def shuffle_double(m: Machine) -> None:
    """PSHUFD."""
    halves = _halves(m, get(m, 1))
    put(m, 0, join(m, [_pick(m, halves, 32, _order(m, index)) for index in range(4)], 32))


def _shuffle_words(m: Machine, part: Value) -> Value:
    return join(m, [(part >> _order(m, index) * 16) & 0xFFFF for index in range(4)], 16)


def shuffle_words(which: int) -> Callable[[Machine], None]:
    """PSHUFLW (0), PSHUFHW (1), and PSHUFW of 64 bits (0)."""

    def shuffle(m: Machine) -> None:
        value = get(m, 1)
        moved = _shuffle_words(m, half(m, value, which))
        if value.bits == 64:
            put(m, 0, moved)
        else:
            put(m, 0, whole(m, half(m, value, 0), moved) if which else whole(m, moved, half(m, value, 1)))

    return shuffle


def shuffle_single(m: Machine) -> None:
    """SHUFPS."""
    a, b = _halves(m, get(m, 0)), _halves(m, get(m, 1))
    put(m, 0, join(m, [_pick(m, a if index < 2 else b, 32, _order(m, index)) for index in range(4)], 32))


def shuffle_pair(m: Machine) -> None:
    """SHUFPD."""
    a, b = _halves(m, get(m, 0)), _halves(m, get(m, 1))
    put(m, 0, whole(m, m.select(_order(m, 0, 1).equals(0), *a), m.select(_order(m, 1, 1).equals(0), *b)))


def shuffle_bytes(m: Machine) -> None:
    """PSHUFB."""
    value, control = get(m, 0), get(m, 1)
    low, high = half(m, value, 0), half(m, value, 1)
    parts = [
        m.compute(vectors.shuffle_bytes, low, high, half(m, control, which), value.bits // 8 - 1)
        for which in range(value.bits // 64)
    ]
    put(m, 0, parts[0] if len(parts) == 1 else whole(m, *parts))


def align(m: Machine) -> None:
    """PALIGNR."""
    a, b = get(m, 0), get(m, 1)
    count = m.immediate(8).zero_extended(64)
    zero = m.constant(0, 64)
    if a.bits == 64:
        put(m, 0, m.compute(vectors.align_bytes, b, a, zero, zero, count))
        return
    parts = (half(m, b, 0), half(m, b, 1), half(m, a, 0), half(m, a, 1))
    low = m.compute(vectors.align_bytes, *parts, count)
    high = m.compute(vectors.align_bytes, *parts, count + 8)
    put(m, 0, whole(m, low, high))


def unpack(name: str, bits: int) -> Callable[[Machine], None]:
    """PUNPCKLBW and the like, UNPCKLPS and the like."""

    def interleave(m: Machine) -> None:
        total = width(m, 0)
        other = get(m, 1)
        if bits == 64:
            which = 1 if name == "unpack_high" else 0
            put(m, 0, whole(m, half(m, get(m, 0, total), which), half(m, other, which)))
        else:
            put(m, 0, m.packed(name, bits, get(m, 0, total), other.zero_extended(total)))

    return interleave


def blend(bits: int) -> Callable[[Machine], None]:
    """BLENDPS, BLENDPD and PBLENDW: a bit of the immediate for each lane."""

    def choose(m: Machine) -> None:
        a, b = get(m, 0), get(m, 1)
        chosen = [
            m.select(_order(m, index, 1).equals(0), lane(m, a, bits, index), lane(m, b, bits, index))
            for index in range(128 // bits)
        ]
        put(m, 0, join(m, chosen, bits))

    return choose


def blend_variable(bits: int) -> Callable[[Machine], None]:
    """PBLENDVB, BLENDVPS and BLENDVPD: the top bits of the lanes of XMM0."""

    def choose(m: Machine) -> None:
        a, b = get(m, 0), get(m, 1)
        parts = [
            m.compute(vectors.blend_lanes, half(m, a, which), half(m, b, which), m.xmm_half(0, which), bits)
            for which in (0, 1)
        ]
        put(m, 0, whole(m, *parts))

    return choose


# -- single lanes --------------------------------------------------------------------------------------------------


def _which(m: Machine, bits: int, total: int) -> Value:
    return m.immediate(8).zero_extended(64) & total // bits - 1


def insert(bits: int) -> Callable[[Machine], None]:
    """PINSRB, PINSRW, PINSRD and PINSRQ; the last two are one form."""

    def put_lane(m: Machine) -> None:
        size = bits or size_of(m, 1)
        total = width(m, 0)
        new = operands.get(m, 1).truncated(size).zero_extended(64)
        which = m.name(_which(m, size, total))
        value = get(m, 0)
        parts = []
        for part in range(total // 64):
            old = half(m, value, part)
            at = m.name((which & 64 // size - 1) * size)
            mask = m.constant((1 << size) - 1, 64) << at
            changed = old & ~mask | new << at
            here = (which >> (64 // size).bit_length() - 1).equals(part)
            parts.append(m.name(m.select(here, changed, old)))
        put(m, 0, parts[0] if total == 64 else whole(m, *parts))

    return put_lane


def extract(bits: int) -> Callable[[Machine], None]:
    """PEXTRB, PEXTRW, PEXTRD, PEXTRQ and EXTRACTPS."""

    def get_lane(m: Machine) -> None:
        size = bits or size_of(m, 0)
        total = width(m, 1)
        value = get(m, 1, total)
        which = m.name(_which(m, size, total))
        found = value >> which * size & (1 << size) - 1 if total == 64 else _pick(m, _halves(m, value), size, which)
        if is_memory(m, 0):
            m.store(place(m, size, write=True), found.truncated(size))
        else:
            number = m.instruction.reg if m.instruction.form.operands[0].where is Where.REG else m.instruction.rm
            m.set_register(number, found if size == 64 else found.truncated(32))

    return get_lane


def insert_single(m: Machine) -> None:
    """INSERTPS."""
    immediate = m.immediate(8).zero_extended(64)
    if is_memory(m, 1):
        new = get(m, 1, 32).zero_extended(64)
    else:
        new = _pick(m, _halves(m, m.xmm(m.instruction.rm)), 32, immediate >> 6)
    value = get(m, 0)
    lanes = []
    for index in range(4):
        kept = m.select((immediate >> 4 & 3).equals(index), new, lane(m, value, 32, index))
        lanes.append(m.select(_order(m, index, 1).equals(0), kept, m.constant(0, 64)))
    put(m, 0, join(m, lanes, 32))


def empty(m: Machine) -> None:
    """EMMS."""
    m.require("mmx")
    m.fault_if(~(m.slot(state.FSW) & 0x80).equals(0), state.MATH_FAULT)
    m.set_slot(state.FTW, m.constant(0xFFFF, 64))
    m.set_slot(state.FSW, m.slot(state.FSW) & ~0x3800)


ALIGNED: Final = ("MOVAPS", "MOVAPD", "MOVDQA", "MOVNTPS", "MOVNTPD", "MOVNTDQ", "MOVNTDQA", "MOVNTQ")
