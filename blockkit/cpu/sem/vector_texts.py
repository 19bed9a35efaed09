"""SSE 4.2: comparison of strings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockkit.cpu import state
from blockkit.cpu.sem.vectors import get, half
from blockkit.cpu.system import flags, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from blockkit.cpu.sem.machine import Machine


def compare(*, explicit: bool, index: bool) -> Callable[[Machine], None]:
    """PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM."""

    def look(m: Machine) -> None:
        control = m.name(m.immediate(8).zero_extended(64))
        b, a = get(m, 1, aligned=False), get(m, 0)
        first, second = (half(m, a, 0), half(m, a, 1)), (half(m, b, 0), half(m, b, 1))
        if explicit:
            bits = 64 if m.instruction.operand_size == 8 else 32
            length = m.compute(texts.text_bounded, m.register(state.RAX, bits).zero_extended(64), bits, control)
            text = m.compute(texts.text_bounded, m.register(state.RDX, bits).zero_extended(64), bits, control)
        else:
            length = m.compute(texts.text_length, *first, control)
            text = m.compute(texts.text_length, *second, control)
        result = m.compute(texts.compare_texts, *first, *second, length, text, control)
        if index:
            m.set_register(state.RCX, m.compute(texts.text_index, result, control).truncated(32))
        else:
            m.set_xmm_half(0, 0, m.compute(texts.text_mask, result, control, 0))
            m.set_xmm_half(0, 1, m.compute(texts.text_mask, result, control, 1))
        m.call(flags.write_arithmetic_flags, m.compute(texts.text_flags, result, length, text, control))

    return look
